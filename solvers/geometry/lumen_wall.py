"""The lumen's wall as a mesh: cut open at its ends, fitted to the segmented surface, with straight extensions."""

from dataclasses import dataclass

import numpy as np
import pyvista

from solvers.errors import BadInput
from solvers.geometry import capping, layers
from solvers.geometry.capping import Circle, End
from solvers.geometry.centrelines import Tree
from solvers.geometry.intersections import crossing_triangles
from solvers.geometry.layers import Rim
from solvers.geometry.sizing import locate
from solvers.geometry.surface import Surface


@dataclass(frozen=True)
class OpenLumen:
    """The segmented surface without its closing ends, and the volume that flat caps would enclose, mm^3."""

    surface: Surface
    ends: tuple[End, ...]
    volume: float


@dataclass(frozen=True)
class Wall:
    """A mesh of the wall with extensions. radius (n,): of the lumen near each point, mm; rims and circles in the
    order of the ends; lengths: of the extensions, mm; n_vessel: points of the vessel itself, which come first;
    volume: of the vessel itself under flat caps, mm^3."""

    surface: Surface
    radius: np.ndarray
    ends: tuple[End, ...]
    rims: tuple[Rim, ...]
    circles: tuple[Circle, ...]
    lengths: tuple[float, ...]
    n_vessel: int
    volume: float


def open_ends(surface: Surface, tree: Tree) -> OpenLumen:
    """Cut square to the centreline at the inlet and at each leaf."""
    if not surface.is_closed:
        raise BadInput("surface_not_closed", "the lumen's surface has edges without two triangles",
                       "a closed surface", "Close its ends by flat caps first.")
    ends = capping.ends(surface, tree)
    cut = surface
    for end in ends:
        cut, _ = capping.cut_off(cut, end)
    cut = _main_part(cut)
    n_rims = len(capping.rims(cut.triangles))
    if n_rims != len(ends):
        raise BadInput("ends_differ", f"the cut surface has {n_rims} rims for {len(ends)} ends of the tree",
                       "one rim for each end", "Look at the centreline near short branches.")
    return OpenLumen(cut, tuple(ends), capped_volume(cut))


def _main_part(surface: Surface) -> Surface:
    """The largest connected part by area."""
    return max(surface.parts(), key=lambda part: part.area)


def capped_volume(surface: Surface) -> float:
    """Volume of an open surface with fans over its rims, mm^3."""
    return _with_fans(surface).volume


def _with_fans(surface: Surface) -> Surface:
    points, triangles = [surface.points], [surface.triangles]
    for i, rim in enumerate(capping.rims(surface.triangles)):
        points.append(surface.points[rim].mean(axis=0, keepdims=True))
        triangles.append(np.column_stack([rim, np.roll(rim, -1), np.full(len(rim), len(surface.points) + i)]))
    return Surface(np.vstack(points), np.vstack(triangles))


def fitted(mesh: Surface, target: Surface, ends: tuple[End, ...]) -> Surface:
    """`mesh`, a coarse mesh of the open surface `target`, moved onto it so that flat triangles lie half inside and
    half outside of it: a polygon through points of a circle would lose area."""
    rims = [Rim(rim, end.normal) for rim, end in _rims_of(mesh, ends)]
    finder = _Finder(target)
    points = _in_planes(finder.nearest(mesh.points)[0], rims, ends)
    for _ in range(4):
        here = mesh.but(points=points)
        shift = _mean_gap(here, finder)
        normals = layers.flattened(layers.vertex_normals(here), rims)
        points = points + shift[:, None] * normals
    return mesh.but(points=points)


def _in_planes(points: np.ndarray, rims: list[Rim], ends: tuple[End, ...]) -> np.ndarray:
    points = points.copy()
    for rim, end in zip(rims, ends, strict=True):
        points[rim.points] -= np.outer((points[rim.points] - end.centre) @ end.normal, end.normal)
    return points


class _Finder:
    """Nearest points of a surface, and how far outside a point lies."""

    def __init__(self, surface: Surface) -> None:
        self._mesh = pyvista.PolyData.from_regular_faces(surface.points, surface.triangles)
        self._normals = surface.normals / np.linalg.norm(surface.normals, axis=1, keepdims=True).clip(1e-30)

    def nearest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nearest points (n, 3), and the normal there (n, 3)."""
        cells, near = self._mesh.find_closest_cell(points, return_closest_point=True)
        return np.asarray(near, float), self._normals[cells]


_INSIDE = np.array([[4, 1, 1], [1, 4, 1], [1, 1, 4]]) / 6
"""Places in a triangle whose mean integrates quadratic functions exactly."""


def pulled_back(mesh: Surface, moved: Surface, target: Surface) -> Surface:
    """`mesh`, made on `moved`, on `target`, which has the same triangles as `moved` with its points elsewhere."""
    cells, near = pyvista.PolyData.from_regular_faces(moved.points, moved.triangles).find_closest_cell(
        mesh.points, return_closest_point=True)
    a, b, c = (moved.points[moved.triangles[cells, k]] for k in range(3))
    u, v, w = b - a, c - a, np.asarray(near, float) - a
    uu, uv, vv, wu, wv = (np.einsum("ij,ij->i", p, q) for p, q in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    area = (uu * vv - uv**2).clip(1e-30)
    share = np.stack([(vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area], axis=1)
    weight = np.column_stack([1 - share.sum(axis=1), share])
    return mesh.but(points=np.einsum("ik,ikd->id", weight, target.points[target.triangles[cells]]))


def _mean_gap(mesh: Surface, finder: _Finder) -> np.ndarray:
    """How far (n,) outside each point the target lies, as a mean over the triangles around it, mm."""
    corners = mesh.points[mesh.triangles]
    spots = np.einsum("qk,tkd->tqd", _INSIDE, corners).reshape(-1, 3)
    near, normal = finder.nearest(spots)
    facing = mesh.normals / np.linalg.norm(mesh.normals, axis=1, keepdims=True).clip(1e-30)
    way = np.repeat(facing, len(_INSIDE), axis=0)
    gap = np.einsum("ij,ij->i", near - spots, way)
    gap = np.where(np.einsum("ij,ij->i", normal, way) > 0.3, gap, 0.0).reshape(-1, len(_INSIDE)).mean(axis=1)
    area = np.linalg.norm(mesh.normals, axis=1)
    total, weight = (np.bincount(mesh.triangles.ravel(), np.repeat(v, 3), len(mesh.points)) for v in (gap * area, area))
    return total / weight.clip(1e-30)


def _rims_of(mesh: Surface, ends: tuple[End, ...]) -> list[tuple[np.ndarray, End]]:
    """For each end the rim whose middle is nearest, no rim twice."""
    free = capping.rims(mesh.triangles)
    if len(free) != len(ends):
        raise BadInput("ends_differ", f"the wall's mesh has {len(free)} rims for {len(ends)} ends", "one for each")
    found = []
    for end in ends:
        gap = [np.linalg.norm(mesh.points[rim].mean(axis=0) - end.centre) for rim in free]
        found.append((free.pop(int(np.argmin(gap))), end))
    return found


@dataclass(frozen=True)
class Extending:
    """Lengths of the extensions in diameters; stretch: their rings' distance over the rim's edge length."""

    inlet: float = 2.5
    outlet: float = 2.0
    stretch: float = 1.5

    def length(self, end: End) -> float:
        return 2 * end.radius * (self.inlet if end.role == "inlet" else self.outlet)


def extended(vessel: Surface, ends: tuple[End, ...], tree: Tree, extending: Extending) -> Wall:
    """The vessel's wall with an extension at each end; one that would run into a wall is made shorter."""
    lengths = {i: extending.length(end) for i, end in enumerate(ends)}
    shortest = {i: 0.25 * length for i, length in lengths.items()}
    while True:
        wall = _extended(vessel, ends, tree, lengths, extending.stretch)
        hit = _colliding(wall)
        if not hit or all(lengths[i] <= shortest[i] for i in hit):
            return wall
        lengths |= {i: max(shortest[i], 0.75 * lengths[i]) for i in hit}


def _extended(vessel: Surface, ends: tuple[End, ...], tree: Tree, lengths: dict[int, float], stretch: float) -> Wall:
    surface, radius = vessel, locate(vessel.points, tree).radius
    rims, circles = [], []
    for i, (rim, end) in enumerate(_rims_of(vessel, ends)):
        edge = np.linalg.norm(np.roll(vessel.points[rim], -1, axis=0) - vessel.points[rim], axis=1).mean()
        before = len(surface.points)
        surface, circle = capping.extend(surface, rim, end, lengths[i], stretch * edge)
        n_new = len(surface.points) - before
        radius = np.r_[radius, np.full(n_new, end.radius)]
        rims.append(Rim(np.arange(len(surface.points) - len(rim), len(surface.points)), end.normal))
        circles.append(circle)
    return Wall(surface, radius, ends, tuple(rims), tuple(circles), tuple(lengths[i] for i in range(len(ends))),
                len(vessel.points), capped_volume(vessel))


def _colliding(wall: Wall) -> list[int]:
    """Ends whose extension touches a wall."""
    closed = _with_fans(wall.surface)
    touched = closed.points[np.unique(closed.triangles[crossing_triangles(closed)])]
    found = []
    for i, (end, length) in enumerate(zip(wall.ends, wall.lengths, strict=True)):
        height = (touched - end.centre) @ end.normal
        across = np.linalg.norm(touched - end.centre - height[:, None] * end.normal, axis=1)
        if ((height > 0) & (height < 1.01 * length) & (across < 1.3 * end.radius)).any():
            found.append(i)
    return found
