"""The lumen as tetrahedra with tagged boundary triangles: the data that flow, wall and report share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from solvers.errors import DidNotConverge
from solvers.geometry import capping, tetrahedra
from solvers.geometry.layers import Layers
from solvers.geometry.lumen_wall import Wall
from solvers.geometry.surface import Surface

WALL, INLET, FIRST_OUTLET = 1, 2, 3
"""Tags of boundary triangles; outlets count up from the first in the order of the tree's leaves."""
VESSEL, EXTENSION = 0, 1
"""Regions of tetrahedra."""


@dataclass(frozen=True)
class Boundary:
    """The triangles of one tag, SI.

    role: wall, inlet or outlet. branch: index in the tree, -1 for the wall.
    normal: unit, outward (zero for the wall). radius: of the circle of equal
    area (zero for the wall). extension: length of the straight piece before it.
    """

    tag: int
    role: str
    name: str
    branch: int
    centre: tuple[float, float, float]
    normal: tuple[float, float, float]
    area: float
    radius: float
    extension: float


@dataclass(frozen=True)
class LumenMesh:
    """points (n, 3) m, tets (c, 4), boundary triangles (t, 3) wound outward with tags (t,), region (c,)."""

    points: np.ndarray
    tets: np.ndarray
    triangles: np.ndarray
    tags: np.ndarray
    region: np.ndarray
    boundaries: tuple[Boundary, ...]

    @cached_property
    def wall(self) -> Boundary:
        return next(b for b in self.boundaries if b.role == "wall")

    @cached_property
    def inlet(self) -> Boundary:
        return next(b for b in self.boundaries if b.role == "inlet")

    @cached_property
    def outlets(self) -> tuple[Boundary, ...]:
        return tuple(b for b in self.boundaries if b.role == "outlet")

    def triangles_of(self, tag: int) -> np.ndarray:
        """Triangles (k, 3) that carry `tag`."""
        return self.triangles[self.tags == tag]


@dataclass(frozen=True)
class Hull:
    """A closed surface to be filled with tetrahedra: the innermost layer and flat caps; mm.

    skin: points of the wall's mesh (they come first); caps: for each end the hull's points that lie in its plane.
    """

    surface: Surface
    skin: int
    caps: tuple[np.ndarray, ...]


def hull(wall: Wall, inner: Surface, sizes: Sequence[float]) -> Hull:
    """`inner` (the wall's own surface, or the last layer) closed by caps with edges of about `sizes` mm."""
    points, triangles, caps = [inner.points], [inner.triangles], []
    count = len(inner.points)
    for rim, edge in zip(wall.rims, sizes, strict=True):
        inside, faces = capping.cap(inner.points[rim.points], rim.normal, edge)
        number = np.r_[rim.points, count + np.arange(len(inside))]
        points.append(inside)
        triangles.append(number[faces])
        caps.append(number)
        count += len(inside)
    return Hull(Surface(np.vstack(points), np.vstack(triangles)), len(inner.points), tuple(caps))


def assemble(wall: Wall, skin: Layers | None, hull: Hull, points: np.ndarray, tets: np.ndarray) -> LumenMesh:
    """The mesh in metres from the tetrahedra that fill `hull` (its points first, mm) and the layers around it.

    DidNotConverge when they do not fit together.
    """
    if skin is None:
        n_layers, every, cells = 0, points, tets
    else:
        n_layers = len(skin.points) // hull.skin - 1
        every = np.vstack([skin.points[:-hull.skin], points])
        cells = np.vstack([skin.tets, tets + n_layers * hull.skin])
    if not tetrahedra.is_conforming(cells):
        raise DidNotConverge("mesh_not_conforming", "the layers and the core do not fit together", "shared faces only")
    faces = tetrahedra.boundary(cells)
    tags = _tags(faces, wall, hull, n_layers)
    region = _regions(every, cells, wall)
    scaled = every / 1000
    return LumenMesh(scaled, cells, faces, tags, region, tuple(_boundaries(scaled, faces, tags, wall)))


def _tags(faces: np.ndarray, wall: Wall, hull: Hull, n_layers: int) -> np.ndarray:
    """WALL where all corners are the wall's own, else the cap whose plane holds them."""
    tags = np.zeros(len(faces), np.int32)
    tags[(faces < hull.skin).all(axis=1)] = WALL
    for i, (rim, cap) in enumerate(zip(wall.rims, hull.caps, strict=True)):
        rings = [rim.points + k * hull.skin for k in range(n_layers)]
        here = np.isin(faces, np.concatenate([*rings, cap + n_layers * hull.skin])).all(axis=1)
        tags[here] = INLET + i
    if (tags == 0).any():
        raise DidNotConverge("mesh_not_closed", f"{int((tags == 0).sum())} boundary triangles are neither wall nor cap",
                             "none")
    return tags


def _regions(points: np.ndarray, tets: np.ndarray, wall: Wall) -> np.ndarray:
    """EXTENSION for cells whose middle lies beyond an end's plane and within its tube."""
    middle = points[tets].mean(axis=1)
    region = np.full(len(tets), VESSEL, np.int32)
    for end, length in zip(wall.ends, wall.lengths, strict=True):
        height = (middle - end.centre) @ end.normal
        across = np.linalg.norm(middle - end.centre - height[:, None] * end.normal, axis=1)
        region[(height > 0) & (height < length) & (across < 1.5 * end.radius)] = EXTENSION
    return region


def _boundaries(points: np.ndarray, faces: np.ndarray, tags: np.ndarray, wall: Wall) -> Iterator[Boundary]:
    yield Boundary(WALL, "wall", "wall", -1, *_middle(points, faces[tags == WALL]), 0.0, 0.0)
    names = _distinct([end.name for end in wall.ends])
    for i, (end, length) in enumerate(zip(wall.ends, wall.lengths, strict=True)):
        centre, _, area = _middle(points, faces[tags == INLET + i])
        yield Boundary(INLET + i, end.role, names[i], end.branch, centre, _triple(end.normal), area,
                       float(np.sqrt(area / np.pi)), length / 1000)


def _middle(points: np.ndarray, faces: np.ndarray) -> tuple[tuple[float, float, float], tuple[float, float, float],
                                                            float]:
    """Centre of area, no normal, area."""
    corners = points[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    centre = (corners.mean(axis=1) * area[:, None]).sum(axis=0) / area.sum()
    return _triple(centre), (0.0, 0.0, 0.0), float(area.sum())


def _triple(vector: np.ndarray) -> tuple[float, float, float]:
    x, y, z = vector.tolist()
    return x, y, z


def _distinct(names: list[str]) -> list[str]:
    """Names of which none occurs twice: later ones get _2, _3."""
    return [n if names[:i].count(n) == 0 else f"{n}_{names[:i].count(n) + 1}" for i, n in enumerate(names)]
