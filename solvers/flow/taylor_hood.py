"""Quadratic velocity and linear pressure on straight tetrahedra or triangles: nodes, shape functions, integrals.

Nodes of the velocity are the vertices, then one on each edge. With barycentric
coordinates L0, L1, ... the shape function of a vertex is L (2 L - 1), that of an
edge 4 Li Lj. Integrals over a cell are its volume (area) times the tensors
below, contracted with the gradients of the coordinates. Triangles lie in the
plane z = 0, and everything keeps its third component.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from solvers.fenics import basix

EDGES = {2: np.array([[0, 1]]), 3: np.array([[0, 1], [1, 2], [2, 0]]),
         4: np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])}
"""Corners of the edges of a segment, triangle and tetrahedron, in the order of the nodes that follow the corners."""

_SHAPES = {2: basix.CellType.interval, 3: basix.CellType.triangle, 4: basix.CellType.tetrahedron}
_DEGREE = 6
"""Of the quadrature: three quadratic functions multiplied."""


@dataclass(frozen=True)
class Element:
    """One kind of cell, with m corners and k nodes; its faces have m - 1 corners and f nodes.

    edges (e, 2); between (m, m): the node on the edge of two corners. Means over
    a cell: mean (k,) of each shape function; mass (k, k); stiffness (m, m, k, k)
    by pairs of coordinates; convection (k, m, k, k): wind node and coordinate,
    then row and column, skew-symmetric. Means over a face: face_mean (f,);
    face_cubes (f, f, f) of products of three shape functions; face_linear
    (m - 1, f) of linear times quadratic.
    """

    corners: int
    edges: np.ndarray
    between: np.ndarray
    mean: np.ndarray
    mass: np.ndarray
    stiffness: np.ndarray
    convection: np.ndarray
    face_mean: np.ndarray
    face_cubes: np.ndarray
    face_linear: np.ndarray


@dataclass(frozen=True)
class Nodes:
    """points (n, 3); cells (c, k), the vertices first; n_vertices: how many nodes are vertices."""

    points: np.ndarray
    cells: np.ndarray
    n_vertices: int

    def faces(self, corners: np.ndarray) -> np.ndarray:
        """The nodes (t, f) of faces of cells given by their corners (t, m - 1)."""
        m = corners.shape[1] + 1
        first, keys = self._edges(m)
        sides = np.sort(corners[:, EDGES[m - 1]], axis=2).astype(np.int64)
        found = np.searchsorted(keys, sides[..., 0] * self.n_vertices + sides[..., 1])
        return np.hstack([corners, self.cells[:, m:].reshape(-1)[first][found]])

    def _edges(self, m: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each edge of the mesh its first place among the cells' edges, and its sorted key."""
        ends = np.sort(self.cells[:, :m][:, EDGES[m]], axis=2).reshape(-1, 2).astype(np.int64)
        keys, first = np.unique(ends[:, 0] * self.n_vertices + ends[:, 1], return_index=True)
        return first, keys


def nodes(points: np.ndarray, cells: np.ndarray) -> Nodes:
    """The nodes on vertices (n, 3) and cells (c, m)."""
    n, m = len(points), cells.shape[1]
    ends = np.sort(cells[:, EDGES[m]], axis=2).reshape(-1, 2).astype(np.int64)
    keys, number = np.unique(ends[:, 0] * n + ends[:, 1], return_inverse=True)
    middle = (points[keys // n] + points[keys % n]) / 2
    together = np.hstack([cells, n + number.reshape(len(cells), -1)]).astype(np.int32)
    return Nodes(np.vstack([points, middle]), np.ascontiguousarray(together), n)


def values(at: np.ndarray) -> np.ndarray:
    """Shape functions (q, k) at barycentric places (q, m)."""
    i, j = EDGES[at.shape[1]].T
    return np.hstack([at * (2 * at - 1), 4 * at[:, i] * at[:, j]])


def slopes(at: np.ndarray) -> np.ndarray:
    """Derivatives (q, m, k) of the shape functions by each barycentric coordinate, at (q, m)."""
    m = at.shape[1]
    out = np.zeros((len(at), m, m + len(EDGES[m])))
    for a in range(m):
        out[:, a, a] = 4 * at[:, a] - 1
    for e, (i, j) in enumerate(EDGES[m]):
        out[:, i, m + e] = 4 * at[:, j]
        out[:, j, m + e] = 4 * at[:, i]
    return out


def quadrature(m: int) -> tuple[np.ndarray, np.ndarray]:
    """Barycentric places (q, m) and weights (q,) that sum to one."""
    points, weights = basix.make_quadrature(_SHAPES[m], _DEGREE)
    return np.column_stack([1 - points.sum(axis=1), points]), weights / weights.sum()


@cache
def element(corners: int) -> Element:
    """Of triangles (3 corners) or tetrahedra (4)."""
    at, weights = quadrature(corners)
    f, d = values(at), slopes(at)
    stiffness = np.einsum("q,qia,qjb->ijab", weights, d, d)
    moved = np.einsum("q,qe,qa,qib->eiab", weights, f, f, d)
    between = np.zeros((corners, corners), np.int64)
    edges = EDGES[corners]
    between[edges[:, 0], edges[:, 1]] = between[edges[:, 1], edges[:, 0]] = corners + np.arange(len(edges))
    on, face_weights = quadrature(corners - 1)
    g = values(on)
    return Element(corners, edges, between, weights @ f, np.einsum("q,qa,qb->ab", weights, f, f), stiffness,
                   0.5 * (moved - moved.swapaxes(2, 3)), face_weights @ g,
                   np.einsum("q,qe,qa,qb->eab", face_weights, g, g, g),
                   np.einsum("q,qa,qb->ab", face_weights, on, g))
