"""One step of the 3D flow solver against its equations, written a second time in UFL and assembled by DOLFINx.

A step dt follows one of dt / r. With x a field now and x' the one a step before:

    now = (1 + 2 r) / (1 + r),  past(x) = (1 + r) x - r^2 / (1 + r) x',  ahead(x) = (1 + r) x - r x'
    w = ahead(u) - grad ahead(phi)                 the wind; W its mean over a cell
    h = (6 sqrt(2) volume)^(1/3)                   the size of a cell
    extra = law(sqrt(2 D:D)) / rho - nu            D the cell's mean rate of strain of ahead(u)
    tau = subgrid / (2 |W| / h + 4 (nu + extra) / h^2)
    gamma = min(penalty |W| h, h^2 / (10 dt))
    S = (W.grad u, q) / (1, q)                     at the vertex of each linear function q

The new velocity U is given on wall and inlet. For each quadratic v that vanishes there

    (now U - past(u), v) / dt - (f / rho, v) + (grad p / rho + grad past(phi) / dt, v)
    + nu (grad U, grad v) + extra (grad U + (grad u)^T, grad v)
    + (w.grad U, v) / 2 - (w.grad v, U) / 2 + <w.n U, v> / 2 - backflow <min(ahead(u).n, 0) U, v>
    + tau (W.grad U - S, W.grad v) + gamma (div U, div v) = 0

where <,> is an integral over the outlets; that of the backflow is a sum over nodes of equal weight. The new potential
Phi and pressure P: for each q, and with a(q) = (U, grad q) - the integral of U.n q over wall and inlet,

    (grad Phi, grad q) = a(q) off the outlets,  Phi = dt / (now rho) (change of the bed's pressure) on each of them
    outflow = sum of a(q) - (grad Phi, grad q) over the q of an outlet, for which its bed gives its pressure
    P = p + now rho / dt Phi + mu a(q) / (1, q), without the last on outlets
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest
from scipy.spatial import cKDTree

from solvers.fenics import MPI, fem, mesh, ufl
from solvers.flow import cells, kernels, taylor_hood
from solvers.flow.navier_stokes import Caps, Flow, Fluid, State, Step, Stepping
from solvers.flow.windkessel import Windkessel
from solvers.geometry import dolfinx_mesh

WALL, INLET, END, SIDE = 1, 2, 3, 4
BEDS = {END: Windkessel(0.4, 2.0, 0.3, 0.1), SIDE: Windkessel(0.7, 1.1, 0.2, -0.2)}
DT, RATIO = 0.1, 1.3
RHO, MU = 1.3, 0.05
SUBGRID, PENALTY, BACKFLOW = 0.6, 0.2, 0.7
NODES_OF_A_FACE = {"quadrature_rule": "custom", "quadrature_degree": 2, "quadrature_weights": np.full(6, 1 / 12),
                   "quadrature_points": np.array([[0, 0], [1, 0], [0, 1], [0.5, 0.5], [0, 0.5], [0.5, 0]])}


@dataclass(frozen=True)
class Thins:
    """A law whose viscosity is now above MU, now below it, Pa s."""

    def viscosity(self, rate):
        return 0.02 + 0.2 / (1 + rate)


def slanted_box():
    """144 irregular tetrahedra in no particular direction: inlet, an outlet at the end and one in a side."""
    grid = mesh.create_box(MPI.COMM_SELF, [[0, 0, 0], [1, 1, 1]], [4, 3, 2])
    points, cells = grid.geometry.x.copy(), grid.geometry.dofmaps[0]
    grid.topology.create_connectivity(2, 3)
    faces = mesh.entities_to_geometry(grid, 2, mesh.exterior_facet_indices(grid.topology))
    x, _, z = points[faces].mean(axis=1).T
    tags = np.select([x < 1e-9, x > 1 - 1e-9, (z > 1 - 1e-9) & (np.abs(x - 0.5) < 0.25)], [INLET, END, SIDE], WALL)
    inside = ((points > 1e-9) & (points < 1 - 1e-9)).all(axis=1)
    points[inside] += np.random.default_rng(1).uniform(-0.06, 0.06, (inside.sum(), 3))
    slant = [[1.5, 0.3, -0.2], [-0.4, 0.9, 0.3], [0.1, 0.2, 0.8]]
    return dolfinx_mesh.load(points @ np.array(slant).T, cells, faces, tags)


def smooth(rng, points, columns):
    """Waves of a few lengths and random directions, (n, columns)."""
    waves, phases = rng.normal(scale=2.0, size=(4, columns, 3)), rng.uniform(0, 2 * np.pi, (4, columns))
    return np.cos(np.einsum("akj,nj->ank", waves, points) + phases[:, None]).sum(axis=0) / 2


@dataclass(frozen=True)
class OneStep:
    """What went into a step and what came out, as the solver's arrays."""

    flow: Flow
    before: State
    force: np.ndarray
    given: np.ndarray
    after: State
    shown: Step

    def function(self, space, values):
        """Values at the solver's nodes as a function of DOLFINx."""
        found = fem.Function(space)
        found.x.array[:] = values[self._nodes(space)].ravel()
        return found

    def assembled(self, form, space):
        """A linear form at the solver's nodes, (n, 3) or (vertices,)."""
        at = self._nodes(space)
        found = np.empty((len(at), space.dofmap.bs))
        found[at] = fem.assemble_vector(fem.form(form)).array.reshape(found.shape)
        return found.squeeze()

    def _nodes(self, space):
        away, nodes = cKDTree(self.flow.nodes.points).query(space.tabulate_dof_coordinates())
        assert away.max() < 1e-12
        return nodes

    @cached_property
    def quadratic(self):
        return fem.functionspace(self.flow.domain.mesh, ("Lagrange", 2, (3,)))

    @cached_property
    def linear(self):
        return fem.functionspace(self.flow.domain.mesh, ("Lagrange", 1))

    @cached_property
    def volume(self):
        return ufl.Measure("dx", self.flow.domain.mesh, metadata={"quadrature_degree": 6})

    def border(self, *tags, **how):
        return ufl.Measure("ds", self.flow.domain.mesh, subdomain_data=self.flow.domain.facets,
                           metadata=how or {"quadrature_degree": 6})(tags)

    def mean(self, field):
        """Of a field over each cell."""
        space = fem.functionspace(self.flow.domain.mesh, ("DG", 0, field.ufl_shape))
        found, test = fem.Function(space), ufl.TestFunction(space)
        found.x.array[:] = fem.assemble_vector(fem.form(
            ufl.inner(field, test) / ufl.CellVolume(self.flow.domain.mesh) * self.volume)).array
        return found

    @cached_property
    def weighed(self):
        """(1, q) for each linear q."""
        return self.assembled(ufl.TestFunction(self.linear) * self.volume, self.linear)

    @cached_property
    def against(self):
        """a(q)."""
        U, q = self.function(self.quadratic, self.after.u), ufl.TestFunction(self.linear)
        n = ufl.FacetNormal(self.flow.domain.mesh)
        return self.assembled(ufl.inner(U, ufl.grad(q)) * self.volume
                              - ufl.inner(U, n) * q * self.border(WALL, INLET), self.linear)

    @cached_property
    def left(self):
        """a(q) - (grad Phi, grad q)."""
        Phi, q = self.function(self.linear, self.after.potential), ufl.TestFunction(self.linear)
        return self.against - self.assembled(ufl.inner(ufl.grad(Phi), ufl.grad(q)) * self.volume, self.linear)

    @cached_property
    def free(self):
        """Nodes neither on the wall nor on the inlet."""
        held = np.concatenate([self.flow.faces[t].ravel() for t in (WALL, INLET)])
        return np.setdiff1d(np.arange(len(self.flow.nodes.points)), held)

    def vertices(self, tag):
        return np.unique(self.flow.faces[tag][:, :3])


def past(now, before):
    return (1 + RATIO) * now - RATIO**2 / (1 + RATIO) * before


def ahead(now, before):
    return (1 + RATIO) * now - RATIO * before


NOW = (1 + 2 * RATIO) / (1 + RATIO)


@pytest.fixture(scope="module", params=[None, Thins()], ids=["constant", "thinning"])
def step(request) -> OneStep:
    flow = Flow(slanted_box(), Caps(WALL, INLET, BEDS), Fluid(RHO, MU, request.param),
                Stepping(DT, 1e-13, BACKFLOW, SUBGRID, PENALTY))
    rng, nodes, vertices = np.random.default_rng(2), flow.nodes.points, flow.points
    before = State(0.4, smooth(rng, nodes, 3), smooth(rng, nodes, 3), smooth(rng, vertices, 1)[:, 0],
                   0.3 * smooth(rng, vertices, 1)[:, 0], 0.3 * smooth(rng, vertices, 1)[:, 0], DT / RATIO,
                   {END: 0.3, SIDE: -0.5}, {END: 0.8, SIDE: 0.2}, {END: 0.6, SIDE: -0.4})
    force, given = smooth(rng, nodes, 3), smooth(rng, nodes, 3)
    return OneStep(flow, before, force, given, *flow.advance(before, given, force))


class Momentum:
    """The terms of the weak form, each with a strength that is one."""

    def __init__(self, step: OneStep) -> None:
        self.step = step
        self.terms = list(self._write().items())
        self.strengths = fem.Constant(step.flow.domain.mesh, np.ones(len(self.terms)))
        self.form = fem.form(sum(self.strengths[i] * term for i, (_, term) in enumerate(self.terms)))

    def residual(self, nudged: str = "") -> float:
        """Largest at a free node, relative to what the velocity is balanced with; a term may be 2 % too strong."""
        self.strengths.value[:] = [1.02 if name == nudged else 1.0 for name, _ in self.terms]
        return np.abs(self.step.assembled(self.form, self.step.quadratic)[self.step.free]).max() / self._size

    @cached_property
    def _size(self) -> float:
        s = self.step
        pushed = ufl.inner(s.function(s.quadratic, s.force), ufl.TestFunction(s.quadratic)) / RHO * s.volume
        return np.abs(s.assembled(pushed, s.quadratic)).max()

    def _write(self):
        s = self.step
        inner, grad, div, dot = ufl.inner, ufl.grad, ufl.div, ufl.dot
        dx, outlets = s.volume, s.border(END, SIDE)
        at_nodes = s.border(END, SIDE, **NODES_OF_A_FACE)
        n, h = ufl.FacetNormal(s.flow.domain.mesh), (6 * np.sqrt(2) * ufl.CellVolume(s.flow.domain.mesh)) ** (1 / 3)
        U, u, u_, f = (s.function(s.quadratic, x) for x in (s.after.u, s.before.u, s.before.u_before, s.force))
        p, phi, phi_ = (s.function(s.linear, x) for x in (s.before.p, s.before.potential, s.before.potential_before))
        v, nu = ufl.TestFunction(s.quadratic), MU / RHO
        bare = ahead(u, u_)
        w = bare - grad(ahead(phi, phi_))
        W, extra, S = self._of_cells(u, w, bare)
        speed = ufl.sqrt(dot(W, W))
        tau = SUBGRID / (2 * speed / h + 4 * (nu + extra) / h**2)
        gamma = ufl.min_value(PENALTY * speed * h, h**2 / (10 * DT))
        return {
            "inertia": NOW / DT * inner(U, v) * dx,
            "past": -inner(past(u, u_), v) / DT * dx,
            "force": -inner(f, v) / RHO * dx,
            "pressure": inner(grad(p), v) / RHO * dx,
            "potential": inner(grad(past(phi, phi_)), v) / DT * dx,
            "viscous": nu * inner(grad(U), grad(v)) * dx,
            "law": extra * inner(grad(U), grad(v)) * dx,
            "law, transposed": extra * inner(grad(u).T, grad(v)) * dx,
            "convection": inner(dot(grad(U), w), v) / 2 * dx,
            "convection, skew": -inner(dot(grad(v), w), U) / 2 * dx,
            "outflow": dot(w, n) * inner(U, v) / 2 * outlets,
            "backflow": -BACKFLOW * ufl.min_value(dot(bare, n), 0.0) * inner(U, v) * at_nodes,
            "subgrid": tau * inner(dot(grad(U), W), dot(grad(v), W)) * dx,
            "resolved": -tau * inner(S, dot(grad(v), W)) * dx,
            "penalty": gamma * div(U) * div(v) * dx,
        }

    def _of_cells(self, u, w, bare):
        """W, extra and S."""
        s, law = self.step, self.step.flow.fluid.law
        W, strain = s.mean(w), s.mean(ufl.sym(ufl.grad(bare)))
        space = fem.functionspace(s.flow.domain.mesh, ("Lagrange", 1, (3,)))
        moments = s.assembled(ufl.inner(ufl.dot(ufl.grad(u), W), ufl.TestFunction(space)) * s.volume, space)
        extra = fem.Function(fem.functionspace(s.flow.domain.mesh, ("DG", 0)))
        if law is not None:
            rates = np.sqrt(2 * (strain.x.array.reshape(-1, 9) ** 2).sum(axis=1))
            extra.x.array[:] = (law.viscosity(rates) - MU) / RHO
        return W, extra, s.function(space, moments / s.weighed[:, None])


@pytest.fixture(scope="module")
def momentum(step) -> Momentum:
    return Momentum(step)


def test_the_velocity_fulfils_the_momentum_balance(step, momentum):
    assert momentum.residual() < 1e-9
    held = np.setdiff1d(np.arange(len(step.given)), step.free)
    np.testing.assert_allclose(step.after.u[held], step.given[held], atol=1e-12)


def test_each_term_is_felt(step, momentum):
    """No term vanishes in this state, nor is the penalty the same branch everywhere, nor outflow of one sign."""
    felt = {name: momentum.residual(name) for name, _ in momentum.terms}
    silent = {name for name, change in felt.items() if change < 1e-5}
    assert silent == (set() if step.flow.fluid.law else {"law", "law, transposed"}), felt


def test_the_potential_takes_the_divergence_off(step):
    off = np.setdiff1d(np.arange(step.flow.n), np.concatenate([step.vertices(t) for t in BEDS]))
    assert np.abs(step.left[off]).max() < 1e-10 * np.abs(step.against).max()


@pytest.mark.parametrize("tag", list(BEDS))
def test_an_outlet_and_its_bed_agree_on_pressure_and_flow(step, tag):
    bed, before, after = BEDS[tag], step.before, step.after
    flow, pressure = step.left[step.vertices(tag)].sum(), after.pressure[tag]
    stored = bed.stored(before.stored[tag], before.flow[tag], flow, DT)
    assert (after.flow[tag], step.shown.flow[tag]) == pytest.approx((flow, flow), rel=1e-9)
    assert after.stored[tag] == pytest.approx(stored, rel=1e-9)
    assert pressure == pytest.approx(stored + bed.proximal * flow, rel=1e-9)
    np.testing.assert_allclose(after.potential[step.vertices(tag)],
                               DT / (NOW * RHO) * (pressure - before.pressure[tag]), rtol=1e-9)


def test_the_pressure_is_the_last_one_with_the_potential_and_the_rotation(step):
    rotation = MU * step.against / step.weighed
    rotation[np.concatenate([step.vertices(t) for t in BEDS])] = 0.0
    assert np.abs(rotation).max() > 0.05
    wanted = step.before.p + NOW * RHO / DT * step.after.potential + rotation
    np.testing.assert_allclose(step.after.p, wanted, atol=1e-9)


def test_what_a_step_hands_on(step):
    before, after = step.before, step.after
    assert (after.time, after.dt) == pytest.approx((before.time + DT, DT))
    np.testing.assert_array_equal(after.u_before, before.u)
    np.testing.assert_array_equal(after.potential_before, before.potential)


def test_power_heat_and_energy(step):
    """Of the new state: flux of total pressure through each cap, 2 mu D:D, rho |u|^2 / 2."""
    U, P = step.function(step.quadratic, step.after.u), step.function(step.linear, step.after.p)
    n, strain, law = ufl.FacetNormal(step.flow.domain.mesh), ufl.sym(ufl.grad(U)), step.flow.fluid.law
    mu = fem.Function(fem.functionspace(step.flow.domain.mesh, ("DG", 0)))
    rates = np.sqrt(2 * (step.mean(strain).x.array.reshape(-1, 9) ** 2).sum(axis=1))
    mu.x.array[:] = MU if law is None else law.viscosity(rates)
    kinetic = RHO / 2 * ufl.inner(U, U)
    power = step.flow.power(step.after, step.shown)
    for tag in (INLET, END, SIDE):
        moved, pushed, flow, area, load = (
            fem.assemble_scalar(fem.form(term * step.border(tag)))
            for term in (kinetic * ufl.inner(U, n), P * ufl.inner(U, n), ufl.inner(U, n), 1.0 + 0 * P, P))
        if tag == INLET:
            assert step.shown.flow[tag] == pytest.approx(flow, rel=1e-9)
        else:
            pushed = step.after.pressure[tag] * step.after.flow[tag]
        assert step.flow.mean_pressure(step.after.p, tag) == pytest.approx(load / area, rel=1e-9)
        assert power[tag] == pytest.approx(moved + pushed, rel=1e-9)
    heat, energy = (fem.assemble_scalar(fem.form(term * step.volume))
                    for term in (2 * mu * ufl.inner(strain, strain), kinetic))
    assert step.flow.dissipation(step.after) == pytest.approx(heat, rel=1e-9)
    assert step.flow.kinetic_energy(step.after) == pytest.approx(energy, rel=1e-9)


def test_what_a_step_shows(step):
    speed = np.linalg.norm(step.after.u, axis=1)[step.flow.nodes.cells].max(axis=1)
    corners = step.flow.points[step.flow.tets]
    size = (np.sqrt(2) * np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1]))) ** (1 / 3)
    assert step.shown.cfl == pytest.approx((speed / size).max() * DT, rel=1e-9)
    flow = step.shown.flow
    assert step.shown.imbalance == pytest.approx(abs(sum(flow.values()) / flow[INLET]), rel=1e-9)


def test_when_a_step_is_taken_in_parts(step):
    """As soon as it is more than twice as long as the last, or passes a cell more often than is allowed."""
    passed = float(kernels.passages(step.flow.cells, step.before.u).max()) * DT
    for last, most, parts in ((0.501, np.inf, 1), (0.499, np.inf, 2), (0.249, np.inf, 4), (1.0, 1.001 * passed, 1),
                              (1.0, 0.999 * passed, 2)):
        held = replace(step.flow, stepping=replace(step.flow.stepping, most_cfl=most))
        assert held._parts(replace(step.before, dt=last * DT)) == parts


def test_shear_on_a_flat_wall_in_a_linear_flow(step):
    """- mu dU/dn along the wall, mu by the law at that rate; at the vertices off the box's edges."""
    flow, slope = step.flow, np.array([[0.3, -1.1, 0.7], [0.4, 0.2, 1.3], [-0.9, 0.5, -0.5]])
    faces, normals = flow.faces[WALL][:, :3], flow.outward[WALL] / np.linalg.norm(flow.outward[WALL], axis=1)[:, None]
    around = {v: normals[(faces == v).any(axis=1)] for v in np.unique(faces)}
    flat = {v: n[0] for v, n in around.items() if np.ptp(n, axis=0).max() < 1e-9}
    assert len(flat) > 10
    found = flow.traction(replace(step.after, u=flow.nodes.points @ slope.T))
    for vertex, n in flat.items():
        rate = -(slope @ n) + n * (n @ slope @ n)
        mu = MU if flow.fluid.law is None else flow.fluid.law.viscosity(np.linalg.norm(rate))
        np.testing.assert_allclose(found[vertex], mu * rate, atol=1e-10)


@pytest.mark.parametrize("corners", [3, 4])
def test_a_regular_cell_is_as_large_as_its_edge(corners):
    points = 0.7 * np.array([[0, 0, 0], [1, 0, 0], [0.5, np.sqrt(0.75), 0], [0.5, np.sqrt(1 / 12), np.sqrt(2 / 3)]])
    made = taylor_hood.nodes(points[:corners], np.arange(corners)[None])
    assert cells.cells(made.points, made.cells, taylor_hood.element(corners).between).size == pytest.approx(0.7)
