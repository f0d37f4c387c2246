"""Thin layers of prisms along a wall, grown inward only as far as they fit."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from solvers.geometry import intersections
from solvers.geometry.surface import Surface
from solvers.geometry.tetrahedra import cut_prisms, volumes


@dataclass(frozen=True)
class Layering:
    """n: how many layers; growth: each is thicker by this factor than the one nearer to the wall; share: their
    total thickness relative to the lumen's radius, more (up to greatest_share) where the first layer would be
    thinner than `first` edge lengths; least_fill: smallest volume of a cell relative to one of a straight prism."""

    n: int = 3
    growth: float = 1.5
    share: float = 0.25
    greatest_share: float = 0.35
    first: float = 0.1
    least_fill: float = 0.15

    @property
    def levels(self) -> np.ndarray:
        """Depths of the layers' ends as parts of the total, from 0 to 1, (n + 1,)."""
        steps = self.growth ** np.arange(self.n)
        return np.r_[0.0, np.cumsum(steps)] / steps.sum()

    def with_fewer(self, n: int) -> "Layering":
        """n layers in a total that shrinks with them, so that one alone still is thinner than the cells inside."""
        return replace(self, n=n, share=self.share * (n + 1) / (self.n + 1))

    def thickness(self, wall: Surface, radius: np.ndarray) -> np.ndarray:
        """Total thickness (n,) wanted where the lumen's radius is `radius` (n,), mm."""
        own = self.first * _mean_edge(wall) / self.levels[1]
        return np.clip(own, self.share * radius, self.greatest_share * radius)


@dataclass(frozen=True)
class Rim:
    """An open end of the wall: its points in order (k,), and the unit normal of the plane in which they lie."""

    points: np.ndarray
    normal: np.ndarray


@dataclass(frozen=True)
class Layers:
    """points ((n + 1) v, 3): the wall's points, then each level's; tets of all layers; inner: the last level.

    thinned: part of the points where less than the thickness asked for fits.
    """

    points: np.ndarray
    tets: np.ndarray
    inner: Surface
    thinned: float


def grow(wall: Surface, rims: list[Rim], thickness: np.ndarray, layering: Layering) -> Layers | None:
    """Layers inside `wall` (open at its rims, outward normals), of total `thickness` (v,) mm.

    Where cells would fold or the inner surface would cut itself, the thickness
    is reduced, and fades in around. None when they do not fit.
    """
    direction = _directions(wall, rims)
    average = _averaging(wall)
    depth = thickness.copy()
    for _ in range(14):
        layers = _build(wall, direction, depth, layering)
        bad = _bad(layers, wall, depth, layering)
        if not bad.any():
            return Layers(layers.points, layers.tets, layers.inner, float((depth < 0.9 * thickness).mean()))
        depth = depth * _fading(bad, average)
    return None


def _build(wall: Surface, direction: np.ndarray, depth: np.ndarray, layering: Layering) -> Layers:
    n = len(wall.points)
    shift = direction * depth[:, None]
    points = np.vstack([wall.points + s * shift for s in layering.levels])
    # The deeper triangle is the prism's bottom: seen from the wall it is wound counter-clockwise.
    tets = np.vstack([cut_prisms(wall.triangles + (k + 1) * n, wall.triangles + k * n) for k in range(layering.n)])
    return Layers(points, tets, Surface(points[-n:], wall.triangles), 0.0)


def _bad(layers: Layers, wall: Surface, depth: np.ndarray, layering: Layering) -> np.ndarray:
    """Wall points (n,) bool at which a cell is folded or nearly so, or the inner surface cuts itself."""
    n = len(wall.points)
    bad = np.zeros(n, bool)
    full = np.linalg.norm(wall.normals, axis=1) / 6 * depth[wall.triangles].mean(axis=1)
    straight = np.repeat(np.outer(np.diff(layering.levels), full).ravel(), 3)
    folded = volumes(layers.points, layers.tets) < layering.least_fill * straight
    bad[layers.tets[folded].ravel() % n] = True
    crossing = intersections.crossing_triangles(layers.inner)
    bad[layers.inner.triangles[crossing].ravel()] = True
    return bad


def _fading(bad: np.ndarray, average: sparse.csr_matrix) -> np.ndarray:
    """Three quarters at bad points, fading over their neighbours."""
    factor = np.where(bad, 0.75, 1.0)
    return np.minimum(factor, average @ (average @ factor))


def vertex_normals(surface: Surface) -> np.ndarray:
    """Unit outward normals (n, 3), each triangle's weighted by its angle at the point."""
    corners = surface.points[surface.triangles]
    face = surface.normals / np.linalg.norm(surface.normals, axis=1, keepdims=True).clip(1e-30)
    total = np.zeros_like(surface.points)
    for i in range(3):
        one, two = corners[:, (i + 1) % 3] - corners[:, i], corners[:, (i + 2) % 3] - corners[:, i]
        lengths = (np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)).clip(1e-30)
        angle = np.arccos(np.clip(np.einsum("ti,ti->t", one, two) / lengths, -1, 1))
        np.add.at(total, surface.triangles[:, i], angle[:, None] * face)
    return total / np.linalg.norm(total, axis=1, keepdims=True).clip(1e-30)


def _directions(wall: Surface, rims: list[Rim]) -> np.ndarray:
    """Unit inward directions (n, 3): the normals, a little smoothed; within the plane at a rim."""
    average, normals = _averaging(wall), vertex_normals(wall)
    for _ in range(3):
        normals = flattened(average @ normals, rims)
    return -normals


def flattened(normals: np.ndarray, rims: list[Rim]) -> np.ndarray:
    """Unit normals, those at rims turned into the rim's plane."""
    normals = normals.copy()
    for rim in rims:
        normals[rim.points] -= np.outer(normals[rim.points] @ rim.normal, rim.normal)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-30)


def _averaging(surface: Surface) -> sparse.csr_matrix:
    """Half the point itself, half the mean of its neighbours."""
    edges, n = surface.edges[0], len(surface.points)
    graph = sparse.csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    graph = graph + graph.T
    mean = sparse.diags(1 / np.asarray(graph.sum(axis=1)).ravel().clip(1)) @ graph
    return (0.5 * sparse.identity(n) + 0.5 * mean).tocsr()


def _mean_edge(surface: Surface) -> np.ndarray:
    """Mean length of the edges at each point (n,), mm."""
    edges, n = surface.edges[0], len(surface.points)
    length = np.linalg.norm(surface.points[edges[:, 0]] - surface.points[edges[:, 1]], axis=1)
    total, count = (np.bincount(edges.ravel(), np.repeat(v, 2), n) for v in (length, np.ones(len(edges))))
    return total / count.clip(1)
