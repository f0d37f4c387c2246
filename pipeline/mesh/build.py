"""One lumen to one mesh of the density asked for, or of the nearest that can be made, by the first way that works."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from pipeline.mesh import child
from solvers.errors import DidNotConverge
from solvers.geometry import layers as growing
from solvers.geometry import lumen_mesh, lumen_wall, shortening, sizing
from solvers.geometry.centrelines import Tree
from solvers.geometry.intersections import crossing_triangles
from solvers.geometry.layers import Layering, Layers
from solvers.geometry.lumen_mesh import Hull, LumenMesh
from solvers.geometry.lumen_wall import Extending, OpenLumen, Wall
from solvers.geometry.shortening import Shortening
from solvers.geometry.sizing import Sizing
from solvers.geometry.surface import Surface
from solvers.geometry.tetrahedra import eased, scaled_jacobians, volumes
from solvers.geometry.triangles import rounded, untangled

RAISES = (1.0, 1.04, 1.1, 1.17)
"""Densities that are tried, over the one asked for: other triangles, then smaller ones, where these cut each other or
cells are flat. The last one leaves a mesh of two thirds of a density distinctly coarser than one of the density."""
EASED = 2.0
"""Cells of the core that are flatter than this many times the gate are worked on."""
ROOM = 0.75
"""Part of the greatest number of cells that is aimed at where the density asked for would give more."""


@dataclass(frozen=True)
class Gates:
    """least_jacobian: of the flattest cell of the core, scaled; in_layers: the same where cells are meant to be flat;
    most_change: of the vessel's volume, relative."""

    least_jacobian: float = 0.05
    in_layers: float = 0.01
    most_change: float = 0.01


@dataclass(frozen=True)
class Plan:
    """What is asked for. across: cells over a healthy diameter; max_tets: the mesh has at most so many; gates: what
    every mesh must pass; core: edge length in the core over that at the wall; stretch: how much longer than wide cells
    are along calm vessels; methods: ways to fill the core, in order; least_across: where max_tets would leave fewer
    cells over a diameter, there are fewer layers instead."""

    across: float
    max_tets: int
    layering: Layering | None
    extending: Extending
    limits: child.Limits
    gates: Gates
    methods: tuple[str, ...] = ("netgen", "netgen_advancing")
    core: float = 1.5
    stretch: float = 2.0
    least_across: float = 2.9


@dataclass(frozen=True)
class Made:
    """The mesh and how it was made. across: cells over a healthy diameter; thinned: part of the wall whose layers are
    thinner than asked for; crossings: triangles of the wall that cut others; change: of the vessel's volume, relative;
    shortest: extension, in diameters."""

    mesh: LumenMesh
    n_layers: int
    across: float
    thinned: float
    method: str
    crossings: int
    change: float
    shortest: float


@dataclass(frozen=True)
class Failure:
    """Why there is no mesh. in_core: the wall was good, so that another mesher may fill it."""

    why: str
    in_core: bool = False

    @property
    def is_slow(self) -> bool:
        return child.OUT_OF_TIME in self.why


@dataclass(frozen=True)
class Way:
    """One way to make the mesh: by which mesher, with which layers, how much longer than wide cells may be, at which
    densities over the one asked for."""

    method: str
    layering: Layering | None
    stretch: float
    raises: tuple[float, ...] = RAISES

    @property
    def n_layers(self) -> int:
        return 0 if self.layering is None else self.layering.n

    def __str__(self) -> str:
        return f"mmg+{self.method}, {self.n_layers} layers, stretch {self.stretch:g}"


def build(lumen: OpenLumen, tree: Tree, plan: Plan) -> Made:
    """A mesh of the density asked for that passes the gates, by the first way that works.

    Where this density cannot be meshed a somewhat higher one is tried, and a lower one where there would be more
    than `max_tets` cells; `method` says so.
    """
    failed: list[Failure] = []
    for way in _ways(lumen, tree, plan):
        if way.method != plan.methods[0] and not any(f.in_core and not f.is_slow for f in failed):
            continue  # it fills the core, and would meet the same wall
        made, failures = _search(lumen, tree, plan, way)
        failed += failures
        if made is not None:
            return replace(made, method="; ".join([str(way), *_changed(made.across, plan), *_reasons(failed)]))
    raise DidNotConverge("no_mesh", f"No way gave a mesh: {'; '.join(_reasons(failed)) or 'it has no room'}",
                         f"about {plan.across:g} cells across and at most {plan.max_tets} tetrahedra",
                         "Try other mesh.cells_across, or look at the surface for folds and for vessels that touch.")


def _reasons(failed: list[Failure]) -> list[str]:
    return list(dict.fromkeys(f.why for f in failed))


def _changed(across: float, plan: Plan) -> list[str]:
    """What is to be told of the density, when it is not the one asked for."""
    if np.isclose(across, plan.across):
        return []
    why = f"to have at most {plan.max_tets} tetrahedra" if across < plan.across else "as the one asked for failed"
    return [f"{across:.2f} instead of {plan.across:g} cells across, {why}"]


def _ways(lumen: OpenLumen, tree: Tree, plan: Plan) -> Iterator[Way]:
    """With the layers asked for, or fewer; without, by each mesher; at last without long cells."""
    first, *others = plan.methods
    for n in range(0 if plan.layering is None else plan.layering.n, 0, -1):
        way = Way(first, plan.layering.with_fewer(n) if plan.layering else None, plan.stretch, RAISES[::2])
        if _affordable(lumen, tree, plan, way) >= min(plan.least_across, plan.across):
            yield way
    yield Way(first, None, plan.stretch)
    yield from (Way(method, None, plan.stretch, RAISES[:1]) for method in others)
    yield Way(first, None, 1.0, RAISES[::2])


def _search(lumen: OpenLumen, tree: Tree, plan: Plan, way: Way) -> tuple[Made | None, list[Failure]]:
    """The mesh of the density asked for, or of one near to it; and what failed before."""
    short = shortening.shortened(tree, way.stretch, Sizing().window)
    across = _affordable(lumen, tree, plan, way)
    failed: list[Failure] = []
    for factor in way.raises:
        made, failure, used = _lowered(lumen, tree, plan, way, short, across * factor)
        if failure is None:
            return made, failed
        failed.append(replace(failure, why=f"{way} failed at {used:.2f} across: {failure.why}"))
        if failure.is_slow:
            break
        across = used / factor
    return None, failed


def _lowered(lumen: OpenLumen, tree: Tree, plan: Plan, way: Way, short: Shortening, across: float
             ) -> tuple[Made | None, Failure | None, float]:
    """As `_attempt`, at a lower density where this one gives more cells than allowed; and the density."""
    tried: list[tuple[float, int]] = []
    for _ in range(4):
        made, failure = _attempt(lumen, tree, plan, way, short, across)
        n = 0 if made is None else len(made.mesh.tets)
        if n <= plan.max_tets:
            return made, failure, across
        tried.append((across, n))
        across *= (0.92 * plan.max_tets / n) ** (1 / _power(tried))
    return None, Failure(f"it has {tried[-1][1]} tetrahedra"), tried[-1][0]


def _power(tried: list[tuple[float, int]]) -> float:
    """By which power of the density the number of cells grows, from the last two attempts."""
    if len(tried) < 2 or tried[-1][0] == tried[-2][0]:
        return 2.4
    (a, n), (b, m) = tried[-2:]
    return float(np.clip(np.log(m / n) / np.log(b / a), 1.5, 4.0))


def _affordable(lumen: OpenLumen, tree: Tree, plan: Plan, way: Way) -> float:
    """Cells over a healthy diameter: as asked for, or fewer where more than `max_tets` tetrahedra are expected."""
    length = sum(plan.extending.length(end) / (2 * end.radius) for end in lumen.ends) / way.stretch
    factor = shortening.shortened(tree, way.stretch, Sizing().window).factor

    def expected(across: float) -> float:
        return sizing.expected_tets(tree, Sizing().with_across(across), length, way.n_layers, factor)

    if expected(plan.across) <= plan.max_tets:
        return plan.across
    low, high = 0.05 * plan.across, plan.across
    for _ in range(30):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if expected(middle) < ROOM * plan.max_tets else (low, middle)
    return low


def _attempt(lumen: OpenLumen, tree: Tree, plan: Plan, way: Way, short: Shortening,
             across: float) -> tuple[Made | None, Failure | None]:
    """A mesh of this density, and why it cannot be used, or why there is none."""
    wanted = Sizing().with_across(across)
    wall, why = _wall(lumen, tree, plan, wanted, way, short)
    if wall is None:
        return None, Failure(why)
    crossings = int(crossing_triangles(wall.surface).sum())
    if crossings:
        return None, Failure(f"{crossings} triangles of the wall cut others")
    change = wall.volume / lumen.volume - 1
    if abs(change) > plan.gates.most_change:
        return None, Failure(f"the lumen's volume changed by {100 * change:.2f} %")
    mesh, thinned, why = _fill(wall, tree, plan, wanted, way)
    if mesh is None:
        return None, Failure(why, in_core=True)
    shortest = min(length / (2 * end.radius) for end, length in zip(wall.ends, wall.lengths, strict=True))
    made = Made(mesh, way.n_layers, across, thinned, "", crossings, change, shortest)
    why = fault(made, plan.gates)
    return made, Failure(why, in_core=True) if why else None


def fault(made: Made, gates: Gates) -> str:
    """Why a solver could not use the mesh, or nothing."""
    mesh, shape = made.mesh, scaled_jacobians(made.mesh.points, made.mesh.tets)
    n_flat = 3 * made.n_layers * len(mesh.triangles_of(lumen_mesh.WALL))
    worst = float(shape[n_flat:].min()), float(shape[:n_flat].min(initial=1.0))
    if min(worst) <= 0:
        return f"{int((shape <= 0).sum())} cells are inverted"
    if worst[0] < gates.least_jacobian or worst[1] < gates.in_layers:
        return f"the flattest cells have scaled Jacobians of {worst[0]:.3f} (core) and {worst[1]:.3f} (layers)"
    stuck = int(np.isin(mesh.tets, mesh.triangles_of(lumen_mesh.WALL)).all(axis=1).sum())
    return f"{stuck} cells have all their corners on the wall" if stuck else ""


def _wall(lumen: OpenLumen, tree: Tree, plan: Plan, wanted: Sizing, way: Way, short: Shortening
          ) -> tuple[Wall | None, str]:
    """The vessel's surface in triangles of the size wanted, on the segmented surface, with extensions."""
    cut = lumen.surface
    station = sizing.locate(cut.points, tree)
    moved = cut.but(points=short.applied(cut.points, station))
    size = sizing.edge_lengths(station, tree, wanted)
    made, why = child.call("mmg_surface", plan.limits, points=moved.points, triangles=cut.triangles, size=size,
                           hausd=float(size.max()), hgrad=1.3)
    if made is None:
        return None, why
    rough = Surface(made["points"], made["triangles"].astype(np.int64))
    vessel = lumen_wall.pulled_back(rough, moved, cut)
    for _ in range(2):
        vessel = lumen_wall.fitted(rounded(vessel), cut, lumen.ends)
    vessel = untangled(rounded(untangled(vessel)))
    return lumen_wall.extended(vessel, lumen.ends, tree, replace(plan.extending, stretch=way.stretch)), ""


def _fill(wall: Wall, tree: Tree, plan: Plan, wanted: Sizing, way: Way) -> tuple[LumenMesh | None, float, str]:
    """The mesh or why not; the part of the wall with thinned layers."""
    skin: Layers | None = None
    if way.layering is not None:
        thickness = way.layering.thickness(wall.surface, wall.radius)
        skin = growing.grow(wall.surface, list(wall.rims), thickness, way.layering)
        if skin is None:
            return None, 0.0, "they do not fit"
    hull = lumen_mesh.hull(wall, wall.surface if skin is None else skin.inner, _cap_edges(wall))
    core, why = _core(hull, tree, plan, wanted, way)
    if core is None:
        return None, 0.0, why
    try:
        return lumen_mesh.assemble(wall, skin, hull, *core), 0.0 if skin is None else skin.thinned, ""
    except DidNotConverge as error:
        return None, 0.0, str(error)


def _core(hull: Hull, tree: Tree, plan: Plan, wanted: Sizing, way: Way
          ) -> tuple[tuple[np.ndarray, np.ndarray] | None, str]:
    """Points (the hull's come first) and tetrahedra inside the hull: Netgen fills it, MMG makes the cells regular."""
    surface = hull.surface
    sites, size = _sites(tree, wanted, plan.core)
    made, why = child.call("netgen", plan.limits, points=surface.points, triangles=surface.triangles, sites=sites,
                           size=size, grading=0.4, optimise=0, delaunay=way.method == "netgen")
    if made is None:
        return None, why
    points, tets = made["points"], _turned(made["points"], made["tets"])
    if len(tets) == 0 or not _starts_with(points, surface.points):
        return None, "netgen moved the surface"
    size = _core_sizes(points, hull, tree, wanted, plan.core)
    made, why = child.call("mmg_volume", plan.limits, points=points, tets=tets, triangles=surface.triangles, size=size,
                           hgrad=1.5)
    if made is None:
        return None, why
    if not _starts_with(made["points"], surface.points):
        return None, "MMG moved the surface"
    points, tets = made["points"], made["tets"].astype(np.int64)
    inside = np.arange(len(points)) >= len(surface.points)
    return (eased(points, tets, inside, EASED * plan.gates.least_jacobian), tets), ""


def _starts_with(points: np.ndarray, first: np.ndarray) -> bool:
    return len(points) >= len(first) and np.allclose(points[:len(first)], first, atol=1e-9)


def _core_sizes(points: np.ndarray, hull: Hull, tree: Tree, wanted: Sizing, core: float) -> np.ndarray:
    """Edge lengths (n,) at points inside the hull, mm: those of the wall, and `core` times as long in the middle."""
    station = sizing.locate(points, tree)
    depth = cKDTree(hull.surface.points[:hull.skin]).query(points)[0] / station.radius
    return sizing.edge_lengths(station, tree, wanted) * (1 + (core - 1) * np.clip(depth, 0, 1))


def _turned(points: np.ndarray, tets: np.ndarray) -> np.ndarray:
    """Tetrahedra with positive volume where most are negative."""
    return tets if (volumes(points, tets) > 0).mean() > 0.5 else tets[:, [0, 2, 1, 3]]


def _cap_edges(wall: Wall) -> list[float]:
    """The mean edge of each rim, mm."""
    rims = [wall.surface.points[rim.points] for rim in wall.rims]
    return [float(np.linalg.norm(np.roll(p, -1, axis=0) - p, axis=1).mean()) for p in rims]


def _sites(tree: Tree, wanted: Sizing, core: float) -> tuple[np.ndarray, np.ndarray]:
    """Places on the centrelines (k, 3), and the edge length wanted there (k,), mm."""
    places, sizes = [], []
    for branch in tree.branches:
        s, h = sizing.along(branch, wanted)
        places.append(sizing.sampled(branch)[1][::4])
        sizes.append(core * h[::4])
    return np.vstack(places), np.concatenate(sizes)
