"""The closed circulation of a person: four chambers and valves, lungs, organs, coronaries, reflex, exercise.

`adult` builds one from the library; `with_valve`, `after_loss` and `exercising`
change it; `solve` finds the beat that repeats, `population` does so for many
people. What a circulation is made of stands in `closed_loop`, how it is
regulated in `baroreflex`.

The way to the periodic beat. Beats are stepped, and the state at their
beginning is mixed from earlier ones (Anderson 1965): an affine mean, so that
the volume of blood stays what it was. Done when one plain beat repeats.

Sources: those of `closed_loop` and `baroreflex`, circulation.toml, and Anderson 1965, doi:10.1145/321296.321305.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from solvers.errors import AnatwinError, BadInput, DidNotConverge
from solvers.flow import baroreflex, closed_loop
from solvers.flow import heart_kernels as kernels
from solvers.flow.baroreflex import Baroreflex, Nerves, Times
from solvers.flow.closed_loop import Chamber, Course, Link, Loop, Orifice, Pipe, TwoHill, Vessel, arrays, coronary
from solvers.library import body as body_library
from solvers.library import circulation as library
from solvers.library import physiology
from solvers.library.body import Sex
from solvers.pharmacology import physiology as organs
from solvers.pharmacology.physiology import Body

SOURCES = [*closed_loop.SOURCES, *baroreflex.SOURCES, "Anderson 1965 (mixing), doi:10.1145/321296.321305"]
BEDS = {"brain": ("brain",), "splanchnic": ("gut", "liver"), "kidney": ("kidney",), "muscle": ("muscle", "legs"),
        "skin": ("skin",), "other": ("adipose", "bone", "rest")}
"""Beds of the circulation, and the library's organs in each; the heart's own is `coronary_left` and `_right`."""
VALVES = ("mitral", "aortic", "tricuspid", "pulmonary")
CORONARIES = ("coronary_left", "coronary_right")
VEINS = (*(f"{bed}_bed" for bed in BEDS), "caval_veins")
TYPICAL_STROKE = 0.015
"""A stroke over the blood's volume, against which a change from beat to beat is judged."""
REGULATED = ("splanchnic", "kidney", "muscle", "skin", "other")


@dataclass(frozen=True)
class Circulation:
    """A person's circulation: the loop, the period of the beat (s) while the reflex is at rest, the reflex, the blood
    (m^3), the body whose organs it feeds, and mean pressures (Pa, by store) from which the volumes start."""

    loop: Loop
    period: float
    reflex: Baroreflex
    blood_volume: float
    body: Body
    start: tuple[tuple[str, float], ...]

    def but(self, **changes: object) -> "Circulation":
        return replace(self, **changes)  # type: ignore[arg-type]

    def having(self, *elements: Chamber | Vessel | Link) -> "Circulation":
        """With the elements of the same names replaced."""
        return self.but(loop=self.loop.having(*elements))


@dataclass(frozen=True)
class Numerics:
    """steps: of a beat; tolerance: change from beat to beat, of a volume relative to a stroke (of a flow, to ten
    strokes a period); most_beats."""

    steps: int = 400
    tolerance: float = 1e-7
    most_beats: int = 1000


@dataclass(frozen=True)
class Evidence:
    """Beats stepped, change over the last one (as `Numerics.tolerance`), volume of blood lost or won in it and against
    what was given (both relative), steps of a beat."""

    n_beats: int
    change: float
    volume_error: float
    blood_error: float
    steps: int


@dataclass(frozen=True)
class Gradient:
    """Drop of pressure over a valve while blood flows forward, Pa."""

    mean: float
    peak: float


@dataclass(frozen=True)
class Effects:
    """What the reflex does: factors on the resistance of each regulated bed and on the elastance of ventricles, change
    of the volume of veins without stretch (m^3) and of the period (s)."""

    resistance: dict[str, float]
    contractility: float
    veins: float
    period: float


@dataclass(frozen=True)
class Beat:
    """One beat that repeats. `of_stores` (s, 7), `of_flows` (m + r, 5): summaries as heart_kernels has them.

    `course` holds the curves (None for the people of a population). SI throughout.
    """

    circulation: Circulation
    period: float
    of_stores: np.ndarray
    of_flows: np.ndarray
    effects: Effects
    evidence: Evidence
    course: Course | None = None

    def _store(self, name: str) -> np.ndarray:
        return self.of_stores[self.circulation.loop.stores.index(name)]

    def _flow(self, name: str) -> np.ndarray:
        return self.of_flows[self.circulation.loop.flows.index(name)]

    @property
    def heart_rate(self) -> float:
        """1/s."""
        return 1 / self.period

    @property
    def cardiac_output(self) -> float:
        """What goes forward through the aortic valve less what comes back, m^3/s."""
        return float(self._flow("aortic")[0])

    def pressure(self, store: str) -> tuple[float, float, float]:
        """Least, mean and greatest pressure, Pa."""
        low, mean, high = self._store(store)[:3]
        return float(low), float(mean), float(high)

    @property
    def diastolic(self) -> float:
        """Arterial, of the large branches of the aorta, Pa."""
        return self.pressure("arteries")[0]

    @property
    def mean(self) -> float:
        return self.pressure("arteries")[1]

    @property
    def systolic(self) -> float:
        return self.pressure("arteries")[2]

    def end_diastolic_volume(self, chamber: str = "left_ventricle") -> float:
        """Greatest volume of a chamber, m^3."""
        return float(self._store(chamber)[4])

    def end_systolic_volume(self, chamber: str = "left_ventricle") -> float:
        """Least volume of a chamber, m^3."""
        return float(self._store(chamber)[3])

    def stroke_volume(self, chamber: str = "left_ventricle") -> float:
        """Greatest less least volume, m^3; more than what goes forward where a valve leaks."""
        return self.end_diastolic_volume(chamber) - self.end_systolic_volume(chamber)

    def ejection_fraction(self, chamber: str = "left_ventricle") -> float:
        return self.stroke_volume(chamber) / self.end_diastolic_volume(chamber)

    def stroke_work(self, chamber: str = "left_ventricle") -> float:
        """Area of the loop of pressure over volume, J."""
        return float(self._store(chamber)[6])

    def gradient(self, valve: str) -> Gradient:
        return Gradient(float(self._flow(valve)[3]), float(self._flow(valve)[4]))

    def regurgitant_volume(self, valve: str) -> float:
        """What flows back through a valve in a beat, m^3."""
        return float(self._flow(valve)[2])

    def regurgitant_fraction(self, valve: str) -> float:
        """What flows back over what flows forward."""
        return float(self._flow(valve)[2] / self._flow(valve)[1])

    def bed_flows(self) -> dict[str, float]:
        """Mean flow into each bed, m^3/s; `heart` is both coronary beds."""
        found = {bed: float(self._flow(bed)[0]) for bed in BEDS}
        return found | {"heart": float(sum(self._flow(name)[0] for name in CORONARIES))}

    def organ_flows(self) -> dict[str, float]:
        """Mean flow by organ of the library's body, m^3/s; organs of one bed share it in their usual proportions."""
        usual = {o.name: o.flow for o in self.circulation.body.organs}
        found: dict[str, float] = {}
        for bed, flow in self.bed_flows().items():
            names = BEDS.get(bed, (bed,))
            whole = sum(usual[n] for n in names)
            found |= {n: flow * usual[n] / whole for n in names}
        return found

    def perfused_body(self) -> Body:
        """The body with these flows, as `pharmacology.body_model` takes it."""
        flows = self.organ_flows()
        body = self.circulation.body
        return body.but(organs=tuple(replace(o, flow=flows[o.name], origin="closed loop") for o in body.organs))


@dataclass(frozen=True)
class Population:
    """A beat for each person, or the error that stopped that one; n_beats: beats stepped in all."""

    people: tuple[Beat | AnatwinError, ...]
    n_beats: int

    @property
    def is_done(self) -> np.ndarray:
        """(n,) bool."""
        return np.array([isinstance(p, Beat) for p in self.people], bool)

    def values(self, measure: Callable[[Beat], float]) -> np.ndarray:
        """A number of each person, (n,), nan where there is none."""
        return np.array([measure(p) if isinstance(p, Beat) else np.nan for p in self.people])


def solve(circulation: Circulation, numerics: Numerics = Numerics()) -> Beat:
    """The beat that repeats. Raises BadInput, or DidNotConverge `not_periodic`, `not_finite`."""
    check(circulation)
    made = arrays(circulation.loop, numerics.steps)
    shape, reflex, usual = made.shape, circulation.reflex.row(), circulation.period
    joined = (shape.ties, shape.acts, shape.squeezers, shape.n_chambers)
    on_stores, on_leads = circulation.reflex.weights(circulation.loop)
    v, q, state = _volumes(circulation), np.zeros(len(made.movers)), np.zeros(6)
    state[kernels.SENSED] = circulation.reflex.set_point
    stroke = TYPICAL_STROKE * circulation.blood_volume
    stores, leads = np.empty_like(made.stores), np.empty_like(made.leads)
    number, change, outcome = kernels.settle(
        v, q, state, usual, made.stores, made.movers, made.leads, *joined, shape.kinds, made.curves, made.tables,
        reflex, on_stores, on_leads, shape.stores.index(circulation.reflex.sensor), stroke, numerics.tolerance,
        numerics.most_beats, stores, leads)
    if outcome != kernels.DONE:
        raise _failure(outcome, change, numerics, v)
    period = kernels.period_of(state, usual, reflex)
    kernels.influence(state, made.stores, made.leads, on_stores, on_leads, stores, leads)
    level = np.empty_like(made.tables)
    kernels.activate(level, shape.kinds, made.curves, made.tables, period, usual)
    blood = v.sum()
    means = np.empty(len(v)), np.empty(len(shape.flows))
    (vs, ps), fs = np.empty((2, numerics.steps + 1, len(v))), np.empty((numerics.steps + 1, len(shape.flows)))
    kernels.beat(v, q, period, level, stores, made.movers, leads, *joined, *means, vs, ps, fs)
    of_stores, of_flows = np.empty((len(v), 7)), np.empty((len(shape.flows), 5))
    kernels.summarise(period, *means, vs, ps, fs, shape.ties, of_stores, of_flows)
    lost, amiss = abs(float(v.sum() / blood) - 1), abs(float(v.sum()) / circulation.blood_volume - 1)
    evidence = Evidence(number, change, lost, amiss, numerics.steps)
    course = Course(circulation.loop, np.linspace(0, period, numerics.steps + 1), vs, ps, fs)
    return Beat(circulation, period, of_stores, of_flows, _effects(circulation, state, period), evidence, course)


def population(people: Sequence[Circulation], numerics: Numerics = Numerics()) -> Population:
    """`solve` for many, without curves; who cannot be solved is marked by the error, and the others go on."""
    found: list[Beat | AnatwinError] = []
    for person in people:
        try:
            found.append(replace(solve(person, numerics), course=None))
        except (BadInput, DidNotConverge) as error:
            found.append(error)
    return Population(tuple(found), sum(b.evidence.n_beats for b in found if isinstance(b, Beat)))


def check(circulation: Circulation) -> None:
    """BadInput when a number of the circulation makes no sense."""
    closed_loop.check(circulation.loop)
    baroreflex.check(circulation.reflex, circulation.loop)
    for name in ("period", "blood_volume"):
        value = getattr(circulation, name)
        if not (np.isfinite(value) and value > 0):
            raise BadInput("bad_circulation", f"{name} is {value:.4g}", "a finite value above zero")


def _failure(outcome: int, change: float, numerics: Numerics, state: np.ndarray) -> DidNotConverge:
    if outcome == kernels.NOT_FINITE:
        return DidNotConverge("not_finite", "the circulation's volumes ran away", "finite ones",
                              "Take more steps a beat, or look for a resistance near zero.", state=state)
    return DidNotConverge("not_periodic", f"the beat still changes by {change:.1e} after {numerics.most_beats} beats",
                          f"{numerics.tolerance:.0e}", "Give it more beats, or look for a pulse that alternates.",
                          state=state)


def _effects(person: Circulation, state: np.ndarray, period: float) -> Effects:
    reflex = person.reflex
    return Effects({k: 1 + g * float(state[kernels.RESISTANCE]) for k, g in reflex.resistance.items()},
                   1 + reflex.contractility.get("left_ventricle", 0.0) * float(state[kernels.CONTRACTILITY]),
                   sum(reflex.veins.values()) * float(state[kernels.VEINS]), period - person.period)


def _volumes(person: Circulation) -> np.ndarray:
    """Volumes to start from, (s,): those of the pressures given, the veins taking what more or less blood there is."""
    pressures, loop = dict(person.start), person.loop
    found = {c.name: c.rest_volume + pressures[c.name] / (c.linear + 0.05 * c.active) for c in loop.chambers}
    found |= {v.name: v.rest_volume + v.compliance * pressures[v.name] for v in loop.vessels}
    wide = {v.name: v.compliance for v in loop.vessels if v.name in VEINS}
    extra = person.blood_volume - sum(found.values())
    for name, compliance in wide.items():
        found[name] += extra * compliance / sum(wide.values())
        if found[name] <= 0:
            raise BadInput("too_little_blood", f"{person.blood_volume * 1e3:.3g} L of blood leave {name} empty",
                           "enough to fill the vessels", "Check the unit of the blood volume.")
    return np.array([found[name] for name in loop.stores])


# People


def adult(sex: Sex = "male", weight: float | None = None, age: float | None = None) -> Circulation:
    """A resting adult of this sex, weight (kg) and age (years).

    Output, organ flows, blood, heart rate and arterial pressures follow the
    library. Volumes, compliances and orifices go with the stroke, resistances
    and elastances against it, so that the pressures of heart, veins and lungs
    are the same in people of all sizes; the left ventricle is as much stronger
    as the arterial pressure is higher.
    """
    body = organs.adult(sex, weight, age)
    man = body_library.reference("male")
    output = library.number("output", "man_at_rest") * body.cardiac_output / man.cardiac_output
    rate = physiology.number("heart_rate", sex).value
    usual = library.number("output", "man_at_rest") / physiology.number("heart_rate", "male").value
    size = output / rate / usual
    arterial, standard = _arterial(sex, body.age), _arterial("male", man.age)
    build = _Builder(body, output, 1 / rate, size, arterial, arterial.mean / standard.mean)
    blood = body.arterial_volume + body.venous_volume
    return build.circulation(blood)


@dataclass(frozen=True)
class _Arterial:
    """Mean and pulse pressure, Pa."""

    mean: float
    pulse: float


def _arterial(sex: Sex, age: float) -> _Arterial:
    found = physiology.pressures(age, sex)
    pulse = found.systolic - found.diastolic
    return _Arterial(found.diastolic + library.number("output", "mean_part") * pulse, pulse)


@dataclass(frozen=True)
class _Builder:
    """What the elements of an adult's loop are made from: m^3/s, s, Pa; `size`: stroke over the reference man's."""

    body: Body
    output: float
    period: float
    size: float
    arterial: _Arterial
    strength: float

    def circulation(self, blood: float) -> Circulation:
        pressures = self._pressures()
        beds, pipes = self._coronaries(pressures)
        vessels = (*self._vessels(), *beds)
        loop = Loop(self._chambers(), vessels, (*self._valves(), *self._pipes(pressures), *pipes))
        held = sum(e.rest_volume for e in loop.holding)
        free = blood - held - self.size * library.number("veins", "stressed_volume")
        if free <= 0:
            raise BadInput("too_little_blood", f"{blood * 1e3:.3g} L of blood", "enough to fill the veins")
        parts = self._venous_parts()
        vessels = tuple(replace(v, rest_volume=parts[v.name] * free) if v.name in parts else v for v in vessels)
        start = tuple((s, pressures.get(s, pressures["arteries"])) for s in loop.stores)
        return Circulation(loop.having(*vessels), self.period, self._reflex(), blood, self.body, start)

    def _share(self, bed: str) -> float:
        """Part of the output that a bed takes."""
        return sum(self.body.organ(n).flow for n in BEDS.get(bed, (bed,))) / self.body.cardiac_output

    def _pressures(self) -> dict[str, float]:
        """Mean pressures that the resistances are made for and the volumes start from, Pa."""
        lungs, veins = library.numbers("lungs"), library.numbers("veins")
        right = physiology.number("pressure", "venous").value
        found = {f"{bed}_bed": veins["bed_pressure"] for bed in BEDS}
        return found | {"caval_veins": veins["cava_pressure"], "right_atrium": right, "right_ventricle": right,
                        "left_atrium": lungs["venous_pressure"], "left_ventricle": lungs["venous_pressure"],
                        "lung_arteries": lungs["arterial_pressure"], "lung_veins": lungs["venous_pressure"],
                        "aorta": self._aortic(), "arteries": self.arterial.mean}

    def _aortic(self) -> float:
        """Mean pressure in the aorta, Pa."""
        return self.arterial.mean + library.number("arteries", "resistance") / self.size * self.output

    def _chambers(self) -> tuple[Chamber, ...]:
        ventricle, atrium = self._activations()
        made = []
        for name in ("left_atrium", "left_ventricle", "right_atrium", "right_ventricle"):
            row = library.numbers(name)
            made.append(Chamber(name, ventricle if "ventricle" in name else atrium,
                                row["active"] / self.size * (self.strength if name == "left_ventricle" else 1.0),
                                row["rest_volume"] * self.size, row.get("linear", 0.0) / self.size,
                                row.get("scale", 0.0), row.get("steepness", 0.0) / self.size))
        return tuple(made)

    def _activations(self) -> tuple[TwoHill, TwoHill]:
        a, T = library.numbers("activation"), self.period
        return (TwoHill(0.0, a["ventricle_rise"] * T, a["ventricle_fall"] * T, a["ventricle_m1"], a["ventricle_m2"],
                        a["stretch"]),
                TwoHill(-a["atrium_lead"] * T, a["atrium_rise"] * T, a["atrium_fall"] * T, a["atrium_m1"],
                        a["atrium_m2"], a["stretch"]))

    def _vessels(self) -> tuple[Vessel, ...]:
        arteries, veins, lungs = library.numbers("arteries"), library.numbers("veins"), library.numbers("lungs")
        stretch = arteries["compliance"] * self.output * self.period / self.arterial.pulse
        near, size = arteries["aortic_part"], self.size
        whole = sum(self._share(bed) for bed in BEDS if bed != "splanchnic")
        beds = [Vessel(f"{bed}_bed", size * (veins["splanchnic"] if bed == "splanchnic" else
                                             veins["others"] * self._share(bed) / whole)) for bed in BEDS]
        return (Vessel("aorta", near * stretch, near * arteries["rest_volume"] * size),
                Vessel("arteries", (1 - near) * stretch, (1 - near) * arteries["rest_volume"] * size), *beds,
                Vessel("caval_veins", veins["cava"] * size),
                Vessel("lung_arteries", lungs["arterial_compliance"] * size, lungs["arterial_rest_volume"] * size),
                Vessel("lung_veins", lungs["venous_compliance"] * size, lungs["venous_rest_volume"] * size))

    def _venous_parts(self) -> dict[str, float]:
        """How the volume of veins without stretch is shared."""
        part, cava = library.number("veins", "splanchnic_part"), 0.1
        whole = sum(self._share(bed) for bed in BEDS if bed != "splanchnic")
        found = {f"{bed}_bed": (1 - part - cava) * self._share(bed) / whole for bed in BEDS if bed != "splanchnic"}
        return found | {"splanchnic_bed": part, "caval_veins": cava}

    def _valves(self) -> tuple[Orifice, ...]:
        between = {"mitral": ("left_atrium", "left_ventricle"), "aortic": ("left_ventricle", "aorta"),
                   "tricuspid": ("right_atrium", "right_ventricle"), "pulmonary": ("right_ventricle", "lung_arteries")}
        return tuple(Orifice(name, *between[name], area=library.number("valve_area", name) * self.size,
                             length=library.number("valve_length", name)) for name in VALVES)

    def _pipes(self, p: dict[str, float]) -> tuple[Pipe, ...]:
        arteries, out = library.numbers("arteries"), library.number("lungs", "venous_resistance") / self.size
        made = [Pipe("aorta_arteries", "aorta", "arteries", arteries["resistance"] / self.size,
                     arteries["inertance"] / self.size)]
        for bed in BEDS:
            flow = self._share(bed) * self.output
            made.append(Pipe(bed, "arteries", f"{bed}_bed", (p["arteries"] - p[f"{bed}_bed"]) / flow))
            made.append(Pipe(f"{bed}_veins", f"{bed}_bed", "caval_veins", (p[f"{bed}_bed"] - p["caval_veins"]) / flow))
        venous = self.output * (1 - self._share("heart"))
        return (*made, Pipe("cava", "caval_veins", "right_atrium", (p["caval_veins"] - p["right_atrium"]) / venous),
                Pipe("lungs", "lung_arteries", "lung_veins", (p["lung_arteries"] - p["lung_veins"]) / self.output),
                Pipe("lung_veins_out", "lung_veins", "left_atrium", out))

    def _coronaries(self, p: dict[str, float]) -> tuple[tuple[Vessel, ...], tuple[Pipe, ...]]:
        c = library.numbers("coronary")
        vessels: tuple[Vessel, ...] = ()
        pipes: tuple[Pipe, ...] = ()
        for name, part in zip(CORONARIES, (c["left_part"], 1 - c["left_part"]), strict=True):
            side = name.removeprefix("coronary_")
            whole = (p["aorta"] - p["right_atrium"]) / (self._share("heart") * self.output * part)
            new = coronary(name, "aorta", "right_atrium", f"{side}_ventricle", c["squeeze"],
                           arterial=c["arterial"] * whole, small=c["small"] * whole,
                           venous=(1 - c["arterial"] - c["small"]) * whole,
                           compliance=c["compliance"] * part * self.size,
                           compliance_within=c["compliance_within"] * part * self.size)
            vessels, pipes = (*vessels, *new[0]), (*pipes, *new[1])
        return vessels, pipes

    def _reflex(self) -> Baroreflex:
        r = library.numbers("baroreflex")
        times = Times(**{n: r[f"time_{n}"] for n in Times.__dataclass_fields__})
        nerves = Nerves(**{n: r[n] for n in Nerves.__dataclass_fields__})
        others = {k: v for k, v in self._venous_parts().items() if k in {f"{bed}_bed" for bed in REGULATED[1:]}}
        veins = {k: self.size * r["veins_others"] * v / sum(others.values()) for k, v in others.items()}
        return Baroreflex(
            self._aortic(), nerves, times, "aorta", r["period_sympathetic"], r["period_vagal"], r["least_period"],
            {bed: r["resistance_splanchnic" if bed == "splanchnic" else "resistance_others"] for bed in REGULATED},
            {"left_ventricle": r["contractility"], "right_ventricle": r["contractility"]},
            veins | {"splanchnic_bed": self.size * r["veins_splanchnic"]})


# What may befall them


def with_valve(circulation: Circulation, name: str, area: float | None = None,
               leak: float | None = None) -> Circulation:
    """With a stenosis (effective orifice area while open, m^2) or a leak (effective area while shut, m^2)."""
    valve = circulation.loop.of(name)
    if not isinstance(valve, Orifice):
        raise BadInput("no_valve", f"{name} is no valve", ", ".join(VALVES))
    return circulation.having(replace(valve, area=valve.area if area is None else area,
                                      leak=valve.leak if leak is None else leak))


def with_regurgitation(circulation: Circulation, name: str, fraction: float,
                       numerics: Numerics = Numerics()) -> Circulation:
    """With the leak of a valve that lets a fraction (0 to below 1) of what flows forward come back.

    Raises BadInput `bad_fraction` where even a leak as wide as the orifice lets less through.
    """
    def excess(leak: float) -> float:
        return solve(with_valve(circulation, name, leak=leak), numerics).regurgitant_fraction(name) - fraction

    widest = float(getattr(circulation.loop.of(name), "area", 0.0))
    if not 0 <= fraction < 1 or (fraction > 0 and excess(widest) < 0):
        raise BadInput("bad_fraction", f"a regurgitant fraction of {fraction:g} at the {name} valve",
                       "0 to what a leak as wide as the orifice gives")
    leak = brentq(excess, 0.0, widest, xtol=1e-4 * widest, rtol=1e-4) if fraction > 0 else 0.0
    return with_valve(circulation, name, leak=float(leak))


def after_loss(circulation: Circulation, part: float) -> Circulation:
    """After a part of the blood was lost (negative: given)."""
    if not part < 1:
        raise BadInput("bad_loss", f"a loss of {part:g} of the blood", "less than 1")
    return circulation.but(blood_volume=(1 - part) * circulation.blood_volume)


def without_reflex(circulation: Circulation) -> Circulation:
    return circulation.but(reflex=circulation.reflex.but(gain=0.0))


def exercising(circulation: Circulation, level: float) -> Circulation:
    """At exercise with the legs, from rest (0) to the most that is possible (1).

    Muscle, heart and skin open, viscera narrow, heart rate and contractility
    rise, veins tighten, the reflex works about a higher pressure.
    """
    if not 0 <= level <= 1:
        raise BadInput("bad_exercise", f"an exercise level of {level:g}", "0 (rest) to 1 (the most possible)")
    x, loop = library.numbers("exercise"), circulation.loop
    opened = {"muscle": x["muscle"], "skin": x["skin"], "lungs": x["lungs"], "muscle_veins": x["muscle"],
              "cava": x["lungs"]}
    factors = {name: 1 / (1 + level * rise) for name, rise in opened.items()}
    factors |= {bed: 1 + level * x["viscera"] for bed in ("splanchnic", "kidney")}
    factors |= {f"{name}{end}": 1 / (1 + level * x["heart"]) for name in CORONARIES for end in ("", "_small", "_veins")}
    pipes = [replace(loop.of(name), resistance=f * loop.of(name).resistance) for name, f in factors.items()]
    ventricles = [replace(loop.of(n), active=(1 + level * x["contractility"]) * loop.of(n).active)
                  for n in ("left_ventricle", "right_ventricle")]
    scale = level * x["veins"] / sum(loop.of(n).rest_volume for n in VEINS)
    size = circulation.blood_volume / body_library.reference("male").blood_volume
    veins = [replace(loop.of(n), rest_volume=(1 - size * scale) * loop.of(n).rest_volume) for n in VEINS]
    most = x["most_heart_rate"] - x["heart_rate_age"] * circulation.body.age
    rate = 1 / circulation.period
    reflex = circulation.reflex.but(set_point=circulation.reflex.set_point + level * x["set_point"])
    made = circulation.having(*pipes, *ventricles, *veins)
    return _at_rate(made.but(reflex=reflex), rate + level * max(most - rate, 0.0), 1 - level * x["systole"])


def _at_rate(circulation: Circulation, rate: float, shorter: float) -> Circulation:
    """At another heart rate (1/s), systole as much shorter as its stretch tells, and by a factor beyond that."""
    chambers = []
    for c in circulation.loop.chambers:
        a = c.activation
        if isinstance(a, TwoHill):
            s = shorter * (1 / rate / circulation.period) ** a.stretch
            c = replace(c, activation=replace(a, start=s * a.start, rise=s * a.rise, fall=s * a.fall))
        chambers.append(c)
    return circulation.having(*chambers).but(period=1 / rate)
