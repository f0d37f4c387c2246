"""A state of flow from one mesh to another."""

from dataclasses import replace

import numpy as np
import pytest
from pytest import approx

from solvers.flow import cells, pulsatile, transfer
from solvers.flow.navier_stokes import Caps, Flow, Stepping
from solvers.flow.progress import Start
from solvers.flow.pulse import Pulse
from solvers.flow.windkessel import Windkessel
from solvers.geometry import dolfinx_mesh
from tests import tubes

RADIUS, LENGTH = 4e-3, 0.02
BED = Windkessel(2e7, 2e8, 2e-9)
PULSE = Pulse(0.8, 1e-5 * (1 + 0.8 * np.sin(2 * np.pi * np.arange(40) / 40)))


def made(n, n_along, outlet=tubes.OUTLET, radius=RADIUS) -> Flow:
    points, tets, triangles, tags = tubes.tube(n, n_along, LENGTH, radius)
    tags = np.where(tags == tubes.OUTLET, outlet, tags)
    domain = dolfinx_mesh.load(points, tets, triangles, tags)
    return Flow(domain, Caps(tubes.WALL, tubes.INLET, {outlet: BED}), stepping=Stepping(dt=0.02))


@pytest.fixture(scope="module")
def coarse() -> Flow:
    return made(4, 6)


@pytest.fixture(scope="module")
def fine() -> Flow:
    return made(6, 9, outlet=7)


def test_what_the_old_mesh_holds_exactly_arrives_exactly(coarse, fine):
    """A quadratic velocity and a linear pressure inside, nothing at the wall, and the outlet under its new tag."""
    def velocity(x, y, z):
        return np.column_stack([1 + x * y / RADIUS**2, z**2 / LENGTH**2, x * z / RADIUS**2])

    def pressure(x, y, z):
        return 9e3 + 1e5 * z - 2e5 * x

    state = replace(coarse.rest(0.5, 8e3), u=velocity(*coarse.nodes.points.T),
                    u_before=2 * velocity(*coarse.nodes.points.T), p=pressure(*coarse.points.T))
    taken = transfer.taken_over(state, coarse.nodes, fine, {tubes.OUTLET: 7})
    inside = np.hypot(*fine.nodes.points[:, :2].T) < 0.7 * RADIUS
    np.testing.assert_allclose(taken.u[inside], velocity(*fine.nodes.points.T)[inside], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(taken.u_before, 2 * taken.u, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(taken.p[inside[:fine.n]], pressure(*fine.points.T)[inside[:fine.n]], rtol=1e-9)
    assert not taken.u[np.unique(fine.faces[tubes.WALL])].any()
    assert (taken.time, taken.dt) == (0.5, 0.02)
    assert taken.stored == {7: state.stored[tubes.OUTLET]} and taken.pressure == {7: 8e3} and taken.flow == {7: 0.0}


def test_the_potential_takes_the_divergence_off(fine):
    """Weakly, at every vertex inside: (u - grad potential, grad q) = 0."""
    x, y, z = fine.nodes.points.T
    u = np.column_stack([x, y, z]) * (1 - (x**2 + y**2) / RADIUS**2)[:, None]
    u[np.unique(fine.faces[tubes.WALL])] = 0
    potential = fine.potential(u)
    left, before = fine._against(u) - fine._laplacian @ potential, fine._against(u)
    free = np.setdiff1d(np.arange(fine.n), fine.cap_vertices[7])
    assert np.abs(left[free]).max() < 1e-9 * np.abs(before).max()
    assert not potential[fine.cap_vertices[7]].any()


def test_a_wider_vessel_starts_with_what_is_nearest(coarse):
    """Its nodes outside the old wall lie where the blood was nearly at rest."""
    state = coarse.rest(0.0, 8e3)
    u = np.zeros_like(state.u)
    u[:, 2] = 1 - (coarse.nodes.points[:, :2]**2).sum(axis=1) / RADIUS**2
    u[np.unique(coarse.faces[tubes.WALL])] = 0
    wide = made(6, 9, radius=1.2 * RADIUS)
    taken = transfer.taken_over(replace(state, u=u), coarse.nodes, wide, {tubes.OUTLET: tubes.OUTLET})
    outside = np.hypot(*wide.nodes.points[:, :2].T) > 1.05 * RADIUS
    assert np.abs(taken.u[outside, 2]).max() < 0.2 and taken.u[:, 2].max() == approx(1, abs=0.02)
    np.testing.assert_allclose(taken.p, 8e3)


def test_a_place_is_found_in_its_cell():
    points, tets, _, _ = tubes.tube(4, 6, LENGTH, RADIUS)
    rng = np.random.default_rng(3)
    wanted_cells, weights = rng.integers(len(tets), size=200), rng.dirichlet(np.ones(4), 200)
    at = np.einsum("na,nak->nk", weights, points[tets[wanted_cells]])
    found, places = cells.located(points, tets, at)
    np.testing.assert_array_equal(found, wanted_cells)
    np.testing.assert_allclose(places, weights, atol=1e-9)
    _, edge = cells.located(points, tets, np.array([[2 * RADIUS, 0, 0.01]]))
    assert edge.min() >= 0 and edge.sum() == approx(1)


def test_a_fine_mesh_repeats_sooner_from_the_end_of_a_coarse_one(coarse, fine):
    """Its first beat from there is nearer to its last than its first beat from rest is."""
    rest = coarse.rest(0.0, 2.2e3)
    rough = pulsatile.solve(coarse, PULSE, rest, np.zeros((0, coarse.n)), pulsatile.Cycles(4, 8, 1e-3))
    taken = transfer.taken_over(rough.end.state, coarse.nodes, fine, {tubes.OUTLET: 7})
    exact = pulsatile.solve(fine, PULSE, taken, np.zeros((0, fine.n)), pulsatile.Cycles(6, 6))
    off = []
    for start in (taken, fine.rest(0.0, 2.2e3)):
        first = pulsatile.solve(fine, PULSE, start, np.zeros((0, fine.n)), pulsatile.Cycles(2, 2))
        off.append(np.abs(first.pressure[7] - exact.pressure[7]).max() / np.ptp(exact.pressure[7]))
    assert off[0] < 1e-3 and off[0] < 0.1 * off[1]


def test_the_first_cycle_keeps_what_the_wall_of_the_earlier_flow_changed_by(coarse):
    """So that a wall that never repeats ends the cycles at the second."""
    ends = []
    for known in (np.inf, 1e-9):
        kept = []
        start = Start(coarse.rest(0.0, 2.2e3), known)
        pulsatile.solve(coarse, PULSE, start, np.zeros((0, coarse.n)), pulsatile.Cycles(2, 5, 1.0, wall=1e-12),
                        kept.append)
        assert kept[0].wall_change == known
        ends.append(len(kept) + 1)
    assert ends[1] == 2 < ends[0]


def test_the_last_two_beats_come_out_again(coarse):
    """Started where they began, with what the wall changed by then, to the last digit and in as many beats."""
    cycles = pulsatile.Cycles(2, 6, 1e-3, wall=0.03)
    first = pulsatile.solve(coarse, PULSE, coarse.rest(0.0, 2.2e3), np.zeros((0, coarse.n)), cycles)
    again = pulsatile.solve(coarse, PULSE, first.last_two, np.zeros((0, coarse.n)), cycles)
    assert first.evidence.n_cycles > 2 == again.evidence.n_cycles
    assert again.evidence.wall_change == first.evidence.wall_change
    np.testing.assert_array_equal(again.tawss, first.tawss)
    np.testing.assert_array_equal(again.end.state.u, first.end.state.u)
    np.testing.assert_array_equal(again.last_two.state.u, first.last_two.state.u)
