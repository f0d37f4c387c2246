"""A pulsatile flow until it repeats itself, and what is read off its last cycle."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from solvers.errors import BadInput
from solvers.flow import cells
from solvers.flow.inlet import womersley
from solvers.flow.navier_stokes import Flow, State, Step
from solvers.flow.progress import Progress, Start
from solvers.flow.pulse import Pulse
from solvers.flow.wall_shear import Indices, change, indices

REPEATS, WALL_REPEATS = 0.005, 0.01
"""Changes from one cycle to the next below which a beat repeats: at the caps, and of the mean shear on the wall."""
EACH = 4
"""The heat of every so many steps makes the cycle's mean; it costs a twentieth of a step."""
DECAYS = 0.7
"""A change of the wall's shear above this part of the one before falls no more: a jet that is never twice the same."""


@dataclass(frozen=True)
class Cycles:
    """least and most cycles; tolerance: change of pressure and flow at a cap from one cycle to the next, root mean
    square, relative to the largest range; wall: change of the mean shear on the wall, relative; snapshots: fields kept
    over the last cycle."""

    least: int = 2
    most: int = 6
    tolerance: float = REPEATS
    wall: float = WALL_REPEATS
    snapshots: int = 10


@dataclass(frozen=True)
class Evidence:
    """How sound a result is: cycles, change per cycle at the caps and of the wall's mean shear (relative), imbalance
    of mass, largest CFL number."""

    n_cycles: int
    change: float
    wall_change: float
    imbalance: float
    largest_cfl: float
    most_iterations: int
    backflow_share: dict[int, float]

    @property
    def is_periodic(self) -> bool:
        return self.change < REPEATS

    @property
    def wall_repeats(self) -> bool:
        return self.wall_change < WALL_REPEATS


@dataclass(frozen=True)
class Energy:
    """Means over a cycle, W: flux of total pressure in and out, heat by viscosity, growth of kinetic energy.

    What is unaccounted for is what the scheme itself takes (damping of what the mesh does not hold, of backflow and of
    divergence, time steps) and the work of viscous stress at the caps.
    """

    inward: float
    outward: float
    dissipated: float
    stored: float

    @property
    def lost(self) -> float:
        return self.inward - self.outward

    @property
    def unaccounted(self) -> float:
        return self.lost - self.dissipated - self.stored


@dataclass(frozen=True)
class Pulsatile:
    """The last cycle. times (t,); pressure and flow by cap (t,), outward; probes (t, k) Pa; fields at vertices (n,).

    Shear fields are those of `wall_shear.Indices`, zero off the wall. snapshots: (time, u (n, 3), p (n,)).
    """

    times: np.ndarray
    pressure: dict[int, np.ndarray]
    flow: dict[int, np.ndarray]
    probes: np.ndarray
    pressure_mean: np.ndarray
    pressure_peak: np.ndarray
    speed_peak: np.ndarray
    tawss: np.ndarray
    osi: np.ndarray
    rrt: np.ndarray
    ecap: np.ndarray
    transverse_wss: np.ndarray
    wss_peak: np.ndarray
    snapshots: list[tuple[float, np.ndarray, np.ndarray]]
    energy: Energy
    evidence: Evidence
    end: Start
    last_two: Start
    """Where the last two cycles began: from there they come out the same again."""


@dataclass
class _Cycle:
    """What one cycle leaves behind while it runs.

    The shear of every step is kept, 8 bytes a wall vertex and step: 70 MB for 20,000 vertices and 430 steps.
    """

    flow: Flow
    probes: np.ndarray
    keep: set[int]
    steps: list[Step] = field(default_factory=list)
    seen: list[np.ndarray] = field(default_factory=list)
    snapshots: list[tuple[float, np.ndarray, np.ndarray]] = field(default_factory=list)
    shear: list[np.ndarray] = field(default_factory=list)
    inward: list[float] = field(default_factory=list)
    outward: list[float] = field(default_factory=list)
    heat: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = self.flow.n
        self.mean, self.peak, self.fastest = np.zeros(n), np.full(n, -np.inf), np.zeros(n)

    def see(self, after: State, step: Step) -> None:
        if len(self.steps) in self.keep:
            self.snapshots.append((step.time, after.u[:self.flow.n], after.p))
        self.steps.append(step)
        self.seen.append(self.probes @ after.p)
        self.mean += after.p
        np.maximum(self.peak, after.p, out=self.peak)
        np.maximum(self.fastest, np.linalg.norm(after.u[:self.flow.n], axis=1), out=self.fastest)
        power = self.flow.power(after, step)
        self.inward.append(-power.pop(self.flow.caps.inlet))
        self.outward.append(sum(power.values()))
        if len(self.steps) % EACH == 0:
            self.heat.append(self.flow.dissipation(after))
        self.shear.append(self.flow.wall_slope.in_plane(self.flow.traction(after)).astype(np.float32))

    def energy(self, before: State, after: State) -> Energy:
        grown = self.flow.kinetic_energy(after) - self.flow.kinetic_energy(before)
        return Energy(float(np.mean(self.inward)), float(np.mean(self.outward)), float(np.mean(self.heat)),
                      grown / (after.time - before.time))

    def curves(self) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        tags = list(self.steps[0].flow)
        return ({t: np.array([s.pressure[t] for s in self.steps]) for t in tags},
                {t: np.array([s.flow[t] for s in self.steps]) for t in tags})


def inlet_velocities(flow: Flow, pulse: Pulse, n: int) -> Callable[[int], np.ndarray]:
    """Step number to inlet velocities: pulsatile tube profiles with the exact discrete flow."""
    rates = pulse.at(n)
    radius = np.sqrt(flow.inlet_area / np.pi)
    profiles = womersley(flow.shape, rates, pulse.period, radius, flow.fluid.viscosity / flow.fluid.density)
    return lambda step: flow.inflow(float(rates[step % n]), profiles[step % n])


def solve(flow: Flow, pulse: Pulse, start: State | Start | Progress, probes: np.ndarray, cycles: Cycles = Cycles(),
          offer: Callable[[Progress], None] | None = None) -> Pulsatile:
    """Cycles until pressure and flow at every cap repeat, and the mean shear on the wall does or falls no more.

    probes (k, n): weights of pressures to follow.

    `offer` is called after each cycle with what a restart needs: given back as
    `start`, the run goes on to the same result. Without repetition after
    `cycles.most` the last cycle is returned and its evidence says so; a flow
    that grows without bound raises DidNotConverge, fewer than 20 steps a cycle
    or 2 cycles BadInput.
    """
    n = round(pulse.period / flow.stepping.dt)
    if n < 20:
        raise BadInput("step_too_long", f"{n} time steps a cycle", "at least 20", "Take a smaller time step.")
    if cycles.most < 2:
        raise BadInput("too_few_cycles", f"at most {cycles.most} cycles", "at least 2: one cannot show that it repeats",
                       "Raise most_cycles.")
    velocities = inlet_velocities(flow, pulse, n)
    keep = {int(i) for i in np.linspace(0, n, cycles.snapshots, endpoint=False)}
    done = _begun(start)
    while True:
        cycle = _Cycle(flow, probes, keep)
        state = _one_cycle(flow, done.state, velocities, n, cycle)
        curves, shear = cycle.curves(), indices(cycle.shear)
        moved = change(done.shear, shear.means, flow.wall_slope.areas) if len(done.shear) else done.wall_change
        fresh = Progress(done.n_cycles + 1, state, *curves, _change((done.pressure, done.flow), curves), shear.means,
                         moved, Start(done.state, done.wall_change))
        if fresh.n_cycles >= cycles.most or (fresh.n_cycles >= cycles.least and _is_settled(done, fresh, cycles)):
            return _result(cycle, curves, shear, done, fresh)
        if offer is not None:
            offer(fresh)
        done = fresh


def _begun(start: State | Start | Progress) -> Progress:
    if isinstance(start, Progress):
        return start
    begin = start if isinstance(start, Start) else Start(start)
    return Progress(0, begin.state, wall_change=begin.wall_change)


def _one_cycle(flow: Flow, state: State, velocities: Callable[[int], np.ndarray], n: int, cycle: _Cycle) -> State:
    for k in range(n):
        state, step = flow.advance(state, velocities(k + 1))
        cycle.see(state, step)
    return state


def _is_settled(done: Progress, fresh: Progress, cycles: Cycles) -> bool:
    """A wall that did not repeat and whose change no longer falls will not repeat in more cycles either."""
    falls_no_more = fresh.wall_change > DECAYS * done.wall_change and done.wall_change >= cycles.wall
    return fresh.change < cycles.tolerance and (fresh.wall_change < cycles.wall or falls_no_more)


def _change(before: tuple[dict[int, np.ndarray], dict[int, np.ndarray]],
            now: tuple[dict[int, np.ndarray], dict[int, np.ndarray]]) -> float:
    """Difference to the cycle before at the worst cap, root mean square over the cycle, of the largest range of all.

    Not the largest difference at a moment: behind a tight stenosis the jet is
    never twice the same, while what drifts from cycle to cycle shows in the mean square.
    """
    if not before[0]:
        return np.inf
    changes = []
    for old, new in zip(before, now, strict=True):
        scale = max(float(np.ptp(v)) for v in new.values())
        changes += [float(np.sqrt(np.mean((new[t] - old[t]) ** 2))) / max(scale, 1e-30) for t in new]
    return max(changes)


def _result(cycle: _Cycle, curves: tuple[dict[int, np.ndarray], dict[int, np.ndarray]], found: Indices,
            before: Progress, done: Progress) -> Pulsatile:
    """before: what was done before the last cycle."""
    on_wall = cycle.flow.wall_slope.everywhere
    shear = [on_wall(x) for x in (found.tawss, found.osi, found.rrt, found.ecap, found.transverse, found.peak)]
    backflow = {t: float((f < 0).mean()) for t, f in curves[1].items() if t in cycle.flow.caps.outlets}
    evidence = Evidence(done.n_cycles, done.change, done.wall_change, max(s.imbalance for s in cycle.steps),
                        max(s.cfl for s in cycle.steps), max(s.iterations for s in cycle.steps), backflow)
    first = cycle.steps[0].time
    return Pulsatile(np.array([s.time for s in cycle.steps]) - first, *curves, np.array(cycle.seen),
                     cycle.mean / len(cycle.steps), cycle.peak, cycle.fastest, *shear,
                     [(t - first, u, p) for t, u, p in cycle.snapshots], cycle.energy(before.state, done.state),
                     evidence, Start(done.state, done.wall_change), before.before or Start(before.state))


def sampling(flow: Flow, centres: np.ndarray, normals: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Weights (k, n) that give the mean pressure over a disc square to `normals` (k, 3) of 0.7 `radii` (k,)."""
    discs = [_disc(*place) for place in zip(centres, normals, 0.7 * np.asarray(radii), strict=True)]
    weights = np.zeros((len(discs), flow.n))
    if discs:
        holds, inside = cells.located(flow.points, flow.tets, np.concatenate(discs))
        rows = np.repeat(np.arange(len(discs)), len(discs[0]))
        np.add.at(weights, (rows[:, None], flow.tets[holds]), inside)
    return weights / weights.sum(axis=1, keepdims=True)


def _disc(centre: np.ndarray, normal: np.ndarray, radius: float) -> np.ndarray:
    """Nineteen points spread evenly over a disc."""
    helper = np.eye(3)[np.argmin(np.abs(normal))]
    first = np.cross(normal, helper)
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    rings = [(0.0, 1), (0.5, 6), (1.0, 12)]
    angles = [(r, 2 * np.pi * i / n) for r, n in rings for i in range(n)]
    return np.array([centre + radius * r * (np.cos(a) * first + np.sin(a) * second) for r, a in angles])
