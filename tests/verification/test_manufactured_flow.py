"""Orders of the 3D flow solver by manufactured solutions, in a plane and in space.

A velocity without divergence and a pressure, both smooth, are put into the
momentum balance; what is left over is the body force that the solver is given.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from solvers.flow import taylor_hood
from solvers.flow.navier_stokes import Caps, Flow, Fluid, Stepping
from solvers.geometry import dolfinx_mesh
from tests.tubes import CUTS

WALL, INLET = 1, 2
FLUID = Fluid(density=1.3, viscosity=0.05)
PLAIN = {"subgrid": 0.0, "penalty": 0.0}
"""Without what acts on motion too fine for the mesh: its explicit part lags a step, so it is of first order in time,
times the size of a cell."""


@dataclass(frozen=True)
class Exact:
    """u = cos(t) U(x), p = cos(x . wave) cos(t + 0.3)."""

    dim: int

    @property
    def wave(self) -> np.ndarray:
        return np.array([1.1, 0.7, 0.4 if self.dim == 3 else 0.0])

    def shape(self, at):
        """U (n, 3), its gradient d_j U_k (n, 3, 3) and its Laplacian (n, 3)."""
        x, y, z = at.T
        c, s = np.cos, np.sin
        U, G = np.zeros_like(at), np.zeros((len(at), 3, 3))
        U[:, 0], U[:, 1] = c(x + 0.3) * s(y), -s(x + 0.3) * c(y)
        G[:, 0, 0], G[:, 1, 0] = -s(x + 0.3) * s(y), c(x + 0.3) * c(y)
        G[:, 0, 1], G[:, 1, 1] = -c(x + 0.3) * c(y), s(x + 0.3) * s(y)
        L = -2 * U
        if self.dim == 3:
            swirl = np.stack([s(z) + c(y), s(x) + c(z), s(y) + c(x)], axis=1)
            U, L = U + swirl, L - swirl
            for j, k, slope in ((2, 0, c(z)), (1, 0, -s(y)), (0, 1, c(x)), (2, 1, -s(z)), (1, 2, c(y)), (0, 2, -s(x))):
                G[:, j, k] += slope
        return U, G, L

    def velocity(self, at, t):
        return np.cos(t) * self.shape(at)[0]

    def pressure(self, at, t):
        return np.cos(at @ self.wave) * np.cos(t + 0.3)

    def force(self, at, t):
        U, G, L = self.shape(at)
        inertia = -np.sin(t) * U + np.cos(t) ** 2 * np.einsum("nj,njk->nk", U, G)
        slope = -np.sin(at @ self.wave)[:, None] * self.wave * np.cos(t + 0.3)
        return FLUID.density * inertia - FLUID.viscosity * np.cos(t) * L + slope


def box(dim, n):
    """The unit square or cube, n cells along a side; the side x = 0 is the inlet."""
    u = np.linspace(0, 1, n + 1)
    points = np.stack(np.meshgrid(*[u] * dim, indexing="ij"), -1).reshape(-1, dim)
    number = np.arange(len(points)).reshape([n + 1] * dim)
    low = np.meshgrid(*[np.arange(n)] * dim, indexing="ij")
    around = [(0, 0), (1, 0), (1, 1), (0, 1)]
    corners = around if dim == 2 else [(*a, 0) for a in around] + [(*a, 1) for a in around]
    at = np.stack([number[tuple(i + a for i, a in zip(low, corner, strict=True))].ravel() for corner in corners], 1)
    cells = at[:, CUTS if dim == 3 else [[0, 1, 2], [0, 2, 3]]].reshape(-1, dim + 1)
    others = [[j for j in range(dim + 1) if j != i] for i in range(dim + 1)]
    faces, counts = np.unique(np.sort(cells[:, others].reshape(-1, dim), axis=1), axis=0, return_counts=True)
    faces = faces[counts == 1]
    points = np.hstack([points, np.zeros((len(points), 3 - dim))])
    tags = np.where((points[faces][:, :, 0] < 1e-9).all(axis=1), INLET, WALL)
    return dolfinx_mesh.load(points, cells, faces, tags)


def errors(dim, n, dt, end, fluid=FLUID, beat=(1.0,), **stepping):
    """L2 errors of velocity and pressure at the end. beat: lengths of the steps in turn, over dt."""
    exact = Exact(dim)
    flow = Flow(box(dim, n), Caps(WALL, INLET, {}), fluid, Stepping(dt=dt, tolerance=1e-8, **stepping))
    at, corners = flow.nodes.points, flow.points
    p = [exact.pressure(corners, -k * dt) for k in range(3)]
    scale = dt / (1.5 * fluid.density)
    state = replace(flow.rest(0.0, 0.0), u=exact.velocity(at, 0.0), u_before=exact.velocity(at, -dt), p=p[0],
                    potential=scale * (p[0] - p[1]), potential_before=scale * (p[1] - p[2]))
    for k in range(round(end / dt)):
        flow.stepping = replace(flow.stepping, dt=beat[k % len(beat)] * dt)
        after = state.time + flow.stepping.dt
        state, _ = flow.advance(state, exact.velocity(at, after), exact.force(at, after))
    places, weights = taylor_hood.quadrature(dim + 1)
    weights = np.multiply.outer(flow.cells.volumes, weights)
    inside = np.einsum("qm,cmk->cqk", places, corners[flow.tets])
    u = np.einsum("qa,cak->cqk", taylor_hood.values(places), state.u[flow.nodes.cells])
    u -= exact.velocity(inside.reshape(-1, 3), state.time).reshape(inside.shape)
    q = state.p[flow.tets] @ places.T - exact.pressure(inside.reshape(-1, 3), state.time).reshape(inside.shape[:2])
    q -= (q * weights).sum() / weights.sum()
    return np.sqrt(np.array([(u**2 * weights[..., None]).sum(), (q**2 * weights).sum()]))


def space_order(dim, sizes, **options):
    """Orders (velocity, pressure) between two meshes, the step following the mesh to the power of 3/2."""
    coarse, fine = (errors(dim, n, 0.4 / n**1.5, 0.4, **options) for n in sizes)
    return np.log(coarse / fine) / np.log(sizes[1] / sizes[0])


@pytest.mark.parametrize(("dim", "sizes"), [(2, (8, 16)), (3, (4, 8))])
def test_third_order_velocity_and_second_order_pressure_in_space(dim, sizes):
    velocity, pressure = space_order(dim, sizes, **PLAIN)
    assert velocity >= 2.9
    assert pressure >= 1.9


@pytest.mark.parametrize("wrong", [replace(FLUID, density=1.02 * FLUID.density),
                                   replace(FLUID, viscosity=1.02 * FLUID.viscosity)])
def test_a_coefficient_two_percent_off_spoils_the_order(wrong):
    assert min(space_order(2, (8, 16), fluid=wrong, **PLAIN) - [2.9, 1.9]) < 0


@pytest.mark.parametrize("beat", [(1.0,), (0.5, 0.5, 1.0, 2.0)])
def test_second_order_in_time(beat):
    long, short = (errors(2, 16, dt / max(beat), 0.8, beat=beat, **PLAIN)[0] for dt in (0.1, 0.05))
    assert np.log2(long / short) >= 1.9


def test_as_used_the_damping_keeps_the_orders_in_a_plane():
    velocity, pressure = space_order(2, (8, 16))
    assert velocity >= 2.9
    assert pressure >= 1.9
