"""Where a triangulated surface cuts itself."""

import numpy as np
from scipy.spatial import cKDTree

from solvers.geometry.surface import Surface


def crossing_triangles(surface: Surface) -> np.ndarray:
    """Which triangles (m,) bool are pierced by an edge of another, or have an edge that pierces one.

    An edge that shares a corner with a triangle does not pierce it; two
    triangles cut each other where an edge of one pierces the other.
    """
    edges = surface.edges[0]
    pairs = _near(surface, edges)
    hit = pairs[_pierces(surface, edges, pairs)]
    found = np.zeros(len(surface.triangles), bool)
    found[hit[:, 1]] = True
    if len(hit):
        keys = np.unique(edges[hit[:, 0], 0].astype(np.int64) * len(surface.points) + edges[hit[:, 0], 1])
        for i, j in ((0, 1), (1, 2), (2, 0)):
            low, high = (f(surface.triangles[:, i], surface.triangles[:, j]).astype(np.int64)
                         for f in (np.minimum, np.maximum))
            found |= np.isin(low * len(surface.points) + high, keys)
    return found


def _near(surface: Surface, edges: np.ndarray) -> np.ndarray:
    """Pairs (edge, triangle) (p, 2) whose enclosing balls touch, by classes of size."""
    ends, corners = surface.points[edges], surface.points[surface.triangles]
    middle, centre = ends.mean(axis=1), corners.mean(axis=1)
    half = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) / 2
    size = np.linalg.norm(corners - centre[:, None], axis=2).max(axis=1)
    found = [np.empty((0, 2), np.int64)]
    for rows in _classes(half):
        for others in _classes(size):
            reach = half[rows].max() + size[others].max()
            near = cKDTree(middle[rows]).sparse_distance_matrix(cKDTree(centre[others]), reach, output_type="ndarray")
            e, t = rows[near["i"]], others[near["j"]]
            touch = near["v"] <= half[e] + size[t]
            found.append(np.column_stack([e[touch], t[touch]]))
    pairs = np.vstack(found)
    apart = (surface.triangles[pairs[:, 1], :, None] != edges[pairs[:, 0], None, :]).all(axis=(1, 2))
    return pairs[apart]


def _classes(size: np.ndarray) -> list[np.ndarray]:
    """Rows grouped by size, within a factor of two."""
    level = np.floor(np.log2(size.clip(1e-12))).astype(int)
    return [np.flatnonzero(level == k) for k in np.unique(level)]


def _pierces(surface: Surface, edges: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Which edges cross their triangle's inside, (p,) bool (Moeller and Trumbore's solution by determinants)."""
    p, q = (surface.points[edges[pairs[:, 0], k]] for k in (0, 1))
    a, b, c = (surface.points[surface.triangles[pairs[:, 1], k]] for k in range(3))
    way, u, v = q - p, b - a, c - a
    h = np.cross(way, v)
    det = np.einsum("ij,ij->i", u, h)
    scale = np.linalg.norm(way, axis=1) * np.linalg.norm(np.cross(u, v), axis=1)
    crosses = np.abs(det) > 1e-12 * scale
    inverse = 1 / np.where(crosses, det, 1.0)
    s = p - a
    one = np.einsum("ij,ij->i", s, h) * inverse
    k = np.cross(s, u)
    two = np.einsum("ij,ij->i", way, k) * inverse
    along = np.einsum("ij,ij->i", v, k) * inverse
    return crosses & (one >= 0) & (two >= 0) & (one + two <= 1) & (along >= 0) & (along <= 1)
