"""One lumen to one mesh: the wall's density is chosen so that the number of tetrahedra asked for comes out."""

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
from solvers.geometry.tetrahedra import scaled_jacobians, volumes
from solvers.geometry.triangles import rounded, untangled

AIM = (0.80, 1.0)
"""The number of tetrahedra may be this part of the greatest one."""


@dataclass(frozen=True)
class Gates:
    """least_jacobian: of the flattest cell of the core, scaled; in_layers: the same where cells are meant to be flat;
    most_change: of the vessel's volume, relative."""

    least_jacobian: float = 0.05
    in_layers: float = 0.01
    most_change: float = 0.01


@dataclass(frozen=True)
class Plan:
    """What is asked for. max_tets: the mesh has at most so many; gates: what every mesh must pass; core: edge length
    in the core over that at the wall; stretch: how much longer than wide cells are along calm vessels; methods: ways
    to fill the core, in order; least_across: cells over a diameter without which there is no room for layers."""

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
    """The mesh, the wall it has, and how it was made. crossings: triangles of the wall that cut others."""

    mesh: LumenMesh
    wall: Wall
    n_layers: int
    thinned: float
    method: str
    crossings: int


@dataclass(frozen=True)
class Way:
    """One way to make the mesh: by which mesher, with which layers, how much longer than wide cells may be."""

    method: str
    layering: Layering | None
    stretch: float

    @property
    def n_layers(self) -> int:
        return 0 if self.layering is None else self.layering.n

    def __str__(self) -> str:
        return f"mmg+{self.method}, {self.n_layers} layers, stretch {self.stretch:g}"


def build(lumen: OpenLumen, tree: Tree, plan: Plan) -> Made:
    """The finest mesh found that has at most `max_tets` and passes the gates, by the first way that works."""
    failed: list[str] = []
    best: Made | None = None
    for way in _ways(lumen, tree, plan):
        made = _search(lumen, tree, plan, way, failed)
        if made is not None and (best is None or len(made.mesh.tets) > len(best.mesh.tets)):
            best = replace(made, method="; ".join([str(way), *dict.fromkeys(failed)]))
            if len(made.mesh.tets) >= AIM[0] * plan.max_tets:
                break
            failed.append(f"{way} gave {len(made.mesh.tets)} cells only")
    if best is not None:
        return best
    raise DidNotConverge("no_mesh", f"No way gave a mesh: {'; '.join(dict.fromkeys(failed)) or 'it has no room'}",
                         f"at most {plan.max_tets} tetrahedra",
                         "Raise mesh.max_tets, or look at the surface for folds and for vessels that touch.")


def _ways(lumen: OpenLumen, tree: Tree, plan: Plan) -> Iterator[Way]:
    """As many layers as there is room for, then fewer, then none by each mesher, at last without long cells."""
    for n in range(0 if plan.layering is None else plan.layering.n, 0, -1):
        way = Way(plan.methods[0], plan.layering.with_fewer(n) if plan.layering else None, plan.stretch)
        if _across(lumen, tree, plan, way) >= plan.least_across:
            yield way
    yield from (Way(method, None, stretch) for stretch in (plan.stretch, 1.0) for method in plan.methods)


def _across(lumen: OpenLumen, tree: Tree, plan: Plan, way: Way) -> float:
    """About how many cells over a healthy diameter there is room for."""
    return _density(lumen, tree, plan, way) * Sizing().across


def _search(lumen: OpenLumen, tree: Tree, plan: Plan, way: Way, failed: list[str]) -> Made | None:
    """The density at which the number of cells fits, in a few attempts; reasons of failure are appended."""
    short = shortening.shortened(tree, way.stretch, Sizing().window)
    density, best, tried = _density(lumen, tree, plan, way), None, []
    n_failed = 0
    for _ in range(6):
        made, why = _attempt(lumen, tree, plan, way, short, density)
        n = 0 if made is None else len(made.mesh.tets)
        if made is not None:
            tried.append((density, n))
            if not why and n <= plan.max_tets and (best is None or n > len(best.mesh.tets)):
                best = made
        if best is not None and n == len(best.mesh.tets) and n >= AIM[0] * plan.max_tets:
            return best
        if made is not None and not AIM[0] * plan.max_tets <= n <= AIM[1] * plan.max_tets:
            density *= (0.91 * plan.max_tets / n) ** (1 / _power(tried))
            continue
        failed.append(f"{way} failed: {why}")
        n_failed += 1
        if n_failed > 2:
            break
        density *= 0.97
    return best


def _power(tried: list[tuple[float, int]]) -> float:
    """By which power of the density the number of cells grows, from the last two attempts."""
    if len(tried) < 2 or tried[-1][0] == tried[-2][0]:
        return 2.4
    (a, n), (b, m) = tried[-2:]
    return float(np.clip(np.log(m / n) / np.log(b / a), 1.5, 4.0))


def _density(lumen: OpenLumen, tree: Tree, plan: Plan, way: Way) -> float:
    """The factor on the sizing at which about nine tenths of the cells are expected."""
    length = sum(plan.extending.length(end) / (2 * end.radius) for end in lumen.ends) / way.stretch
    factor = shortening.shortened(tree, way.stretch, Sizing().window).factor
    low, high = 0.05, 20.0
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        expected = sizing.expected_tets(tree, Sizing().scaled(middle), length, way.n_layers, factor)
        low, high = (middle, high) if expected < 0.9 * plan.max_tets else (low, middle)
    return low


def _attempt(lumen: OpenLumen, tree: Tree, plan: Plan, way: Way, short: Shortening,
             density: float) -> tuple[Made | None, str]:
    """A mesh of this density and what is wrong with it (nothing: it passes the gates), or why there is none."""
    wanted = Sizing().scaled(density)
    wall, why = _wall(lumen, tree, plan, wanted, way, short)
    if wall is None:
        return None, why
    crossings = int(crossing_triangles(wall.surface).sum())
    if crossings:
        return None, f"{crossings} triangles of the wall cut others"
    mesh, thinned, why = _fill(wall, tree, plan, wanted, way)
    if mesh is None:
        return None, why
    made = Made(mesh, wall, way.n_layers, thinned, "", crossings)
    return made, _fault(made, wall.volume / lumen.volume - 1, plan.gates)


def _fault(made: Made, change: float, gates: Gates) -> str:
    """Why a solver could not use the mesh, or nothing. change: relative, of the vessel's volume."""
    mesh, shape = made.mesh, scaled_jacobians(made.mesh.points, made.mesh.tets)
    n_flat = 3 * made.n_layers * len(made.wall.surface.triangles)
    worst = float(shape[n_flat:].min()), float(shape[:n_flat].min(initial=1.0))
    if min(worst) <= 0:
        return f"{int((shape <= 0).sum())} cells are inverted"
    if abs(change) > gates.most_change:
        return f"the lumen's volume changed by {100 * change:.2f} %"
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
    return (made["points"], made["tets"].astype(np.int64)), ""


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
