"""What lies beyond the ends of a vessel tree: target flows and pressures at rest, and Windkessels that meet them.

Targets. Each leaf feeds the bed that its name (or that of the branch it comes
from) tells: a kidney, the viscera, or the legs and pelvis; side branches of the
aorta that nobody could name share with the legs. Organs take their part of the
cardiac output; what is left below the renal arteries is the flow measured
there, shared by Murray's law. The inflow is the sum of what the visible
outlets need. Organs fed above the inlet take no part.

Waveform. The inflow is the legs' flow with the form seen below the renal
arteries (backward in early diastole) and the organs' with theirs (forward all
through), so its form follows from where the inlet lies.

Tuning. Total resistances meet the mean pressure and the mean flows whatever the
vessel loses on the way: at rest a bed behind a stenosis has widened
(autoregulation), as far as it can. One time constant R C for all outlets, and
the mean pressure where none was measured, meet systolic and diastolic pressure
at the inlet.

Sources: ICRP 89 and Williams & Leggett 1989 (organs), Cheng 2003 (aorta), Murray 1926 (sharing), Laskey 1990
(proximal resistance); the numbers stand in physiology.toml and body.toml.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from solvers.errors import BadInput, DidNotConverge
from solvers.flow import circuit
from solvers.flow.circuit import Numerics, Periodic
from solvers.flow.network import Network, outlet_names
from solvers.flow.pulse import Pulse
from solvers.flow.windkessel import Windkessel
from solvers.geometry.centrelines import Lesion, Tree
from solvers.library import body, physiology
from solvers.library.body import Sex
from solvers.units import MMHG

SOURCES = ["ICRP Publication 89, doi:10.1016/S0146-6453(03)00002-2",
           "Williams & Leggett 1989 (organ flows), doi:10.1088/0143-0815/10/3/001",
           "Cheng, Herfkens & Taylor 2003 (flow of the aorta), doi:10.1016/S0021-9150(03)00099-6",
           "Les et al. 2010 (flow of the aorta), doi:10.1007/s13239-010-0004-8",
           "Murray 1926 (sharing by radius), doi:10.1073/pnas.12.3.207",
           "Laskey et al. 1990 (proximal resistance), doi:10.1152/jappl.1990.69.1.112",
           "Wright et al. 2011 (blood pressure), National Health Statistics Reports 35",
           "Ostchega et al. 2011 (heart rate), National Health Statistics Reports 41"]

TRUNK = ("aorta", "abdominal_aorta", "thoracic_aorta")
VISCERAL = ("celiac_trunk", "superior_mesenteric_artery", "inferior_mesenteric_artery")
UNKNOWN_AGE = 60.0
"""Years, where the scan does not tell: arteries are mostly imaged in the old."""
PULSE_POINTS = 60


@dataclass(frozen=True)
class Rest:
    """What is known of a person at rest; None is taken from published tables and said so.

    age years; pressures Pa; heart_rate beats/s; flows m^3/s: cardiac_output,
    limb_flow (below the renal arteries), inlet_flow (all that enters the tree:
    every target is scaled to it). exponent: of Murray's law.
    """

    age: float | None = None
    sex: Sex | None = None
    systolic: float | None = None
    diastolic: float | None = None
    mean: float | None = None
    venous: float | None = None
    heart_rate: float | None = None
    cardiac_output: float | None = None
    limb_flow: float | None = None
    inlet_flow: float | None = None
    exponent: float | None = None


@dataclass(frozen=True)
class Targets:
    """What the outlets shall meet. flows: leaf to mean flow, m^3/s; beds: leaf to what it feeds.

    level: where the inlet lies, supraceliac, suprarenal or infrarenal. mean:
    None when it was not measured. told: what was assumed, a sentence each.
    """

    level: str
    flows: Mapping[int, float]
    beds: Mapping[int, str]
    systolic: float
    diastolic: float
    mean: float | None
    venous: float
    heart_rate: float
    told: tuple[str, ...]

    @property
    def inflow(self) -> float:
        """Mean flow into the tree, m^3/s."""
        return float(sum(self.flows.values()))

    @property
    def limbs(self) -> float:
        """Mean flow to everything that is no organ, m^3/s."""
        return float(sum(q for i, q in self.flows.items() if _is_limb(self.beds[i])))


@dataclass(frozen=True)
class Tuning:
    """tolerance: of pressures at the inlet, Pa, and of mean flows (relative); bearable: pressure error that is still
    reported rather than raised, Pa; least_resistance: how far a bed can widen, part of what it has at rest without a
    stenosis (assumed: flow after a few minutes without blood rises about fivefold); patience: iterations without
    improvement after which the best is taken."""

    tolerance: float = 0.3 * MMHG
    flow_tolerance: float = 0.002
    bearable: float = 5 * MMHG
    least_resistance: float = 0.2
    most_iterations: int = 40
    patience: int = 8
    numerics: Numerics = Numerics()


@dataclass(frozen=True)
class Achieved:
    """Pressures at the inlet, Pa; by leaf, mean flow, m^3/s, and mean pressure lost on the way there, Pa; largest
    errors to the targets (Pa; relative)."""

    systolic: float
    diastolic: float
    mean: float
    flows: Mapping[int, float]
    drops: Mapping[int, float]
    pressure_error: float
    flow_error: float


@dataclass(frozen=True)
class Tuned:
    """Windkessels by leaf, what they were to meet and what they do, and the cycle that they give.

    time_constant: total resistance times compliance, s, of each. exhausted:
    leaves whose bed cannot widen enough. told: what of the targets was not met,
    a sentence each.
    """

    outlets: Mapping[int, Windkessel]
    targets: Targets
    achieved: Achieved
    iterations: int
    time_constant: float
    exhausted: tuple[int, ...] = ()
    told: tuple[str, ...] = ()
    periodic: Periodic | None = field(default=None, repr=False, compare=False)


# Targets


def level_of(tree: Tree) -> str:
    """Where the inlet lies, by the arteries that leave below it."""
    plain = {_plain(b.name) for b in tree.branches}
    if plain & set(VISCERAL[:2]):
        return "supraceliac"
    return "suprarenal" if "renal_artery" in plain else "infrarenal"


def targets(tree: Tree, lesions: Sequence[Lesion] = (), rest: Rest = Rest()) -> Targets:
    """Mean flow of each leaf and pressures at the inlet, from `rest` and published numbers.

    Raises BadInput `no_flow_left` when a given inflow is not above zero, `odd_pressure` when pressures are out of
    order.
    """
    told: list[str] = []
    sex, age = _person(rest, told)
    beds = {i: _bed(tree, i) for i in tree.leaves}
    organs = _organ_flows(tree, beds, sex, _cardiac_output(rest, sex, age, told))
    limbs = [i for i in tree.leaves if i not in organs]
    flows = organs | _limb_flows(tree, lesions, limbs, rest, told)
    if rest.inlet_flow is not None:
        if not rest.inlet_flow > 0:
            raise BadInput("no_flow_left", f"the inflow is {rest.inlet_flow * 1e6:.3g} mL/s", "above zero")
        scale = rest.inlet_flow / sum(flows.values())
        flows = {i: q * scale for i, q in flows.items()}
        told.append(f"All flows were scaled by {scale:.3f} to meet the given inflow.")
    _tell(tree, beds, flows, told)
    systolic, diastolic = _pressures(rest, sex, age, told)
    venous = physiology.number("pressure", "venous").value if rest.venous is None else rest.venous
    middle = diastolic if rest.mean is None else rest.mean
    if not venous < diastolic <= middle <= systolic or not diastolic < systolic:
        raise BadInput("odd_pressure", f"pressures are {venous / MMHG:.0f}, {diastolic / MMHG:.0f}, "
                       f"{middle / MMHG:.0f} and {systolic / MMHG:.0f} mmHg", "venous < diastolic < mean < systolic")
    rate = rest.heart_rate or physiology.number("heart_rate", sex).value
    if rest.heart_rate is None:
        told.append(f"Heart rate {60 * rate:.0f} a minute from a table (Ostchega 2011).")
    return Targets(level_of(tree), flows, beds, systolic, diastolic, rest.mean, venous, rate, tuple(told))


def pulse(targets: Targets) -> Pulse:
    """The inflow over one beat: legs and organs, each with the form of its flow. Time 0 is the end of diastole."""
    parts = [(targets.limbs, "limb"), (targets.inflow - targets.limbs, "organ")]
    period = 1 / targets.heart_rate
    waves = sum(mean * Pulse(period, physiology.waveform(name)).at(PULSE_POINTS) for mean, name in parts)
    return Pulse(period, np.asarray(waves))


def _person(rest: Rest, told: list[str]) -> tuple[Sex, float]:
    if rest.sex is None:
        told.append("Sex is not known: a man's values are taken.")
    if rest.age is None:
        told.append(f"Age is not known: {UNKNOWN_AGE:.0f} years are taken.")
    return rest.sex or "male", UNKNOWN_AGE if rest.age is None else rest.age


def _cardiac_output(rest: Rest, sex: Sex, age: float, told: list[str]) -> float:
    """m^3/s; the reference adult's, less with age."""
    if rest.cardiac_output is not None:
        return rest.cardiac_output
    adult = body.reference(sex)
    lost = body.number("scaling", "cardiac_output_age") * max(0.0, age - adult.age)
    output = adult.cardiac_output * max(0.4, 1 - lost)
    told.append(f"Cardiac output {output * 6e4:.1f} L/min from a table by sex and age (ICRP 89, Brandfonbrener 1955).")
    return output


def _pressures(rest: Rest, sex: Sex, age: float, told: list[str]) -> tuple[float, float]:
    people = physiology.pressures(age, sex)
    if rest.systolic is None or rest.diastolic is None:
        told.append(f"Blood pressure {people.systolic / MMHG:.0f}/{people.diastolic / MMHG:.0f} mmHg from a table by "
                    "sex and age (NHANES); a cuff's values would be better.")
    return (people.systolic if rest.systolic is None else rest.systolic,
            people.diastolic if rest.diastolic is None else rest.diastolic)


def _plain(name: str) -> str:
    """A name without its side."""
    for side in ("_left", "_right", "_a", "_b"):
        name = name.removesuffix(side)
    return name


def _bed(tree: Tree, leaf: int) -> str:
    """What a leaf feeds, by the nearest branch towards the root whose name tells.

    The name of a renal artery stands for its kidney, that of a visceral artery for what it feeds; `limbs` for legs and
    pelvis, `unknown` for side branches of the aorta.
    """
    for index in reversed(tree.path(leaf)):
        name = tree.branches[index].name
        if _plain(name) == "renal_artery" or _plain(name) in VISCERAL:
            return name
        if body.territory(name) == "leg":
            return "limbs"
        if _plain(name) in TRUNK:
            return "limbs" if index == leaf else "unknown"
    return "unknown"


def _is_limb(bed: str) -> bool:
    return bed in ("limbs", "unknown")


def _organ_flows(tree: Tree, beds: Mapping[int, str], sex: Sex, cardiac_output: float) -> dict[int, float]:
    """Mean flow of leaves that feed an organ, m^3/s; a kidney is half of both; leaves of one organ share by Murray."""
    flows: dict[int, float] = {}
    shares = body.reference(sex)
    kidneys, liver = (shares.flows[k] / shares.cardiac_output for k in ("kidney", "liver"))
    for bed in dict.fromkeys(b for b in beds.values() if not _is_limb(b)):
        share = 0.5 * kidneys if _plain(bed) == "renal_artery" else \
            liver * physiology.number("visceral_share", _plain(bed)).value
        leaves = [i for i, b in beds.items() if b == bed]
        flows |= _shared(tree, (), leaves, share * cardiac_output, physiology.number("branching", "exponent").value)
    return flows


def _limb_flows(tree: Tree, lesions: Sequence[Lesion], leaves: list[int], rest: Rest,
                told: list[str]) -> dict[int, float]:
    """The flow below the renal arteries, shared by Murray's law."""
    if not leaves:
        return {}
    published = physiology.number("aortic_flow", "infrarenal")
    total = published.value if rest.limb_flow is None else rest.limb_flow
    if rest.limb_flow is None:
        told.append(f"Flow below the renal arteries {total * 6e4:.2f} ({published.spread * 6e4:.1f}) L/min from a "
                    "table (Cheng 2003).")
    exponent = rest.exponent or physiology.number("branching", "exponent").value
    return _shared(tree, lesions, leaves, total, exponent)


def _shared(tree: Tree, lesions: Sequence[Lesion], leaves: Sequence[int], total: float,
            exponent: float) -> dict[int, float]:
    weight = {i: healthy_radius(tree, i, lesions) ** exponent for i in leaves}
    return {i: total * w / sum(weight.values()) for i, w in weight.items()}


def healthy_radius(tree: Tree, leaf: int, lesions: Sequence[Lesion] = ()) -> float:
    """Area-equivalent radius of a branch where it is healthy, mm: the median over its distal half, lesions left out
    (over all of it, or of the inscribed sphere, where nothing else was measured)."""
    branch = tree.branches[leaf]
    s = branch.abscissa
    known = np.isfinite(branch.area)
    healthy = known.copy()
    for x in lesions:
        if x.branch == leaf:
            healthy &= (s < x.start) | (s > x.end)
    for use in (healthy & (s >= 0.5 * s[-1]), healthy, known):
        if use.any():
            return float(np.sqrt(np.median(branch.area[use]) / np.pi))
    return float(np.median(branch.radius))


def _tell(tree: Tree, beds: Mapping[int, str], flows: Mapping[int, float], told: list[str]) -> None:
    level = level_of(tree)
    names = outlet_names(tree)
    told.append(f"The inlet is {level}; its flow {sum(flows.values()) * 6e4:.2f} L/min is what the visible outlets "
                "need.")
    unknown = [names[i] for i, b in beds.items() if b == "unknown"]
    if unknown:
        told.append(f"{', '.join(unknown)}: not named, so they share with the legs by Murray's law.")
    if level == "supraceliac":
        published = physiology.number("aortic_flow", "supraceliac")
        off = (sum(flows.values()) - published.value) / published.spread
        told.append(f"That is {off:+.1f} standard deviations from what was measured there (Cheng 2003).")


# Tuning


@dataclass(frozen=True)
class _Guess:
    """mean: pressure at the inlet, Pa; tau: R C, s; share: proximal parts are multiplied by it; drops: leaf to mean
    loss on the way, Pa."""

    mean: float
    tau: float
    share: float
    drops: Mapping[int, float]


def tune(build: Callable[[Mapping[int, Windkessel]], Network], targets: Targets, wave: Pulse | None = None,
         tuning: Tuning = Tuning()) -> Tuned:
    """Windkessels that give the target flows and pressures in the network that `build` makes of them.

    Raises DidNotConverge `pressure_not_reached` when systolic or diastolic pressure stays more than `bearable` away.
    """
    wave = wave or pulse(targets)
    start = targets.mean or targets.diastolic + (targets.systolic - targets.diastolic) / 3
    guess = _Guess(start, 1.5, 1.0, dict.fromkeys(targets.flows, 0.0))
    best, slope, before = None, -0.8, None
    for number in range(1, tuning.most_iterations + 1):
        tuned = _try(build, targets, wave, guess, tuning, number)
        done = tuned.achieved
        best = tuned if best is None or _score(tuned, tuning) < 0.98 * _score(best, tuning) else best
        if _is_settled(tuned, tuning) or number - best.iterations >= tuning.patience:
            break
        point = np.log(guess.tau), np.log(max(done.systolic - done.diastolic, 1.0))
        if before is not None and abs(point[0] - before[0]) > 1e-6:
            slope = float(np.clip((point[1] - before[1]) / (point[0] - before[0]), -1.2, -0.15))
        before = point
        guess = _better(targets, guess, done, slope)
    assert best is not None
    if best.achieved.pressure_error > tuning.bearable:
        raise _not_reached(best)
    return replace(best, iterations=number, told=_unmet(best, tuning))


def _unmet(tuned: Tuned, tuning: Tuning) -> tuple[str, ...]:
    """Sentences on targets that were missed."""
    t, a = tuned.targets, tuned.achieved
    told = [f"The bed {t.beds[i]} of branch {i} cannot widen enough: {a.flows[i] * 6e4:.3f} of {t.flows[i] * 6e4:.3f} "
            "L/min reach it." for i in tuned.exhausted]
    if a.pressure_error >= tuning.tolerance:
        told.append(f"Pressure at the inlet is {a.systolic / MMHG:.1f}/{a.diastolic / MMHG:.1f} (mean "
                    f"{a.mean / MMHG:.1f}) mmHg for {t.systolic / MMHG:.1f}/{t.diastolic / MMHG:.1f} mmHg.")
    if a.flow_error >= tuning.flow_tolerance and not tuned.exhausted:
        told.append(f"A mean flow is {a.flow_error:.1%} from its target.")
    return tuple(told)


def _score(tuned: Tuned, tuning: Tuning) -> float:
    """Largest error in tolerances; flows do not count where a bed cannot widen enough."""
    flow = 0.0 if tuned.exhausted else tuned.achieved.flow_error / tuning.flow_tolerance
    return max(tuned.achieved.pressure_error / tuning.tolerance, flow)


def _is_settled(tuned: Tuned, tuning: Tuning) -> bool:
    """All is met, or, where the mean was measured, all that is free: flows, mean and pulse pressure."""
    t, a = tuned.targets, tuned.achieved
    flows = bool(tuned.exhausted) or a.flow_error < tuning.flow_tolerance
    if t.mean is None:
        return flows and a.pressure_error < tuning.tolerance
    pulse_error = abs((a.systolic - a.diastolic) - (t.systolic - t.diastolic))
    return flows and max(pulse_error, abs(a.mean - t.mean)) < tuning.tolerance


def _try(build: Callable[[Mapping[int, Windkessel]], Network], targets: Targets, wave: Pulse, guess: _Guess,
         tuning: Tuning, number: int) -> Tuned:
    beds, exhausted = _beds(targets, guess, tuning)
    network = build(beds)
    periodic = circuit.solve(network.circuit, wave, tuning.numerics)
    inlet = periodic.at(network.circuit.inlet)
    flows = {i: float(periodic.out(node).mean()) for i, node in network.leaves.items()}
    drops = {i: float((inlet - periodic.at(node)).mean()) for i, node in network.leaves.items()}
    error = max(abs(flows[i] / q - 1) for i, q in targets.flows.items())
    systolic, diastolic = float(inlet.max()), float(inlet.min())
    pressure = max(abs(systolic - targets.systolic), abs(diastolic - targets.diastolic))
    achieved = Achieved(systolic, diastolic, float(inlet.mean()), flows, drops, pressure, error)
    return Tuned(beds, targets, achieved, number, guess.tau, exhausted, periodic=periodic)


def _beds(targets: Targets, guess: _Guess, tuning: Tuning) -> tuple[dict[int, Windkessel], tuple[int, ...]]:
    """Windkessels of a guess, and the leaves whose bed is as wide as it can be."""
    found, exhausted = {}, []
    for i, flow in targets.flows.items():
        healthy = (guess.mean - targets.venous) / flow
        total = (guess.mean - guess.drops[i] - targets.venous) / flow
        if total < tuning.least_resistance * healthy:
            total = tuning.least_resistance * healthy
            exhausted.append(i)
        kind = "proximal_share_kidney" if _plain(targets.beds[i]) == "renal_artery" else "proximal_share"
        share = min(guess.share * physiology.number("windkessel", kind).value, 0.5)
        found[i] = Windkessel(share * total, (1 - share) * total, guess.tau / total, targets.venous)
    return found, tuple(exhausted)


def _better(targets: Targets, guess: _Guess, done: Achieved, slope: float) -> _Guess:
    """The next guess: losses as they were seen, the time constant by the pulse pressure, the mean by what is left."""
    ratio = (targets.systolic - targets.diastolic) / max(done.systolic - done.diastolic, 1.0)
    tau = guess.tau * float(np.clip(ratio ** (1 / slope), 0.4, 2.5))
    share = guess.share
    if tau > 8.0:  # the rest of the pulse pressure is made by the proximal resistances
        tau, share = 8.0, max(0.7 * share, 0.05)
    mean = guess.mean
    if targets.mean is None:
        mean += 0.5 * ((targets.systolic - done.systolic) + (targets.diastolic - done.diastolic))
        lowest = targets.venous + 0.2 * (targets.diastolic - targets.venous)  # other beds take what one cannot
        mean = float(np.clip(mean, lowest, targets.systolic))
    return _Guess(mean, tau, share, done.drops)


def _not_reached(best: Tuned) -> DidNotConverge:
    t, a = best.targets, best.achieved
    mean = "" if t.mean is None else f" with a mean of {t.mean / MMHG:.0f}"
    return DidNotConverge(
        "pressure_not_reached", f"the outlets give {a.systolic / MMHG:.0f}/{a.diastolic / MMHG:.0f} with a mean of "
        f"{a.mean / MMHG:.0f} mmHg at the inlet", f"{t.systolic / MMHG:.0f}/{t.diastolic / MMHG:.0f}{mean} mmHg",
        "Check blood pressure, heart rate and inflow: they may not belong to one person at one time.", state=best)
