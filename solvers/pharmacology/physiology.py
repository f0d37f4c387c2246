"""The body as organs in parallel between arterial and venous blood; the bowel drains through the liver.

`adult` makes one from sex, weight and age; `perfused` puts flows that were
measured or computed into it and sets apart the bed beyond a lesion.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from solvers.errors import BadInput
from solvers.library import body as library
from solvers.library.body import Sex

BED = "perfused_bed"
LEAST_REST = 0.5
"""The organs without a flow of their own keep at least this part of their library flow."""


@dataclass(frozen=True)
class Organ:
    """One tissue: m^3, arterial flow m^3/s. `tissue` names its composition; `origin` tells where the flow is from."""

    name: str
    tissue: str
    volume: float
    flow: float
    origin: str = "library"


@dataclass(frozen=True)
class Body:
    """kg, years, m^3, m^3/s. `gut` drains into `liver`, every other organ into venous blood."""

    sex: Sex
    weight: float
    age: float
    organs: tuple[Organ, ...]
    lung_volume: float
    arterial_volume: float
    venous_volume: float

    @property
    def cardiac_output(self) -> float:
        return sum(o.flow for o in self.organs)

    def organ(self, name: str) -> Organ:
        return next(o for o in self.organs if o.name == name)

    def total(self, tissue: str, quantity: str) -> float:
        """`volume` or `flow` of all organs of one tissue."""
        return sum(getattr(o, quantity) for o in self.organs if o.tissue == tissue)

    @property
    def liver_flow(self) -> float:
        """Hepatic artery and portal vein."""
        return self.organ("liver").flow + self.organ("gut").flow

    def but(self, **changes: Any) -> "Body":
        return replace(self, **changes)


@dataclass(frozen=True)
class Outlet:
    """Mean flow at the end of an artery, m^3/s.

    demand: the flow its tissue would like. feeder: the artery whose name tells
    what is fed, where the outlet's own does not; `limbs` for what feeds both legs.
    """

    name: str
    flow: float
    demand: float
    is_beyond: bool = False
    feeder: str = ""

    @property
    def territory(self) -> str:
        return library.territory(self.feeder or self.name)

    @property
    def side(self) -> str:
        """left, right, a or b; empty where one artery feeds both sides."""
        return library.side(self.feeder or self.name)


def adult(sex: Sex = "male", weight: float | None = None, age: float | None = None) -> Body:
    """The reference adult of this sex, scaled to weight (kg) and age (years).

    Organs keep their share of the weight, the brain its size; cardiac output
    follows weight to the power 0.75 and falls with age above the reference's.
    The muscle of the legs is an organ of its own.
    """
    ref = library.reference(sex)
    weight, age = ref.weight if weight is None else weight, ref.age if age is None else age
    _check(weight, age)
    size = (weight / ref.weight) ** library.number("scaling", "organs")
    aged = max(0.3, 1 - library.number("scaling", "cardiac_output_age") * max(0.0, age - ref.age))
    output = (weight / ref.weight) ** library.number("scaling", "cardiac_output") * aged
    volumes = {n: v * (1.0 if n == "brain" else size) for n, v in ref.volumes.items()}
    flows = {n: q * output for n, q in ref.flows.items()}
    flows["gut"] = flows["liver"] - flows.pop("liver_arterial")
    flows["liver"] -= flows["gut"]
    lung = volumes.pop("lung")
    organs = [Organ(n, n, volumes[n], flows[n]) for n in sorted(volumes)]
    known = sum(flows.values())
    rest = weight / 1050 - sum(volumes.values()) - lung - ref.blood_volume * size
    organs.append(Organ("rest", "muscle", max(rest, 0.01 * weight / 1050), ref.cardiac_output * output - known))
    blood = ref.blood_volume * size
    arterial = library.number("blood", "arterial_share") * blood
    return _with_legs(Body(sex, weight, age, tuple(organs), lung, arterial, blood - arterial))


def _check(weight: float, age: float) -> None:
    if not 30 <= weight <= 250:
        raise BadInput("weight_out_of_range", f"a weight of {weight:g} kg", "30 to 250 kg",
                       "Check the unit of the setting weight.")
    if not 18 <= age <= 110:
        raise BadInput("age_out_of_range", f"an age of {age:g} years", "an adult of 18 to 110 years",
                       "The library's bodies are adults; children need other volumes and clearances.")


def _with_legs(body: Body) -> Body:
    muscle, share = body.organ("muscle"), library.number("lower_body", "muscle_share")
    legs = replace(muscle, name="legs", volume=share * muscle.volume, flow=share * muscle.flow)
    upper = replace(muscle, volume=muscle.volume - legs.volume, flow=muscle.flow - legs.flow)
    return body.but(organs=(*(upper if o is muscle else o for o in body.organs), legs))


def with_volumes(body: Body, volumes: dict[str, float]) -> tuple[Body, list[str]]:
    """Organs' volumes (m^3) from masks, kidney as both together; and the names that were not taken.

    A mask that is not half to twice of the library's organ is taken for cut by the image's border, or for another
    thing, and left aside.
    """
    usual = {o.name: o.volume for o in body.organs}
    fits = {n: v for n, v in volumes.items() if n in usual and 0.5 * usual[n] <= v <= 2 * usual[n]}
    organs = tuple(replace(o, volume=fits.get(o.name, o.volume)) for o in body.organs)
    return body.but(organs=organs), sorted(set(volumes) - set(fits))


def perfused(body: Body, outlets: Sequence[Outlet]) -> Body:
    """The body with the outlets' flows, and with the bed beyond the lesion as the organ `perfused_bed`.

    Kidneys and legs take the flows of their arteries, side by side (a side
    without an outlet keeps its half of the library's flow); liver and bowel
    take celiac trunk and superior mesenteric artery where both are there. The
    remaining organs share what is left of the library's cardiac output in
    their usual proportions, at least half of their usual flow each.
    The bed is what the legs' outlets beyond the lesion feed, else the kidney
    beyond it, else both legs.
    """
    for outlet in outlets:
        if outlet.territory != "rest" and not outlet.flow > 0:
            raise BadInput("outlet_without_flow", f"{outlet.name} has a mean flow of {outlet.flow * 6e7:.3g} mL/min",
                           "a flow out of every outlet", "Look at the flow result before dosing.")
    placed = {o.name: o for o in body.organs}
    output = body.cardiac_output
    for name in ("legs", "kidney"):
        placed[name] = _fed(placed[name], [o for o in outlets if o.territory == name.removesuffix("s")])
    viscera = [o for o in outlets if o.territory == "viscera"]
    if len({library.plain(o.feeder or o.name) for o in viscera}) >= 2:
        factor = sum(o.flow for o in viscera) / body.liver_flow
        for name in ("gut", "liver"):
            placed[name] = replace(placed[name], flow=factor * placed[name].flow, origin="flow result")
    organs = _shared(list(placed.values()), output)
    return _with_bed(body.but(organs=tuple(organs)), outlets)


def _sides(outlets: Sequence[Outlet]) -> dict[str, list[Outlet]]:
    sides: dict[str, list[Outlet]] = {}
    for outlet in outlets:
        sides.setdefault(outlet.side, []).append(outlet)
    return sides


def _fed(organ: Organ, outlets: Sequence[Outlet]) -> Organ:
    """A paired organ with the flow of its arteries."""
    sides = _sides(outlets)
    if not sides:
        return organ
    absent = 0 if "" in sides else max(0, 2 - len(sides))
    flow = sum(o.flow for o in outlets) + absent * organ.flow / 2
    return replace(organ, flow=flow, origin="flow result, one side library" if absent else "flow result")


def _shared(organs: list[Organ], output: float) -> list[Organ]:
    """What is left of the cardiac output, shared among the organs without a flow of their own."""
    usual = sum(o.flow for o in organs if o.origin == "library")
    left = output - sum(o.flow for o in organs if o.origin != "library")
    factor = max(LEAST_REST, left / usual)
    scaled = "library" if abs(factor - 1) < 1e-9 else f"library times {factor:.3f}"
    return [replace(o, flow=factor * o.flow, origin=scaled) if o.origin == "library" else o for o in organs]


def beyond_lesion(outlets: Sequence[Outlet]) -> list[Outlet]:
    """The outlets that feed the bed: the legs' beyond the lesion, else the kidneys' beyond it, else none."""
    for territory in ("leg", "kidney"):
        if found := [o for o in outlets if o.is_beyond and o.territory == territory]:
            return found
    return []


def _with_bed(body: Body, outlets: Sequence[Outlet]) -> Body:
    beyond = beyond_lesion(outlets)
    if beyond:
        name, rest = ("legs", "other_leg") if beyond[0].territory == "leg" else ("kidney", "kidney")
        return _split(body, name, rest, [o for o in outlets if o.territory == beyond[0].territory])
    whole = body.organ("legs")
    return body.but(organs=tuple(replace(o, name=BED) if o is whole else o for o in body.organs))


def _split(body: Body, name: str, rest_name: str, outlets: Sequence[Outlet]) -> Body:
    """The organ `name` in two: the bed, and what else of it there is.

    Each side holds half the tissue, an artery of both sides all of it; within a side, outlets share by their demand.
    """
    organ, share = body.organ(name), 0.0
    for name_of_side, side in _sides(outlets).items():
        whole = sum(max(o.demand, 0.0) for o in side)
        parts = [max(o.demand, 0.0) / whole if whole > 0 else 1 / len(side) for o in side]
        held = 0.5 if name_of_side else 1.0
        share += held * sum(part for part, o in zip(parts, side, strict=True) if o.is_beyond)
    flow = sum(o.flow for o in outlets if o.is_beyond)
    bed = replace(organ, name=BED, volume=min(share, 1.0) * organ.volume, flow=flow, origin="flow result")
    others = [o for o in body.organs if o is not organ]
    if share < 1 - 1e-9:
        others.append(replace(organ, name=rest_name, volume=organ.volume - bed.volume, flow=organ.flow - flow))
    return body.but(organs=(*others, bed))
