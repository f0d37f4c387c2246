"""Pulse waves in networks of elastic vessels: area, flow and pressure along them over a beat that repeats (1D).

Model. Mass and momentum over the cross-section of a vessel, for a velocity
profile of given order n, u/U = (n + 2)/n (1 - (r/R)^n):

    A_t + Q_x = 0,   Q_t + (alpha Q^2/A)_x + A/rho p_x = -2 (n + 2) pi mu/rho Q/A,   alpha = (n + 2)/(n + 1).

The wall is thin, elastic and incompressible, and may resist its own motion
(Voigt): with s = sqrt(A/A0), p = p0 + 4/3 [(E h/r0) (s - 1) + (eta h/r0) s_t],
where A0 is the area at the pressure p0. Where vessels meet, flows sum to zero
and total pressures p + rho/2 U^2 are equal, but for a lumped loss. An outlet is
a Windkessel (on static pressure) or lets every wave leave.

Scheme. Discontinuous Galerkin of second degree at three Gauss-Lobatto nodes an
element (third order), SSP Runge-Kutta of third order. Pressure is
differentiated as such: blood at rest in a tapering vessel stays at rest. The
wall's viscosity is implicit, split off with second order. No limiter: beside a
wave that steepens to a front within an element pressure swings a little.

Start. The periodic state of the same network in numbers (`circuit`), so that
the slow filling of compliances is skipped.

Sources: Boileau et al. 2015, doi:10.1002/cnm.2732 (model, and the cases it is held against); Spiteri & Ruuth 2002,
doi:10.1137/S0036142901389025 (Runge-Kutta).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import reverse_cuthill_mckee

from solvers.errors import BadInput, DidNotConverge
from solvers.flow import circuit as circuits
from solvers.flow import pulse_wave_kernels as kernels
from solvers.flow.circuit import Circuit, Segment
from solvers.flow.lesion_flow import Fluid, Loss
from solvers.flow.pulse import Pulse
from solvers.flow.pulse_wave_kernels import Grid
from solvers.flow.windkessel import Windkessel

SOURCES = ["Boileau et al. 2015 (1D blood flow, benchmark), doi:10.1002/cnm.2732",
           "Spiteri & Ruuth 2002 (Runge-Kutta), doi:10.1137/S0036142901389025"]

STABLE = 0.6
"""Largest step times speed over element length; instability begins at 0.617 in a linear wave (computed)."""
REST = 1e-9
"""Flow below this part of area times wave speed, and pressure below this part of the stiffness, is rest."""
START_STEPS = 64
"""Time steps of the network in numbers that the first beat begins from."""


@dataclass(frozen=True)
class Vessel:
    """From node `start` to node `end`, SI. What varies is given at equal places from start to end, linear between:
    one number for all, two for a taper, or many.

    radius: m, at the reference pressure; stiffness: E h / r there, Pa (wave speed sqrt(2/3 stiffness / density));
    wall_viscosity: eta h / r, Pa s; pressure: the reference pressure, Pa.
    """

    name: str
    start: str
    end: str
    length: float
    radius: float | Sequence[float] | np.ndarray
    stiffness: float | Sequence[float] | np.ndarray
    wall_viscosity: float | Sequence[float] | np.ndarray = 0.0
    pressure: float = 0.0

    def but(self, **changes: object) -> "Vessel":
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ReflectionFree:
    """An outlet that sends nothing back; blood rests there at `pressure`, Pa."""

    pressure: float = 0.0


Outlet = Windkessel | ReflectionFree
"""A Windkessel without compliance is a single resistance."""


@dataclass(frozen=True)
class Network:
    """Vessels, the node that is fed, what follows each outlet's node, and the lumped loss at nodes of two vessels.

    profile: order n of the velocity profile; 2 is parabolic, 9 nearly flat.
    """

    vessels: tuple[Vessel, ...]
    inlet: str
    outlets: Mapping[str, Outlet]
    fluid: Fluid
    losses: Mapping[str, Loss] = field(default_factory=dict)
    profile: float = 2.0

    @property
    def nodes(self) -> tuple[str, ...]:
        ends = (name for v in self.vessels for name in (v.start, v.end))
        return tuple(dict.fromkeys([self.inlet, *ends, *self.outlets]))

    def but(self, **changes: object) -> "Network":
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Numerics:
    """cell: longest element, m; split: parts that each of them is cut into again; courant: time step times speed over
    element length; samples: times kept of a beat; tolerance: change from one beat to the next, of pressure relative to
    the largest swing, of flow relative to the largest in the same vessel."""

    cell: float = 0.02
    split: int = 1
    courant: float = 0.5
    samples: int = 200
    tolerance: float = 1e-3
    most_cycles: int = 60


@dataclass(frozen=True)
class Evidence:
    """Beats and change in the last one; largest sum of flows where vessels meet, relative to the largest flow; volume
    gained less volume that came in, relative to what came in over a beat; time steps a beat; largest step times speed
    over element length; elements."""

    n_cycles: int
    change: float
    imbalance: float
    volume_error: float
    n_steps: int
    courant: float
    n_elements: int


@dataclass(frozen=True)
class Curve:
    """Over the beat at one place, (n,): pressure Pa, flow m^3/s, area m^2."""

    pressure: np.ndarray
    flow: np.ndarray
    area: np.ndarray


@dataclass(frozen=True)
class Along:
    """Along a vessel from start to end, (m,): distance m; mean, highest and lowest pressure of the beat Pa; mean flow
    m^3/s; mean area m^2."""

    distance: np.ndarray
    mean: np.ndarray
    systolic: np.ndarray
    diastolic: np.ndarray
    flow: np.ndarray
    area: np.ndarray


@dataclass(frozen=True)
class Waves:
    """One beat that repeats. Row k is time k period/n.

    times (n,) s. pressure Pa, flow m^3/s and area m^2, (n, places); vessel
    (places,): number of the vessel, distance (places,): m from its start. A
    vessel's places go from its start over its middle to its end. Flow is
    positive from start to end. inflow (n,).
    """

    network: Network
    times: np.ndarray
    vessel: np.ndarray
    distance: np.ndarray
    pressure: np.ndarray
    flow: np.ndarray
    area: np.ndarray
    inflow: np.ndarray
    evidence: Evidence

    def at(self, name: str, part: float = 0.5) -> Curve:
        """At a part of a vessel's length from its start; 0 is its start, 0.5 its middle, 1 its end."""
        places = self._places(name)
        s = self.distance[places]
        x = part * s[-1]
        k = 2 * min(int(np.searchsorted(s[2::2], x - 1e-9 * s[-1])), (len(s) - 3) // 2)
        t = (x - s[k]) / (s[k + 2] - s[k])
        weights = np.array([(1 - t) * (1 - 2 * t), 4 * t * (1 - t), t * (2 * t - 1)])
        here = places[k:k + 3]
        return Curve(self.pressure[:, here] @ weights, self.flow[:, here] @ weights, self.area[:, here] @ weights)

    def out(self, node: str) -> Curve:
        """At an outlet's node; flow out of the network."""
        return self._beside(node, 1.0)

    def into(self) -> Curve:
        """At the inlet; flow into the network."""
        return self._beside(self.network.inlet, -1.0)

    def along(self, name: str) -> Along:
        places = self._places(name)
        p = self.pressure[:, places]
        return Along(self.distance[places], p.mean(axis=0), p.max(axis=0), p.min(axis=0),
                     self.flow[:, places].mean(axis=0), self.area[:, places].mean(axis=0))

    def _places(self, name: str) -> np.ndarray:
        names = [v.name for v in self.network.vessels]
        if name not in names:
            raise BadInput("unknown_vessel", f"there is no vessel called {name}", f"one of {', '.join(names)}")
        return np.flatnonzero(self.vessel == names.index(name))

    def _beside(self, node: str, sign: float) -> Curve:
        vessel = next(v for v in self.network.vessels if node in (v.start, v.end))
        found = self.at(vessel.name, 1.0 if vessel.end == node else 0.0)
        return replace(found, flow=found.flow * (sign if vessel.end == node else -sign))


@dataclass(frozen=True)
class _State:
    """Area and flow (elements, 3), and the pressure over each node's compliance (nodes,)."""

    area: np.ndarray
    flow: np.ndarray
    stored: np.ndarray

    def copy(self) -> "_State":
        return _State(self.area.copy(), self.flow.copy(), self.stored.copy())


@dataclass(frozen=True)
class _Beat:
    """State after it, and what was seen: area, flow and pressure (samples, elements, 3)."""

    state: _State
    area: np.ndarray
    flow: np.ndarray
    pressure: np.ndarray
    speed: float
    volume_error: float
    n_steps: int


def solve(network: Network, pulse: Pulse, numerics: Numerics = Numerics()) -> Waves:
    """The beat that `pulse` leads to.

    Raises BadInput for numbers that cannot be; DidNotConverge `not_periodic` when beats do not repeat within
    `most_cycles`, `vessel_collapsed` when an area or a number is lost, `flow_too_fast` when blood outruns its waves,
    `newton_failed` when a node has no solution.
    """
    check(network)
    _check(numerics)
    grid = _grid(network, numerics)
    state = _start(network, grid, pulse)
    n_steps = _steps(grid, state, pulse.period, numerics)
    before, change = None, np.inf
    for number in range(1, numerics.most_cycles + 1):
        beat = _beat(grid, state, pulse, n_steps, numerics)
        change = np.inf if before is None else _change(grid, before, beat)
        if change < numerics.tolerance:
            return _result(network, grid, pulse, beat, number, change, numerics)
        before, state, n_steps = beat, beat.state, beat.n_steps
    raise DidNotConverge("not_periodic", f"the beat still changes by {change:.1e} after {numerics.most_cycles} beats",
                         f"{numerics.tolerance:.0e}", "Give it more beats, or smaller compliances at the outlets.",
                         state=before)


# What is given


def check(network: Network) -> None:
    """BadInput when a number cannot be, a name is used twice, or a node hangs free."""
    if not network.vessels:
        raise BadInput("no_vessels", "the network has no vessel", "at least one")
    names = [v.name for v in network.vessels]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise BadInput("name_used_twice", f"several vessels are called {', '.join(twice)}", "one name for each")
    for v in network.vessels:
        for what, values, least in (("length", v.length, 0.0), ("radius", v.radius, 0.0),
                                    ("stiffness", v.stiffness, 0.0), ("wall viscosity", v.wall_viscosity, -1e-300),
                                    ("reference pressure", v.pressure, -np.inf)):
            found = np.atleast_1d(np.asarray(values, float))
            if found.ndim != 1 or not len(found) or not np.isfinite(found).all() or not (found > least).all():
                wanted = "finite numbers" if least == -np.inf else f"finite numbers {'not' if least else 'none'} " \
                    f"{'below' if least else 'at or below'} zero"
                raise BadInput("bad_vessel", f"the {what} of {v.name} goes from {found.min(initial=np.inf):.4g} to "
                               f"{found.max(initial=-np.inf):.4g}", wanted, "Look at that vessel's table row.")
        if v.start == v.end:
            raise BadInput("bad_vessel", f"{v.name} ends where it starts", "two different nodes")
    fluid = network.fluid
    if not (np.isfinite([fluid.density, fluid.viscosity, network.profile]).all() and fluid.density > 0
            and fluid.viscosity >= 0 and network.profile > 0):
        raise BadInput("bad_fluid", f"density {fluid.density:.4g}, viscosity {fluid.viscosity:.4g}, profile of order "
                       f"{network.profile:.4g}", "finite numbers, density and order above zero")
    _check_nodes(network)
    _check_laws(network)


def _check_nodes(network: Network) -> None:
    count = {n: sum((v.start == n) + (v.end == n) for v in network.vessels) for n in network.nodes}
    if not network.outlets:
        raise BadInput("no_outlets", "the network has no outlet", "at least one")
    for node in (network.inlet, *network.outlets):
        if count[node] != 1 or node in network.losses or (node == network.inlet and node in network.outlets):
            raise BadInput("bad_end", f"{count[node]} vessels meet at the inlet or outlet {node}",
                           "one vessel, and nothing else there")
    for node in network.losses:
        if count.get(node) != 2:
            raise BadInput("bad_loss", f"{count.get(node, 0)} vessels meet at the loss {node}", "two")
    blind = [n for n, k in count.items() if k == 1 and n != network.inlet and n not in network.outlets]
    if blind:
        raise BadInput("loose_node", f"nothing follows {', '.join(sorted(blind))}", "an outlet where a vessel ends")
    found, size = {network.inlet}, 0
    while size != len(found):
        size = len(found)
        found |= {n for v in network.vessels if found & {v.start, v.end} for n in (v.start, v.end)}
    if set(network.nodes) - found:
        raise BadInput("loose_node", f"{', '.join(sorted(set(network.nodes) - found))} is not joined to the inlet",
                       "one network")


def _check_laws(network: Network) -> None:
    laws: list[tuple[str, tuple[float, ...]]]
    laws = [(f"loss {n}", (x.linear, x.quadratic)) for n, x in network.losses.items()]
    for n, x in network.outlets.items():
        laws.append((f"outlet {n}", (x.proximal, x.distal, x.compliance, abs(x.venous))
                     if isinstance(x, Windkessel) else (abs(x.pressure),)))
    for name, values in laws:
        if not all(np.isfinite(v) and v >= 0 for v in values):
            raise BadInput("bad_outlet_or_loss", f"{name} holds {', '.join(f'{v:.4g}' for v in values)}",
                           "finite values, none negative")


def _check(numerics: Numerics) -> None:
    if not (np.isfinite(numerics.cell) and numerics.cell > 0 and numerics.split >= 1 and 0 < numerics.courant <= STABLE
            and numerics.samples >= 8 and numerics.tolerance > 0 and numerics.most_cycles >= 2):
        raise BadInput("bad_numerics", f"{numerics}", f"a cell above zero, a split of 1 or more, courant to {STABLE}, "
                       "at least 8 samples, a tolerance above zero and two beats")


# Grid


def _grid(network: Network, numerics: Numerics) -> Grid:
    vessels, nodes, rho = network.vessels, list(network.nodes), network.fluid.density
    count = np.array([int(np.ceil(v.length / numerics.cell * (1 - 1e-12))) * numerics.split for v in vessels])
    first = np.r_[0, np.cumsum(count)]
    x = [(np.arange(n)[:, None] + [0.0, 0.5, 1.0]) / n for n in count]
    radius = np.concatenate([_values(v.radius, t) for v, t in zip(vessels, x, strict=True)])
    stiff = np.concatenate([_values(v.stiffness, t) for v, t in zip(vessels, x, strict=True)])
    wall = np.concatenate([_values(v.wall_viscosity, t) for v, t in zip(vessels, x, strict=True)])
    node_of = np.array([nodes.index(n) for v in vessels for n in (v.start, v.end)])
    ends = np.argsort(node_of, kind="stable")
    around = np.searchsorted(node_of[ends], np.arange(len(nodes) + 1))
    place, width = _order(node_of.reshape(-1, 2), len(nodes))
    kind, bed = np.full(len(nodes), kernels.JUNCTION), np.zeros((len(nodes), 4))
    kind[nodes.index(network.inlet)] = kernels.INLET
    for name, loss in network.losses.items():
        kind[nodes.index(name)], bed[nodes.index(name), :2] = kernels.LOSS, (loss.linear, loss.quadratic)
    made = Grid(first, np.array([v.length for v in vessels]) / count, 1 / (np.sqrt(np.pi) * radius), 4 / 3 * stiff,
                4 / 3 * wall, np.array([float(v.pressure) for v in vessels]), around, ends, node_of, kind, bed, place,
                width, float(rho), 2 * (network.profile + 2) * np.pi * network.fluid.viscosity / rho,
                (network.profile + 2) / (network.profile + 1))
    for name, outlet in network.outlets.items():
        node = nodes.index(name)
        kind[node], bed[node] = _law(made, outlet, int(ends[around[node]]))
    return made


def _law(grid: Grid, outlet: Outlet, end: int) -> tuple[int, tuple[float, float, float, float]]:
    if isinstance(outlet, ReflectionFree):
        stiff, s = _at_end(grid, end, outlet.pressure)
        return kernels.OPEN, (float(np.sqrt(stiff * s / (2 * grid.density))), 0.0, 0.0, 0.0)
    if outlet.distal * outlet.compliance == 0:
        return kernels.BED, (outlet.resistance, 0.0, 0.0, outlet.venous)
    return kernels.BED, (outlet.proximal, outlet.distal, 1 / outlet.compliance, outlet.venous)


def _at_end(grid: Grid, end: int, pressure: float) -> tuple[float, float]:
    """Stiffness (4/3 E h / r, Pa) at an end, and sqrt(A/A0) there at a pressure."""
    v = end // 2
    e, j = (grid.first[v], 0) if end % 2 == 0 else (grid.first[v + 1] - 1, 2)
    stiff = grid.stiff[e, j]
    return float(stiff), max(float(1 + (pressure - grid.outside[v]) / stiff), 0.1)


def _values(given: float | Sequence[float] | np.ndarray, part: np.ndarray) -> np.ndarray:
    """What is given at equal places, at parts of the length."""
    found = np.atleast_1d(np.asarray(given, float))
    return np.interp(part, np.linspace(0, 1, len(found)), found) if len(found) > 1 else np.full(part.shape, found[0])


def _order(links: np.ndarray, n: int) -> tuple[np.ndarray, int]:
    """A numbering (n,) of the nodes in which linked ones are near, and how far the farthest are."""
    graph = coo_matrix((np.ones(len(links)), links.T), (n, n)).tocsr()
    place = np.empty(n, int)
    place[reverse_cuthill_mckee((graph + graph.T).tocsr(), symmetric_mode=True)] = np.arange(n)
    return place, int(np.abs(np.diff(place[links], axis=1)).max())


# Start


def _start(network: Network, grid: Grid, pulse: Pulse) -> _State:
    """Pressures and flows of the network in numbers at the beginning of its beat, pressure linear along vessels."""
    mean, _ = circuits.steady(in_numbers(network), pulse.mean)
    found = circuits.solve(in_numbers(network, mean), pulse, circuits.Numerics(START_STEPS, tolerance=1e-3))
    area, flow = np.empty_like(grid.root), np.empty_like(grid.root)
    for i, v in enumerate(network.vessels):
        here = slice(grid.first[i], grid.first[i + 1])
        part = (np.arange(grid.first[i + 1] - grid.first[i])[:, None] + [0.0, 0.5, 1.0]) * grid.h[i] / v.length
        p = found.at(v.start)[0] * (1 - part) + found.at(v.end)[0] * part
        area[here] = np.maximum((1 + (p - v.pressure) / grid.stiff[here]) / grid.root[here], 0.1 / grid.root[here]) ** 2
        flow[here] = found.flow[0, i]
    stored = np.zeros(len(grid.kind))
    for name, outlet in network.outlets.items():
        if isinstance(outlet, Windkessel):
            empty = outlet.distal * outlet.compliance == 0
            stored[network.nodes.index(name)] = outlet.venous if empty else found.stored_at_start(name)
    return _State(area, flow, stored)


def in_numbers(network: Network, pressure: Mapping[str, float] | None = None) -> Circuit:
    """The same network without length (0D): friction, inertia, and half of each vessel's compliance at its ends.

    Vessels are as wide as at `pressure` (Pa by node), else at their reference. A reflection-free outlet is its wave
    impedance. Where the fluid has no friction a thousandth of the wave impedance stands for it.
    """
    segments, beds = [], {}
    stores = dict.fromkeys(network.nodes, 0.0)
    rho, mu = network.fluid.density, network.fluid.viscosity
    t = (np.arange(400) + 0.5) / 400
    impedance: dict[str, float] = {}
    lossy = {next(v.name for v in network.vessels if node in (v.start, v.end)): x for node, x in network.losses.items()}
    for v in network.vessels:
        stiff = 4 / 3 * _values(v.stiffness, t)
        p = v.pressure if pressure is None else pressure[v.start] * (1 - t) + pressure[v.end] * t
        s = np.maximum(1 + (p - v.pressure) / stiff, 0.1)
        area = np.pi * (_values(v.radius, t) * s) ** 2
        speed = np.sqrt(stiff * s / (2 * rho))
        impedance[v.start] = impedance[v.end] = float((rho * speed / area).mean())
        friction = float(2 * (network.profile + 2) * np.pi * mu * v.length * (1 / area**2).mean())
        loss = lossy.get(v.name, Loss(0.0, 0.0))
        segments.append(Segment(v.start, v.end, max(friction, 1e-3 * impedance[v.end]) + loss.linear, loss.quadratic,
                                float(rho * v.length * (1 / area).mean())))
        for node in (v.start, v.end):
            stores[node] += 0.5 * v.length * float((2 * area / (stiff * s)).mean())
    for name, outlet in network.outlets.items():
        beds[name] = outlet if isinstance(outlet, Windkessel) else \
            Windkessel(impedance[name], 0.0, 0.0, outlet.pressure)
    return Circuit(tuple(segments), network.inlet, beds, stores)


# Beats


def _steps(grid: Grid, state: _State, period: float, numerics: Numerics) -> int:
    """Time steps a beat: by the speed of waves and blood, by friction, and by the time that an outlet empties in."""
    root = np.sqrt(state.area)
    speed = np.sqrt(grid.stiff * grid.root * root / (2 * grid.density)) \
        + grid.shape * np.abs(state.flow) / state.area
    length = np.repeat(grid.h, np.diff(grid.first))[:, None]
    rate = 1.1 * float((speed / length).max()) / numerics.courant
    rate = max(rate, float((grid.friction / state.area).max()))
    for node in np.flatnonzero((grid.kind == kernels.BED) & (grid.bed[:, 2] > 0)):
        end = int(grid.ends[grid.around[node]])
        v = end // 2
        e, j = (grid.first[v], 0) if end % 2 == 0 else (grid.first[v + 1] - 1, 2)
        proximal = grid.bed[node, 0] + grid.density * speed[e, j] / state.area[e, j]
        rate = max(rate, grid.bed[node, 2] * (1 / grid.bed[node, 1] + 1 / proximal))
    return _whole(period * rate, numerics)


def _whole(wanted: float, numerics: Numerics) -> int:
    """At least `wanted` steps, even in number between samples."""
    every = int(np.ceil(wanted / numerics.samples))
    return numerics.samples * (every + every % 2)


def _beat(grid: Grid, start: _State, pulse: Pulse, n_steps: int, numerics: Numerics) -> _Beat:
    """One beat; begun again with shorter steps where the flow became too fast for them."""
    shape = (numerics.samples, *start.area.shape)
    area, flow = np.empty(shape), np.empty(shape)
    for _ in range(8):
        state = start.copy()
        inflow = pulse.at(2 * n_steps)
        dt = pulse.period / n_steps
        how, speed, volume = kernels.beat(grid, state.area, state.flow, state.stored, inflow, dt,
                                          n_steps // numerics.samples, bool(grid.wall.any()), area, flow)
        if speed * dt <= STABLE or not np.isfinite(speed):
            break
        n_steps = _whole(min(pulse.period * speed / numerics.courant, 4 * n_steps), numerics)
    if how != kernels.FINE or not np.isfinite(state.flow).all():
        raise _failure(how, start)
    gained = _volume(grid, state.area) - _volume(grid, start.area)
    error = abs(gained - float(volume)) / max(pulse.period * float(np.abs(inflow).mean()), 1e-30)
    return _Beat(state, area, flow, _pressure(grid, area, flow), float(speed), float(error), n_steps)


def _failure(how: int, start: _State) -> DidNotConverge:
    hint = "Look at the radii and stiffnesses given, and at the inflow; smaller elements may help."
    code, happened = {kernels.FAST: ("flow_too_fast", "blood is faster than the waves in it at a vessel's end"),
                      kernels.STUCK: ("newton_failed", "pressures where vessels meet were not found")}.get(
        how, ("vessel_collapsed", "a vessel's area fell to zero"))
    return DidNotConverge(code, f"{happened} in a 1D flow", "waves faster than blood, open vessels", hint, state=start)


def _volume(grid: Grid, area: np.ndarray) -> float:
    length = np.repeat(grid.h, np.diff(grid.first))
    return float((area @ np.array([1.0, 4.0, 1.0]) / 6 * length).sum())


def _pressure(grid: Grid, area: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Static pressure with the part of the wall's viscosity, (n, elements, 3)."""
    s = np.sqrt(area)
    count = np.diff(grid.first)
    p = np.repeat(grid.outside, count)[:, None] + grid.stiff * (grid.root * s - 1)
    if grid.wall.any():
        D = np.array([[-3.0, 4.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -4.0, 3.0]])
        p -= 0.5 * grid.wall * grid.root / s * (flow @ D.T) / np.repeat(grid.h, count)[:, None]
    return p


def _change(grid: Grid, before: _Beat, after: _Beat) -> float:
    """Largest change of pressure and of flow, as `Numerics.tolerance` says; what is below rounding does not count."""
    least = REST * float((np.sqrt(grid.stiff / (2 * grid.density)) / grid.root**2).max())
    swing = max(float(np.ptp(after.pressure, axis=0).max()), REST * float(grid.stiff.max()))
    step = np.maximum.reduceat(np.abs(after.flow - before.flow).max(axis=(0, 2)), grid.first[:-1])
    largest = np.maximum.reduceat(np.abs(after.flow).max(axis=(0, 2)), grid.first[:-1])
    flow = float((step / np.maximum(largest, least)).max())
    return max(float(np.abs(after.pressure - before.pressure).max()) / swing, flow)


def _result(network: Network, grid: Grid, pulse: Pulse, beat: _Beat, number: int, change: float,
            numerics: Numerics) -> Waves:
    count = np.diff(grid.first)
    vessel = np.repeat(np.arange(len(count)), 2 * count + 1)
    distance = np.concatenate([np.arange(2 * n + 1) * h / 2 for n, h in zip(count, grid.h, strict=True)])
    flow = _joined(grid, beat.flow)
    inflow = pulse.at(numerics.samples)
    evidence = Evidence(number, change, _imbalance(network, grid, beat.flow), beat.volume_error, beat.n_steps,
                        beat.speed * pulse.period / beat.n_steps, int(grid.first[-1]))
    return Waves(network, np.arange(numerics.samples) * pulse.period / numerics.samples, vessel, distance,
                 _joined(grid, beat.pressure), flow, _joined(grid, beat.area), inflow, evidence)


def _joined(grid: Grid, values: np.ndarray) -> np.ndarray:
    """(n, elements, 3) to (n, places): elements of a vessel share their ends."""
    parts = []
    for low, high in zip(grid.first[:-1], grid.first[1:], strict=True):
        one = np.empty((len(values), 2 * (high - low) + 1))
        one[:, 1::2] = values[:, low:high, 1]
        one[:, 0], one[:, -1] = values[:, low, 0], values[:, high - 1, 2]
        one[:, 2:-1:2] = 0.5 * (values[:, low:high - 1, 2] + values[:, low + 1:high, 0])
        parts.append(one)
    return np.concatenate(parts, axis=1)


def _imbalance(network: Network, grid: Grid, flow: np.ndarray) -> float:
    """Largest sum of flows where vessels meet, relative to the largest flow."""
    sums = np.zeros((len(flow), len(grid.kind)))
    for v in range(len(grid.h)):
        sums[:, grid.node_of[2 * v]] -= flow[:, grid.first[v], 0]
        sums[:, grid.node_of[2 * v + 1]] += flow[:, grid.first[v + 1] - 1, 2]
    inside = (grid.kind == kernels.JUNCTION) | (grid.kind == kernels.LOSS)
    return float(np.abs(sums[:, inside]).max(initial=0.0) / max(float(np.abs(flow).max()), 1e-30))
