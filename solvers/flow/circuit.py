"""Flow in a network of segments that ends in Windkessels: pressure and flow as numbers, without a space (0D).

Model. A segment from node a to node b obeys p_a - p_b = R q + K |q| q + L dq/dt;
a node may store volume (C d(p - p_outside)/dt); an outlet is a three-element
Windkessel; the inflow at one node is given and periodic, as is what squeezes a
node from outside. All in SI.

Scheme. The unknowns x (node pressures, segment flows, outlet flows, stored
pressures) obey M dx/dt + A x + g(x) = f(t), with singular M. BDF2 with equal
steps is stable for any step, damps what is stiff and keeps its order on the
constraints (a junction without storage ties flows together, and its pressure
then follows their rate). The linear part is inverted once; Newton's method
runs on the flows that have a quadratic term only.

Start. The exact periodic solution under the same scheme is found frequency by
frequency, K |q| q put in as a source and iterated, so the slow discharge of
compliances is skipped; then cycles are stepped until they repeat, mostly one.

Sources: Westerhof 2009, doi:10.1007/s11517-008-0359-2 (Windkessel); Hairer & Wanner, Solving Ordinary Differential
Equations II, doi:10.1007/978-3-642-05221-7 (BDF for differential-algebraic equations).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from solvers.errors import BadInput, DidNotConverge
from solvers.flow.pulse import Pulse
from solvers.flow.windkessel import Windkessel

SOURCES = ["Westerhof 2009 (Windkessel), doi:10.1007/s11517-008-0359-2",
           "Hairer & Wanner 1996 (BDF for differential-algebraic equations), doi:10.1007/978-3-642-05221-7"]

BLOCK = 2_000_000
"""Numbers of matrices that are solved at once (32 MB)."""


@dataclass(frozen=True)
class Segment:
    """From node `start` to node `end`: resistance Pa s/m^3, quadratic Pa s^2/m^6, inertance Pa s^2/m^3, all >= 0."""

    start: str
    end: str
    resistance: float
    quadratic: float = 0.0
    inertance: float = 0.0


@dataclass(frozen=True)
class Circuit:
    """Segments, the node that is fed, the node of each outlet, compliances (m^3/Pa) at nodes, and the pressure around
    those that are squeezed, Pa."""

    segments: tuple[Segment, ...]
    inlet: str
    outlets: Mapping[str, Windkessel]
    compliances: Mapping[str, float] = field(default_factory=dict)
    squeezed: Mapping[str, Pulse] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes, in the order of the columns of `Periodic.pressure`."""
        ends = (name for s in self.segments for name in (s.start, s.end))
        return tuple(dict.fromkeys([self.inlet, *ends, *self.outlets]))

    def but(self, **changes: object) -> "Circuit":
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Numerics:
    """steps: time steps a cycle; tolerance: change from one cycle to the next, relative to the largest pressure and
    flow; most_cycles; newton: relative step at which Newton stops; relaxations: most of the periodic start."""

    steps: int = 450
    tolerance: float = 1e-7
    most_cycles: int = 60
    newton: float = 1e-12
    most_newton: int = 30
    relaxations: int = 300


@dataclass(frozen=True)
class Evidence:
    """Cycles stepped, change in the last one (relative), largest imbalance of volume at a node (relative to the
    largest flow)."""

    n_cycles: int
    change: float
    imbalance: float

    @property
    def is_periodic(self) -> bool:
        return self.change < 1e-5


@dataclass(frozen=True)
class Periodic:
    """One cycle that repeats. Row k is time k period/n; row 0 is the state at the cycle's beginning.

    times (n,) s; pressure (n, nodes) Pa; flow (n, segments) m^3/s; outflow and
    stored (n, outlets): flow into each Windkessel and the pressure over its
    compliance, in the order of `circuit.outlets`; inflow (n,).
    """

    circuit: Circuit
    times: np.ndarray
    pressure: np.ndarray
    flow: np.ndarray
    outflow: np.ndarray
    stored: np.ndarray
    inflow: np.ndarray
    evidence: Evidence

    def at(self, node: str) -> np.ndarray:
        """Pressure at a node over the cycle, Pa, (n,)."""
        return self.pressure[:, self.circuit.nodes.index(node)]

    def out(self, node: str) -> np.ndarray:
        """Flow out of the outlet at a node over the cycle, m^3/s, (n,)."""
        return self.outflow[:, list(self.circuit.outlets).index(node)]

    def stored_at_start(self, node: str) -> float:
        """Pressure over the compliance of the outlet at a node when the cycle begins, Pa."""
        return float(self.stored[0, list(self.circuit.outlets).index(node)])


@dataclass(frozen=True)
class System:
    """M d(x - s(t))/dt + A x + E (K |q| q) + constant = e_in inflow(t), q = x[flows]; E selects the rows of those
    segments, s holds the pressure around squeezed nodes by index."""

    M: np.ndarray
    A: np.ndarray
    constant: np.ndarray
    feed: int
    quadratic: np.ndarray
    flows: np.ndarray
    rows: np.ndarray
    squeezed: Mapping[int, Pulse]

    def around(self, n: int) -> np.ndarray:
        """s at n equal times over the cycle, (n, unknowns)."""
        found = np.zeros((n, len(self.M)))
        for node, pulse in self.squeezed.items():
            found[:, node] = pulse.at(n)
        return found


def solve(circuit: Circuit, pulse: Pulse, numerics: Numerics = Numerics()) -> Periodic:
    """The cycle that `pulse` leads to.

    Raises DidNotConverge `not_periodic` when cycles do not repeat within
    `most_cycles`, `newton_failed` when a step has no solution.
    """
    check(circuit)
    _check_periods(circuit, pulse.period)
    system = assemble(circuit)
    inflow = pulse.at(numerics.steps)
    dt = pulse.period / numerics.steps
    cycle, before = _start(system, inflow, dt, numerics), np.inf
    step, squeeze = _Step(system, dt, numerics), _squeeze(system, numerics.steps, dt)
    for number in range(1, numerics.most_cycles + 1):
        after = _cycle(step, cycle, inflow, squeeze)
        before, cycle = _change(circuit, cycle, after), after
        if before < numerics.tolerance:
            return _result(circuit, pulse, inflow, cycle, Evidence(number, before, _imbalance(system, cycle, inflow,
                                                                                              dt)))
    raise DidNotConverge("not_periodic", f"the network still changes by {before:.1e} a cycle after "
                         f"{numerics.most_cycles} cycles", f"{numerics.tolerance:.0e}",
                         "Give it more cycles, or smaller compliances at the outlets.", state=cycle)


def steady(circuit: Circuit, inflow: float, numerics: Numerics = Numerics()) -> tuple[dict[str, float], np.ndarray]:
    """Pressure by node (Pa) and flow by segment (m^3/s) under a constant inflow (m^3/s)."""
    check(circuit)
    system = assemble(circuit)
    x = _steady(system, inflow, numerics)
    n = len(circuit.nodes)
    return dict(zip(circuit.nodes, x[:n].tolist(), strict=True)), x[n:n + len(circuit.segments)]


def check(circuit: Circuit) -> None:
    """BadInput when a number is negative or not finite, or a node hangs free."""
    parts: list[tuple[str, tuple[float, ...]]]
    parts = [(f"{s.start} to {s.end}", (s.resistance, s.quadratic, s.inertance)) for s in circuit.segments]
    parts += [(f"outlet {n}", (w.proximal, w.distal, w.compliance)) for n, w in circuit.outlets.items()]
    parts += [(f"node {n}", (c,)) for n, c in circuit.compliances.items()]
    if loose := set(circuit.squeezed) - set(circuit.compliances):
        raise BadInput("bad_circuit", f"{', '.join(sorted(loose))} is squeezed and stores nothing", "a compliance")
    parts += [(f"the venous side of outlet {n}", (abs(w.venous),)) for n, w in circuit.outlets.items()]
    for name, values in parts:
        if not all(np.isfinite(v) and v >= 0 for v in values):
            raise BadInput("bad_circuit", f"{name} holds {', '.join(f'{v:.4g}' for v in values)}",
                           "finite values, none negative", "Look at the areas of the vessel there.")
    if not circuit.outlets:
        raise BadInput("no_outlets", "the network has no outlet", "at least one outlet with a Windkessel")
    lost = set(circuit.nodes) - _joined(circuit)
    if lost:
        raise BadInput("loose_node", f"{', '.join(sorted(lost))} is not joined to the inlet", "one network")


def _check_periods(circuit: Circuit, period: float) -> None:
    for node, pulse in circuit.squeezed.items():
        if not np.isclose(pulse.period, period, rtol=1e-9):
            raise BadInput("other_period", f"node {node} is squeezed every {pulse.period:.4g} s, the inflow's period "
                           f"is {period:.4g} s", "one period")


def _joined(circuit: Circuit) -> set[str]:
    """Nodes that can be reached from the inlet."""
    found, size = {circuit.inlet}, 0
    while size != len(found):
        size = len(found)
        found |= {n for s in circuit.segments if found & {s.start, s.end} for n in (s.start, s.end)}
    return found


def assemble(circuit: Circuit) -> System:
    """The equations of a circuit. Unknowns: pressures by `nodes`, flows by `segments`, outlets' flows and stored
    pressures."""
    nodes, segments, beds = circuit.nodes, circuit.segments, list(circuit.outlets.items())
    n, m, k = len(nodes), len(segments), len(circuit.outlets)
    size = n + m + 2 * k
    M, A, constant = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
    for name, value in circuit.compliances.items():
        M[nodes.index(name), nodes.index(name)] = value
    for j, s in enumerate(segments, start=n):  # row j: the segment's law; rows below n: what meets at a node
        a, b = nodes.index(s.start), nodes.index(s.end)
        A[a, j], A[b, j] = 1.0, -1.0
        A[j, a], A[j, b], A[j, j], M[j, j] = -1.0, 1.0, s.resistance, s.inertance
    for i, (name, w) in enumerate(beds):
        node, q, stored = nodes.index(name), n + m + i, n + m + k + i
        A[node, q] = 1.0
        A[q, node], A[q, stored], A[q, q] = -1.0, 1.0, w.proximal
        M[stored, stored] = w.compliance * w.distal
        A[stored, stored], A[stored, q], constant[stored] = 1.0, -w.distal, -w.venous
    curved = [j for j, s in enumerate(segments) if s.quadratic > 0]
    rows = np.array([n + j for j in curved], int)
    return System(M, A, constant, nodes.index(circuit.inlet), np.array([segments[j].quadratic for j in curved]),
                  rows, rows, {nodes.index(n): pulse for n, pulse in circuit.squeezed.items()})


def _steady(system: System, inflow: float, numerics: Numerics) -> np.ndarray:
    known = -system.constant.copy()
    known[system.feed] += inflow
    return Reduced(system, system.A, numerics).solve(known, np.full(len(system.flows), inflow))


class Reduced:
    """(A + E K |.| . ) x = known for a constant matrix: inverted once, then Newton on the flows with a K."""

    def __init__(self, system: System, matrix: np.ndarray, numerics: Numerics) -> None:
        scale = _scales(matrix)
        scaled = _solved(matrix / scale[0][:, None] / scale[1], np.eye(len(matrix)))
        self.inverse = scaled / scale[1][:, None] / scale[0]
        self.K, self.flows = system.quadratic, system.flows
        self.back = self.inverse[:, system.rows]
        self.small = self.back[self.flows]
        self.eye = np.eye(len(self.flows))
        self.numerics = numerics

    def solve(self, known: np.ndarray, guess: np.ndarray) -> np.ndarray:
        linear = self.inverse @ known
        if not len(self.K):
            return linear
        return linear - self.back @ self._losses(linear[self.flows], guess)

    def _losses(self, linear: np.ndarray, q: np.ndarray) -> np.ndarray:
        """K |q| q for the flows q = linear - small (K |q| q)."""
        for _ in range(self.numerics.most_newton):
            size = self.K * np.abs(q)
            residual = q - linear + self.small @ (size * q)
            step = np.linalg.solve(self.eye + 2 * self.small * size, residual)
            q = q - step
            if np.abs(step).max() <= self.numerics.newton * max(np.abs(q).max(), np.abs(linear).max(), 1e-30):
                return self.K * np.abs(q) * q
        raise DidNotConverge("newton_failed", f"Newton stopped after {self.numerics.most_newton} steps in a network",
                             f"a step below {self.numerics.newton:.0e}", "Take more time steps a cycle.", state=q)


def _solved(matrix: np.ndarray, known: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.solve(matrix, known)
    except np.linalg.LinAlgError as error:
        raise BadInput("circuit_undetermined", "the network's flows are not determined",
                       "a resistance in every loop") from error


def _scales(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column scales that bring the largest entries of a matrix of mixed units near one."""
    rows = np.ones(len(matrix))
    columns = np.ones(len(matrix))
    for _ in range(4):
        rows *= np.sqrt(np.maximum(np.abs(matrix / rows[:, None] / columns).max(axis=1), 1e-300))
        columns *= np.sqrt(np.maximum(np.abs(matrix / rows[:, None] / columns).max(axis=0), 1e-300))
    return rows, columns


def _start(system: System, inflow: np.ndarray, dt: float, numerics: Numerics) -> np.ndarray:
    """The periodic solution under BDF2, (n, unknowns), up to how well the quadratic losses have settled.

    BDF2 acts on exp(i theta k) as multiplication by (3 - 4 z + z^2)/(2 dt), z = exp(-i theta). One solution per
    frequency tells what the inflow does and what a unit of each loss does; then only flows with a loss are iterated.
    """
    n, m = len(inflow), len(system.flows)
    z = np.exp(-2j * np.pi * np.arange(n // 2 + 1) / n)
    rate = (3 - 4 * z + z * z) / (2 * dt)
    known = np.zeros((len(z), len(system.M), 1 + m), complex)
    known[0, :, 0] = -system.constant * n
    known[:, system.feed, 0] += np.fft.rfft(inflow)
    known[:, :, 0] += rate[:, None] * (np.fft.rfft(system.around(n), axis=0) @ system.M.T)
    known[:, system.rows, 1 + np.arange(m)] = 1.0
    block = max(1, BLOCK // system.M.size)
    answer = np.concatenate([_solved(rate[k:k + block, None, None] * system.M + system.A, known[k:k + block])
                             for k in range(0, len(z), block)])
    x = answer[:, :, 0]
    if m:
        x = x - (answer[:, :, 1:] @ _periodic_losses(system, answer[:, system.flows], n, numerics)[:, :, None])[:, :, 0]
    return np.fft.irfft(x, n, axis=0)


def _periodic_losses(system: System, answer: np.ndarray, n: int, numerics: Numerics) -> np.ndarray:
    """Spectrum of K |q| q, (frequencies, flows); answer: of the flows with a loss to the inflow and to each loss.

    The loss is split into K max|q| q, solved with, and a rest whose slope is smaller than that everywhere, so that
    the iteration contracts in any passive network.
    """
    alone, response = answer[:, :, 0], answer[:, :, 1:]
    q = np.tile(np.fft.irfft(alone, n, axis=0).mean(axis=0), (n, 1))
    loss = np.zeros_like(alone)
    for _ in range(numerics.relaxations):
        slope = system.quadratic * np.maximum(np.abs(q).max(axis=0), 1e-30)
        rest = np.fft.rfft(system.quadratic * np.abs(q) * q - slope * q, axis=0)
        known = alone - (response @ rest[:, :, None])[:, :, 0]
        spectrum = np.linalg.solve(np.eye(q.shape[1]) + response * slope, known[:, :, None])[:, :, 0]
        after = np.fft.irfft(spectrum, n, axis=0)
        step, q, loss = np.abs(after - q).max(), after, rest + slope * spectrum
        if step <= 0.01 * numerics.tolerance * np.abs(q).max():
            break
    return loss


class _Step:
    """One BDF2 step of length dt."""

    def __init__(self, system: System, dt: float, numerics: Numerics) -> None:
        self.memory = system.M / (2 * dt)
        self.known = -system.constant
        self.feed, self.flows = system.feed, system.flows
        self.reduced = Reduced(system, system.A + 3 * self.memory, numerics)

    def __call__(self, older: np.ndarray, old: np.ndarray, inflow: float, squeeze: np.ndarray) -> np.ndarray:
        known = self.known + squeeze + self.memory @ (4 * old - older)
        known[self.feed] += inflow
        return self.reduced.solve(known, old[self.flows])


def _squeeze(system: System, n: int, dt: float) -> np.ndarray:
    """M ds/dt by BDF2 at each step, (n, unknowns)."""
    s = system.around(n)
    return (3 * s - 4 * np.roll(s, 1, axis=0) + np.roll(s, 2, axis=0)) / (2 * dt) @ system.M.T


def _cycle(step: _Step, before: np.ndarray, inflow: np.ndarray, squeeze: np.ndarray) -> np.ndarray:
    """The cycle that follows `before`: rows from time 0 to one step before the next cycle's time 0."""
    cycle = np.empty_like(before)
    older, old = before[-2], before[-1]
    for k, rate in enumerate(inflow.tolist()):
        cycle[k] = step(older, old, rate, squeeze[k])
        older, old = old, cycle[k]
    return cycle


def _change(circuit: Circuit, before: np.ndarray, after: np.ndarray) -> float:
    """Largest change of a pressure and of a flow, each relative to the largest of its kind."""
    n, m, k = len(circuit.nodes), len(circuit.segments), len(circuit.outlets)
    is_flow = np.zeros(before.shape[1], bool)
    is_flow[n:n + m + k] = True
    change = np.abs(after - before)
    return float(max(change[:, kind].max() / max(np.abs(after[:, kind]).max(), 1e-30) for kind in (is_flow, ~is_flow)))


def _imbalance(system: System, cycle: np.ndarray, inflow: np.ndarray, dt: float) -> float:
    """Largest sum of flows at a node that is not stored there, relative to the largest flow."""
    n = int(np.flatnonzero(system.A[system.feed])[0])
    rate = (3 * cycle - 4 * np.roll(cycle, 1, axis=0) + np.roll(cycle, 2, axis=0)) / (2 * dt)
    sums = (cycle @ system.A.T + rate @ system.M.T - _squeeze(system, len(cycle), dt))[2:, :n]
    sums[:, system.feed] -= inflow[2:]
    return float(np.abs(sums).max() / max(np.abs(inflow).max(), 1e-30))


def _result(circuit: Circuit, pulse: Pulse, inflow: np.ndarray, cycle: np.ndarray, evidence: Evidence) -> Periodic:
    n, m, k = len(circuit.nodes), len(circuit.segments), len(circuit.outlets)
    times = np.arange(len(cycle)) * pulse.period / len(cycle)
    pressure, flow, outflow, stored = np.split(cycle, [n, n + m, n + m + k], axis=1)
    return Periodic(circuit, times, pressure, flow, outflow, stored, inflow, evidence)
