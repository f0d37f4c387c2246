"""From centrelines to a circuit, and from its flow to clinical numbers.

Each branch becomes segments between the places that matter: its ends, where
other branches leave it, and the stations of its lesions. A segment resists by
Poiseuille's law on the areas along it and has the inertia of its blood; walls
are rigid, as in the 3D model. A lesion loses what steady flow through its own
shape loses between its stations (`lesion_flow`). Left out: elsewhere, the
kinetic part of the pressure, and losses at junctions, both a fraction of a
millimetre of mercury in arteries at rest; what pressure still comes back beyond
a lesion's distal station; and that in a beat velocity profiles lag.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from solvers.errors import BadInput
from solvers.flow import circuit as circuits
from solvers.flow import lesion_flow
from solvers.flow.circuit import Circuit, Numerics, Periodic, Segment
from solvers.flow.lesion_flow import Fluid, Loss
from solvers.flow.pulse import Pulse
from solvers.flow.windkessel import Windkessel
from solvers.geometry.centrelines import Branch, Lesion, Tree
from solvers.units import MMHG

SOURCES = lesion_flow.SOURCES

UPSTREAM, DOWNSTREAM = 1.0, 2.0
"""Stations lie this many reference diameters before and behind a lesion (pressure recovers behind it)."""
MM = 1e-3

Edge = Literal["area", "area_inner", "area_outer"]
CONTOURS: dict[str, Edge] = {"nominal": "area", "inner": "area_inner", "outer": "area_outer"}
"""Names of the lumen's contours: as seen, and one standard deviation of its edge inside and outside."""
Results = dict[str, dict[str, dict[str, dict[str, float]]]]
"""{lesions, regions}.<id>.<measure>.<statistic>."""


@dataclass(frozen=True)
class Stations:
    """Where pressures beside a lesion are read, mm along the lesion's own branch."""

    proximal_abscissa: float
    distal_abscissa: float
    throat_abscissa: float


@dataclass(frozen=True)
class Stretch:
    """A segment's place: branch, and from where to where along it (mm). Its number is the segment's."""

    branch: int
    start: float
    end: float


@dataclass(frozen=True)
class Network:
    """A circuit and what its parts are.

    stretches: one per segment. leaves: branch index to node of the outlet.
    stations: lesion id to (proximal node, distal node). filled: branch name to
    length (mm) whose area was not measured and was interpolated along the
    branch, most of it inside junctions.
    """

    circuit: Circuit
    tree: Tree
    lesions: tuple[Lesion, ...]
    fluid: Fluid
    which: Edge
    stretches: tuple[Stretch, ...]
    leaves: Mapping[int, str]
    stations: Mapping[str, tuple[str, str]]
    losses: Mapping[str, Loss]
    filled: Mapping[str, float]


def build(tree: Tree, fluid: Fluid, lesions: Sequence[Lesion], which: Edge = "area",
          outlets: Mapping[int, Windkessel] | None = None) -> Network:
    """The network of a tree (mm) on one of its three contours, with a Windkessel per leaf (branch index).

    Without `outlets` each leaf ends in a small resistance, for a look at the vessel alone.
    Raises BadInput `outlets_differ` when the outlets are not the leaves.
    """
    beds = dict.fromkeys(tree.leaves, Windkessel(0.0, 1e6, 0.0)) if outlets is None else dict(outlets)
    if set(beds) != set(tree.leaves):
        raise BadInput("outlets_differ", f"outlets are given for branches {sorted(beds)}",
                       f"one for each leaf: {sorted(tree.leaves)}")
    attached = {i: _attachment(tree, i) for i in range(len(tree.branches)) if i != tree.root}
    marks = [_marks(tree, i, attached, lesions) for i in range(len(tree.branches))]
    losses = {x.id: stenosis_of(tree, x, fluid, which, lesions) for x in lesions}
    segments, stretches = [], []
    for i, places in enumerate(marks):
        nodes = _nodes(tree, i, places, attached, marks)
        for (a, b), (first, last) in zip(_pairs(places.tolist()), _pairs(nodes), strict=True):
            segments.append(_segment(tree, i, a, b, (first, last), fluid, which, lesions, losses))
            stretches.append(Stretch(i, a, b))
    leaves = {i: _name(i, len(marks[i]) - 1) for i in tree.leaves}
    circuit = Circuit(tuple(segments), _name(tree.root, 0), {leaves[i]: beds[i] for i in tree.leaves})
    at = {x.id: _station_nodes(tree, x, marks) for x in lesions}
    return Network(circuit, tree, tuple(lesions), fluid, which, tuple(stretches), leaves, at, losses,
                   _filled(tree, which))


def stations(tree: Tree, lesion: Lesion) -> Stations:
    """One reference diameter before and two behind the lesion, where the branch has a cross-section.

    A place beyond the measured stretch of the branch (its end, or inside a
    junction) or in a gap of it becomes the nearest measured place that is not
    inside the lesion; where the lesion reaches to the end of what was
    measured, its own end.
    """
    branch = tree.branches[lesion.branch]
    d = lesion.reference_diameter
    return Stations(_outside(branch, lesion.start - UPSTREAM * d, -np.inf, lesion.start),
                    _outside(branch, lesion.end + DOWNSTREAM * d, lesion.end, np.inf), lesion.abscissa)


def _outside(branch: Branch, wanted: float, low: float, high: float) -> float:
    """`wanted` where sections were cut on both sides of it, else the nearest cut one in [low, high]."""
    s, cut = branch.abscissa, np.isfinite(branch.area)
    k = int(np.searchsorted(s, wanted))
    if 0 < k < len(s) and cut[k - 1] and cut[k]:
        return float(wanted)
    places = s[cut & (s >= low - 1e-6) & (s <= high + 1e-6)]
    if not len(places):
        return float(np.clip(high if np.isfinite(high) else low, 0.0, s[-1]))
    return float(places[np.abs(places - wanted).argmin()])


def stenosis_of(tree: Tree, lesion: Lesion, fluid: Fluid, which: Edge = "area", lesions: Sequence[Lesion] = ()) -> Loss:
    """Loss of a lesion, in place of Poiseuille's from its start to its end.

    So much that, with Poiseuille's loss outside, static pressure falls between
    its stations by what `lesion_flow` finds in the round vessel of the
    contour's areas. Flow is followed no further than into the next of `lesions`.
    """
    start, end = _followed(tree, lesion, lesions)
    s, area = _profile(tree.branches[lesion.branch], which, np.r_[start, lesion.start, lesion.end, end])
    whole = (s >= start - 1e-9) & (s <= end + 1e-9)
    found = lesion_flow.loss(s[whole] * MM, np.sqrt(area[whole] / np.pi) * MM, fluid)
    outside = sum(_poiseuille(s[part], area[part], fluid) for part in (whole & (s <= lesion.start + 1e-9),
                                                                       whole & (s >= lesion.end - 1e-9)))
    return Loss(max(found.linear - outside, 0.0), found.quadratic)


def _followed(tree: Tree, lesion: Lesion, lesions: Sequence[Lesion]) -> tuple[float, float]:
    """The lesion's stations, or the nearest ends of its neighbours between them, mm along the branch."""
    at, mine = stations(tree, lesion), [x for x in lesions if x.branch == lesion.branch and x.id != lesion.id]
    before = [x.end for x in mine if x.end <= lesion.start + 1e-6]
    behind = [x.start for x in mine if x.start >= lesion.end - 1e-6]
    return min(max([at.proximal_abscissa, *before]), lesion.start), max(min([at.distal_abscissa, *behind]), lesion.end)


def _poiseuille(s: np.ndarray, area: np.ndarray, fluid: Fluid) -> float:
    """Resistance of round sections (mm, mm^2), Pa s/m^3."""
    return float(8 * np.pi * fluid.viscosity * np.trapezoid(1 / area**2, s) / MM**3)


def _profile(branch: Branch, which: Edge, extra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Abscissae with `extra` among them, and areas there (mm^2); gaps filled along the branch by radius."""
    s, area = branch.abscissa, np.asarray(getattr(branch, which), float)
    known = np.isfinite(area)
    if not (area[known] > 0).all():
        raise BadInput("lumen_closed", f"{branch.name} has no lumen on the contour {which}", "areas above zero",
                       "Look at the lumen's edge there.")
    radius = np.interp(s, s[known], np.sqrt(area[known] / np.pi)) if known.any() else branch.radius
    places = np.unique(np.r_[s, extra])
    return places, np.pi * np.interp(places, s, radius) ** 2


def _attachment(tree: Tree, index: int) -> float:
    """Where a branch leaves its parent, mm along the parent."""
    parent = tree.branches[tree.branches[index].parent]
    points, s, start = parent.points, parent.abscissa, tree.branches[index].points[0]
    step = np.diff(points, axis=0)
    part = np.clip(((start - points[:-1]) * step).sum(1) / np.maximum((step * step).sum(1), 1e-12), 0, 1)
    gap = np.linalg.norm(points[:-1] + part[:, None] * step - start, axis=1)
    k = int(gap.argmin())
    place = float(s[k] + part[k] * (s[k + 1] - s[k]))
    near = float(tree.branches[index].radius[0])
    return 0.0 if place < min(near, 1.0) else parent.length if place > parent.length - min(near, 1.0) else place


def _marks(tree: Tree, index: int, attached: Mapping[int, float], lesions: Sequence[Lesion]) -> np.ndarray:
    """Ends, junctions and stations along a branch, mm, ascending, apart by more than a thousandth."""
    branch = tree.branches[index]
    places = [0.0, branch.length] + [attached[c] for c in tree.children(index)]
    for lesion in (x for x in lesions if x.branch == index):
        at = stations(tree, lesion)
        places += [at.proximal_abscissa, at.distal_abscissa]
    found = np.unique(np.clip(places, 0.0, branch.length))
    keep = np.r_[True, np.diff(found) > 1e-3]
    found = found[keep]
    found[-1] = branch.length
    return found


def _nodes(tree: Tree, index: int, places: np.ndarray, attached: Mapping[int, float],
           marks: Sequence[np.ndarray]) -> list[str]:
    """Names of the nodes at a branch's marks; the first is the parent's where it leaves it."""
    names = [_name(index, k) for k in range(len(places))]
    parent = tree.branches[index].parent
    if parent >= 0:
        at = int(np.abs(marks[parent] - attached[index]).argmin())
        names[0] = _nodes(tree, parent, marks[parent], attached, marks)[at]
    return names


def _name(index: int, mark: int) -> str:
    return f"{index}.{mark}"


def _pairs[T](items: Sequence[T]) -> list[tuple[T, T]]:
    return list(zip(items[:-1], items[1:], strict=True))


def _segment(tree: Tree, index: int, a: float, b: float, nodes: tuple[str, str], fluid: Fluid, which: Edge,
             lesions: Sequence[Lesion], losses: Mapping[str, Loss]) -> Segment:
    """Poiseuille's loss outside lesions, theirs inside; a mark inside a lesion shares its loss by length."""
    mine = [x for x in lesions if x.branch == index]
    extra = np.clip([a, b] + [e for x in mine for e in (x.start, x.end, x.abscissa)], 0, tree.branches[index].length)
    s, area = _profile(tree.branches[index], which, extra)
    here = (s >= a) & (s <= b)
    s, area = s[here], area[here]
    middle = 0.5 * (s[1:] + s[:-1])
    free = np.ones(len(middle), bool)
    for x in mine:
        free &= (middle < x.start) | (middle > x.end)
    cells = 0.5 * (1 / area[1:] ** 2 + 1 / area[:-1] ** 2) * np.diff(s)
    linear = 8 * np.pi * fluid.viscosity * cells[free].sum() / MM**3
    parts = {x.id: max(0.0, min(b, x.end) - max(a, x.start)) / max(x.end - x.start, 1e-9) for x in mine}
    return Segment(*nodes, float(linear + sum(part * losses[i].linear for i, part in parts.items())),
                   float(sum(part * losses[i].quadratic for i, part in parts.items())),
                   float(fluid.density * np.trapezoid(1 / area, s) / MM))


def _station_nodes(tree: Tree, lesion: Lesion, marks: Sequence[np.ndarray]) -> tuple[str, str]:
    at, places = stations(tree, lesion), marks[lesion.branch]
    ends = [int(np.abs(places - x).argmin()) for x in (at.proximal_abscissa, at.distal_abscissa)]
    return _name(lesion.branch, ends[0]), _name(lesion.branch, ends[1])


def _filled(tree: Tree, which: Edge) -> dict[str, float]:
    """Length of each branch's unmeasured stretch, mm, summed by name."""
    found: dict[str, float] = {}
    for b in tree.branches:
        unknown = ~np.isfinite(getattr(b, which))
        weight = np.gradient(b.abscissa)
        found[b.name] = found.get(b.name, 0.0) + float(weight[unknown].sum())
    return found


# What is read off


def results(network: Network, periodic: Periodic) -> Results:
    """Clinical numbers of lesions and regions: {lesions, regions}.<id>.<measure>.<statistic>.

    Of a lesion: pressure_drop (mmHg), proximal minus distal station, mean and
    largest over the cycle; distal_to_proximal_ratio, mean pressure at the
    distal station over the mean at the inlet; velocity (m/s), the largest flow
    over the least area. Of a region (branches of one
    name): tawss (Pa), the mean over wall and cycle of 4 mu |q| / (pi r^3);
    pressure (mmHg), mean over length and cycle; where it ends in outlets
    pressure_drop_to_outlet (mmHg), mean from the inlet to these.
    """
    return {"lesions": {i: _lesion_results(network, periodic, i) for i in network.stations},
            "regions": {name: _region_results(network, periodic, name)
                        for name in dict.fromkeys(b.name for b in network.tree.branches)}}


def on_contours(tree: Tree, fluid: Fluid, lesions: Sequence[Lesion], outlets: Mapping[int, Windkessel], wave: Pulse,
                numerics: Numerics = Numerics()) -> dict[str, tuple[Network, Periodic]]:
    """Network and beat on each of CONTOURS, with the same outlets and inflow on all (nothing is tuned again)."""
    networks = {name: build(tree, fluid, lesions, which, outlets) for name, which in CONTOURS.items()}
    return {name: (n, circuits.solve(n.circuit, wave, numerics)) for name, n in networks.items()}


def _lesion_results(network: Network, periodic: Periodic, lesion: str) -> dict[str, dict[str, float]]:
    proximal, distal = (periodic.at(node) for node in network.stations[lesion])
    drop = (proximal - distal) / MMHG
    inlet = periodic.at(network.circuit.inlet).mean()
    return {"pressure_drop": {"mean": float(drop.mean()), "peak": float(drop.max())},
            "distal_to_proximal_ratio": {"mean": float(distal.mean() / inlet)},
            "velocity": {"peak": _peak_velocity(network, periodic, lesion)}}


def _peak_velocity(network: Network, periodic: Periodic, lesion: str) -> float:
    found = next(x for x in network.lesions if x.id == lesion)
    branch = network.tree.branches[found.branch]
    s, area = _profile(branch, network.which, np.array([found.start, found.abscissa, found.end]))
    least = area[(s >= found.start) & (s <= found.end)].min() * MM**2
    return float(_through(periodic, network.stations[lesion][1]).max() / least)


def _region_results(network: Network, periodic: Periodic, name: str) -> dict[str, dict[str, float]]:
    parts = [_on_stretch(network, periodic, j) for j, x in enumerate(network.stretches)
             if network.tree.branches[x.branch].name == name]
    shear, wall, pressure, length = (np.array(p) for p in zip(*parts, strict=True))
    return {"tawss": {"mean": float((shear * wall).sum() / wall.sum())},
            "pressure": {"mean": float((pressure * length).sum() / length.sum() / MMHG)}} | drop_to_outlets(
                network.tree, name, periodic.at(network.circuit.inlet),
                {i: periodic.at(node) for i, node in network.leaves.items()})


def drop_to_outlets(tree: Tree, name: str, inlet: np.ndarray, outlets: Mapping[int, np.ndarray]
                    ) -> dict[str, dict[str, float]]:
    """From pressure (t,) Pa at the inlet and by leaf at its outlet: mean drop (mmHg) to the outlets of the branches of
    this name; empty for one that ends in none."""
    drops = [float((inlet - p).mean()) / MMHG for i, p in outlets.items() if tree.branches[i].name == name]
    return {"pressure_drop_to_outlet": {"mean": float(np.mean(drops))}} if drops else {}


def _on_stretch(network: Network, periodic: Periodic, j: int) -> tuple[float, float, float, float]:
    """Mean shear (Pa), wall (m^2), mean pressure (Pa) and length (m) of a segment."""
    x = network.stretches[j]
    s, area = _profile(network.tree.branches[x.branch], network.which, np.array([x.start, x.end]))
    here = (s >= x.start) & (s <= x.end)
    s, r = s[here] * MM, np.sqrt(area[here] / np.pi) * MM
    wall = float(np.trapezoid(2 * np.pi * r, s))
    flow = float(np.abs(periodic.flow[:, j]).mean())
    force = np.trapezoid(2 * np.pi * r * 4 * network.fluid.viscosity * flow / (np.pi * r**3), s)
    segment = network.circuit.segments[j]
    pressure = 0.5 * (periodic.at(segment.start).mean() + periodic.at(segment.end).mean())
    return float(force / wall), wall, float(pressure), float(s[-1] - s[0])


def curves(network: Network, periodic: Periodic) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pressure (Pa) and flow (m^3/s) over `periodic.times` at `inlet`, at each outlet and at lesions' stations.

    An outlet is called by its branch's name (with its index where two share one); stations are `<id>_proximal` and
    `<id>_distal`. Flow is downstream.
    """
    found = {"inlet": (periodic.at(network.circuit.inlet), periodic.inflow)}
    names = outlet_names(network.tree)
    for index, node in network.leaves.items():
        found[names[index]] = (periodic.at(node), periodic.out(node))
    for lesion, nodes in network.stations.items():
        for side, node in zip(("proximal", "distal"), nodes, strict=True):
            found[f"{lesion}_{side}"] = (periodic.at(node), _through(periodic, node))
    return found


def outlet_names(tree: Tree) -> dict[int, str]:
    """Leaf index to a name of its own."""
    names = [tree.branches[i].name for i in tree.leaves]
    return {i: n if names.count(n) == 1 else f"{n}_{i}" for i, n in zip(tree.leaves, names, strict=True)}


def _through(periodic: Periodic, node: str) -> np.ndarray:
    """Flow that arrives at a node from upstream, m^3/s; from the inflow at the inlet."""
    into = [j for j, s in enumerate(periodic.circuit.segments) if s.end == node]
    return periodic.flow[:, into].sum(axis=1) if into else periodic.inflow
