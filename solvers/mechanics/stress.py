"""Stresses read from a solved body."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.fenics import basix, fem, ufl


@dataclass(frozen=True)
class Stresses:
    """At points of integration: cauchy (c, q, 3, 3) Pa, J (c, q), volume (c, q) m^3 of the loaded shape."""

    cauchy: np.ndarray
    J: np.ndarray
    volume: np.ndarray

    @property
    def max_principal(self) -> np.ndarray:
        """Largest principal stress (c, q), Pa."""
        return np.linalg.eigvalsh(self.cauchy)[..., 2]

    def at_points(self, cells: np.ndarray, values: np.ndarray, n_points: int) -> np.ndarray:
        """Mean by volume of (c, q) over the cells around each corner, (n_points,); others are NaN."""
        per_cell = (values * self.volume).sum(axis=1)
        weight = self.volume.sum(axis=1)
        top = np.bincount(cells[:, :4].ravel(), np.repeat(per_cell, 4), minlength=n_points)
        bottom = np.bincount(cells[:, :4].ravel(), np.repeat(weight, 4), minlength=n_points)
        return np.divide(top, bottom, out=np.full(n_points, np.nan), where=bottom > 0)


def at_quadrature(elements: Any, cauchy: Any, J: Any, growth: Any = None) -> Stresses:
    """Stresses of a solution, in the order of the body's cells.

    growth: volume under load over that of the elements; None when they lie on the loaded shape.
    """
    weights = basix.make_quadrature(basix.CellType.tetrahedron, elements.DEGREE)[1]
    size = np.abs(values(elements, ufl.JacobianDeterminant(elements.mesh))) * weights
    grown = 1.0 if growth is None else values(elements, growth)
    return Stresses(values(elements, cauchy), values(elements, J), size * grown)


def values(elements: Any, expression: Any) -> np.ndarray:
    """An expression at the cells' points of integration, (c, q, ...), in the order of the body's cells."""
    points = basix.make_quadrature(basix.CellType.tetrahedron, elements.DEGREE)[0]
    cells = np.arange(len(elements.body.cells), dtype=np.int32)
    found = fem.Expression(expression, points).eval(elements.mesh, cells)
    return elements.in_cell_order(np.asarray(found).reshape(len(cells), len(points), *expression.ufl_shape))


def percentile_by_volume(values: np.ndarray, volume: np.ndarray, percent: float) -> float:
    """The value that `percent` of the volume does not exceed."""
    order = np.argsort(values, axis=None, kind="stable")
    share = np.cumsum(volume.ravel()[order])
    return float(values.ravel()[order][np.searchsorted(share, percent / 100 * share[-1])])
