"""A mesh of tetrahedra or triangles as arrays: gradients, faces by tag, sparsity, blocks for threads.

Triangles lie in the plane z = 0; then volumes are areas and areas are lengths.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from solvers.fenics import mesh
from solvers.geometry.dolfinx_mesh import Domain

BLOCKS = 8
"""Parts of the mesh that threads work on; always the same, so that the number of threads changes no digit."""
NEAR = 24
"""Cells nearest by their centres, among which the one that holds a point is looked for."""


class Cells(NamedTuple):
    """What loops over cells need. nodes (c, k); grads (c, m, 3) of the barycentric coordinates, 1/m; volumes (c,);
    size (c,): edge of the regular cell of that volume, m; between (m, m): node on the edge of two corners.

    order (c,): cells of the blocks, one after the other, that share no node with another block's, then the rest;
    bounds (blocks + 1,): where in `order` each block begins.
    """

    nodes: np.ndarray
    grads: np.ndarray
    volumes: np.ndarray
    size: np.ndarray
    between: np.ndarray
    order: np.ndarray
    bounds: np.ndarray


class Pattern(NamedTuple):
    """A sparse matrix without its values. indptr (n + 1,), indices; diagonal (n,): places among the values."""

    indptr: np.ndarray
    indices: np.ndarray
    diagonal: np.ndarray


def cells(points: np.ndarray, nodes: np.ndarray, between: np.ndarray) -> Cells:
    """points (n, 3) of all nodes, nodes (c, k)."""
    m = len(between)
    grads, volumes = gradients(points, nodes[:, :m])
    regular = 6 * np.sqrt(2) if m == 4 else 4 / np.sqrt(3)
    order, bounds = _blocks(nodes, len(points))
    return Cells(nodes, grads, volumes, (regular * volumes) ** (1 / (m - 1)), between, order, bounds)


def located(points: np.ndarray, corners: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cell (n,) of corners (c, m) that holds each wanted point (n, 3), and barycentric places in it (n, m).

    A point outside is given the place nearest to it among those where its coordinates in a cell are cut off at zero.
    """
    middle, grads = points[corners].mean(axis=1), gradients(points, corners)[0]
    _, near = cKDTree(middle).query(wanted, k=min(NEAR, len(corners)))
    best, places = np.zeros(len(wanted), np.int64), np.zeros((len(wanted), corners.shape[1]))
    nearest = np.full(len(wanted), np.inf)
    for some in near.reshape(len(wanted), -1).T:
        here = np.einsum("nak,nk->na", grads[some], wanted - middle[some]) + 1 / corners.shape[1]
        here = np.clip(here, 0, None)
        here /= here.sum(axis=1, keepdims=True)
        off = np.linalg.norm(np.einsum("na,nak->nk", here, points[corners[some]]) - wanted, axis=1)
        better = off < nearest
        best[better], places[better], nearest[better] = some[better], here[better], off[better]
    return best, places


def gradients(points: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of segments, triangles or tetrahedra (c, m): gradients of the barycentric coordinates (c, m, 3), 1/m, in their
    own plane, and lengths, areas or volumes (c,)."""
    sides = points[corners[:, 1:]] - points[corners[:, :1]]
    gram = np.einsum("cik,cjk->cij", sides, sides)
    others = np.linalg.solve(gram, sides)
    grads = np.concatenate([-others.sum(axis=1, keepdims=True), others], axis=1)
    return np.ascontiguousarray(grads), np.sqrt(np.linalg.det(gram)) / [1, 1, 2, 6][corners.shape[1] - 1]


def _blocks(nodes: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    block = np.arange(len(nodes)) * BLOCKS // len(nodes)
    k = nodes.shape[1]
    lowest, highest = np.full(n, BLOCKS), np.full(n, -1)
    np.minimum.at(lowest, nodes.ravel(), np.repeat(block, k))
    np.maximum.at(highest, nodes.ravel(), np.repeat(block, k))
    block = np.where((lowest == highest)[nodes].all(axis=1), block, BLOCKS)
    return np.argsort(block, kind="stable").astype(np.int32), np.searchsorted(np.sort(block), np.arange(BLOCKS + 1))


def pattern(nodes: np.ndarray, n: int) -> Pattern:
    """All pairs of nodes that share a cell (c, k)."""
    k = nodes.shape[1]
    rows, columns = np.repeat(nodes, k, axis=1).ravel(), np.tile(nodes, (1, k)).ravel()
    matrix = sparse.csr_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(n, n))
    matrix.sort_indices()
    owner = np.repeat(np.arange(n), np.diff(matrix.indptr))
    return Pattern(matrix.indptr, matrix.indices, np.flatnonzero(owner == matrix.indices))


def area_vectors(points: np.ndarray, faces: np.ndarray, corners: int) -> np.ndarray:
    """Normal times area (length) of each face, by its first corners - 1 nodes, (t, 3); of either sense."""
    a, b = points[faces[:, 0]], points[faces[:, 1]]
    if corners == 3:
        return (b - a)[:, [1, 0, 2]] * [1.0, -1.0, 0.0]
    return np.cross(b - a, points[faces[:, 2]] - a) / 2


def behind(faces: np.ndarray, corners: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The cell behind each face (t,), and which of its corners is not on the face (t,); faces (t, m - 1)."""
    m = corners.shape[1]
    others = np.array([[j for j in range(m) if j != i] for i in range(m)])
    keys = _keys(corners[:, others].reshape(-1, m - 1), n)
    order = np.argsort(keys)
    found = order[np.searchsorted(keys[order], _keys(faces, n))]
    return found // m, found % m


def _keys(faces: np.ndarray, n: int) -> np.ndarray:
    key = np.zeros(len(faces), np.int64)
    for column in np.sort(faces, axis=1).astype(np.int64).T:
        key = key * n + column
    return key


def outward(points: np.ndarray, faces: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Area vectors (t, 3) that point out of the cells (c, m); faces (t, f)."""
    m = corners.shape[1]
    vectors = area_vectors(points, faces, m)
    cell, opposite = behind(faces[:, :m - 1], corners, len(points))
    inside = points[faces[:, 0]] - points[corners[cell, opposite]]
    vectors[np.einsum("tk,tk->t", vectors, inside) < 0] *= -1
    return vectors


def pieces(faces: np.ndarray, corners: int) -> np.ndarray:
    """The small linear faces between the nodes of quadratic ones: two to a segment, four to a triangle."""
    parts = [[0, 2], [2, 1]] if corners == 3 else [[0, 3, 5], [3, 1, 4], [5, 4, 2], [3, 4, 5]]
    return faces[:, parts].reshape(-1, corners - 1)


def original(domain: Domain, space: Any) -> np.ndarray:
    """For each degree of freedom the index of its point in the arrays that made the mesh."""
    found = np.empty(len(space.tabulate_dof_coordinates()), np.int64)
    found[space.dofmap.list.ravel()] = domain.original[domain.mesh.geometry.dofmaps[0].ravel()]
    return found


def faces_by_tag(domain: Domain, space: Any) -> dict[int, np.ndarray]:
    """Tag to the degrees of freedom (t, m - 1) of its faces."""
    grid = domain.mesh
    vertex_to_dof = np.empty(len(domain.original), np.int64)
    vertex_to_dof[grid.geometry.dofmaps[0].ravel()] = space.dofmap.list.ravel()
    faces = vertex_to_dof[mesh.entities_to_geometry(grid, grid.topology.dim - 1, domain.facets.indices)]
    return {int(tag): faces[domain.facets.values == tag] for tag in np.unique(domain.facets.values)}


