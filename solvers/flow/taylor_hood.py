"""Quadratic velocity and linear pressure on straight tetrahedra: nodes, shape functions, integrals of one cell.

Nodes of the velocity are the vertices, then one on each edge. With barycentric
coordinates L0..L3 the shape function of a vertex is L (2 L - 1), that of an edge
4 Li Lj. Integrals over a cell are its volume times the tensors below,
contracted with the gradients of the coordinates.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from solvers.fenics import basix

EDGES = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])
"""Corners of the six edges of a tetrahedron, in the order of its last six nodes."""

BETWEEN = np.zeros((4, 4), np.int64)
BETWEEN[EDGES[:, 0], EDGES[:, 1]] = BETWEEN[EDGES[:, 1], EDGES[:, 0]] = np.arange(4, 10)
"""Node of a cell on the edge between two corners."""

CORNERS = np.eye(4)
"""Barycentric coordinates of the corners."""

MEAN = np.r_[np.full(4, -1 / 20), np.full(6, 1 / 5)]
"""Mean of each shape function over a cell, (10,)."""


@dataclass(frozen=True)
class Nodes:
    """points (n, 3); cells (c, 10), the four vertices first; n_vertices: how many nodes are vertices."""

    points: np.ndarray
    cells: np.ndarray
    n_vertices: int

    def faces(self, triangles: np.ndarray) -> np.ndarray:
        """The six nodes (f, 6) of triangles (f, 3): corners, then the edges 0-1, 1-2, 2-0."""
        n = self.n_vertices
        ends = np.sort(self.cells[:, :4][:, EDGES], axis=2).reshape(-1, 2).astype(np.int64)
        keys, first = np.unique(ends[:, 0] * n + ends[:, 1], return_index=True)
        node = self.cells[:, 4:].reshape(-1)[first]
        sides = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]], axis=2).astype(np.int64)
        return np.hstack([triangles, node[np.searchsorted(keys, sides[..., 0] * n + sides[..., 1])]])


def nodes(points: np.ndarray, tets: np.ndarray) -> Nodes:
    """The nodes on vertices (n, 3) and tetrahedra (c, 4)."""
    n = len(points)
    ends = np.sort(tets[:, EDGES], axis=2).reshape(-1, 2).astype(np.int64)
    keys, number = np.unique(ends[:, 0] * n + ends[:, 1], return_inverse=True)
    middle = (points[keys // n] + points[keys % n]) / 2
    cells = np.hstack([tets, n + number.reshape(-1, 6)]).astype(np.int32)
    return Nodes(np.vstack([points, middle]), np.ascontiguousarray(cells), n)


def values(at: np.ndarray) -> np.ndarray:
    """Shape functions (q, 10) at barycentric places (q, 4)."""
    i, j = EDGES.T
    return np.hstack([at * (2 * at - 1), 4 * at[:, i] * at[:, j]])


def slopes(at: np.ndarray) -> np.ndarray:
    """Derivatives (q, 4, 10) of the shape functions by each barycentric coordinate, at (q, 4)."""
    out = np.zeros((len(at), 4, 10))
    for a in range(4):
        out[:, a, a] = 4 * at[:, a] - 1
    for e, (i, j) in enumerate(EDGES):
        out[:, i, 4 + e] = 4 * at[:, j]
        out[:, j, 4 + e] = 4 * at[:, i]
    return out


@dataclass(frozen=True)
class Tensors:
    """Means over a cell. mass (10, 10); stiffness (4, 4, 10, 10) by pairs of coordinates;
    convection (10, 4, 10, 10): wind node and coordinate, then row and column, skew-symmetric;
    slope (4, 4, 10): barycentric coordinate times the derivatives of the shape functions by each coordinate."""

    mass: np.ndarray
    stiffness: np.ndarray
    convection: np.ndarray
    slope: np.ndarray


@cache
def tensors() -> Tensors:
    points, weights = basix.make_quadrature(basix.CellType.tetrahedron, 6)
    at = np.column_stack([1 - points.sum(axis=1), points])
    weights = weights / weights.sum()
    f, d = values(at), slopes(at)
    mass = np.einsum("q,qa,qb->ab", weights, f, f)
    stiffness = np.einsum("q,qia,qjb->ijab", weights, d, d)
    moved = np.einsum("q,qe,qa,qib->eiab", weights, f, f, d)
    slope = np.einsum("q,qm,qia->mia", weights, at, d)
    return Tensors(mass, stiffness, 0.5 * (moved - moved.swapaxes(2, 3)), slope)


@cache
def on_face() -> np.ndarray:
    """Means of products of three shape functions over a triangle, (6, 6, 6); edges in the order 0-1, 1-2, 2-0."""
    points, weights = basix.make_quadrature(basix.CellType.triangle, 6)
    at = np.column_stack([1 - points.sum(axis=1), points])
    i, j = np.array([[0, 1], [1, 2], [2, 0]]).T
    f = np.hstack([at * (2 * at - 1), 4 * at[:, i] * at[:, j]])
    return np.einsum("q,qe,qa,qb->eab", weights / weights.sum(), f, f, f)
