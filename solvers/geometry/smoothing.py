"""Smoothing of surfaces that keeps their volume."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from solvers.geometry.surface import Surface


@dataclass(frozen=True)
class Taubin:
    """Two steps, one that shrinks and one that swells: a low-pass filter of the shape.

    passes: pairs of steps. passband: wave numbers below are kept (0 to 2; the
    square of the wave number in units of the edge length). shrink: the first
    step's weight.
    Source: Taubin 1995, doi:10.1145/218380.218473.
    """

    passes: int = 12
    passband: float = 0.1
    shrink: float = 0.55

    @property
    def swell(self) -> float:
        return 1.0 / (self.passband - 1.0 / self.shrink)


def solve(surface: Surface, filter: Taubin = Taubin()) -> Surface:
    """`surface` with the voxels' steps removed; the same triangles."""
    average = _neighbour_average(surface)
    points = surface.points.copy()
    for _ in range(filter.passes):
        for weight in (filter.shrink, filter.swell):
            points += weight * (average @ points - points)
    return surface.but(points=points)


def _neighbour_average(surface: Surface) -> sparse.csr_matrix:
    """Rows that average a point's neighbours."""
    edges, n = surface.edges[0], len(surface.points)
    i, j = np.r_[edges[:, 0], edges[:, 1]], np.r_[edges[:, 1], edges[:, 0]]
    degree = np.bincount(i, minlength=n).clip(1)
    return sparse.csr_matrix((1.0 / degree[i], (i, j)), shape=(n, n))
