"""Incompressible flow of blood in a rigid lumen: quadratic velocity, linear pressure, pressure correction.

Scheme. Each step solves, for the velocity with BDF2 and a wind extrapolated to
second order, one scalar matrix shared by the three components; then a Poisson
problem for the pressure's increment, whose matrix is factored once. The
velocity is not corrected: the increments enter the next step's force instead,
which is the same scheme without a mass matrix to invert. The wind is corrected,
cell by cell, and convection is skew-symmetric in it: with the bare velocity a
jet carried by its own leftover divergence loses several times its energy once
the time step is longer than a cell's passage. Each outlet carries the pressure
of what follows it, found together with its flow in the same step; inflow
through outlets is damped. Flow through a cap is the discrete balance of the
Poisson problem, so that mass is conserved to rounding.

What is too fine for the mesh. The part of w.grad u that linear functions do not
hold is damped along the stream (Codina's orthogonal subscales, the convective
term alone), and divergence is penalised (Olshanskii's grad-div), by an implicit
Laplacian less its explicit rest, so that the components stay uncoupled. In a
straight tube at a Reynolds number of 1,000 the pressure's slope is then right
to 2 % on 8,000 tetrahedra, half of it the polygon's; linear velocity with
subscales left 5 % on 62,000.

Sources: Guermond, Minev & Shen 2006, doi:10.1016/j.cma.2005.10.010 (scheme);
Codina 2002, doi:10.1016/S0045-7825(02)00337-7 (subscales);
Olshanskii et al. 2009, doi:10.1016/j.cma.2009.09.005 (grad-div);
Esmaily Moghadam 2011, doi:10.1007/s00466-011-0599-0 (backflow).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import sparse

from solvers.errors import DidNotConverge
from solvers.fenics import PETSc, fem, mesh
from solvers.flow import kernels, taylor_hood
from solvers.flow.inlet import profile
from solvers.flow.windkessel import Windkessel
from solvers.geometry.dolfinx_mesh import Domain

SOURCES = ["Guermond, Minev & Shen 2006, doi:10.1016/j.cma.2005.10.010",
           "Codina 2002 (orthogonal subscales), doi:10.1016/S0045-7825(02)00337-7",
           "Olshanskii, Lube, Heister & Loewe 2009 (grad-div), doi:10.1016/j.cma.2009.09.005",
           "Esmaily Moghadam 2011, doi:10.1007/s00466-011-0599-0"]

BATCH = 20_000
"""Cells whose convection is assembled at once."""


@dataclass(frozen=True)
class Fluid:
    """Density kg/m^3, viscosity Pa s; Newtonian."""

    density: float = 1060.0
    viscosity: float = 0.0035


@dataclass(frozen=True)
class Caps:
    """Facet tags: the wall, the inlet, and each outlet with what follows it."""

    wall: int
    inlet: int
    outlets: dict[int, Windkessel]


@dataclass(frozen=True)
class Stepping:
    """dt in s; tolerance of the linear solve; share of backflow that is damped; strength of the subgrid's damping;
    penalty of the divergence, in density * speed * cell size."""

    dt: float = 0.002
    tolerance: float = 1e-5
    backflow: float = 0.5
    subgrid: float = 0.5
    penalty: float = 0.25


@dataclass(frozen=True)
class State:
    """All that the next step needs. u, u_before (nodes, 3) m/s; p and the last two increments (vertices,) Pa;
    stored and cap pressure, Pa, and outward flow, m^3/s, by outlet."""

    time: float
    u: np.ndarray
    u_before: np.ndarray
    p: np.ndarray
    dp: np.ndarray
    dp_before: np.ndarray
    stored: dict[int, float]
    pressure: dict[int, float]
    flow: dict[int, float]


@dataclass(frozen=True)
class Wind:
    """What carries in one step, nodal (nodes, 3) m/s less the gradient of potential (vertices,) m^2/s; along, drift
    (c, 4) 1/s and tau (c,) s as `kernels.streams` says; penalty (c,) m^2/s."""

    nodal: np.ndarray
    potential: np.ndarray
    along: np.ndarray
    drift: np.ndarray
    tau: np.ndarray
    penalty: np.ndarray


@dataclass(frozen=True)
class OpenEnd:
    """An outlet: triangles (f, 6), the cells behind (f,), areas (f,), its normal (3,), slopes (f, 4) of the cells'
    coordinates along it, places in the CSR values (f, 36)."""

    faces: np.ndarray
    cells: np.ndarray
    areas: np.ndarray
    normal: np.ndarray
    slopes: np.ndarray
    place: np.ndarray


@dataclass(frozen=True)
class Step:
    """What one step shows: time, pressure (Pa) and outward flow (m^3/s) by cap, imbalance, CFL, iterations."""

    time: float
    pressure: dict[int, float]
    flow: dict[int, float]
    imbalance: float
    cfl: float
    iterations: int


@dataclass(frozen=True)
class Outflow:
    """At the end of a step: stored and cap pressure (Pa) by outlet, outward flow (m^3/s) by cap."""

    stored: dict[int, float]
    pressure: dict[int, float]
    flow: dict[int, float]


@dataclass(frozen=True)
class Response:
    """What a unit of pressure at each outlet does: fields (vertices, k), and all outlets' outflows (k, k), m^3/s/Pa."""

    fields: np.ndarray
    flows: np.ndarray


@dataclass
class Flow:
    """The discrete problem: operators that stay, and the step that uses them."""

    domain: Domain
    caps: Caps
    fluid: Fluid = field(default_factory=Fluid)
    stepping: Stepping = field(default_factory=Stepping)

    def __post_init__(self) -> None:
        space = fem.functionspace(self.domain.mesh, ("Lagrange", 1))
        self.points = space.tabulate_dof_coordinates()
        self.tets = np.ascontiguousarray(space.dofmap.list, np.int32)
        self.n = len(self.points)
        self.original = _original(self.domain, space)
        self.nodes = taylor_hood.nodes(self.points, self.tets)
        self.faces = {t: self.nodes.faces(f) for t, f in _faces_by_tag(self.domain, space).items()}
        self._operators()
        self._boundaries()
        self._shear = _wall_slope(self)
        self._response = self._respond()

    def _operators(self) -> None:
        """Gradients, the shared sparsity, mass and viscosity, the Poisson problem's matrix."""
        self.grads, self.volumes = kernels.gradients(self.points, self.tets)
        self.size = (6 * np.sqrt(2) * self.volumes) ** (1 / 3)
        cells, exact = self.nodes.cells, taylor_hood.tensors()
        self.indptr, self.indices = _pattern(cells, len(self.nodes.points))
        self.place = kernels.positions(cells, self.indptr, self.indices).reshape(len(cells), 100)
        self.mass, self.viscous = np.zeros(len(self.indices)), np.zeros(len(self.indices))
        kernels.scatter(self.mass, self.place, self.volumes[:, None] * exact.mass.ravel())
        dots = np.einsum("cik,cjk->cij", self.grads, self.grads) * self.volumes[:, None, None]
        kernels.scatter(self.viscous, self.place, dots.reshape(-1, 16) @ exact.stiffness.reshape(16, 100))
        self.viscous *= self.fluid.viscosity
        self._lumped = np.bincount(self.tets.ravel(), np.repeat(self.volumes / 4, 4), minlength=self.n)
        self.diagonal = _diagonal(self.indptr, self.indices, len(self.nodes.points))
        rows, columns = np.repeat(self.tets, 4, axis=1).ravel(), np.tile(self.tets, (1, 4)).ravel()
        self._laplacian = sparse.csr_matrix((dots.ravel(), (rows, columns)), shape=(self.n, self.n))

    def _boundaries(self) -> None:
        """Fixed velocities, fixed pressures, area vectors of the caps, the inlet's profile."""
        caps, n = self.caps, len(self.nodes.points)
        self.cap_vertices = {tag: np.unique(faces[:, :3]) for tag, faces in self.faces.items()}
        self.outward = {tag: _outward(self.points, faces, self.tets, n) for tag, faces in self.faces.items()}
        on_wall, on_inlet = (np.unique(self.faces[t]) for t in (caps.wall, caps.inlet))
        rim = np.intersect1d(on_wall, on_inlet)
        self.inner = np.setdiff1d(on_inlet, rim)
        self.wall_vertices = self.cap_vertices[caps.wall]
        self.fixed = np.union1d(on_wall, on_inlet).astype(np.int64)
        self.pressure_rows = np.concatenate([self.cap_vertices[t] for t in caps.outlets]).astype(np.int64)
        self._scale = self.stepping.dt / (1.5 * self.fluid.density)
        self._poisson = _Poisson(self._laplacian * self._scale, self.pressure_rows)
        normal = self.outward[caps.inlet].sum(axis=0)
        self.inlet_area = float(np.linalg.norm(normal))
        self.inlet_normal = normal / self.inlet_area
        self._open = [self._open_end(tag) for tag in caps.outlets]
        self.shape = profile(self.nodes.points, _quarters(self.faces[caps.inlet]), rim)
        unit = np.zeros((n, 3))
        unit[self.inner] = -self.shape[self.inner, None] * self.inlet_normal
        self._unit_inflow = unit / -float((unit * self.outward[caps.inlet]).sum())

    def _open_end(self, tag: int) -> OpenEnd:
        faces, vector = self.faces[tag], self.outward[tag].sum(axis=0)
        normal = vector / np.linalg.norm(vector)
        cells, _ = _behind(faces[:, :3], self.tets, self.n)
        place = kernels.positions(faces.astype(np.int32), self.indptr, self.indices).reshape(len(faces), 36)
        return OpenEnd(faces, cells, _areas(self.points, faces), normal, self.grads[cells] @ normal, place)

    def inflow(self, flow: float, velocity: np.ndarray | None = None) -> np.ndarray:
        """Velocities (nodes, 3) at the inlet with exactly this discrete flow in, m^3/s.

        velocity: inward speed (nodes,), m/s, whose flow need not be exact; what is
        missing is added in the profile of steady flow.
        """
        u = np.zeros((len(self.nodes.points), 3))
        if velocity is not None:
            u[self.inner] = -velocity[self.inner, None] * self.inlet_normal
        return u + self._unit_inflow * (flow + float((u * self.outward[self.caps.inlet]).sum()))

    def rest(self, time: float, pressure: float, stored: dict[int, float] | None = None) -> State:
        """Blood at rest under one pressure (Pa)."""
        tags = list(self.caps.outlets)
        zero, none = np.zeros((len(self.nodes.points), 3)), np.zeros(self.n)
        return State(time, zero, zero, np.full(self.n, pressure), none, none, stored or dict.fromkeys(tags, pressure),
                     dict.fromkeys(tags, pressure), dict.fromkeys(tags, 0.0))

    def advance(self, state: State, inflow: np.ndarray) -> tuple[State, Step]:
        """One step: from `state` to `state.time + dt` with the given inlet velocities (nodes, 3)."""
        trial, iterations = self._momentum(state, inflow)
        increment, out = self._correct(state, trial)
        after = State(state.time + self.stepping.dt, trial, state.u, state.p + increment, increment, state.dp,
                      out.stored, out.pressure, {t: out.flow[t] for t in self.caps.outlets})
        self._check(after, state)
        return after, self._shown(after, out.flow, iterations)

    def _momentum(self, state: State, inflow: np.ndarray) -> tuple[np.ndarray, int]:
        """The velocity at the end of the step (nodes, 3), and the iterations that it took."""
        rho, dt = self.fluid.density, self.stepping.dt
        wind = self._wind(state)
        values = self.mass * (1.5 * rho / dt) + self.viscous
        self._add_convection(values, wind)
        self._add_outflow(values, wind)
        load = np.empty_like(wind.nodal)
        kernels.multiply(load, self.indptr, self.indices, self.mass, (2 * state.u - 0.5 * state.u_before) * (rho / dt))
        self._add_resolved(load, wind, state.u)
        kernels.add_divergence_penalty(load, self.nodes.cells, self.grads, self.volumes, rho * wind.penalty,
                                       taylor_hood.BETWEEN, state.u)
        p = state.p + 4 / 3 * state.dp - 1 / 3 * state.dp_before
        kernels.add_pressure_force(load, self.nodes.cells, self.grads, self.volumes, taylor_hood.MEAN, p)
        load[self.fixed] = inflow[self.fixed]
        kernels.fix_rows(values, self.indptr, self.indices, self.fixed)
        u = wind.nodal.copy()
        u[self.fixed] = inflow[self.fixed]
        iterations = kernels.bicgstab(self.indptr, self.indices, values, values[self.diagonal], load, u,
                                      self.stepping.tolerance, 2, 200)
        if iterations < 0:
            raise DidNotConverge("velocity_solve", f"the velocity system was not solved at t = {state.time:.4f} s",
                                 "a small residual in 200 iterations", "Take a smaller time step.", state)
        return u, iterations

    def _wind(self, state: State) -> Wind:
        """The velocity that carries, extrapolated, with the divergence taken off that the pressure's increment took."""
        nodal = 2 * state.u - state.u_before
        potential = self._scale * (2 * state.dp - state.dp_before)
        along, drift, speed, tau = kernels.streams(
            self.nodes.cells, self.grads, taylor_hood.MEAN, self.size, self.fluid.viscosity / self.fluid.density,
            self.stepping.subgrid, nodal, potential)
        return Wind(nodal, potential, along, drift, tau, self.stepping.penalty * speed * self.size)

    def _add_convection(self, values: np.ndarray, wind: Wind) -> None:
        """Add density * [skew (w.grad u, v) + (tau w.grad u, w.grad v) + penalty (grad u, grad v)] to CSR `values`.

        A dense product over the cells, then a scatter.
        """
        exact = taylor_hood.tensors()
        table = self.fluid.density * np.vstack([exact.convection.reshape(40, 100), exact.stiffness.reshape(16, 100)])
        for first in range(0, len(self.tets), BATCH):
            part = slice(first, first + BATCH)
            factors = kernels.transport(self.nodes.cells[part], self.grads[part], self.volumes[part], wind.nodal,
                                        wind.drift[part], wind.along[part], wind.tau[part], wind.penalty[part])
            kernels.scatter(values, self.place[part], factors @ table)

    def _add_resolved(self, load: np.ndarray, wind: Wind, u: np.ndarray) -> None:
        """Give back what the damping of w.grad u takes from its smooth part, its projection on linear functions."""
        slope, cells = taylor_hood.tensors().slope, self.nodes.cells
        smooth = np.zeros((self.n, 3))
        kernels.add_moments(smooth, cells, self.volumes, wind.along, slope, u)
        smooth *= self.fluid.density / self._lumped[:, None]
        kernels.add_recovered(load, cells, self.volumes, wind.along, wind.tau, slope, smooth)

    def _add_outflow(self, values: np.ndarray, wind: Wind) -> None:
        """Add density * (w.n u, v)/2 on the outlets, the skew form's other half, and there damp what flows back."""
        rho = self.fluid.density
        for end in self._open:
            through = wind.nodal[end.faces] @ end.normal
            carried = through - (wind.potential[self.tets[end.cells]] * end.slopes).sum(axis=1, keepdims=True)
            local = 0.5 * rho * end.areas[:, None] * carried @ taylor_hood.on_face().reshape(6, 36)
            kernels.scatter(values, end.place, local)
            back = np.minimum(through, 0.0) * (end.areas / 6)[:, None]
            np.add.at(values, self.diagonal[end.faces], -rho * self.stepping.backflow * back)

    def _correct(self, state: State, trial: np.ndarray) -> tuple[np.ndarray, Outflow]:
        """The pressure's increment that takes the divergence off, and what passes the caps.

        The pressure and the flow of an outlet at the end of the step are found
        together with those of what follows it: `_response` says how a unit of
        pressure there changes the field and all outlets' flows.
        """
        load = np.zeros(self.n)
        kernels.against_gradient(load, self.nodes.cells, self.grads, self.volumes, taylor_hood.MEAN, trial)
        inward = self._weighed(self.caps.inlet, trial)
        load -= inward
        increment = self._poisson.solve(load, np.zeros(self.n))
        outflow, change = self._coupled(state, self._through(load, increment))
        return increment + self._response.fields @ change, replace(
            outflow, flow=outflow.flow | {self.caps.inlet: float(inward.sum())})

    def _weighed(self, tag: int, u: np.ndarray) -> np.ndarray:
        """Integral of u.n q over a cap for each linear shape function q, m^3/s, (vertices,).

        Exact: on a triangle with normal n the linear function of corner 0 weighs
        corner and edge values of a quadratic by (2, -1, -1, 8, 4, 8)/60 of its area.
        """
        faces = self.faces[tag]
        through = (u[faces] @ self.outward[tag].sum(axis=0)) / np.linalg.norm(self.outward[tag].sum(axis=0))
        local = through @ _LINEAR_BY_QUADRATIC.T * _areas(self.points, faces)[:, None]
        return np.bincount(faces[:, :3].ravel(), local.ravel(), minlength=self.n)

    def _through(self, load: np.ndarray, increment: np.ndarray) -> np.ndarray:
        """Outward flow through each outlet, from the balance of the Poisson problem, m^3/s."""
        residual = load - self._poisson.matrix @ increment
        return np.array([residual[self.cap_vertices[tag]].sum() for tag in self.caps.outlets])

    def _coupled(self, state: State, free: np.ndarray) -> tuple[Outflow, np.ndarray]:
        """Outlets with what follows them, and their change of pressure; free: flows (k,) were there no change."""
        tags, dt = list(self.caps.outlets), self.stepping.dt
        before = np.array([state.pressure[t] for t in tags])
        base, slope = np.array([self.caps.outlets[t].affine(state.stored[t], state.flow[t], dt) for t in tags]).T
        G = self._response.flows
        pressure = np.linalg.solve(np.eye(len(tags)) - slope[:, None] * G, base + slope * (free - G @ before))
        flow = free + G @ (pressure - before)
        stored = {t: self.caps.outlets[t].stored(state.stored[t], state.flow[t], q, dt)
                  for t, q in zip(tags, flow, strict=True)}
        return (Outflow(stored, dict(zip(tags, pressure.tolist(), strict=True)),
                        dict(zip(tags, flow.tolist(), strict=True))), pressure - before)

    def _respond(self) -> Response:
        """Fields and outflows under a unit of pressure at each outlet."""
        fields = np.zeros((self.n, len(self.caps.outlets)))
        for k, tag in enumerate(self.caps.outlets):
            unit = np.zeros(self.n)
            unit[self.cap_vertices[tag]] = 1.0
            fields[:, k] = self._poisson.solve(np.zeros(self.n), unit)
        zero = np.zeros(self.n)
        return Response(fields, np.array([self._through(zero, f) for f in fields.T]).T)

    def _check(self, after: State, before: State) -> None:
        if not (np.isfinite(after.u).all() and np.isfinite(after.p).all()):
            raise DidNotConverge("flow_not_finite", f"the flow grew without bound at t = {before.time:.4f} s", "",
                                 "Take a smaller time step, or a finer mesh.", before)

    def _shown(self, state: State, flow: dict[int, float], iterations: int) -> Step:
        inlet = self.caps.inlet
        pressure = state.pressure | {inlet: self.mean_pressure(state.p, inlet)}
        speed = np.linalg.norm(state.u, axis=1)[self.nodes.cells].max(axis=1)
        cfl = float((speed * self.stepping.dt / self.size).max())
        return Step(state.time, pressure, flow, abs(sum(flow.values())) / max(abs(flow[inlet]), 1e-12), cfl,
                    iterations)

    def mean_pressure(self, p: np.ndarray, tag: int) -> float:
        """Area mean over a cap, Pa."""
        faces = self.faces[tag]
        areas = _areas(self.points, faces)
        return float((p[faces[:, :3]].mean(axis=1) * areas).sum() / areas.sum())

    def traction(self, state: State) -> np.ndarray:
        """Wall shear stress vectors at the wall's vertices (vertices, 3), Pa; zero elsewhere.

        From the slope of the quadratic velocity in the cells at the wall, a mean by
        area over the triangles around each vertex.
        """
        return self._shear.stress(state.u)


_LINEAR_BY_QUADRATIC = np.array([[2, -1, -1, 8, 4, 8], [-1, 2, -1, 8, 8, 4], [-1, -1, 2, 4, 8, 8]]) / 60
"""Mean over a triangle of linear times quadratic shape function; edges in the order 0-1, 1-2, 2-0."""


@dataclass(frozen=True)
class _WallSlope:
    """From node velocities to shear stress at the wall's vertices."""

    vertices: np.ndarray
    normals: np.ndarray
    matrix: sparse.csr_matrix
    n: int

    def stress(self, u: np.ndarray) -> np.ndarray:
        found = self.matrix @ u
        found -= self.normals * (found * self.normals).sum(axis=1, keepdims=True)
        out = np.zeros((self.n, 3))
        out[self.vertices] = found
        return out


def _wall_slope(flow: Flow) -> _WallSlope:
    """-viscosity times the derivative of the velocity along the outward normal, at the wall's vertices."""
    faces = flow.faces[flow.caps.wall]
    cell, opposite = _behind(faces[:, :3], flow.tets, flow.n)
    normals = _normals(flow.points, faces)
    areas = np.linalg.norm(normals, axis=1) / 2
    normals /= 2 * areas[:, None]
    inside = flow.points[faces[:, 0]] - flow.points[flow.tets[cell, opposite]]
    normals[np.einsum("fk,fk->f", normals, inside) < 0] *= -1
    along = np.einsum("fik,fk->fi", flow.grads[cell], normals)
    corner_slopes = taylor_hood.slopes(taylor_hood.CORNERS)
    rows, columns, entries = [], [], []
    for corner in range(3):
        local = np.argmax(flow.tets[cell] == faces[:, [corner]], axis=1)
        weights = np.einsum("fi,fib->fb", along, corner_slopes[local]) * areas[:, None]
        rows.append(np.repeat(faces[:, corner], 10))
        columns.append(flow.nodes.cells[cell].ravel())
        entries.append(weights.ravel())
    area = np.bincount(faces[:, :3].ravel(), np.repeat(areas, 3), minlength=flow.n)
    total = sparse.csr_matrix((np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))),
                              shape=(flow.n, len(flow.nodes.points)))
    vertices = flow.wall_vertices
    unit = np.zeros((flow.n, 3))
    np.add.at(unit, faces[:, :3].ravel(), np.repeat(normals * areas[:, None], 3, axis=0))
    unit = unit[vertices] / np.linalg.norm(unit[vertices], axis=1, keepdims=True)
    scaled = sparse.diags(-flow.fluid.viscosity / area[vertices]) @ total[vertices]
    return _WallSlope(vertices, unit, scaled.tocsr(), flow.n)


class _Poisson:
    """The Laplacian with fixed rows, factored once (MUMPS), or conjugate gradients with GAMG when large."""

    def __init__(self, matrix: sparse.csr_matrix, rows: np.ndarray, largest_direct: int = 120_000) -> None:
        self.matrix, self._rows = matrix, rows
        keep = np.ones(matrix.shape[0])
        keep[rows] = 0
        clear = sparse.diags(keep)
        system = (clear @ matrix @ clear + sparse.diags(1 - keep)).tocsr()
        system.sort_indices()
        self._held = PETSc.Mat().createAIJ(system.shape, csr=(system.indptr, system.indices, system.data),
                                           comm=PETSc.COMM_SELF)
        self._held.setOption(PETSc.Mat.Option.SPD, True)
        self._solver = PETSc.KSP().create(PETSc.COMM_SELF)
        self._solver.setOperators(self._held)
        self._configure(matrix.shape[0] <= largest_direct)
        self._b, self._x = self._held.createVecs()

    def _configure(self, direct: bool) -> None:
        preconditioner = self._solver.getPC()
        if direct:
            self._solver.setType("preonly")
            preconditioner.setType("cholesky")
            preconditioner.setFactorSolverType("mumps")
        else:
            self._solver.setType("cg")
            preconditioner.setType("gamg")
            self._solver.setTolerances(rtol=1e-8)
        self._solver.setUp()

    def solve(self, load: np.ndarray, fixed: np.ndarray) -> np.ndarray:
        """x with x = `fixed` on the fixed rows and (matrix x) = load on the others."""
        right = load - self.matrix @ fixed
        right[self._rows] = fixed[self._rows]
        self._b.setArray(right)
        self._solver.solve(self._b, self._x)
        if self._solver.getConvergedReason() < 0:
            raise DidNotConverge("pressure_solve", "the pressure system was not solved", "",
                                 "Check the mesh for flat cells.")
        return self._x.getArray().copy()


def _original(domain: Domain, space: Any) -> np.ndarray:
    """For each degree of freedom the index of its point in the arrays that made the mesh."""
    cells = domain.mesh.geometry.dofmaps[0]
    found = np.empty(len(space.tabulate_dof_coordinates()), np.int64)
    found[space.dofmap.list.ravel()] = domain.original[cells.ravel()]
    return found


def _faces_by_tag(domain: Domain, space: Any) -> dict[int, np.ndarray]:
    """Tag to the degrees of freedom (t, 3) of its triangles."""
    grid = domain.mesh
    vertex_to_dof = np.empty(len(domain.original), np.int64)
    vertex_to_dof[grid.geometry.dofmaps[0].ravel()] = space.dofmap.list.ravel()
    geometry = mesh.entities_to_geometry(grid, 2, domain.facets.indices)
    faces = vertex_to_dof[geometry]
    return {int(tag): faces[domain.facets.values == tag] for tag in np.unique(domain.facets.values)}


def _diagonal(indptr: np.ndarray, indices: np.ndarray, n: int) -> np.ndarray:
    """Places of the diagonal in the CSR values."""
    rows = np.repeat(np.arange(n), np.diff(indptr))
    return np.flatnonzero(rows == indices)


def _pattern(cells: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """CSR pointers and columns of all pairs of nodes that share a cell."""
    k = cells.shape[1]
    rows, columns = np.repeat(cells, k, axis=1).ravel(), np.tile(cells, (1, k)).ravel()
    matrix = sparse.csr_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(n, n))
    matrix.sort_indices()
    return matrix.indptr, matrix.indices


def _quarters(faces: np.ndarray) -> np.ndarray:
    """The four small triangles (4 f, 3) between the nodes of quadratic ones (f, 6)."""
    return faces[:, [[0, 3, 5], [3, 1, 4], [5, 4, 2], [3, 4, 5]]].reshape(-1, 3)


def _areas(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    return np.linalg.norm(_normals(points, faces), axis=1) / 2


def _normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (points[faces[:, i]] for i in range(3))
    return np.cross(b - a, c - a)


def _outward(points: np.ndarray, faces: np.ndarray, tets: np.ndarray, n: int) -> np.ndarray:
    """Integral of shape function times outward normal at each node, m^2, (nodes, 3): a third on each edge node."""
    normals = _normals(points, faces) / 2
    cell, opposite = _behind(faces[:, :3], tets, len(points))
    turn = np.einsum("fk,fk->f", normals, points[faces[:, 0]] - points[tets[cell, opposite]]) < 0
    normals[turn] *= -1
    total = np.zeros((n, 3))
    for k in range(3, 6):
        np.add.at(total, faces[:, k], normals / 3)
    return total


def _behind(faces: np.ndarray, tets: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The cell behind each face (f,), and which of its corners is not on the face (f,)."""
    corners = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    all_faces = np.sort(tets[:, corners].reshape(-1, 3), axis=1).astype(np.int64)
    keys = (all_faces[:, 0] * n + all_faces[:, 1]) * n + all_faces[:, 2]
    order = np.argsort(keys)
    mine = np.sort(faces, axis=1).astype(np.int64)
    wanted = (mine[:, 0] * n + mine[:, 1]) * n + mine[:, 2]
    found = order[np.searchsorted(keys[order], wanted)]
    return found // 4, found % 4


def march(flow: Flow, state: State, inflow: Callable[[float], np.ndarray], n_steps: int) -> State:
    """`n_steps` steps; inflow: time (s) to inlet velocities (nodes, 3)."""
    for _ in range(n_steps):
        state, _ = flow.advance(state, inflow(state.time + flow.stepping.dt))
    return state


def ramped(flow: Flow, inflow: np.ndarray, start: State, n_steps: int = 50) -> State:
    """From rest to the given inlet velocities, without a jolt; what the outlets store stays as in `start`."""
    part = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, n_steps + 1) / n_steps)
    state = start
    for share in part:
        state, _ = flow.advance(replace(state, stored=start.stored), share * inflow)
    return replace(state, stored=start.stored, time=start.time)


def steady(flow: Flow, inflow: np.ndarray, start: State, tolerance: float = 1e-4, most: int = 2000) -> State:
    """March under constant inflow until the velocity changes by less than `tolerance` (relative, per 10 steps)."""
    state = ramped(flow, inflow, start)
    for _ in range(most // 10):
        before = state
        state = march(flow, state, lambda _t: inflow, 10)
        if np.linalg.norm(state.u - before.u) < tolerance * np.linalg.norm(state.u):
            return state
    raise DidNotConverge("not_steady", f"the flow did not become steady in {most} steps", "", "It may be unsteady.",
                         state)
