"""Chambers, vessels, valves and pipes joined to a loop in which blood goes round: the elements of a heart model.

Model. Every store (a chamber or a vessel) holds a volume v, from which its
pressure follows; every link carries a flow q from one store to another:

    chamber   p = outer + E_linear (v - v0) + A(t) E_active (v - v0) + (1 - A(t)) K (exp(k (v - v0)) - 1)
    vessel    p = outer + (v - v0) / C + squeeze p_chamber
    pipe      p_a - p_b = R q + B |q| q + L dq/dt
    flap      the same forward; shut, or of another resistance, backward
    orifice   a valve of area A:  p_a - p_b = R q + rho / (2 A^2) |q| q + rho l / A dq/dt, with another A backward

A(t) between 0 and 1 is the activation. The volumes are what is stepped, and each flow takes from one store what it
gives to the other, so that blood is conserved to rounding.

Scheme. Runge and Kutta's method of fourth order with equal steps; a step in which the flow of a valve turns is cut
where it does. Steps must be shorter than some 2.8 of the shortest time constant, R C or L / R, of the loop.

Sources: Suga & Sagawa 1974 (elastance), doi:10.1161/01.RES.35.1.117; Stergiopulos, Meister & Westerhof 1996 (two-hill
function), doi:10.1152/ajpheart.1996.270.6.H2050; Mynard et al. 2012 (orifice of a valve), doi:10.1002/cnm.1466.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from solvers.errors import BadInput, DidNotConverge
from solvers.flow import heart_kernels as kernels

SOURCES = ["Suga & Sagawa 1974 (elastance), doi:10.1161/01.RES.35.1.117",
           "Stergiopulos, Meister & Westerhof 1996 (two-hill function), doi:10.1152/ajpheart.1996.270.6.H2050",
           "Mynard et al. 2012 (orifice of a valve), doi:10.1002/cnm.1466"]
DENSITY = 1060.0
"""Of blood, kg/m^3."""


@dataclass(frozen=True)
class TwoHill:
    """Rises with time constant `rise` and power m1, falls after `fall` with power m2; greatest value 1.

    Times in s from `start` (negative: before the beat) at the usual period; all are stretched by the period over the
    usual one to the power `stretch`. Source: Stergiopulos et al. 1996, doi:10.1152/ajpheart.1996.270.6.H2050.
    """

    start: float
    rise: float
    fall: float
    m1: float
    m2: float
    stretch: float = 0.0

    def row(self) -> tuple[int, tuple[float, ...]]:
        top = _two_hill_top(self.rise, self.fall, self.m1, self.m2)
        return kernels.TWO_HILL, (1 / top, self.start, self.rise, self.fall, self.m1, self.m2, self.stretch, 0.0)


@dataclass(frozen=True)
class Cosine:
    """One wave (1 - cos)/2 of a `duration` from `start`, s; it may run over the beat's end."""

    start: float
    duration: float
    stretch: float = 0.0

    def row(self) -> tuple[int, tuple[float, ...]]:
        return kernels.COSINE, (1.0, self.start, self.duration, 1.0, 1.0, 1.0, self.stretch, 0.0)


@dataclass(frozen=True)
class Waves:
    """Sum over k of cosines[k] cos(2 pi k t/T) - sines[k] sin(2 pi k t/T): a curve that repeats with the beat."""

    cosines: tuple[float, ...]
    sines: tuple[float, ...]

    def row(self) -> tuple[int, tuple[float, ...]]:
        return kernels.TABLE, (1.0,) * 6 + (0.0, 0.0)

    def at(self, n: int) -> np.ndarray:
        """At n + 1 equal times, the last being the first of the next beat."""
        angle = 2 * np.pi * np.outer(np.arange(n + 1) / n, np.arange(len(self.cosines)))
        return np.cos(angle) @ np.array(self.cosines) - np.sin(angle) @ np.array(self.sines)


Activation = TwoHill | Cosine | Waves


@lru_cache(maxsize=4096)
def _two_hill_top(rise: float, fall: float, m1: float, m2: float) -> float:
    """Greatest value of the two-hill function before it is scaled."""
    t = np.linspace(0, 3 * max(rise, fall), 2001)[1:]
    for _ in range(4):
        value = 1 / ((1 + (rise / t) ** m1) * (1 + (t / fall) ** m2))
        k = int(value.argmax())
        best = float(value[k])
        t = np.linspace(t[max(k - 1, 0)], t[min(k + 1, len(t) - 1)], 101)
    return best


@dataclass(frozen=True)
class Chamber:
    """Elastances in Pa/m^3, `scale` of the passive curve in Pa and its `steepness` in 1/m^3, volume in m^3."""

    name: str
    activation: Activation
    active: float
    rest_volume: float
    linear: float = 0.0
    scale: float = 0.0
    steepness: float = 0.0
    outer: float = 0.0

    def row(self) -> tuple[float, ...]:
        return self.active, self.scale, self.steepness, self.linear, self.rest_volume, self.outer, 0.0


@dataclass(frozen=True)
class Vessel:
    """Compliance m^3/Pa, volume without stretch m^3; `squeeze`: the part of the pressure in the chamber `squeezer`
    that is felt from outside, as vessels in the heart's wall do."""

    name: str
    compliance: float
    rest_volume: float = 0.0
    outer: float = 0.0
    squeezer: str = ""
    squeeze: float = 0.0

    def row(self) -> tuple[float, ...]:
        return 0.0, 0.0, 0.0, 1 / self.compliance, self.rest_volume, self.outer, self.squeeze


@dataclass(frozen=True)
class Pipe:
    """Resistance Pa s/m^3, inertance Pa s^2/m^3, quadratic loss Pa s^2/m^6 (with an inertance only).

    takes, gives: the stores whose volume it moves, where they are not the ones whose pressures drive it (a few
    published models keep their books so).
    """

    name: str
    start: str
    end: str
    resistance: float
    inertance: float = 0.0
    quadratic: float = 0.0
    takes: str = ""
    gives: str = ""

    def row(self) -> tuple[float, ...]:
        if self.inertance > 0:
            return (1 / self.inertance, self.resistance, self.quadratic) * 2
        return (1 / self.resistance,) * 2


@dataclass(frozen=True)
class Flap:
    """A valve by resistance: open forward; backward of resistance `shut` (not with an inertance, which shuts it)."""

    name: str
    start: str
    end: str
    resistance: float
    shut: float = np.inf
    inertance: float = 0.0
    takes: str = ""
    gives: str = ""

    def row(self) -> tuple[float, ...]:
        if self.inertance > 0:
            return 1 / self.inertance, self.resistance, 0.0, 0.0, 0.0, 0.0
        return 1 / self.resistance, 1 / self.shut


@dataclass(frozen=True)
class Orifice:
    """A valve by area: effective orifice areas m^2 open (forward) and shut (`leak`, backward; 0: tight), the `length`
    of the blood that is accelerated with it, m, and a viscous resistance.

    Areas are effective ones, of the jet, as echocardiography and the continuity equation give them; the pressure that
    the jet recovers downstream is not counted. Source: Mynard et al. 2012, doi:10.1002/cnm.1466.
    """

    name: str
    start: str
    end: str
    area: float
    length: float
    leak: float = 0.0
    resistance: float = 0.0
    density: float = DENSITY
    takes: str = ""
    gives: str = ""

    def row(self) -> tuple[float, ...]:
        return (*self._way(self.area), *self._way(self.leak))

    def _way(self, area: float) -> tuple[float, float, float]:
        if area == 0:
            return 0.0, 0.0, 0.0
        return area / (self.density * self.length), self.resistance, self.density / (2 * area**2)


Link = Pipe | Flap | Orifice
Store = Chamber | Vessel


@dataclass(frozen=True)
class Loop:
    """Stores and links by name. `of` finds one, `having` replaces some."""

    chambers: tuple[Chamber, ...]
    vessels: tuple[Vessel, ...]
    links: tuple[Link, ...]

    @property
    def holding(self) -> tuple[Store, ...]:
        """Chambers, then vessels."""
        return (*self.chambers, *self.vessels)

    @property
    def stores(self) -> tuple[str, ...]:
        """In the order of the columns of pressures and volumes."""
        return tuple(s.name for s in self.holding)

    @property
    def flows(self) -> tuple[str, ...]:
        """In the order of the columns of flows: those with inertia first."""
        return tuple(link.name for link in self.ordered())

    def ordered(self) -> tuple[Link, ...]:
        return tuple(sorted(self.links, key=lambda link: len(link.row()) == 2))

    def of(self, name: str) -> Any:
        """The element of that name; BadInput `no_element`."""
        for element in (*self.chambers, *self.vessels, *self.links):
            if element.name == name:
                return element
        raise BadInput("no_element", f"the circulation has no {name}", ", ".join((*self.stores, *self.flows)))

    def having(self, *elements: Chamber | Vessel | Link) -> "Loop":
        """The loop with the elements of the same names replaced."""
        new = {e.name: e for e in elements}
        for name in new:
            self.of(name)
        kinds: tuple[Any, ...] = (self.chambers, self.vessels, self.links)
        return Loop(*(tuple(new.get(e.name, e) for e in kind) for kind in kinds))


@dataclass(frozen=True)
class Shape:
    """Which elements there are and how they are joined; see heart_kernels."""

    stores: tuple[str, ...]
    flows: tuple[str, ...]
    n_chambers: int
    ties: np.ndarray
    acts: np.ndarray
    squeezers: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True)
class Arrays:
    """A loop as numbers; rows as heart_kernels has them. tables: (2 steps + 1, activations)."""

    shape: Shape
    stores: np.ndarray
    movers: np.ndarray
    leads: np.ndarray
    curves: np.ndarray
    tables: np.ndarray


def coronary(name: str, start: str, end: str, squeezer: str, squeeze: float, *, arterial: float, small: float,
             venous: float, compliance: float, compliance_within: float) -> tuple[tuple[Vessel, ...], tuple[Pipe, ...]]:
    """A coronary bed: its arteries, then vessels within the wall that the chamber `squeezer` squeezes, and its veins.

    arterial, small, venous: resistances, Pa s/m^3, up to the arteries' compliance, from there to that within the wall
    (m^3/Pa), and on to `end`. Source: Kim et al. 2010, doi:10.1007/s10439-010-0083-6.
    """
    arteries, within = f"{name}_arteries", f"{name}_wall"
    return (Vessel(arteries, compliance), Vessel(within, compliance_within, squeezer=squeezer, squeeze=squeeze)), (
        Pipe(name, start, arteries, arterial), Pipe(f"{name}_small", arteries, within, small),
        Pipe(f"{name}_veins", within, end, venous))


def check(loop: Loop) -> None:
    """BadInput when a number makes no sense or an element hangs free."""
    names = (*loop.stores, *(link.name for link in loop.links))
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise BadInput("bad_circulation", f"{', '.join(twice)} stands twice", "a name for each element")
    for chamber in loop.chambers:
        _check_chamber(chamber)
    for vessel in loop.vessels:
        _positive(vessel.name, compliance=vessel.compliance)
        _finite(vessel.name, rest_volume=vessel.rest_volume, squeeze=vessel.squeeze)
        _free(vessel.name, outer=vessel.outer)
        if vessel.squeezer and vessel.squeezer not in [c.name for c in loop.chambers]:
            raise BadInput("bad_circulation", f"{vessel.name} is squeezed by {vessel.squeezer}", "a chamber")
    for link in loop.links:
        lost = {link.start, link.end, link.takes or link.start, link.gives or link.end} - set(loop.stores)
        if lost:
            raise BadInput("bad_circulation", f"{link.name} is joined to {', '.join(sorted(lost))}", "a store")
        _check_link(link)


def _check_chamber(chamber: Chamber) -> None:
    _finite(chamber.name, active=chamber.active, linear=chamber.linear, scale=chamber.scale,
            steepness=chamber.steepness, rest_volume=chamber.rest_volume)
    _free(chamber.name, outer=chamber.outer)
    if chamber.active + chamber.linear <= 0:
        raise BadInput("bad_circulation", f"{chamber.name} has no elastance", "an elastance above zero")
    a = chamber.activation
    if isinstance(a, TwoHill):
        _positive(chamber.name, rise=a.rise, fall=a.fall, m1=a.m1, m2=a.m2)
    elif isinstance(a, Cosine):
        _positive(chamber.name, duration=a.duration)


def _check_link(link: Link) -> None:
    if isinstance(link, Orifice):
        _finite(link.name, leak=link.leak, resistance=link.resistance)
        _positive(link.name, length=link.length, density=link.density)
        if not (np.isfinite(link.area) and link.area > 0):
            raise BadInput("valve_without_orifice", f"the valve {link.name} opens to {link.area:.4g} m^2",
                           "an area above zero", "A valve that lets nothing through stops the circulation.")
        return
    _finite(link.name, resistance=link.resistance, inertance=link.inertance)
    if link.inertance == 0:
        _positive(link.name, resistance=link.resistance)
    if isinstance(link, Pipe):
        _finite(link.name, quadratic=link.quadratic)
        if link.quadratic > 0 and link.inertance == 0:
            raise BadInput("bad_circulation", f"{link.name} has a quadratic loss without inertance", "both, or neither")
    elif not link.shut > 0:
        raise BadInput("bad_circulation", f"{link.name} shuts to {link.shut:.4g} Pa s/m^3", "above zero")


def _positive(owner: str, **values: float) -> None:
    for name, value in values.items():
        if not (np.isfinite(value) and value > 0):
            raise BadInput("bad_circulation", f"{owner}: {name} is {value:.4g}", "a finite value above zero")


def _finite(owner: str, **values: float) -> None:
    for name, value in values.items():
        if not (np.isfinite(value) and value >= 0):
            raise BadInput("bad_circulation", f"{owner}: {name} is {value:.4g}", "a finite value, not negative")


def _free(owner: str, **values: float) -> None:
    for name, value in values.items():
        if not np.isfinite(value):
            raise BadInput("bad_circulation", f"{owner}: {name} is {value:.4g}", "a finite value")


def arrays(loop: Loop, steps: int) -> Arrays:
    """The loop as numbers, for beats of `steps` steps."""
    stores, links = loop.stores, loop.ordered()
    place = {name: i for i, name in enumerate(stores)}
    activations = list(dict.fromkeys(c.activation for c in loop.chambers))
    rows = [a.row() for a in activations]
    tables = np.zeros((2 * steps + 1, len(activations)))
    for k, a in enumerate(activations):
        if isinstance(a, Waves):
            tables[:, k] = a.at(2 * steps)
    ties = [(place[e.start], place[e.end], place[e.takes or e.start], place[e.gives or e.end]) for e in links]
    squeezers = [-1] * len(loop.chambers) + [place[v.squeezer] if v.squeezer else -1 for v in loop.vessels]
    shape = Shape(stores, tuple(e.name for e in links), len(loop.chambers), np.array(ties, np.int64).reshape(-1, 4),
                  np.array([activations.index(c.activation) for c in loop.chambers], np.int64),
                  np.array(squeezers, np.int64), np.array([r[0] for r in rows], np.int64))
    numbers = [e.row() for e in links]
    return Arrays(shape, np.array([s.row() for s in loop.holding]),
                  np.array([r for r in numbers if len(r) == 6]).reshape(-1, 6),
                  np.array([r for r in numbers if len(r) == 2]).reshape(-1, 2), np.array([r[1] for r in rows]), tables)


@dataclass(frozen=True)
class Course:
    """One beat over time: times (n + 1,) s; volumes, pressures (n + 1, stores); flows (n + 1, links). SI."""

    loop: Loop
    times: np.ndarray
    volumes: np.ndarray
    pressures: np.ndarray
    flows: np.ndarray

    def pressure(self, name: str) -> np.ndarray:
        return self.pressures[:, self.loop.stores.index(name)]

    def volume(self, name: str) -> np.ndarray:
        return self.volumes[:, self.loop.stores.index(name)]

    def flow(self, name: str) -> np.ndarray:
        return self.flows[:, self.loop.flows.index(name)]


def run(loop: Loop, period: float, beats: int, volumes: Mapping[str, float], flows: Mapping[str, float] | None = None,
        steps: int = 500) -> Course:
    """The last of some beats from given volumes (m^3, by store; without stretch where none is given) and flows.

    Unlike `heart.solve` this tells what happens, not what settles. Raises DidNotConverge `not_finite`.
    """
    check(loop)
    made = arrays(loop, steps)
    shape = made.shape
    v = np.array([volumes.get(s.name, s.rest_volume) for s in loop.holding])
    q = np.array([(flows or {}).get(name, 0.0) for name in shape.flows[:len(made.movers)]])
    level = np.empty_like(made.tables)
    kernels.activate(level, shape.kinds, made.curves, made.tables, period, period)
    vs, ps = np.empty((2, steps + 1, len(v)))
    fs = np.empty((steps + 1, len(shape.flows)))
    means, none = (np.empty(len(v)), np.empty(len(shape.flows))), np.empty((1, 1))
    for number in range(beats):
        kernels.beat(v, q, period, level, made.stores, made.movers, made.leads, shape.ties, shape.acts,
                     shape.squeezers, shape.n_chambers, *means, *((vs, ps, fs) if number == beats - 1 else (none,) * 3))
    if not np.isfinite(v).all():
        raise DidNotConverge("not_finite", "the circulation's volumes ran away", "finite ones",
                             "Take more steps a beat.", state=v)
    return Course(loop, np.linspace(0, period, steps + 1), vs, ps, fs)
