"""Shear stress on the wall, from the slope of the quadratic velocity in the cells at it, and its indices over a beat.

Sources of the indices: He & Ku 1996, doi:10.1115/1.2795948 (OSI by vectors); Himburg 2004,
doi:10.1152/ajpheart.00897.2003 (RRT); Di Achille 2014, doi:10.1098/rspa.2014.0163 (ECAP); Peiffer, Sherwin & Weinberg
2013, doi:10.1016/j.jbiomech.2013.08.003 (transverse).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from solvers.flow import taylor_hood
from solvers.flow.cells import behind, outward

SOURCES = ["He & Ku 1996 (oscillatory shear index), doi:10.1115/1.2795948",
           "Himburg et al. 2004 (relative residence time), doi:10.1152/ajpheart.00897.2003",
           "Di Achille et al. 2014 (endothelial cell activation potential), doi:10.1098/rspa.2014.0163",
           "Peiffer, Sherwin & Weinberg 2013 (transverse shear), doi:10.1016/j.jbiomech.2013.08.003"]


@dataclass(frozen=True)
class WallSlope:
    """From node velocities to minus their derivative along the outward normal at the wall's vertices, a mean by area
    over the faces around each: vertices (w,), normals (w, 3), areas (w,) m^2, matrix (w, nodes); n: vertices in all."""

    vertices: np.ndarray
    normals: np.ndarray
    areas: np.ndarray
    matrix: sparse.csr_matrix
    n: int

    @cached_property
    def tangents(self) -> np.ndarray:
        """Two unit directions in the wall's plane at each of its vertices, (w, 2, 3)."""
        first = np.cross(self.normals, np.eye(3)[np.abs(self.normals).argmin(axis=1)])
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        return np.stack([first, np.cross(self.normals, first)], axis=1)

    def in_plane(self, field: np.ndarray) -> np.ndarray:
        """Tangential vectors (n, 3) as coordinates by `tangents` at the wall's vertices, (w, 2)."""
        return np.einsum("wik,wk->wi", self.tangents, field[self.vertices])

    def everywhere(self, values: np.ndarray) -> np.ndarray:
        """Values at the wall's vertices (w,) as a field (n,), zero off the wall."""
        out = np.zeros(self.n)
        out[self.vertices] = values
        return out

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
    return WallSlope(vertices, unit, around / (m - 1), (sparse.diags(-1 / around) @ total[vertices]).tocsr(), n)


@dataclass(frozen=True)
class Indices:
    """Of a beat's shear at each place (w,): tawss, peak and transverse, Pa; osi, without unit; rrt and ecap, 1/Pa.

    tawss: mean size. osi: half of one minus the mean vector's size over tawss, 0 to 0.5. rrt, the relative residence
    time: 1 / ((1 - 2 osi) tawss), that is one over the mean vector's size. ecap, the endothelial cell activation
    potential: osi / tawss. transverse: mean size of the component across the mean vector; where the mean vector is
    zero no direction is "across", and any is taken. rrt and ecap are NaN where what they divide by is zero.
    """

    tawss: np.ndarray
    osi: np.ndarray
    rrt: np.ndarray
    ecap: np.ndarray
    transverse: np.ndarray
    peak: np.ndarray
    mean: np.ndarray
    """Mean vector in the wall's plane, (w, 2)."""

    @property
    def means(self) -> np.ndarray:
        """Mean size, then the mean vector, (w, 3)."""
        return np.column_stack([self.tawss, self.mean])


def indices(history: Sequence[np.ndarray]) -> Indices:
    """history: at equal times over a beat, vectors in the wall's plane (w, 2), Pa.

    Two passes: the component across the mean vector is not known before the beat is over.
    """
    n, w = len(history), len(history[0])
    mean, tawss, peak = np.zeros((w, 2)), np.zeros(w), np.zeros(w)
    for tau in history:
        size = np.hypot(*tau.T.astype(float))
        mean += tau
        tawss += size
        np.maximum(peak, size, out=peak)
    mean, tawss = mean / n, tawss / n
    along = np.hypot(*mean.T)
    osi = 0.5 * (1 - np.minimum(_over(along, tawss, 1.0), 1.0))
    across = np.column_stack([-_over(mean[:, 1], along, 0.0), _over(mean[:, 0], along, 1.0)])
    transverse = sum((np.abs((tau * across).sum(axis=1)) for tau in history), np.zeros(w)) / n
    return Indices(tawss, osi, _over(np.ones(w), along, np.nan), _over(osi, tawss, np.nan), transverse, peak, mean)


def change(before: np.ndarray, now: np.ndarray, areas: np.ndarray) -> float:
    """Difference of two beats' `Indices.means` (w, 3), in mean size or mean vector, whichever is larger: root mean
    square over the wall (areas (w,), m^2), of that of the mean size."""
    off, scale = now - before, max(_squares(now[:, 0], areas), 1e-300)
    return float(np.sqrt(max(_squares(off[:, 0], areas), _squares(np.hypot(*off[:, 1:].T), areas)) / scale))


def _squares(values: np.ndarray, areas: np.ndarray) -> float:
    return float((areas * values**2).sum())


def _over(a: np.ndarray, b: np.ndarray, otherwise: float) -> np.ndarray:
    """a / b, `otherwise` where b is zero."""
    return np.divide(a, b, out=np.full(len(b), otherwise), where=b > 0)
