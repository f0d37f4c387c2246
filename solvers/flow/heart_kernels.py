"""Loops over steps and beats of a closed circulation, compiled. What it consists of stands in arrays:

stores (s, 7): active elastance, scale and steepness of the passive curve, linear elastance, rest volume, outer
pressure, part of a chamber's pressure that is felt from outside. Chambers stand first.
movers (m, 6): flows with inertia; 1/inertance, resistance, quadratic loss forward, then backward (1/inertance 0: shut).
leads (r, 2): flows without; conductance forward and backward.
ties (m + r, 4): stores whose pressures drive a flow, stores that lose and gain its volume.
"""

import numba
import numpy as np

ACTIVE, SCALE, STEEP, LINEAR, REST, OUTER, SQUEEZE = range(7)
DONE, NOT_PERIODIC, NOT_FINITE = range(3)
TWO_HILL, COSINE, TABLE = range(3)
SENSED, RESISTANCE, CONTRACTILITY, VEINS, SYMPATHETIC, VAGAL = range(6)
MEMORY = 8
"""Earlier beats that the search for the periodic one looks at."""
WARM = 4
"""Plain beats before it begins."""
CUTS, TRIES = 6, 12
"""Most cuts of a step where a valve shuts or opens, and most tries to find the time."""


@numba.njit(cache=True, error_model="numpy")
def _hill(u: float, curve: np.ndarray, stretch: float) -> float:
    """Two-hill function at u seconds after its start; curve: 1/maximum, ., tau1, tau2, m1, m2."""
    if u <= 0.0:
        return 0.0
    long = np.log(u / stretch)
    up = np.exp(curve[4] * (long - np.log(curve[2])))
    down = np.exp(min(curve[5] * (long - np.log(curve[3])), 700.0))
    return curve[0] * up / ((1.0 + up) * (1.0 + down))


@numba.njit(cache=True, error_model="numpy")
def activate(out: np.ndarray, kinds: np.ndarray, curves: np.ndarray, tables: np.ndarray, period: float,
             usual: float) -> None:
    """Activations at the half steps of a beat, (2 n + 1, a).

    curves (a, 8): 1/maximum, start, tau1 or duration, tau2, m1, m2, exponent of the stretch with the period; usual:
    the period for which they are written. tables (2 n + 1, a) where the kind is TABLE.
    """
    n = len(out) - 1
    for a in range(len(kinds)):
        stretch = (period / usual) ** curves[a, 6]
        start = curves[a, 1] * stretch
        for k in range(n + 1):
            if kinds[a] == TABLE:
                out[k, a] = tables[k, a]
                continue
            u = (period * k / n - start) % period
            if kinds[a] == TWO_HILL:
                out[k, a] = _hill(u, curves[a], stretch)
            else:
                length = curves[a, 2] * stretch
                out[k, a] = 0.5 - 0.5 * np.cos(2 * np.pi * u / length) if u < length else 0.0


@numba.njit(cache=True, error_model="numpy")
def _pressures(p: np.ndarray, v: np.ndarray, level: np.ndarray, stores: np.ndarray, acts: np.ndarray,
               squeezers: np.ndarray, n_chambers: int) -> None:
    for i in range(n_chambers):
        x = v[i] - stores[i, REST]
        a = level[acts[i]]
        p[i] = stores[i, OUTER] + (stores[i, LINEAR] + a * stores[i, ACTIVE]) * x
        if stores[i, SCALE] != 0.0:
            p[i] += (1.0 - a) * stores[i, SCALE] * (np.exp(stores[i, STEEP] * x) - 1.0)
    for i in range(n_chambers, len(v)):
        p[i] = stores[i, OUTER] + stores[i, LINEAR] * (v[i] - stores[i, REST])
        if squeezers[i] >= 0:
            p[i] += stores[i, SQUEEZE] * p[squeezers[i]]


@numba.njit(cache=True, error_model="numpy")
def _choose(ways: np.ndarray, p: np.ndarray, q: np.ndarray, movers: np.ndarray, ties: np.ndarray) -> None:
    """Which law each flow with inertia obeys: forward (1), backward (-1), or shut (0)."""
    for j in range(len(q)):
        if q[j] > 0.0 or (q[j] == 0.0 and p[ties[j, 0]] > p[ties[j, 1]]):
            ways[j] = 1
        else:
            ways[j] = -1 if movers[j, 3] > 0.0 else 0


@numba.njit(cache=True, error_model="numpy")
def _rates(dv: np.ndarray, dq: np.ndarray, f: np.ndarray, p: np.ndarray, q: np.ndarray, ways: np.ndarray,
           movers: np.ndarray, leads: np.ndarray, ties: np.ndarray) -> None:
    m = len(q)
    for i in range(len(dv)):
        dv[i] = 0.0
    for j in range(m):
        drop = p[ties[j, 0]] - p[ties[j, 1]]
        x = q[j] if ways[j] != 0 else max(q[j], 0.0)
        f[j] = x
        if ways[j] < 0:
            dq[j] = movers[j, 3] * (drop - (movers[j, 4] + movers[j, 5] * abs(x)) * x)
        else:
            dq[j] = movers[j, 0] * (drop - (movers[j, 1] + movers[j, 2] * abs(x)) * x)
            if ways[j] == 0 and drop <= 0.0:
                dq[j] = 0.0
        dv[ties[j, 2]] -= x
        dv[ties[j, 3]] += x
    for j in range(len(leads)):
        drop = p[ties[m + j, 0]] - p[ties[m + j, 1]]
        x = drop * (leads[j, 0] if drop > 0.0 else leads[j, 1])
        f[m + j] = x
        dv[ties[m + j, 2]] -= x
        dv[ties[m + j, 3]] += x


@numba.njit(cache=True, error_model="numpy")
def _between(level: np.ndarray, k: int, part: float, out: np.ndarray) -> None:
    """Activations within step k, by the parabola through its beginning, middle and end."""
    for a in range(level.shape[1]):
        first, middle, last = level[2 * k, a], level[2 * k + 1, a], level[2 * k + 2, a]
        out[a] = first + part * (4 * middle - 3 * first - last + 2 * part * (first + last - 2 * middle))


@numba.njit(cache=True, error_model="numpy")
def _advance(v: np.ndarray, q: np.ndarray, h: float, levels: np.ndarray, stores: np.ndarray, movers: np.ndarray,
             leads: np.ndarray, ties: np.ndarray, acts: np.ndarray, squeezers: np.ndarray, n_chambers: int,
             p: np.ndarray, f: np.ndarray, dv: np.ndarray, dq: np.ndarray, vn: np.ndarray, qn: np.ndarray,
             moved: np.ndarray, ways: np.ndarray) -> None:
    """One step of Runge and Kutta's method from v, q to vn, qn, and the volumes `moved` by each flow.

    Each valve keeps the law it begins with, so that the step is smooth.
    levels (3, a): activations at the step's beginning, middle and end.
    """
    s, m = len(v), len(q)
    for j in range(len(moved)):
        moved[j] = 0.0
    for i in range(s):
        vn[i] = v[i]
    for j in range(m):
        qn[j] = q[j]
    for stage in range(4):
        _pressures(p, vn, levels[(stage + 1) // 2], stores, acts, squeezers, n_chambers)
        if stage == 0:
            _choose(ways, p, q, movers, ties)
        _rates(dv[stage], dq[stage], f, p, qn, ways, movers, leads, ties)
        weight = h / 6 if stage == 0 or stage == 3 else h / 3
        for j in range(len(f)):
            moved[j] += weight * f[j]
        if stage < 3:
            part = h if stage == 2 else 0.5 * h
            for i in range(s):
                vn[i] = v[i] + part * dv[stage, i]
            for j in range(m):
                qn[j] = q[j] + part * dq[stage, j]
    for i in range(s):
        vn[i] = v[i] + h / 6 * (dv[0, i] + 2 * dv[1, i] + 2 * dv[2, i] + dv[3, i])
    for j in range(m):
        qn[j] = q[j] + h / 6 * (dq[0, j] + 2 * dq[1, j] + 2 * dq[2, j] + dq[3, j])


@numba.njit(cache=True, error_model="numpy")
def _turned(q: np.ndarray, qn: np.ndarray, movers: np.ndarray) -> int:
    """The valve whose flow turned first in a step, -1 if none did. Pipes are the same both ways."""
    found, first = -1, 2.0
    for j in range(len(q)):
        if q[j] * qn[j] < 0.0 and movers[j, 0] != movers[j, 3]:
            when = q[j] / (q[j] - qn[j])
            if when < first:
                found, first = j, when
    return found


@numba.njit(cache=True, error_model="numpy")
def _keep(vs: np.ndarray, ps: np.ndarray, fs: np.ndarray, k: int, v: np.ndarray, p: np.ndarray,
          f: np.ndarray) -> None:
    """Write a row of the curves, unless they have one row only."""
    if len(vs) == 1:
        return
    for i in range(len(v)):
        vs[k, i], ps[k, i] = v[i], p[i]
    for j in range(len(f)):
        fs[k, j] = f[j]


@numba.njit(cache=True, error_model="numpy")
def beat(v: np.ndarray, q: np.ndarray, period: float, level: np.ndarray, stores: np.ndarray, movers: np.ndarray,
         leads: np.ndarray, ties: np.ndarray, acts: np.ndarray, squeezers: np.ndarray, n_chambers: int,
         mean_p: np.ndarray, mean_f: np.ndarray, vs: np.ndarray, ps: np.ndarray, fs: np.ndarray) -> None:
    """One beat by Runge and Kutta's method of fourth order, in place; means of pressures and flows over it.

    A step in which the flow of a valve turns is cut where it does, so that the
    next beat depends on this one smoothly. Also volumes, pressures (n + 1, s)
    and flows (n + 1, m + r), unless the arrays for them have one row.
    """
    n, s, m = (len(level) - 1) // 2, len(v), len(q)
    h = period / n
    dv, dq, f, moved = np.empty((4, s)), np.empty((4, m)), np.empty(len(ties)), np.empty(len(ties))
    p, vn, qn, levels = np.empty(s), np.empty(s), np.empty(m), np.empty((3, level.shape[1]))
    ways = np.empty(m, np.int64)
    for i in range(s):
        mean_p[i] = 0.0
    for j in range(len(mean_f)):
        mean_f[j] = 0.0
    for k in range(n):
        done, rest, cuts, tries, valve, side = 0.0, 1.0, 0, 0, -1, 0
        low, high, at_low, at_high = 0.0, 0.0, 0.0, 0.0
        while done < 1.0:
            _levels(level, k, done, rest, levels)
            if done == 0.0 and tries == 0:
                _pressures(p, v, levels[0], stores, acts, squeezers, n_chambers)
                _choose(ways, p, q, movers, ties)
                _rates(dv[0], dq[0], f, p, q, ways, movers, leads, ties)
                for i in range(s):
                    mean_p[i] += p[i]
                _keep(vs, ps, fs, k, v, p, f)
            _advance(v, q, rest * h, levels, stores, movers, leads, ties, acts, squeezers, n_chambers, p, f, dv, dq,
                     vn, qn, moved, ways)
            if tries == 0:
                valve = _turned(q, qn, movers) if cuts < CUTS else -1
                low, high, at_low, at_high = 0.0, rest, q[max(valve, 0)], qn[max(valve, 0)]
            elif qn[valve] * q[valve] > 0.0:
                low, at_low, at_high = rest, qn[valve], 0.5 * at_high if side == 1 else at_high
                side = 1
            else:
                high, at_high, at_low = rest, qn[valve], 0.5 * at_low if side == -1 else at_low
                side = -1
            if valve >= 0 and tries < TRIES and abs(qn[valve]) > 1e-12 * abs(q[valve]):
                rest = high - at_high * (high - low) / (at_high - at_low)
                tries += 1
                continue
            if valve >= 0:
                qn[valve] = 0.0
            for i in range(s):
                v[i] = vn[i]
            for j in range(m):
                q[j] = max(qn[j], 0.0) if movers[j, 3] == 0.0 else qn[j]
            for j in range(len(f)):
                mean_f[j] += moved[j] / period
            done = done + rest if valve >= 0 else 1.0
            rest, cuts, tries, valve, side = 1.0 - done, cuts + 1, 0, -1, 0
    for i in range(s):
        mean_p[i] /= n
    _levels(level, n - 1, 0.0, 1.0, levels)
    _pressures(p, v, levels[2], stores, acts, squeezers, n_chambers)
    _choose(ways, p, q, movers, ties)
    _rates(dv[0], dq[0], f, p, q, ways, movers, leads, ties)
    _keep(vs, ps, fs, n, v, p, f)


@numba.njit(cache=True, error_model="numpy")
def _levels(level: np.ndarray, k: int, done: float, rest: float, out: np.ndarray) -> None:
    """Activations at the beginning, middle and end of a part of step k, (3, a)."""
    if done == 0.0 and rest == 1.0:
        for stage in range(3):
            for a in range(level.shape[1]):
                out[stage, a] = level[2 * k + stage, a]
        return
    for stage in range(3):
        _between(level, k, done + 0.5 * stage * rest, out[stage])


@numba.njit(cache=True, error_model="numpy")
def firing(pressure: float, reflex: np.ndarray) -> tuple[float, float]:
    """Sympathetic drive (the logarithm by which effectors follow) and vagal rate at a sensed pressure (Pa).

    reflex: gain, set point, width, then least and most afferent rate; sympathetic: at rest, at silence, steepness,
    threshold; vagal: least, most, middle, width.
    """
    x = np.exp(min(max((pressure - reflex[1]) / reflex[2], -60.0), 60.0))
    afferent = (reflex[3] + reflex[4] * x) / (1.0 + x)
    sympathetic = reflex[5] + (reflex[6] - reflex[5]) * np.exp(-reflex[7] * afferent)
    y = np.exp((afferent - reflex[11]) / reflex[12])
    return np.log(max(sympathetic - reflex[8], 0.0) + 1.0), (reflex[9] + reflex[10] * y) / (1.0 + y)


@numba.njit(cache=True, error_model="numpy")
def _respond(state: np.ndarray, mean: float, period: float, reflex: np.ndarray) -> None:
    """First-order responses over one beat, each to what is sensed then; reflex[13:19]: their times, s."""
    drive, vagal = firing(state[SENSED], reflex)
    calm, vagal_calm = firing(reflex[1], reflex)
    for i in range(6):
        target = reflex[0] * (vagal - vagal_calm if i == VAGAL else drive - calm)
        if i == SENSED:
            target = mean
        state[i] += (target - state[i]) * (1.0 - np.exp(-period / reflex[13 + i]))


@numba.njit(cache=True, error_model="numpy")
def period_of(state: np.ndarray, usual: float, reflex: np.ndarray) -> float:
    """reflex[19:22]: change of the period by sympathetic drive and vagal rate, least period, s."""
    return max(usual + reflex[19] * state[SYMPATHETIC] + reflex[20] * state[VAGAL], reflex[21])


@numba.njit(cache=True, error_model="numpy")
def influence(state: np.ndarray, stores: np.ndarray, leads: np.ndarray, on_stores: np.ndarray,
               on_leads: np.ndarray, stores_now: np.ndarray, leads_now: np.ndarray) -> None:
    """Elements under the reflex; on_stores (s, 2): of elastance (1), of rest volume (m^3); on_leads (r): 1."""
    for i in range(len(stores)):
        for c in range(stores.shape[1]):
            stores_now[i, c] = stores[i, c]
        stores_now[i, ACTIVE] *= max(1.0 + on_stores[i, 0] * state[CONTRACTILITY], 0.1)
        stores_now[i, REST] += on_stores[i, 1] * state[VEINS]
    for j in range(len(leads)):
        factor = max(1.0 + on_leads[j] * state[RESISTANCE], 0.1)
        leads_now[j, 0] = leads[j, 0] / factor
        leads_now[j, 1] = leads[j, 1] / factor


@numba.njit(cache=True, error_model="numpy")
def _mixed(points: np.ndarray, steps: np.ndarray, count: int, z: np.ndarray) -> None:
    """The affine mean of the last `count` images of the beat (rows: points + steps) whose change is least, into z.

    Affine: what each beat conserves, the blood's volume, the mean conserves too. Source: Anderson 1965,
    doi:10.1145/321296.321305.
    """
    last = count - 1
    gram, known = np.empty((last, last)), np.empty(last)
    for a in range(last):
        known[a] = 0.0
        for i in range(len(z)):
            known[a] += (steps[last, i] - steps[a, i]) * steps[last, i]
        for b in range(last):
            gram[a, b] = 0.0
            for i in range(len(z)):
                gram[a, b] += (steps[last, i] - steps[a, i]) * (steps[last, i] - steps[b, i])
    size = 0.0
    for a in range(last):
        size += gram[a, a]
    for a in range(last):
        gram[a, a] += 1e-12 * size + 1e-300
    for a in range(last):  # by Gauss; the matrix is symmetric and positive
        for b in range(a + 1, last):
            factor = gram[b, a] / gram[a, a]
            for c in range(a, last):
                gram[b, c] -= factor * gram[a, c]
            known[b] -= factor * known[a]
    weights = np.empty(last)
    for a in range(last - 1, -1, -1):
        weights[a] = known[a]
        for b in range(a + 1, last):
            weights[a] -= gram[a, b] * weights[b]
        weights[a] /= gram[a, a]
    for i in range(len(z)):
        z[i] = points[last, i] + steps[last, i]
        for a in range(last):
            z[i] -= weights[a] * (points[last, i] + steps[last, i] - points[a, i] - steps[a, i])


@numba.njit(cache=True, error_model="numpy")
def _pack(z: np.ndarray, v: np.ndarray, q: np.ndarray, state: np.ndarray, scale: np.ndarray) -> None:
    """The state at the beginning of a beat as one row, each number over its scale."""
    s, m = len(v), len(q)
    for i in range(s):
        z[i] = v[i] / scale[i]
    for i in range(m):
        z[s + i] = q[i] / scale[s + i]
    for i in range(6):
        z[s + m + i] = state[i] / scale[s + m + i]


@numba.njit(cache=True, error_model="numpy")
def _unpack(z: np.ndarray, v: np.ndarray, q: np.ndarray, state: np.ndarray, scale: np.ndarray,
            movers: np.ndarray) -> None:
    """The other way; flows through tight valves not below zero."""
    s, m = len(v), len(q)
    for i in range(s):
        v[i] = z[i] * scale[i]
    for i in range(m):
        q[i] = z[s + i] * scale[s + i]
        if movers[i, 3] == 0.0:
            q[i] = max(q[i], 0.0)
    for i in range(6):
        state[i] = z[s + m + i] * scale[s + m + i]


@numba.njit(cache=True, error_model="numpy")
def _drop(rows: np.ndarray, first: int, count: int) -> None:
    """Move rows first to count to the beginning."""
    for a in range(first, count):
        for i in range(rows.shape[1]):
            rows[a - first, i] = rows[a, i]


@numba.njit(cache=True, error_model="numpy")
def settle(v: np.ndarray, q: np.ndarray, state: np.ndarray, usual: float, stores: np.ndarray, movers: np.ndarray,
           leads: np.ndarray, ties: np.ndarray, acts: np.ndarray, squeezers: np.ndarray, n_chambers: int,
           kinds: np.ndarray, curves: np.ndarray, tables: np.ndarray, reflex: np.ndarray, on_stores: np.ndarray,
           on_leads: np.ndarray, sensor: int, volume_scale: float, tolerance: float, most: int, stores_now: np.ndarray,
           leads_now: np.ndarray) -> tuple[int, float, int]:
    """Beats until they repeat, in place (v, q, state: at the beginning of the periodic beat).

    Number of beats stepped, last change, DONE or what went wrong. The change is the largest of a volume over
    `volume_scale`, of a flow over that in a tenth of a period, of a reflex state (the sensed pressure in kPa).
    """
    s, m = len(v), len(q)
    size = s + m + 6
    points, steps, z = np.empty((MEMORY, size)), np.empty((MEMORY, size)), np.empty(size)
    scale = np.ones(size)
    for i in range(s + m):
        scale[i] = volume_scale if i < s else volume_scale / usual * 10
    scale[s + m + SENSED] = 1000.0
    level = np.empty((len(tables), len(kinds)))
    mean_p, mean_f = np.empty(s), np.empty(len(ties))
    none = np.empty((1, 1))
    count, best, change = 0, np.inf, np.inf
    for number in range(1, most + 1):
        if count == MEMORY:
            _drop(points, 1, MEMORY)
            _drop(steps, 1, MEMORY)
            count -= 1
        _pack(points[count], v, q, state, scale)
        period = period_of(state, usual, reflex)
        influence(state, stores, leads, on_stores, on_leads, stores_now, leads_now)
        activate(level, kinds, curves, tables, period, usual)
        beat(v, q, period, level, stores_now, movers, leads_now, ties, acts, squeezers, n_chambers, mean_p, mean_f,
             none, none, none)
        _respond(state, mean_p[sensor], period, reflex)
        _pack(z, v, q, state, scale)
        change = 0.0
        for i in range(size):
            steps[count, i] = z[i] - points[count, i]
            change = max(change, abs(steps[count, i])) if steps[count, i] == steps[count, i] else np.inf
        if not change < np.inf:
            return number, change, NOT_FINITE
        if change < tolerance:
            _unpack(points[count], v, q, state, scale, movers)
            return number, change, DONE
        count += 1
        if change > 4 * best:
            _drop(points, count - 1, count)
            _drop(steps, count - 1, count)
            count, best = 1, change
        best = min(best, change)
        if number >= WARM and count > 2:
            _mixed(points, steps, count, z)
            good = True
            for i in range(s):
                good &= z[i] * scale[i] > 0.25 * v[i]
            if good:
                _unpack(z, v, q, state, scale, movers)
    return most, change, NOT_PERIODIC


@numba.njit(cache=True, error_model="numpy")
def summarise(period: float, mean_p: np.ndarray, mean_f: np.ndarray, vs: np.ndarray, ps: np.ndarray, fs: np.ndarray,
             ties: np.ndarray, of_stores: np.ndarray, of_flows: np.ndarray) -> None:
    """of_stores (s, 7): pressure least, mean, most, volume least, most, at the start, work done on what is outside
    (J); of_flows (m + r, 5): mean flow, volume forward, backward, drop of pressure while it flows forward: mean, most.
    """
    n = len(vs) - 1
    h = period / n
    for i in range(vs.shape[1]):
        work = 0.0
        for k in range(n):
            work -= 0.5 * (ps[k, i] + ps[k + 1, i]) * (vs[k + 1, i] - vs[k, i])
        low, high, small, large = np.inf, -np.inf, np.inf, -np.inf
        for k in range(n + 1):
            low, high = min(low, ps[k, i]), max(high, ps[k, i])
            small, large = min(small, vs[k, i]), max(large, vs[k, i])
        of_stores[i, 0], of_stores[i, 1], of_stores[i, 2] = low, mean_p[i], high
        of_stores[i, 3], of_stores[i, 4], of_stores[i, 5], of_stores[i, 6] = small, large, vs[0, i], work
    for j in range(fs.shape[1]):
        back, time, drop, most = 0.0, 0.0, 0.0, 0.0
        for k in range(n):
            back += h * max(-fs[k, j], 0.0)
            if fs[k, j] > 0.0:
                difference = ps[k, ties[j, 0]] - ps[k, ties[j, 1]]
                time += 1.0
                drop += difference
                most = max(most, difference)
        of_flows[j, 0], of_flows[j, 1], of_flows[j, 2] = mean_f[j], mean_f[j] * period + back, back
        of_flows[j, 3], of_flows[j, 4] = drop / time if time > 0.0 else 0.0, most
