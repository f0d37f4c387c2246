"""Loops of the 1D flow, compiled: rates of area and flow, what happens at nodes, one heartbeat, the wall's viscosity.

Each vessel is cut into elements of one length with three Gauss-Lobatto nodes:
both ends and the middle. Arrays of shape (elements, 3) hold all vessels in a
row. End 2 v of the list of ends is the start of vessel v, end 2 v + 1 its end.
"""

from typing import NamedTuple

import numba
import numpy as np

JUNCTION, INLET, BED, OPEN, LOSS = range(5)
"""What a node is: vessels meet, flow is given, a Windkessel follows, nothing comes back, a lumped loss."""
FINE, COLLAPSED, FAST, STUCK = range(4)
"""How a beat ended: well, an area or a number was lost, blood outran its waves, Newton's method at a node failed."""
AREA, FLOW, SLOPE, STIFF, BASE, TOTAL, RISE = range(7)
"""Columns of what is known at an end of a vessel."""
NEWTON, MOST = 1e-6, 40
"""Newton's step that ends it, relative to the area (the error left is of its square), and most iterations."""
GAMMA = 1 - np.sqrt(0.5)
"""Of the two-stage method that forgets what is stiff."""


class Grid(NamedTuple):
    """The network as flat arrays, SI.

    first (v + 1,): first element of each vessel, h (v,): element length. root
    (e, 3): 1 / sqrt(reference area); stiff (e, 3): 4/3 E h / r; wall (e, 3):
    4/3 of the wall's viscosity times thickness over radius; outside (v,):
    pressure at the reference area. around (n + 1,), ends: the ends that meet at
    node k are ends[around[k]:around[k + 1]]; node_of (2 v,): node of each end.
    kind (n,). bed (n, 4): proximal and distal resistance, 1 / compliance (0:
    none), venous pressure; or linear and quadratic loss; or wave speed at rest.
    place (n,): order of the nodes in which links are near each other, width:
    how near. friction: 2 (order + 2) pi mu / rho; shape: momentum correction.
    """

    first: np.ndarray
    h: np.ndarray
    root: np.ndarray
    stiff: np.ndarray
    wall: np.ndarray
    outside: np.ndarray
    around: np.ndarray
    ends: np.ndarray
    node_of: np.ndarray
    kind: np.ndarray
    bed: np.ndarray
    place: np.ndarray
    width: int
    density: float
    friction: float
    shape: float


@numba.njit(cache=True, error_model="numpy", inline="always")
def _speed(grid: Grid, root: float, stiff: float, a: float) -> float:
    """Wave speed in blood at rest, m/s."""
    return np.sqrt(stiff * root * np.sqrt(a) / (2 * grid.density))


@numba.njit(cache=True, error_model="numpy")
def arrive(grid: Grid, a: np.ndarray, q: np.ndarray, at: np.ndarray) -> bool:
    """What is inside each end of the vessels, in `at` (ends, 7); False where blood outruns the wave that arrives there.

    Columns: AREA, FLOW; SLOPE dA/dQ along the wave that arrives from inside; stiffness over the root of the reference
    area and the pressure without area (p = BASE + STIFF sqrt A); then two for `meet`'s own use.
    """
    for end in range(len(grid.node_of)):
        v = end // 2
        is_start = end % 2 == 0
        e, j = (grid.first[v], 0) if is_start else (grid.first[v + 1] - 1, 2)
        stiff = grid.stiff[e, j] * grid.root[e, j]
        u = grid.shape * q[e, j] / a[e, j]
        square = stiff * np.sqrt(a[e, j]) / (2 * grid.density) + u * u * (1 - 1 / grid.shape)
        # Left eigenvector of the wave towards this end: dQ - (speed of the other wave) dA = 0.
        back = u + np.sqrt(square) if is_start else u - np.sqrt(square)
        if (back > 0) != is_start:
            return False
        at[end, AREA], at[end, FLOW], at[end, SLOPE] = a[e, j], q[e, j], 1 / back
        at[end, STIFF], at[end, BASE] = stiff, grid.outside[v] - grid.stiff[e, j]
    return True


@numba.njit(cache=True, error_model="numpy", inline="always")
def _total(here: np.ndarray, rho: float, area: float, flow: float) -> tuple[float, float]:
    """Total pressure p + rho/2 (Q/A)^2 at an end and its derivative by the flow: Pa, Pa s/m^3."""
    s = np.sqrt(area)
    u = flow / area
    return here[BASE] + here[STIFF] * s + 0.5 * rho * u * u, \
        0.5 * here[STIFF] / s * here[SLOPE] + rho * u * (1 - u * here[SLOPE]) / area


@numba.njit(cache=True, error_model="numpy", inline="always")
def _open(here: np.ndarray, flow: float) -> float:
    """Area at an end when this flows there; never below a twentieth of that inside."""
    return max(here[AREA] + (flow - here[FLOW]) * here[SLOPE], 0.05 * here[AREA])


@numba.njit(cache=True, error_model="numpy")
def meet(grid: Grid, at: np.ndarray, stored: np.ndarray, inflow: float, star_a: np.ndarray,
         star_q: np.ndarray) -> bool:
    """Area and flow at every end, from what arrives inside (`at`) and what the node does; False where not found.

    Waves that arrive are taken as straight, which costs the square of the jump at the end.
    """
    rho = grid.density
    for end in range(len(at)):
        star_a[end], star_q[end] = at[end, AREA], at[end, FLOW]
    for node in range(len(grid.kind)):
        kind = grid.kind[node]
        mine = grid.ends[grid.around[node]:grid.around[node + 1]]
        if kind == JUNCTION:
            done = _junction(rho, mine, at, star_a, star_q)
        elif kind == LOSS:
            done = _loss(rho, mine[0], mine[1], grid.bed[node], at, star_a, star_q)
        elif kind == INLET:
            star_q[mine[0]] = inflow if mine[0] % 2 == 0 else -inflow
            star_a[mine[0]] = _open(at[mine[0]], star_q[mine[0]])
            done = True
        elif kind == BED:
            done = _bed(mine[0], grid.bed[node, 0], stored[node], at, star_a, star_q)
        else:
            done = _leave(rho, mine[0], grid.bed[node, 0], at, star_a, star_q)
        if not done:
            return False
    return True


@numba.njit(cache=True, error_model="numpy")
def _junction(rho: float, mine: np.ndarray, at: np.ndarray, star_a: np.ndarray, star_q: np.ndarray) -> bool:
    """One total pressure; flows sum to zero after every iteration."""
    for _ in range(MOST):
        above, below = 0.0, 0.0
        for end in mine:
            at[end, TOTAL], at[end, RISE] = _total(at[end], rho, star_a[end], star_q[end])
            sign = 1.0 if end % 2 else -1.0
            above += sign * (star_q[end] - at[end, TOTAL] / at[end, RISE])
            below += sign / at[end, RISE]
        common, largest = -above / below, 0.0
        for end in mine:
            step = (common - at[end, TOTAL]) / at[end, RISE]
            star_q[end] += step
            star_a[end] = _open(at[end], star_q[end])
            largest = max(largest, abs(step * at[end, SLOPE]) / at[end, AREA])
        if largest < NEWTON:
            return True
    return False


@numba.njit(cache=True, error_model="numpy")
def _loss(rho: float, one: int, two: int, law: np.ndarray, at: np.ndarray, star_a: np.ndarray,
          star_q: np.ndarray) -> bool:
    """Total pressure falls by linear q + quadratic |q| q from the vessel of end `one` to that of end `two`."""
    out, into = (1.0 if one % 2 else -1.0), (-1.0 if two % 2 else 1.0)
    through = 0.5 * (out * star_q[one] + into * star_q[two])
    for _ in range(MOST):
        before, rise = _total(at[one], rho, _open(at[one], out * through), out * through)
        behind, climb = _total(at[two], rho, _open(at[two], into * through), into * through)
        gap = before - behind - (law[0] + law[1] * abs(through)) * through
        step = -gap / (out * rise - into * climb - law[0] - 2 * law[1] * abs(through))
        through += step
        if abs(step * at[one, SLOPE]) < NEWTON * at[one, AREA]:
            star_q[one], star_q[two] = out * through, into * through
            star_a[one], star_a[two] = _open(at[one], star_q[one]), _open(at[two], star_q[two])
            return True
    return False


@numba.njit(cache=True, error_model="numpy")
def _bed(end: int, resistance: float, stored: float, at: np.ndarray, star_a: np.ndarray,
         star_q: np.ndarray) -> bool:
    """Static pressure is that over the compliance plus resistance times the flow out."""
    resist = resistance if end % 2 else -resistance
    for _ in range(MOST):
        s = np.sqrt(star_a[end])
        gap = at[end, BASE] + at[end, STIFF] * s - stored - resist * star_q[end]
        step = -gap / (0.5 * at[end, STIFF] / s * at[end, SLOPE] - resist)
        star_q[end] += step
        star_a[end] = _open(at[end], star_q[end])
        if abs(step * at[end, SLOPE]) < NEWTON * at[end, AREA]:
            return True
    return False


@numba.njit(cache=True, error_model="numpy")
def _leave(rho: float, end: int, rest: float, at: np.ndarray, star_a: np.ndarray, star_q: np.ndarray) -> bool:
    """The wave from outside carries nothing: U = 4 (c - c at rest) outwards."""
    sign = 1.0 if end % 2 else -1.0
    for _ in range(MOST):
        c = np.sqrt(at[end, STIFF] * np.sqrt(star_a[end]) / (2 * rho))
        gap = star_q[end] - sign * 4 * star_a[end] * (c - rest)
        step = -gap / (1 - sign * (5 * c - 4 * rest) * at[end, SLOPE])
        star_q[end] += step
        star_a[end] = _open(at[end], star_q[end])
        if abs(step * at[end, SLOPE]) < NEWTON * at[end, AREA]:
            return True
    return False


@numba.njit(cache=True, error_model="numpy", inline="always")
def _between(grid: Grid, e: int, a: np.ndarray, q: np.ndarray) -> tuple[float, float, float]:
    """Area and flow between element e and the next, and the largest speed there (linear waves from both sides)."""
    u, w = q[e, 2] / a[e, 2], q[e + 1, 0] / a[e + 1, 0]
    square = grid.stiff[e, 2] * grid.root[e, 2] / (2 * grid.density)
    bend = grid.shape * (grid.shape - 1)
    left = grid.shape * u - np.sqrt(square * np.sqrt(a[e, 2]) + bend * u * u)
    right = grid.shape * w + np.sqrt(square * np.sqrt(a[e + 1, 0]) + bend * w * w)
    area = (q[e + 1, 0] - q[e, 2] + left * a[e, 2] - right * a[e + 1, 0]) / (left - right)
    return area, q[e, 2] + left * (area - a[e, 2]), max(-left, right)


@numba.njit(cache=True, error_model="numpy")
def rates(grid: Grid, a: np.ndarray, q: np.ndarray, star_a: np.ndarray, star_q: np.ndarray, da: np.ndarray,
          dq: np.ndarray) -> float:
    """Rates of area and flow in `da`, `dq`, (elements, 3); the largest speed over element length (1/s), -1 if lost.

    Q_t = -(shape Q^2 / A)_x - A/rho p_x - friction Q/A. Pressure is differentiated as such, so that blood at rest in
    a tapering vessel stays at rest. At an element's ends the flux is corrected to that of the waves that meet there.
    """
    fastest = 0.0
    for v in range(len(grid.h)):
        low, high = grid.first[v], grid.first[v + 1]
        scale, rho, shape = 2 / grid.h[v], grid.density, grid.shape
        left_a, left_q = star_a[2 * v], star_q[2 * v]
        quickest = 0.0
        for e in range(low, high):
            if e + 1 < high:
                right_a, right_q, speed = _between(grid, e, a, q)
            else:
                right_a, right_q = star_a[2 * v + 1], star_q[2 * v + 1]
                speed = shape * abs(right_q / right_a) + _speed(grid, grid.root[e, 2], grid.stiff[e, 2], right_a)
            quickest = max(quickest, speed)
            a0, a1, a2 = a[e, 0], a[e, 1], a[e, 2]
            if not (a0 > 0.0 and a1 > 0.0 and a2 > 0.0 and right_a > 0.0 and left_a > 0.0):
                return -1.0
            q0, q1, q2 = q[e, 0], q[e, 1], q[e, 2]
            u0, u1, u2 = q0 / a0, q1 / a1, q2 / a2
            s0, s2 = np.sqrt(a0), np.sqrt(a2)
            k0, k2 = grid.stiff[e, 0] * grid.root[e, 0], grid.stiff[e, 2] * grid.root[e, 2]
            p0 = k0 * s0 - grid.stiff[e, 0]
            p1 = grid.stiff[e, 1] * (grid.root[e, 1] * np.sqrt(a1) - 1)
            p2 = k2 * s2 - grid.stiff[e, 2]
            m0, m1, m2 = shape * q0 * u0, shape * q1 * u1, shape * q2 * u2
            # Node weights are 1/3, 4/3, 1/3 of the half length.
            da[e, 0] = -scale * (-1.5 * q0 + 2 * q1 - 0.5 * q2 - 3 * (left_q - q0))
            da[e, 1] = -scale * 0.5 * (q2 - q0)
            da[e, 2] = -scale * (0.5 * q0 - 2 * q1 + 1.5 * q2 + 3 * (right_q - q2))
            jump = shape * left_q * left_q / left_a - m0 + k0 / (3 * rho) * (left_a * np.sqrt(left_a) - a0 * s0)
            dq[e, 0] = -scale * (-1.5 * m0 + 2 * m1 - 0.5 * m2 + a0 / rho * (-1.5 * p0 + 2 * p1 - 0.5 * p2)
                                 - 3 * jump) - grid.friction * u0
            dq[e, 1] = -scale * 0.5 * (m2 - m0 + a1 / rho * (p2 - p0)) - grid.friction * u1
            jump = shape * right_q * right_q / right_a - m2 + k2 / (3 * rho) * (right_a * np.sqrt(right_a) - a2 * s2)
            dq[e, 2] = -scale * (0.5 * m0 - 2 * m1 + 1.5 * m2 + a2 / rho * (0.5 * p0 - 2 * p1 + 1.5 * p2)
                                 + 3 * jump) - grid.friction * u2
            left_a, left_q = right_a, right_q
        fastest = max(fastest, quickest / grid.h[v])
    return fastest


@numba.njit(cache=True, error_model="numpy")
def beat(grid: Grid, a: np.ndarray, q: np.ndarray, stored: np.ndarray, inflow: np.ndarray, dt: float, every: int,
         is_viscous: bool, seen_a: np.ndarray, seen_q: np.ndarray) -> tuple[int, float, float]:
    """Advance `a`, `q`, `stored` in place by a period: how it ended, largest speed over length, volume that came in.

    inflow (2 steps,): at every half step. seen_a, seen_q (samples, elements, 3):
    filled at each `every`-th step, with the values of the node at vessels' ends.
    Four stages of third order, stable for twice the step of Euler's method.
    Source: Spiteri & Ruuth 2002, doi:10.1137/S0036142901389025.
    """
    n = len(inflow) // 2
    ends = len(grid.node_of)
    star_a, star_q, at = np.empty(ends), np.empty(ends), np.empty((ends, 7))
    da, dq = np.empty_like(a), np.empty_like(q)
    old_a, old_q, old_stored = np.empty_like(a), np.empty_like(q), np.empty_like(stored)
    fastest, volume = 0.0, 0.0
    for step in range(n):
        old_a[:], old_q[:], old_stored[:] = a, q, stored
        for stage in range(4):
            rate = inflow[(2 * step + (0, 1, 2, 1)[stage]) % (2 * n)]
            if not arrive(grid, a, q, at):
                return FAST, fastest, volume
            if not meet(grid, at, stored, rate, star_a, star_q):
                return STUCK, fastest, volume
            if stage == 0 and step % every == 0:
                _see(grid, a, q, star_a, star_q, seen_a[step // every], seen_q[step // every])
            speed = rates(grid, a, q, star_a, star_q, da, dq)
            if not speed >= 0.0:
                return COLLAPSED, fastest, volume
            fastest = max(fastest, speed)
            share = 0.5 if stage == 3 else 1 / 6
            for node in range(len(grid.kind)):
                kind, end = grid.kind[node], grid.ends[grid.around[node]]
                if kind == INLET:
                    volume += share * dt * rate
                elif kind in (BED, OPEN):
                    out = star_q[end] if end % 2 else -star_q[end]
                    volume -= share * dt * out
                    if kind == BED and grid.bed[node, 2] > 0.0:
                        law = grid.bed[node]
                        stored[node] += 0.5 * dt * law[2] * (out - (stored[node] - law[3]) / law[1])
            for e in range(len(a)):
                for j in range(3):
                    a[e, j] += 0.5 * dt * da[e, j]
                    q[e, j] += 0.5 * dt * dq[e, j]
            if stage == 2:
                for e in range(len(a)):
                    for j in range(3):
                        a[e, j] = (2 * old_a[e, j] + a[e, j]) / 3
                        q[e, j] = (2 * old_q[e, j] + q[e, j]) / 3
                for node in range(len(stored)):
                    stored[node] = (2 * old_stored[node] + stored[node]) / 3
        if is_viscous and step % 2 == 0:  # between two steps of the flow: of second order
            relax(grid, a, q, 2 * dt, inflow[2 * (step + 1)])
    return FINE, fastest, volume


@numba.njit(cache=True, error_model="numpy")
def _see(grid: Grid, a: np.ndarray, q: np.ndarray, star_a: np.ndarray, star_q: np.ndarray, seen_a: np.ndarray,
         seen_q: np.ndarray) -> None:
    seen_a[:], seen_q[:] = a, q
    for v in range(len(grid.h)):
        for end, e, j in ((2 * v, grid.first[v], 0), (2 * v + 1, grid.first[v + 1] - 1, 2)):
            seen_a[e, j], seen_q[e, j] = star_a[end], star_q[end]


# The wall's viscosity


@numba.njit(cache=True, error_model="numpy")
def relax(grid: Grid, a: np.ndarray, q: np.ndarray, dt: float, inflow: float) -> None:
    """Change the flow by what the wall's viscosity does in `dt`: rho/A Q_t = (nu Q_x)_x, where -nu Q_x is its pressure.

    Implicit (two stages of second order that damp what is stiff). The flow's change is continuous in a vessel; at a
    node the viscous pressure is one and flows sum to zero; it is zero at outlets, and the inflow is given.
    """
    total = 2 * len(a) + len(grid.h)  # nodes of all vessels, shared ones once
    n = len(grid.kind)
    band, mass = np.zeros((total, 3)), np.zeros(total)
    start, change = np.zeros(total), np.zeros(total)
    first, last = np.zeros(total), np.zeros(total)
    step = GAMMA * dt
    links = np.zeros((n, grid.width + 1))
    for v in range(len(grid.h)):
        low, high = 2 * grid.first[v] + v, 2 * grid.first[v + 1] + v + 1
        _wall(grid, v, low, a, q, step, band, mass, start)
        factor(band[low:high])
        first[low], last[high - 1] = 1.0, 1.0
        substitute(band[low:high], first[low:high])
        substitute(band[low:high], last[low:high])
        _link(grid, v, step, first[low], last[high - 1], first[high - 1], links)
    for node in range(n):
        if grid.kind[node] == BED or grid.kind[node] == OPEN:
            links[grid.place[node], 0] = 1.0
    factor(links)
    _stage(grid, step, start, band, mass, first, last, links, inflow, change)
    ahead = start + (1 - GAMMA) / GAMMA * (change - start)
    _stage(grid, step, ahead, band, mass, first, last, links, inflow, change)
    for v in range(len(grid.h)):
        for e in range(grid.first[v], grid.first[v + 1]):
            for j in range(3):
                q[e, j] += change[2 * e + v + j] - start[2 * e + v + j]


@numba.njit(cache=True, error_model="numpy")
def _wall(grid: Grid, v: int, low: int, a: np.ndarray, q: np.ndarray, step: float, band: np.ndarray, mass: np.ndarray,
          start: np.ndarray) -> None:
    """Mass and (mass + step * stiffness) of one vessel, row i holding entries (i, i), (i, i - 1), (i, i - 2)."""
    D = ((-1.5, 2.0, -0.5), (-0.5, 0.0, 0.5), (0.5, -2.0, 1.5))
    w = (1 / 3, 4 / 3, 1 / 3)
    half = 0.5 * grid.h[v]
    for e in range(grid.first[v], grid.first[v + 1]):
        at = 2 * e + v
        for j in range(3):
            mass[at + j] += w[j] * half * grid.density / a[e, j]
            band[at + j, 0] += w[j] * half * grid.density / a[e, j]
            is_shared = (j == 0 and e > grid.first[v]) or (j == 2 and e + 1 < grid.first[v + 1])
            start[at + j] += 0.5 * q[e, j] if is_shared else q[e, j]
            nu = 0.5 * grid.wall[e, j] * grid.root[e, j] / np.sqrt(a[e, j])
            for i in range(3):
                for k in range(i + 1):
                    band[at + i, i - k] += step * w[j] * nu / half * D[j][i] * D[j][k]


@numba.njit(cache=True, error_model="numpy")
def _link(grid: Grid, v: int, step: float, near: float, far: float, across: float, links: np.ndarray) -> None:
    """What a unit of viscous pressure at a vessel's nodes drives out of them."""
    i, k = grid.node_of[2 * v], grid.node_of[2 * v + 1]
    is_held = [grid.kind[i] == BED or grid.kind[i] == OPEN, grid.kind[k] == BED or grid.kind[k] == OPEN]
    if not is_held[0]:
        links[grid.place[i], 0] += step * near
    if not is_held[1]:
        links[grid.place[k], 0] += step * far
    if not (is_held[0] or is_held[1]):
        high, low = max(grid.place[i], grid.place[k]), min(grid.place[i], grid.place[k])
        links[high, high - low] -= step * across


@numba.njit(cache=True, error_model="numpy")
def _stage(grid: Grid, step: float, start: np.ndarray, band: np.ndarray, mass: np.ndarray, first: np.ndarray,
           last: np.ndarray, links: np.ndarray, inflow: float, out: np.ndarray) -> None:
    n = len(grid.kind)
    p = np.zeros(n)
    out[:] = mass * start
    for v in range(len(grid.h)):
        low, high = 2 * grid.first[v] + v, 2 * grid.first[v + 1] + v + 1
        substitute(band[low:high], out[low:high])
        p[grid.place[grid.node_of[2 * v]]] -= out[low]
        p[grid.place[grid.node_of[2 * v + 1]]] += out[high - 1]
    for node in range(n):
        if grid.kind[node] == INLET:
            p[grid.place[node]] += inflow
        elif grid.kind[node] == BED or grid.kind[node] == OPEN:
            p[grid.place[node]] = 0.0
    substitute(links, p)
    for v in range(len(grid.h)):
        low, high = 2 * grid.first[v] + v, 2 * grid.first[v + 1] + v + 1
        into, behind = p[grid.place[grid.node_of[2 * v]]], p[grid.place[grid.node_of[2 * v + 1]]]
        for i in range(low, high):
            out[i] += step * (into * first[i] - behind * last[i])


@numba.njit(cache=True, error_model="numpy")
def factor(band: np.ndarray) -> None:
    """L D L' of a symmetric band matrix in place; band[i, k] is entry (i, i - k)."""
    n, width = band.shape
    for i in range(n):
        for k in range(min(width - 1, i), -1, -1):  # from the far end of the row to the diagonal
            j = i - k
            for m in range(max(0, i - width + 1, j - width + 1), j):
                band[i, k] -= band[i, i - m] * band[j, j - m] * band[m, 0] if k else band[i, i - m] ** 2 * band[m, 0]
            if k:
                band[i, k] /= band[j, 0]


@numba.njit(cache=True, error_model="numpy")
def substitute(band: np.ndarray, x: np.ndarray) -> None:
    """Solve with a matrix that `factor` has treated, in place."""
    n, width = band.shape
    for i in range(n):
        for k in range(1, min(width - 1, i) + 1):
            x[i] -= band[i, k] * x[i - k]
    for i in range(n - 1, -1, -1):
        x[i] /= band[i, 0]
        for k in range(1, min(width - 1, n - 1 - i) + 1):
            x[i] -= band[i + k, k] * x[i + k]
