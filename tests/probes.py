"""Values of a flow's fields at given points."""

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from solvers.flow import taylor_hood
from solvers.flow.navier_stokes import Flow


def places(flow: Flow, points: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Values at points (k, 3) of a field on the nodes (n, 3), quadratic, or on the vertices (n,), linear."""
    _, near = cKDTree(flow.points[flow.tets].mean(axis=1)).query(points, k=min(100, len(flow.tets)))
    inside = np.einsum("pcak,pck->pca", flow.grads[near], points[:, None] - flow.points[flow.tets[near]].mean(axis=2))
    best = (inside + 0.25).min(axis=2).argmax(axis=1)
    row = np.arange(len(points))
    at, cell = (inside + 0.25)[row, best], near[row, best]
    weights = taylor_hood.values(at)
    return lambda field: (np.einsum("pa,pak->pk", weights, field[flow.nodes.cells[cell]]) if field.ndim == 2
                          else np.einsum("pa,pa->p", at, field[flow.tets[cell]]))
