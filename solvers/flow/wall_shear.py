"""Shear stress on the wall, from the slope of the quadratic velocity in the cells at it."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from solvers.flow import taylor_hood
from solvers.flow.cells import behind, outward


@dataclass(frozen=True)
class WallSlope:
    """From node velocities to minus their derivative along the outward normal at the wall's vertices, a mean by area
    over the faces around each: vertices (w,), normals (w, 3), matrix (w, nodes); n: vertices in all."""

    vertices: np.ndarray
    normals: np.ndarray
    matrix: sparse.csr_matrix
    n: int

    def rate(self, u: np.ndarray) -> np.ndarray:
        """Tangential shear rate (n, 3), 1/s, in the sense of the stress on the wall; zero off the wall."""
        found = self.matrix @ u
        found -= self.normals * (found * self.normals).sum(axis=1, keepdims=True)
        out = np.zeros((self.n, 3))
        out[self.vertices] = found
        return out


def wall_slope(nodes: taylor_hood.Nodes, grads: np.ndarray, faces: np.ndarray) -> WallSlope:
    """faces (t, f) of the wall; grads (c, m, 3)."""
    m, n = grads.shape[1], nodes.n_vertices
    corners = nodes.cells[:, :m]
    cell, _ = behind(faces[:, :m - 1], corners, n)
    vectors = outward(nodes.points, faces, corners)
    areas = np.linalg.norm(vectors, axis=1)
    along = np.einsum("tik,tk->ti", grads[cell], vectors)
    at_corners = taylor_hood.slopes(np.eye(m))
    rows, columns, entries = [], [], []
    for corner in range(m - 1):
        local = np.argmax(corners[cell] == faces[:, [corner]], axis=1)
        entries.append(np.einsum("ti,tib->tb", along, at_corners[local]).ravel())
        rows.append(np.repeat(faces[:, corner], nodes.cells.shape[1]))
        columns.append(nodes.cells[cell].ravel())
    total = sparse.csr_matrix((np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))),
                              shape=(n, len(nodes.points)))
    vertices = np.unique(faces[:, :m - 1])
    around = np.bincount(faces[:, :m - 1].ravel(), np.repeat(areas, m - 1), minlength=n)[vertices]
    unit = np.zeros((n, 3))
    np.add.at(unit, faces[:, :m - 1].ravel(), np.repeat(vectors, m - 1, axis=0))
    unit = unit[vertices] / np.linalg.norm(unit[vertices], axis=1, keepdims=True)
    return WallSlope(vertices, unit, (sparse.diags(-1 / around) @ total[vertices]).tocsr(), n)
