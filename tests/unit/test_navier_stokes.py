"""The 3D flow solver on tubes, where exact answers are known."""

import copy
import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from solvers.errors import BadInput, DidNotConverge
from solvers.flow import kernels, navier_stokes, pulsatile
from solvers.flow.kernels import Carried
from solvers.flow.navier_stokes import Caps, Flow, Fluid, Stepping
from solvers.flow.progress import Progress, Start
from solvers.flow.pulsatile import Cycles
from solvers.flow.pulse import Pulse
from solvers.flow.windkessel import Windkessel
from solvers.geometry import dolfinx_mesh
from tests import tubes

RADIUS, LENGTH = 4e-3, 0.04
BED = Windkessel(2e7, 4e8, 4e-9, venous=600.0)


def flow_in_tube(dt=2e-3, n=8, n_along=20, bed=BED, length=LENGTH, radius=RADIUS) -> Flow:
    mesh = dolfinx_mesh.load(*tubes.tube(n, n_along, length, radius))
    return Flow(mesh, Caps(tubes.WALL, tubes.INLET, {tubes.OUTLET: bed}), Fluid(), Stepping(dt=dt))


@pytest.fixture(scope="module")
def tube() -> Flow:
    return flow_in_tube()


@pytest.mark.parametrize("rate", [2e-6, 2e-5])
def test_poiseuille(tube, rate):
    """Slope of the pressure, peak velocity and shear at a Reynolds number of 100 and of 1,000, 8 cells across."""
    held = flow_in_tube(bed=Windkessel(0.0, 1e8, 0.0))
    inflow = held.inflow(rate)
    state = navier_stokes.steady(held, inflow, held.rest(0.0, 1e8 * rate), tolerance=1e-3)
    z = held.points[:, 2]
    middle = (z > 0.4 * LENGTH) & (z < 0.9 * LENGTH)
    mu = held.fluid.viscosity
    assert np.polyfit(z[middle], state.p[middle], 1)[0] == pytest.approx(-8 * mu * rate / (np.pi * RADIUS**4),
                                                                        rel=0.03)
    assert np.abs(state.u).max() == pytest.approx(2 * rate / (np.pi * RADIUS**2), rel=0.015)
    wall = np.intersect1d(held.wall_vertices, np.flatnonzero(middle))
    shear = np.linalg.norm(held.traction(state)[wall], axis=1)
    assert shear.mean() == pytest.approx(4 * mu * rate / (np.pi * RADIUS**3), rel=0.03)
    after, step = held.advance(state, inflow)
    power, heat = held.power(after, step), held.dissipation(after)
    assert heat == pytest.approx(8 * mu * LENGTH / (np.pi * RADIUS**4) * rate**2, rel=0.03)
    assert -sum(power.values()) == pytest.approx(heat, rel=0.01)  # all that is lost becomes heat
    kinetic = power[tubes.OUTLET] - step.pressure[tubes.OUTLET] * step.flow[tubes.OUTLET]
    assert kinetic == pytest.approx(held.fluid.density * rate**3 / (np.pi * RADIUS**2) ** 2, rel=0.03)


def test_the_step_does_not_decide_the_pressure():
    """The same steady pressure with a step four times shorter."""
    drops = []
    for dt in (2e-3, 5e-4):
        held = flow_in_tube(dt=dt, n=6, n_along=12, bed=Windkessel(0.0, 1e8, 0.0))
        state = navier_stokes.ramped(held, held.inflow(1e-5), held.rest(0.0, 1e3), round(0.1 / dt))
        state = navier_stokes.march(held, state, lambda _t, held=held: held.inflow(1e-5), round(0.2 / dt))
        drops.append(held.mean_pressure(state.p, tubes.INLET) - held.mean_pressure(state.p, tubes.OUTLET))
    assert drops[0] == pytest.approx(drops[1], rel=0.02)


def test_a_step_in_parts_is_as_many_short_steps(tube):
    """While the inflow rises evenly, and at the CFL number that was allowed."""
    start = navier_stokes.ramped(tube, tube.inflow(5e-6), tube.rest(0.0, 8e3), 20)
    whole, short = (replace(tube.stepping, dt=dt, most_cfl=most) for dt, most in ((2e-3, 0.1), (5e-4, np.inf)))
    held = replace(tube, stepping=whole)
    parts, step = held.advance(start, held.inflow(6e-6))
    assert parts.dt == pytest.approx(5e-4)
    assert 0.05 < step.cfl < 0.11
    held, state = replace(tube, stepping=short), start
    for k in range(1, 5):
        state, _ = held.advance(state, held.inflow(5e-6 + k * 0.25e-6))
    assert parts.time == pytest.approx(state.time)
    assert np.abs(parts.u - state.u).max() < 1e-9
    assert np.abs(parts.p - state.p).max() < 1e-6


def test_blood_is_conserved_and_the_inflow_is_exact(tube):
    state = tube.rest(0.0, 8e3)
    for k in range(5):
        rate = 1e-5 * (1 + k)
        state, step = tube.advance(state, tube.inflow(rate))
        assert step.flow[tubes.INLET] == pytest.approx(-rate, rel=1e-9)
        assert step.imbalance < 1e-9


def test_the_outlet_follows_its_windkessel(tube):
    """Under constant flow the pressure at the outlet rises as the exact solution of the Windkessel does."""
    rate, p0 = 1e-5, 5e3
    state = navier_stokes.ramped(tube, tube.inflow(rate), tube.rest(0.0, p0))
    tau, end = BED.distal * BED.compliance, BED.venous + BED.distal * rate
    for k in range(1, 101):
        state, step = tube.advance(state, tube.inflow(rate))
        exact = end + (p0 - end) * np.exp(-k * tube.stepping.dt / tau) + BED.proximal * rate
        assert step.pressure[tubes.OUTLET] == pytest.approx(exact, rel=1e-3)


def test_convection_does_no_work_inside(tube):
    """u . C(w) u is zero for any wind where u vanishes at the border, and what damping takes is never negative."""
    rng = np.random.default_rng(1)
    nodal, u = rng.normal(size=(2, len(tube.nodes.points), 3))
    u[np.unique(np.concatenate(list(map(np.ravel, tube.faces.values()))))] = 0.0
    zero, along = np.zeros(len(tube.tets)), rng.normal(size=(len(tube.tets), 4))
    bare, damped = np.zeros_like(tube.mass), np.zeros_like(tube.mass)
    for values, tau in ((bare, zero), (damped, zero + 1e-3)):
        kernels.add_convection(values, tube.place, tube.cells, tube.tables, nodal,
                               Carried(along, along, zero, tau, zero, zero))
    work = [_work(tube, values, u) for values in (bare, damped)]
    size = _work(tube, np.abs(bare), np.abs(u))
    assert abs(work[0]) < 1e-10 * size
    assert work[1] > 0


def test_the_penalty_acts_on_divergence_alone(tube):
    """Nothing on a field without divergence, c |div|^2 V on a linear one, and its own transpose; its diagonal."""
    points, one = tube.nodes.points, np.ones(len(tube.tets))
    for field, divergence in ((np.column_stack([points[:, 1], -points[:, 0], 0 * points[:, 2]]), 0.0),
                              (points * [1, 2, 3], 6.0)):
        push = np.zeros_like(field)
        kernels.add_penalty(push, tube.cells, one, field)
        assert (push * field).sum() == pytest.approx(divergence**2 * tube.cells.volumes.sum(),
                                                     abs=1e-9 * tube.cells.volumes.sum())
    a, b = np.random.default_rng(2).normal(size=(2, len(points), 3))
    pushes = np.zeros((2, len(points), 3))
    for push, field in zip(pushes, (a, b), strict=True):
        kernels.add_penalty(push, tube.cells, one, field)
    assert (pushes[0] * b).sum() == pytest.approx((pushes[1] * a).sum(), rel=1e-9)
    diagonal = tube._penalty_diagonal(one)
    node = len(points) // 2
    own = 0.0
    for k in range(3):
        unit, push = np.zeros_like(a), np.zeros_like(a)
        unit[node, k] = 1.0
        kernels.add_penalty(push, tube.cells, one, unit)
        own += push[node, k] / 3
    assert diagonal[node] == pytest.approx(own, rel=1e-9)


def test_a_jet_does_not_depend_on_the_step():
    """Behind a stenosis at a throat Reynolds number of 2,600, cells passed in a seventh of a step: the loss is that of
    Young and Tsai within their scatter, and the fastest blood is at most half faster than the throat's mean."""
    rate, throat = 2.7e-5, 2e-3
    points = tubes.tube(6, 36, 0.06, lambda z: 4e-3 - throat * np.where(
        np.abs(z - 0.02) < 0.008, 0.5 + 0.5 * np.cos(np.pi * (z - 0.02) / 0.008), 0.0))
    held = Flow(dolfinx_mesh.load(*points), Caps(tubes.WALL, tubes.INLET, {tubes.OUTLET: Windkessel(0.0, 1e8, 0.0)}))
    state = navier_stokes.ramped(held, held.inflow(rate), held.rest(0.0, 1e8 * rate))
    drops = []
    for _ in range(60):
        state, step = held.advance(state, held.inflow(rate))
        drops.append(step.pressure[tubes.INLET] - step.pressure[tubes.OUTLET])
    formula = 1.52 * 530 * (rate / (np.pi * 16e-6)) ** 2 * 9
    assert 0.6 < np.mean(drops[20:]) / formula < 1.25
    assert 1.2 < np.abs(state.u).max() / (rate / (np.pi * throat**2)) < 1.5


def _work(flow, values, u):
    n = len(flow.nodes.points)
    return float((u * (sparse.csr_matrix((values, flow.pattern.indices, flow.pattern.indptr), shape=(n, n)) @ u)).sum())


def test_a_law_of_one_viscosity_has_the_shear_of_that_viscosity(tube):
    class Same:
        def viscosity(self, rate):
            return np.full_like(rate, tube.fluid.viscosity)

    x, y, _ = tube.nodes.points.T
    state = replace(tube.rest(0.0, 0.0), u=np.column_stack([0 * x, x * y, 1 - (x**2 + y**2) / RADIUS**2]))
    shear = tube.traction(state)
    assert np.linalg.norm(shear[tube.wall_vertices], axis=1).min() > tube.fluid.viscosity / RADIUS
    other = copy.copy(tube)
    other.fluid = replace(tube.fluid, law=Same())
    np.testing.assert_allclose(other.traction(state), shear, rtol=1e-12)


def test_nothing_moves_without_inflow(tube):
    """Blood at rest under the pressure of an outlet in balance stays at rest."""
    state = tube.rest(0.0, BED.venous)
    for _ in range(3):
        state, _ = tube.advance(state, tube.inflow(0.0))
    assert np.abs(state.u).max() < 1e-12
    assert np.abs(state.p - BED.venous).max() < 1e-9


def test_a_pulse_repeats_itself():
    """Pressure at the inlet of a short tube: the Windkessel's impedance at each frequency, and the blood's inertia."""
    flow = flow_in_tube(dt=0.01, n=4, n_along=6, bed=Windkessel(2e7, 2e8, 2e-9))
    phase = np.arange(40) / 40
    pulse = Pulse(0.8, 1e-5 * (1 + 0.8 * np.sin(2 * np.pi * phase)))
    mean = 2.2e8 * 1e-5
    found = pulsatile.solve(flow, pulse, flow.rest(0.0, mean), np.zeros((0, flow.n)),
                            pulsatile.Cycles(least=4, most=12, tolerance=1e-3, snapshots=4))
    assert found.evidence.is_periodic
    assert found.evidence.imbalance < 1e-9
    wave = np.fft.rfft(found.pressure[tubes.OUTLET])[1] / np.fft.rfft(found.flow[tubes.OUTLET])[1]
    assert abs(wave / flow.caps.outlets[tubes.OUTLET].impedance(1 / 0.8) - 1) < 0.005
    assert found.flow[tubes.OUTLET].mean() == pytest.approx(1e-5, rel=1e-3)
    assert len(found.snapshots) == 4
    assert found.osi.max() <= 0.5
    assert (found.wss_peak >= found.tawss - 1e-12).all()
    wall = flow.wall_vertices
    power = found.energy
    assert power.lost == pytest.approx(power.dissipated, rel=0.05) and abs(power.stored) < 0.01 * power.lost
    assert power.unaccounted == pytest.approx(power.inward - power.outward - power.dissipated - power.stored)
    assert found.evidence.wall_repeats and found.evidence.n_cycles < 12
    sheared = wall[found.tawss[wall] > 0]  # not where a cell has no node off the wall
    np.testing.assert_allclose((found.rrt * (1 - 2 * found.osi) * found.tawss)[sheared], 1, rtol=1e-6)
    assert found.transverse_wss[wall].max() < found.tawss[wall].max()
    for field in (found.tawss, found.rrt, found.ecap, found.transverse_wss):
        assert not np.delete(field, wall).any()


def test_heat_is_exact_for_quadratic_flow(tube):
    """2 D:D integrated over the mesh: a rotation makes none, a shear 4, u = x^2 e_x 8 x^2."""
    x, y, z = tube.nodes.points.T
    volume, corners = tube.cells.volumes, tube.points[tube.tets][:, :, 0]
    squares = (volume / 20 * ((corners**2).sum(axis=1) + corners.sum(axis=1) ** 2)).sum()  # of x, over the mesh
    for field, heat in (((-y, x, 0 * z), 0.0), ((y, x, 0 * z), 4 * volume.sum()), ((x**2, 0 * x, 0 * x), 8 * squares)):
        found = kernels.squared_strain(tube.cells, np.column_stack(field)).sum()
        assert found == pytest.approx(heat, rel=1e-9, abs=1e-12 * volume.sum())


def test_cycles_end_when_the_wall_repeats_or_no_longer_comes_closer():
    """At the caps all is well; the wall decides."""
    def progress(caps, wall):
        return Progress(3, None, change=caps, wall_change=wall)

    few, cycles = progress(0.1, 0.1), pulsatile.Cycles()
    ends = [pulsatile._is_settled(few, progress(*x), cycles) for x in
            ((0.004, 0.009), (0.006, 0.009), (0.004, 0.03), (0.004, 0.09), (0.006, 0.09))]
    assert ends == [True, False, False, True, False]
    assert not pulsatile._is_settled(progress(0.1, 0.002), progress(0.004, 0.03), cycles)  # one that had repeated


def test_a_restart_is_read_as_it_was_written(tube, tmp_path):
    state = tube.rest(0.0, 8e3)
    kept = Progress(2, state, {2: np.ones(3)}, {2: np.arange(3.0)}, 0.02, np.arange(12.0).reshape(4, 3), 0.3,
                    Start(tube.rest(-1.0, 7e3), 0.4))
    kept.write(tmp_path / "progress.npz")
    again = Progress.read(tmp_path / "progress.npz")
    assert (again.n_cycles, again.change, again.wall_change) == (2, 0.02, 0.3)
    assert (again.before.state.time, again.before.wall_change) == (-1.0, 0.4) and (again.before.state.p == 7e3).all()
    assert again.before.state.stored.keys() == state.stored.keys()
    np.testing.assert_array_equal(again.shear, kept.shear)


def test_probes_read_a_linear_field(tube):
    weights = pulsatile.sampling(tube, np.array([[0, 0, 0.02], [0, 0, 0.031]]), np.array([[0, 0, 1.0]] * 2),
                                 np.full(2, RADIUS))
    np.testing.assert_allclose(weights @ tube.points[:, 2], [0.02, 0.031], rtol=1e-6)


def test_too_few_steps_are_refused(tube):
    with pytest.raises(BadInput, match="time steps"):
        pulsatile.solve(tube, Pulse(0.02, np.full(8, 1e-5)), tube.rest(0.0, 1e3), np.zeros((0, tube.n)))
    with pytest.raises(BadInput, match="cycles"):
        pulsatile.solve(tube, Pulse(0.2, np.full(8, 1e-5)), tube.rest(0.0, 1e3), np.zeros((0, tube.n)), Cycles(most=1))


def _spoilt(what):
    """A tube with one fault."""
    points, tets, triangles, tags = tubes.tube(4, 4, LENGTH, RADIUS)
    if what == "mixed_units":
        points = 1e3 * points
    if what == "unmarked_boundary":
        triangles, tags = triangles[tags != tubes.OUTLET], tags[tags != tubes.OUTLET]
    if what in ("inverted_cell", "flat_cell"):
        points = points.copy()
        middle = np.argmin(np.linalg.norm(points - [0, 0, LENGTH / 2], axis=1))
        cell = tets[np.flatnonzero((tets == middle).any(axis=1))[0]]
        base = points[cell[cell != middle]]
        away = base.mean(axis=0) - points[middle]
        points[middle] += away * (1.0 if what == "flat_cell" else 1.5)
    return points, tets, triangles, tags


@pytest.mark.parametrize("code", ["mixed_units", "unmarked_boundary", "inverted_cell", "flat_cell"])
def test_a_faulty_mesh_is_refused_by_name(code):
    mesh = dolfinx_mesh.load(*_spoilt(code))
    with pytest.raises(BadInput) as caught:
        Flow(mesh, Caps(tubes.WALL, tubes.INLET, {tubes.OUTLET: BED} if code != "unmarked_boundary" else {}))
    assert caught.value.code == code


def test_a_negative_compliance_is_refused_by_name():
    with pytest.raises(BadInput) as caught:
        flow_in_tube(n=4, n_along=4, bed=Windkessel(1e7, 1e8, -1e-9))
    assert caught.value.code == "bad_outlet"


def test_a_flow_without_bound_stops_at_once_and_keeps_the_last_state(tube):
    state, inflow = tube.rest(0.0, 8e3), tube.inflow(1e-5)
    state, _ = tube.advance(state, inflow)
    bad = inflow.copy()
    bad[tube.inner[0]] = np.nan
    with pytest.raises(DidNotConverge) as caught:
        tube.advance(state, bad)
    assert caught.value.state is state


def digest_of_a_run() -> str:
    """Of velocities and pressures after eight steps."""
    held = flow_in_tube()
    state = navier_stokes.ramped(held, held.inflow(1e-5), held.rest(0.0, 8e3), 8)
    return hashlib.sha256(state.u.tobytes() + state.p.tobytes()).hexdigest()


def test_two_threads_give_the_same_bits_as_one():
    told = subprocess.run([sys.executable, "-c", "from tests.unit.test_navier_stokes import digest_of_a_run; "
                           "import numba; assert numba.get_num_threads() == 2; print(digest_of_a_run())"],
                          env=os.environ | {"NUMBA_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)},
                          capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split()[-1] == digest_of_a_run()
