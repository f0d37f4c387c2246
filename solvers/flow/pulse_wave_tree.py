"""From centrelines to a network of elastic vessels, and from its waves to curves and clinical numbers (1D).

Places, outlets, losses of lesions and what is read off are those of the
network in numbers (`network`), so that depths can be laid side by side. An
image shows the lumen under pressure: its area is the vessel's at a stated
pressure. Areas are smoothed along a branch over about a diameter, for the
model assumes that a vessel changes slowly. A lesion is bridged by the lumen
beside it and adds its loss at its throat, less the friction of the bridge.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from solvers.errors import BadInput
from solvers.flow import network as numbers
from solvers.flow.lesion_flow import Fluid, Loss
from solvers.flow.network import MM, Edge, Results, Stretch, drop_to_outlets, outlet_names, stations, stenosis_of
from solvers.flow.pulse_wave import Network, Outlet, Vessel, Waves
from solvers.geometry.centrelines import Lesion, Tree
from solvers.geometry.wall_thickness import Thickness
from solvers.units import MMHG

STEP = 0.5
"""Distance of the places that areas are read at, mm."""
SHORTEST = 2.0
"""Vessels between branches are at least this long, mm: branches that leave nearer to each other leave together."""

Elasticity = Callable[[np.ndarray], np.ndarray]
"""Radius of the lumen (m) to stiffness E h / r (Pa)."""


@dataclass(frozen=True)
class Place:
    """A vessel, and a part of its length from its start."""

    vessel: str
    part: float


@dataclass(frozen=True)
class Traced:
    """A network and what its parts are. stretches: one per vessel. leaves: branch index to node of the outlet.
    stations: lesion id to places before and behind it."""

    network: Network
    tree: Tree
    lesions: tuple[Lesion, ...]
    stretches: tuple[Stretch, ...]
    leaves: Mapping[int, str]
    stations: Mapping[str, tuple[Place, Place]]


def olufsen1999(radius: np.ndarray) -> np.ndarray:
    """E h / r of human systemic arteries from their radius (m), Pa: k1 exp(k2 r) + k3, a fit to measured arteries.

    k1 = 2e7 g/(s^2 cm), k2 = -22.53 1/cm, k3 = 8.65e5 g/(s^2 cm).
    Source: Olufsen 1999, doi:10.1152/ajpheart.1999.276.1.H257.
    """
    return 2e6 * np.exp(-2253.0 * np.asarray(radius, float)) + 8.65e4


@dataclass(frozen=True)
class PulseWaveVelocity:
    """One speed of waves (m/s) in all vessels at the pressure of the image; density of the blood kg/m^3."""

    speed: float
    density: float

    def __call__(self, radius: np.ndarray) -> np.ndarray:
        return np.full(np.shape(radius), 1.5 * self.density * self.speed**2)


@dataclass(frozen=True)
class Wall:
    """One Young's modulus (Pa) and a rule for the thickness."""

    modulus: float
    thickness: Thickness

    def __call__(self, radius: np.ndarray) -> np.ndarray:
        return self.modulus * self.thickness.of(radius) / radius


def from_tree(tree: Tree, fluid: Fluid, elasticity: Elasticity, outlets: Mapping[int, Outlet],
              lesions: Sequence[Lesion] = (), *, pressure: float, which: Edge = "area",
              profile: float = 2.0) -> Traced:
    """The network of a tree (mm) on one of its contours, with an outlet per leaf (branch index).

    pressure: Pa, of the blood while the image was taken (mean arterial pressure
    where the image is not gated). profile: 2 gives the friction of Poiseuille.
    Raises BadInput `outlets_differ` when the outlets are not the leaves.
    """
    if set(outlets) != set(tree.leaves):
        raise BadInput("outlets_differ", f"outlets are given for branches {sorted(outlets)}",
                       f"one for each leaf: {sorted(tree.leaves)}")
    plain = numbers.build(tree, fluid, (), which)
    inlet, ends = plain.circuit.inlet, set(plain.leaves.values())
    pieces = [(x, s.start, s.end) for x, s in zip(plain.stretches, plain.circuit.segments, strict=True)]
    pieces, same = _without_short(pieces, {inlet} | ends)
    losses: dict[str, Loss] = {}
    radii = {i: _radii(tree, i, which, lesions) for i in range(len(tree.branches))}
    for lesion in lesions:
        node = f"{lesion.id}.throat"
        pieces = _cut(pieces, lesion, node)
        losses[node] = _added(tree, lesion, lesions, fluid, which, radii[lesion.branch], profile)
    vessels = tuple(_vessel(k, x, (same.get(a, a), same.get(b, b)), radii[x.branch], elasticity, pressure)
                    for k, (x, a, b) in enumerate(pieces))
    leaves = {i: plain.leaves[i] for i in tree.leaves}
    made = Network(vessels, inlet, {leaves[i]: outlets[i] for i in tree.leaves}, fluid, losses, profile)
    stretches = tuple(x for x, _, _ in pieces)
    at = {x.id: _stations(tree, x, stretches, vessels) for x in lesions}
    return Traced(made, tree, tuple(lesions), stretches, leaves, at)


_Piece = tuple[Stretch, str, str]


def _without_short(pieces: list[_Piece], terminal: set[str]) -> tuple[list[_Piece], dict[str, str]]:
    """Pieces without short ones between branches, and node to the node that it became one with."""
    same: dict[str, str] = {}
    kept = []
    for x, a, b in pieces:
        if x.end - x.start >= SHORTEST or a in terminal or b in terminal:
            kept.append((x, a, b))
            continue
        one, other = same.get(a, a), same.get(b, b)
        same |= {n: one for n, to in same.items() if to == other} | {other: one}
    return kept, same


def _cut(pieces: list[_Piece], lesion: Lesion, node: str) -> list[_Piece]:
    """The piece that holds the lesion's throat (or is nearest to it) as two, joined at `node`."""
    t = lesion.abscissa
    mine = [k for k, (x, _, _) in enumerate(pieces) if x.branch == lesion.branch]
    k = min(mine, key=lambda k: max(pieces[k][0].start - t, t - pieces[k][0].end, 0.0))
    x, a, b = pieces[k]
    edge = min(SHORTEST, 0.5 * (x.end - x.start))
    place = float(np.clip(t, x.start + edge, x.end - edge))
    return [*pieces[:k], (Stretch(x.branch, x.start, place), a, node), (Stretch(x.branch, place, x.end), node, b),
            *pieces[k + 1:]]


def _radii(tree: Tree, index: int, which: Edge, lesions: Sequence[Lesion]) -> tuple[np.ndarray, np.ndarray]:
    """Places along a branch (mm) and radius there (mm): gaps filled, lesions bridged, smoothed over a diameter."""
    branch = tree.branches[index]
    area = np.asarray(getattr(branch, which), float)
    known = np.isfinite(area)
    if not (area[known] > 0).all():
        raise BadInput("lumen_closed", f"{branch.name} has no lumen on the contour {which}", "areas above zero",
                       "Look at the lumen's edge there.")
    s = np.linspace(0, branch.length, max(3, int(np.ceil(branch.length / STEP)) + 1))
    radius = np.interp(s, branch.abscissa[known], np.sqrt(area[known] / np.pi)) if known.any() \
        else np.interp(s, branch.abscissa, branch.radius)
    for lesion in (x for x in lesions if x.branch == index):
        ends = np.interp([lesion.start, lesion.end], s, radius)
        inside = (s >= lesion.start) & (s <= lesion.end)
        bridge = np.interp(s[inside], [lesion.start, lesion.end], ends)
        radius[inside] = np.maximum(radius[inside], bridge)
    return s, gaussian_filter1d(radius, 0.5 * float(radius.mean()) / (s[1] - s[0]), mode="nearest")


def _vessel(k: int, x: Stretch, nodes: tuple[str, str], radii: tuple[np.ndarray, np.ndarray], elasticity: Elasticity,
            pressure: float) -> Vessel:
    places = np.linspace(x.start, x.end, max(2, int(np.ceil((x.end - x.start) / STEP)) + 1))
    radius = np.interp(places, *radii) * MM
    return Vessel(str(k), *nodes, max(x.end - x.start, SHORTEST) * MM, radius, elasticity(radius), pressure=pressure)


def _added(tree: Tree, lesion: Lesion, lesions: Sequence[Lesion], fluid: Fluid, which: Edge,
           radii: tuple[np.ndarray, np.ndarray], profile: float) -> Loss:
    """Loss of total pressure by a lesion, beyond the friction of the lumen that bridges it.

    The network's loss is of static pressure between the stations; waves carry the kinetic part themselves.
    """
    whole, at = stenosis_of(tree, lesion, fluid, which, lesions), stations(tree, lesion)
    s = np.linspace(lesion.start, lesion.end, 200)
    bridge = np.trapezoid(1 / (np.pi * np.interp(s, *radii) ** 2) ** 2, s) / MM**3
    before, behind = np.pi * np.interp([at.proximal_abscissa, at.distal_abscissa], *radii) ** 2 * MM**2
    kinetic = 0.5 * fluid.density * (1 / behind**2 - 1 / before**2)
    return Loss(max(whole.linear - float(2 * (profile + 2) * np.pi * fluid.viscosity * bridge), 0.0),
                max(whole.quadratic - float(kinetic), 0.0))


def _stations(tree: Tree, lesion: Lesion, stretches: Sequence[Stretch],
              vessels: Sequence[Vessel]) -> tuple[Place, Place]:
    at = stations(tree, lesion)
    return (_place(lesion.branch, at.proximal_abscissa, stretches, vessels),
            _place(lesion.branch, at.distal_abscissa, stretches, vessels))


def _place(branch: int, s: float, stretches: Sequence[Stretch], vessels: Sequence[Vessel]) -> Place:
    mine = [k for k, x in enumerate(stretches) if x.branch == branch]
    k = min(mine, key=lambda k: max(stretches[k].start - s, s - stretches[k].end, 0.0))
    x = stretches[k]
    return Place(vessels[k].name, float(np.clip((s - x.start) / (x.end - x.start), 0.0, 1.0)))


# What is read off


def curves(traced: Traced, waves: Waves) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pressure (Pa) and flow (m^3/s) over `waves.times`, named as `network.curves` names them."""
    into, names = waves.into(), outlet_names(traced.tree)
    found = {"inlet": (into.pressure, into.flow)}
    for index, node in traced.leaves.items():
        out = waves.out(node)
        found[names[index]] = (out.pressure, out.flow)
    for lesion, places in traced.stations.items():
        for side, place in zip(("proximal", "distal"), places, strict=True):
            here = waves.at(place.vessel, place.part)
            found[f"{lesion}_{side}"] = (here.pressure, here.flow)
    return found


def results(traced: Traced, waves: Waves) -> Results:
    """Clinical numbers of lesions and regions, named as `network.results` names them.

    Wall shear is that of the velocity profile, (order + 2) mu |U| / r. Pressure of a region also has its systolic and
    diastolic value (mmHg), mean over length.
    """
    names = [b.name for b in traced.tree.branches]
    return {"lesions": {x.id: _lesion(traced, waves, x) for x in traced.lesions},
            "regions": {n: _region(traced, waves, n) for n in dict.fromkeys(names) if _vessels(traced, n)}}


def _lesion(traced: Traced, waves: Waves, lesion: Lesion) -> dict[str, dict[str, float]]:
    proximal, distal = (waves.at(x.vessel, x.part) for x in traced.stations[lesion.id])
    drop = (proximal.pressure - distal.pressure) / MMHG
    return {"pressure_drop": {"mean": float(drop.mean()), "peak": float(drop.max())},
            "distal_to_proximal_ratio": {"mean": float(distal.pressure.mean() / waves.into().pressure.mean())},
            "velocity": {"peak": float(distal.flow.max() / (lesion.minimal_area * MM**2))}}


def _vessels(traced: Traced, name: str) -> list[int]:
    return [k for k, x in enumerate(traced.stretches) if traced.tree.branches[x.branch].name == name]


def _region(traced: Traced, waves: Waves, name: str) -> dict[str, dict[str, float]]:
    network = traced.network
    force, wall, length, sums = 0.0, 0.0, 0.0, np.zeros(3)
    for k in _vessels(traced, name):
        here = waves.vessel == k
        along, s = waves.along(network.vessels[k].name), waves.distance[here]
        radius = np.sqrt(waves.area[:, here] / np.pi)
        shear = (network.profile + 2) * network.fluid.viscosity * np.abs(waves.flow[:, here]) / (np.pi * radius**3)
        wall += float(np.trapezoid(2 * np.pi * radius.mean(axis=0), s))
        force += float(np.trapezoid((2 * np.pi * radius * shear).mean(axis=0), s))
        length += float(s[-1])
        sums += [np.trapezoid(p, s) for p in (along.mean, along.systolic, along.diastolic)]
    mean, systolic, diastolic = (sums / length / MMHG).tolist()
    return {"tawss": {"mean": force / wall},
            "pressure": {"mean": mean, "systolic": systolic, "diastolic": diastolic}} | drop_to_outlets(
                traced.tree, name, waves.into().pressure,
                {i: waves.out(node).pressure for i, node in traced.leaves.items()})
