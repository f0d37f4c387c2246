"""Triangles in the channel around the cylinder, and the forces on it.

The square of the channel's height around the cylinder is filled along rays from
the circle to its sides; the rest is a rectangle whose stations grow downstream.
Each quadrilateral is cut in two, the other way round in every second one.
"""

from dataclasses import dataclass

import numpy as np

from solvers.flow import taylor_hood
from solvers.flow.navier_stokes import Flow, State

HEIGHT, LENGTH, RADIUS = 0.41, 2.2, 0.05
CENTRE = np.array([0.2, 0.2])
WALL, INLET, OUTLET = 1, 2, 3

Mesh = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Points (n, 3), triangles (c, 3), sides of the border (t, 2) and their tags."""


@dataclass(frozen=True)
class Grid:
    """around: points on the circle, a multiple of 8; layers: between it and the square; growth: of their thickness,
    first to last; along: stations in the rectangle; stretch: of their distance, first to last."""

    around: int = 96
    layers: int = 30
    growth: float = 12.0
    along: int = 60
    stretch: float = 4.0


def channel(grid: Grid) -> Mesh:
    n, m = grid.around, grid.layers + 1
    square, side = _square(grid), n // 4
    x = HEIGHT + (LENGTH - HEIGHT) * _graded(grid.along, grid.stretch)[1:]
    y = square[-1, :side + 1, 1]
    rest = np.stack(np.broadcast_arrays(x[:, None], y), -1)
    points = np.vstack([square.reshape(-1, 2), rest.reshape(-1, 2)])
    ring = np.arange(m * n).reshape(m, n)
    block = np.vstack([ring[-1, :side + 1], m * n + np.arange(rest[..., 0].size).reshape(len(x), side + 1)])
    triangles = np.vstack([_cut(np.hstack([ring, ring[:, :1]])), _cut(block)])
    return _finished(np.column_stack([points, np.zeros(len(points))]), triangles)


def _graded(n: int, ratio: float) -> np.ndarray:
    """n + 1 places from 0 to 1, whose distances grow steadily, `ratio` from the first to the last."""
    steps = ratio ** (np.arange(n) / max(n - 1, 1))
    return np.r_[0.0, np.cumsum(steps) / steps.sum()]


def _square(grid: Grid) -> np.ndarray:
    """Points (layers + 1, around, 2) from the circle outwards, the lower right corner's ray first; the polygon on the
    circle has its area."""
    n = grid.around
    angle = 2 * np.pi * np.arange(n) / n - np.pi / 4
    wider = np.sqrt(2 * np.pi / n / np.sin(2 * np.pi / n))
    inner = CENTRE + RADIUS * wider * np.stack([np.cos(angle), np.sin(angle)], 1)
    t = np.linspace(0, HEIGHT, n // 4 + 1)[:-1]
    full, none = np.full_like(t, HEIGHT), np.zeros_like(t)
    sides = ((full, t), (HEIGHT - t, full), (none, HEIGHT - t), (t, none))
    outer = np.vstack([np.stack(s, 1) for s in sides])
    share = _graded(grid.layers, grid.growth)[:, None, None]
    return (1 - share) * inner + share * outer


def _cut(number: np.ndarray) -> np.ndarray:
    """Triangles (c, 3) of a block of points (a, b)."""
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    odd = (np.add.outer(np.arange(a.shape[0]), np.arange(a.shape[1])) % 2).astype(bool)
    even = [np.stack(t, -1)[~odd] for t in ((a, b, c), (a, c, d))]
    return np.vstack([*even, *(np.stack(t, -1)[odd] for t in ((a, b, d), (b, c, d)))])


def _finished(points: np.ndarray, triangles: np.ndarray) -> Mesh:
    """Its border found and tagged; the cylinder belongs to the wall."""
    sides, counts = np.unique(np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0,
                              return_counts=True)
    sides = sides[counts == 1]
    x = points[sides][:, :, 0]
    tags = np.full(len(sides), WALL)
    tags[(x < 1e-9).all(axis=1)] = INLET
    tags[(x > LENGTH - 1e-9).all(axis=1)] = OUTLET
    return points, triangles, sides, tags


def inflow(flow: Flow, peak: float) -> np.ndarray:
    """Velocities (nodes, 3) that are the parabola with this peak (m/s) at the inlet."""
    u = np.zeros((len(flow.nodes.points), 3))
    y = flow.nodes.points[flow.inner, 1]
    u[flow.inner, 0] = 4 * peak * y * (HEIGHT - y) / HEIGHT**2
    return u


class Force:
    """Of the fluid on the cylinder, N/m: what is left of the momentum balance when it is weighed by the quadratic
    function that is 1 on the cylinder's nodes and 0 on all others. As exact as the flow's energy: a force from the
    wall's gradients loses an order."""

    def __init__(self, flow: Flow) -> None:
        on = np.linalg.norm(flow.nodes.points[:, :2] - CENTRE, axis=1) < 1.001 * RADIUS
        self.fluid, self.dt = flow.fluid, flow.stepping.dt
        near = on[flow.nodes.cells].any(axis=1)
        self.nodes, self.corners = flow.nodes.cells[near], flow.tets[near]
        at, weights = taylor_hood.quadrature(3)
        self.at, self.values = at, taylor_hood.values(at)
        self.slopes = np.einsum("qia,cij->cqaj", taylor_hood.slopes(at), flow.grads[near])
        weight = on[self.nodes].astype(float)
        volumes = flow.cells.volumes[near][:, None] * weights
        self.weight = volumes * (weight @ self.values.T)
        self.push = volumes[..., None] * np.einsum("cqaj,ca->cqj", self.slopes, weight)

    def __call__(self, after: State, before: State) -> np.ndarray:
        """Drag and lift (2,) at the end of the step from `before` to `after`."""
        rate = (1.5 * after.u - 2 * before.u + 0.5 * before.u_before) / self.dt
        u, change = (np.einsum("qa,cak->cqk", self.values, f[self.nodes]) for f in (after.u, rate))
        slope = np.einsum("cqaj,cak->cqjk", self.slopes, after.u[self.nodes])
        inertia = self.fluid.density * (change + np.einsum("cqj,cqjk->cqk", u, slope))
        stress = self.fluid.viscosity * (slope + slope.swapaxes(2, 3))
        stress -= np.einsum("cm,qm->cq", after.p[self.corners], self.at)[..., None, None] * np.eye(3)
        total = np.einsum("cq,cqk->k", self.weight, inertia) + np.einsum("cqj,cqjk->k", self.push, stress)
        return -total[:2]
