"""Incompressible flow of blood in a rigid lumen: quadratic velocity, linear pressure, pressure correction.

Scheme. Each step solves for the velocity, with BDF2 of steps that may change
and a wind extrapolated to second order: one scalar matrix shared by the three
components, which only the penalty of the divergence joins. Then a Poisson
problem, whose matrix is factored once, gives the potential that would take the
divergence off, and with it the pressure's increment. The velocity is not
corrected: the potentials enter the next step's force instead, which is the same
scheme without a mass matrix to invert. The wind is corrected, cell by cell, and
convection is skew-symmetric in it: with the bare velocity a jet carried by its
own leftover divergence loses several times its energy once the time step is
longer than a cell's passage. Each outlet carries the pressure of what follows
it, found together with its flow in the same step; inflow through outlets is
damped. Flow through a cap is the discrete balance of the Poisson problem, so
that mass is conserved to rounding.

What is too fine for the mesh. The part of w.grad u that linear functions do not
hold is damped along the stream (Codina's orthogonal subscales, the convective
term alone), and divergence is penalised (Olshanskii's grad-div). The penalty is
implicit, applied cell by cell in each product: split into an implicit Laplacian
and an explicit rest it either lags (5 % of a pulsatile velocity at 100 steps a
beat) or, extrapolated, is unstable wherever a step passes a cell. In a
straight tube at a Reynolds number of 1,000 the pressure's slope is then right
to 2 % on 8,000 tetrahedra, half of it the polygon's; linear velocity with
subscales left 5 % on 62,000.

Sources: Guermond, Minev & Shen 2006, doi:10.1016/j.cma.2005.10.010 (scheme);
Codina 2002, doi:10.1016/S0045-7825(02)00337-7 (subscales);
Olshanskii et al. 2009, doi:10.1016/j.cma.2009.09.005 (grad-div);
Esmaily Moghadam 2011, doi:10.1007/s00466-011-0599-0 (backflow).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from scipy import sparse

from solvers.errors import DidNotConverge
from solvers.fenics import fem
from solvers.flow import cells, kernels, problem_checks, taylor_hood
from solvers.flow.bdf import Weights
from solvers.flow.bed import Bed
from solvers.flow.inlet import profile
from solvers.flow.kernels import Carried, Goal, Momentum, Tables
from solvers.flow.poisson import Poisson
from solvers.flow.wall_shear import wall_slope
from solvers.flow.windkessel import Memory
from solvers.geometry.dolfinx_mesh import Domain

SOURCES = ["Guermond, Minev & Shen 2006, doi:10.1016/j.cma.2005.10.010",
           "Codina 2002 (orthogonal subscales), doi:10.1016/S0045-7825(02)00337-7",
           "Olshanskii, Lube, Heister & Loewe 2009 (grad-div), doi:10.1016/j.cma.2009.09.005",
           "Esmaily Moghadam 2011, doi:10.1007/s00466-011-0599-0"]

MOST_PENALTY = 0.1
"""Of the divergence, in size^2 / step: beyond it the velocity's system takes twice the iterations for nothing."""


MOST_PARTS = 64
"""Of a step: a flow that would need more is growing without bound."""


class Thinning(Protocol):
    """A law of viscosity."""

    def viscosity(self, rate: np.ndarray) -> np.ndarray:
        """Pa s at shear rates in 1/s."""
        ...


@dataclass(frozen=True)
class Fluid:
    """Density kg/m^3, viscosity Pa s; with a law the viscosity follows the shear rate, and `viscosity` is only the
    part of it that is solved for at once."""

    density: float = 1060.0
    viscosity: float = 0.0035
    law: Thinning | None = None

    @property
    def kinematic(self) -> float:
        """m^2/s."""
        return self.viscosity / self.density


@dataclass(frozen=True)
class Caps:
    """Tags of boundary faces: the wall, the inlet, and each outlet with what follows it."""

    wall: int
    inlet: int
    outlets: Mapping[int, Bed]


@dataclass(frozen=True)
class Stepping:
    """dt in s; tolerance of the linear solve, relative to the load; share of backflow that is damped; strength of the
    subgrid's damping; penalty of the divergence, in density * speed * cell size; most_cfl: a step in which a cell would
    be passed more often is taken in 2, 4, ... parts."""

    dt: float = 0.002
    tolerance: float = 1e-4
    backflow: float = 0.5
    subgrid: float = 0.5
    penalty: float = 0.25
    most_cfl: float = np.inf


@dataclass(frozen=True)
class State:
    """All that the next step needs. u, u_before (nodes, 3) m/s; p (vertices,) Pa; the potentials (vertices,) m^2/s
    whose gradients would make u and u_before free of divergence; dt of the last step, s; what is stored beyond
    each outlet, pressure there, Pa, and outward flow, m^3/s."""

    time: float
    u: np.ndarray
    u_before: np.ndarray
    p: np.ndarray
    potential: np.ndarray
    potential_before: np.ndarray
    dt: float
    stored: dict[int, Memory]
    pressure: dict[int, float]
    flow: dict[int, float]


@dataclass(frozen=True)
class Wind:
    """What carries in one step: nodal (nodes, 3) m/s less the gradient of potential (vertices,) m^2/s, and what
    follows from them cell by cell."""

    nodal: np.ndarray
    potential: np.ndarray
    carried: Carried


@dataclass(frozen=True)
class OpenEnd:
    """An outlet: faces (t, f), the cells behind (t,), areas (t,), its normal (3,), slopes (t, m) of the cells'
    coordinates along it, places in the CSR values (t, f * f)."""

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
    """At the end of a step: what is stored and pressure (Pa) by outlet, outward flow (m^3/s) by cap."""

    stored: dict[int, Memory]
    pressure: dict[int, float]
    flow: dict[int, float]


@dataclass(frozen=True)
class Response:
    """What a unit of potential (m^2/s) at each outlet does: fields (vertices, k), all outlets' outflows (k, k), m."""

    fields: np.ndarray
    flows: np.ndarray


@dataclass
class Flow:
    """The discrete problem: operators that stay, and the step that uses them.

    In a plane (triangles) flows are per metre of depth, m^2/s. Without outlets the pressure is zero at one vertex.
    """

    domain: Domain
    caps: Caps
    fluid: Fluid = field(default_factory=Fluid)
    stepping: Stepping = field(default_factory=Stepping)

    def __post_init__(self) -> None:
        space = fem.functionspace(self.domain.mesh, ("Lagrange", 1))
        self.points = space.tabulate_dof_coordinates()
        self.tets = np.ascontiguousarray(space.dofmap.list, np.int32)
        self.n = len(self.points)
        self.original = cells.original(self.domain, space)
        corners = cells.faces_by_tag(self.domain, space)
        problem_checks.mesh(self.points, self.tets, cells.gradients(self.points, self.tets)[1], corners)
        problem_checks.outlets(self.caps.outlets)
        self.nodes = taylor_hood.nodes(self.points, self.tets)
        self.element = taylor_hood.element(self.tets.shape[1])
        self.cells = cells.cells(self.nodes.points, self.nodes.cells, self.element.between)
        self.faces = {t: self.nodes.faces(f) for t, f in corners.items()}
        self._operators()
        self._boundaries()
        self.wall_slope = wall_slope(self.nodes, self.cells.grads, self.faces[self.caps.wall])
        self._response = self._respond()

    @property
    def grads(self) -> np.ndarray:
        """Gradients of the barycentric coordinates, (c, m, 3), 1/m."""
        return self.cells.grads

    def _operators(self) -> None:
        """Gradients, the shared sparsity, mass and viscosity, the Poisson problem's matrix."""
        volumes, grads, exact = self.cells.volumes, self.cells.grads, self.element
        self.pattern = cells.pattern(self.nodes.cells, len(self.nodes.points))
        self.place = kernels.positions(self.nodes.cells, self.pattern.indptr, self.pattern.indices)
        self.tables = _tables(exact)
        self.mass, self.viscous = np.zeros(len(self.pattern.indices)), np.zeros(len(self.pattern.indices))
        kernels.scatter(self.mass, self.place, volumes[:, None] * exact.mass.ravel())
        dots = np.einsum("cik,cjk->cij", grads, grads) * volumes[:, None, None]
        m = exact.corners
        kernels.scatter(self.viscous, self.place, dots.reshape(-1, m * m) @ exact.stiffness.reshape(m * m, -1))
        slopes = np.einsum("ijaa->aij", exact.stiffness)
        self._steepness = np.einsum("cij,aij->ca", dots, slopes) / 3  # not by BLAS, whose threads change digits
        self.viscous *= self.fluid.kinematic
        self._lumped = np.bincount(self.tets.ravel(), np.repeat(volumes / m, m), minlength=self.n)
        rows, columns = np.repeat(self.tets, m, axis=1).ravel(), np.tile(self.tets, (1, m)).ravel()
        self._laplacian = sparse.csr_matrix((dots.ravel(), (rows, columns)), shape=(self.n, self.n))

    def _boundaries(self) -> None:
        """Fixed velocities, fixed pressures, area vectors of the caps, the inlet's profile."""
        caps, n, corners = self.caps, len(self.nodes.points), self.element.corners
        self.cap_vertices = {tag: np.unique(faces[:, :corners - 1]) for tag, faces in self.faces.items()}
        self.outward = {tag: cells.outward(self.points, faces, self.tets) for tag, faces in self.faces.items()}
        on_wall, on_inlet = (np.unique(self.faces[t]) for t in (caps.wall, caps.inlet))
        rim = np.intersect1d(on_wall, on_inlet)
        self.inner = np.setdiff1d(on_inlet, rim)
        self.wall_vertices = self.cap_vertices[caps.wall]
        self.fixed = np.union1d(on_wall, on_inlet).astype(np.int64)
        self._is_fixed = np.isin(np.arange(n), self.fixed)
        held = [self.cap_vertices[t] for t in caps.outlets] or [np.zeros(1)]
        self.pressure_rows = np.concatenate(held).astype(np.int64)
        self._poisson = Poisson(self._laplacian, self.pressure_rows)
        normal = self.outward[caps.inlet].sum(axis=0)
        self.inlet_area = float(np.linalg.norm(normal))
        self.inlet_normal = normal / self.inlet_area
        self._open = [self._open_end(tag) for tag in caps.outlets]
        self.shape = profile(self.nodes.points, cells.pieces(self.faces[caps.inlet], corners), rim)
        unit = np.zeros((n, 3))
        unit[self.inner] = -self.shape[self.inner, None] * self.inlet_normal
        self._unit_inflow = unit / -self.flow_through(caps.inlet, unit)

    def _open_end(self, tag: int) -> OpenEnd:
        faces, vectors = self.faces[tag], self.outward[tag]
        areas = np.linalg.norm(vectors, axis=1)
        normal = vectors.sum(axis=0) / np.linalg.norm(vectors.sum(axis=0))
        behind, _ = cells.behind(faces[:, :self.element.corners - 1], self.tets, self.n)
        place = kernels.positions(faces.astype(np.int32), self.pattern.indptr, self.pattern.indices)
        return OpenEnd(faces, behind, areas, normal, self.grads[behind] @ normal, place)

    def flow_through(self, tag: int, u: np.ndarray) -> float:
        """Outward flow of velocities (nodes, 3) through a cap, m^3/s, exact for the discrete velocity."""
        return float(np.einsum("tfk,f,tk->", u[self.faces[tag]], self.element.face_mean, self.outward[tag]))

    def inflow(self, flow: float, velocity: np.ndarray | None = None) -> np.ndarray:
        """Velocities (nodes, 3) at the inlet with exactly this discrete flow in, m^3/s.

        velocity: inward speed (nodes,), m/s, whose flow need not be exact; what is
        missing is added in the profile of steady flow.
        """
        u = np.zeros((len(self.nodes.points), 3))
        if velocity is not None:
            u[self.inner] = -velocity[self.inner, None] * self.inlet_normal
        return u + self._unit_inflow * (flow + self.flow_through(self.caps.inlet, u))

    def rest(self, time: float, pressure: float, stored: Mapping[int, Memory] | None = None) -> State:
        """Blood at rest under one pressure (Pa)."""
        tags = list(self.caps.outlets)
        zero, none = np.zeros((len(self.nodes.points), 3)), np.zeros(self.n)
        return State(time, zero, zero, np.full(self.n, pressure), none, none, self.stepping.dt,
                     dict(stored) if stored else {t: bed.at_rest(pressure) for t, bed in self.caps.outlets.items()},
                     dict.fromkeys(tags, pressure), dict.fromkeys(tags, 0.0))

    def advance(self, state: State, inflow: np.ndarray, force: np.ndarray | None = None) -> tuple[State, Step]:
        """One step: from `state` to `state.time + dt` with the given velocities (nodes, 3) at inlet and wall.

        force (nodes, 3): of a body, N/m^3, at the end of the step. In a step of
        several parts the velocities change evenly and the force stays.
        """
        parts = self._parts(state)
        weights, given = Weights(self.stepping.dt / parts), state.u[self.fixed]
        shown = []
        for part in range(1, parts + 1):
            held = np.zeros_like(inflow)
            held[self.fixed] = given + part / parts * (inflow[self.fixed] - given)
            state, step = self._one(state, replace(weights, ratio=weights.dt / state.dt), held, force)
            shown.append(step)
        return state, replace(shown[-1], cfl=max(s.cfl for s in shown), iterations=max(s.iterations for s in shown),
                              imbalance=max(s.imbalance for s in shown))

    def _parts(self, state: State) -> int:
        """In how many parts the next step is taken: no cell is passed too often, none is twice as long as the last."""
        dt, parts = self.stepping.dt, 1
        fastest = max(float(kernels.passages(self.cells, state.u).max()), 1e-30)
        longest = min(2 * state.dt, self.stepping.most_cfl / fastest)
        while dt / parts > (1 + 1e-9) * longest and parts < MOST_PARTS:
            parts *= 2
        return parts

    def _one(self, state: State, weights: Weights, inflow: np.ndarray, force: np.ndarray | None
             ) -> tuple[State, Step]:
        trial, iterations = self._momentum(state, weights, inflow, force)
        divergence = self._against(trial)
        potential, out = self._correct(state, weights, trial, divergence)
        p = state.p + potential / self._scale(weights) + self._rotation(divergence)
        after = State(state.time + weights.dt, trial, state.u, p, potential, state.potential, weights.dt,
                      out.stored, out.pressure, {t: out.flow[t] for t in self.caps.outlets})
        self._check(after, state)
        return after, self._shown(after, out.flow, iterations)

    def _scale(self, weights: Weights) -> float:
        """Potential over increment of pressure, m^2/s/Pa."""
        return weights.dt / (weights.now * self.fluid.density)

    def _momentum(self, state: State, weights: Weights, inflow: np.ndarray, force: np.ndarray | None
                  ) -> tuple[np.ndarray, int]:
        """The velocity at the end of the step (nodes, 3), and the iterations that it took."""
        rho, dt = self.fluid.density, weights.dt
        wind = self._wind(state, weights)
        values = self.mass * (weights.now / dt) + self.viscous
        kernels.add_convection(values, self.place, self.cells, self.tables, wind.nodal, wind.carried)
        self._add_outflow(values, wind)
        known = weights.past(state.u, state.u_before) / dt
        load = kernels.multiply(self.pattern, self.mass, known if force is None else known + force / rho)
        p = state.p + rho / dt * weights.past(state.potential, state.potential_before)
        kernels.add_explicit(load, self.cells, self.element.mean, wind.carried, state.u,
                             self._resolved(wind, state.u), p / rho)
        diagonal = values[self.pattern.diagonal] + self._penalty_diagonal(wind.carried.penalty)
        load[self.fixed] = diagonal[self.fixed, None] * inflow[self.fixed]
        matrix = Momentum(self.pattern, values, self.cells, wind.carried.penalty, self._is_fixed, diagonal)
        u = wind.nodal.copy()
        u[self.fixed] = inflow[self.fixed]
        iterations = kernels.bicgstab(matrix, load, u, Goal(self.stepping.tolerance, 2, 200))
        if iterations < 0:
            raise DidNotConverge("velocity_solve", f"the velocity system was not solved at t = {state.time:.4f} s",
                                 "a small residual in 200 iterations", "Take a smaller time step.", state)
        return u, iterations

    def _penalty_diagonal(self, penalty: np.ndarray) -> np.ndarray:
        """A third of (penalty grad v, grad v) for each shape function v, nearly what (penalty div, div) has, (n,)."""
        return np.bincount(self.nodes.cells.ravel(), (penalty[:, None] * self._steepness).ravel(),
                           minlength=len(self.nodes.points))

    def _wind(self, state: State, weights: Weights) -> Wind:
        """The velocity that carries, extrapolated, with the divergence taken off that the pressure's increment took."""
        nodal = weights.ahead(state.u, state.u_before)
        potential = weights.ahead(state.potential, state.potential_before)
        along, drift, speed = kernels.streams(self.cells, self.element.mean, nodal, potential)
        size, extra = self.cells.size, self._extra_viscosity(nodal)
        tau = self.stepping.subgrid / (2 * speed / size + 4 * (self.fluid.kinematic + extra) / size**2)
        penalty = np.minimum(self.stepping.penalty * speed * size, MOST_PENALTY * size**2 / weights.dt)
        return Wind(nodal, potential, Carried(along, drift, speed, tau, extra, penalty))

    def _extra_viscosity(self, u: np.ndarray) -> np.ndarray:
        """What the law's viscosity has beyond the constant one in each cell, m^2/s."""
        if self.fluid.law is None:
            return np.zeros(len(self.tets))
        return self.fluid.law.viscosity(kernels.strain_rates(self.cells, u)) / self.fluid.density - self.fluid.kinematic

    def _resolved(self, wind: Wind, u: np.ndarray) -> np.ndarray:
        """The smooth part of w.grad u, its projection on linear functions (vertices, 3): it is not damped."""
        smooth = np.zeros((self.n, 3))
        kernels.add_resolved_moments(smooth, self.cells, wind.carried, u)
        return smooth / self._lumped[:, None]

    def _add_outflow(self, values: np.ndarray, wind: Wind) -> None:
        """Add (w.n u, v)/2 on the outlets, the skew form's other half, and there damp what flows back."""
        for end in self._open:
            through = wind.nodal[end.faces] @ end.normal
            carried = through - (wind.potential[self.tets[end.cells]] * end.slopes).sum(axis=1, keepdims=True)
            k = end.faces.shape[1]
            local = 0.5 * end.areas[:, None] * carried @ self.element.face_cubes.reshape(k, k * k)
            kernels.scatter(values, end.place, local)
            back = np.minimum(through, 0.0) * (end.areas / k)[:, None]
            np.add.at(values, self.pattern.diagonal[end.faces], -self.stepping.backflow * back)

    def _against(self, u: np.ndarray) -> np.ndarray:
        """Minus the divergence of u, weighed by each linear function where no outlet is near, m^3/s, (vertices,)."""
        load = kernels.against_gradient(self.cells, self.element.mean, u, self.n)
        for tag in (self.caps.inlet, self.caps.wall):
            if u[self.faces[tag]].any():
                load -= self._weighed(tag, u)
        return load

    def _weighed(self, tag: int, u: np.ndarray) -> np.ndarray:
        """Integral of u.n q over a cap for each linear shape function q, m^3/s, (vertices,)."""
        faces = self.faces[tag]
        through = np.einsum("tfk,tk->tf", u[faces], self.outward[tag])
        local = through @ self.element.face_linear.T
        return np.bincount(faces[:, :local.shape[1]].ravel(), local.ravel(), minlength=self.n)

    def potential(self, u: np.ndarray) -> np.ndarray:
        """The potential (vertices,) m^2/s whose gradient is u's (nodes, 3) divergence, zero at the outlets."""
        return self._poisson.solve(self._against(u), np.zeros(self.n))

    def _rotation(self, against: np.ndarray) -> np.ndarray:
        """Minus viscosity times divergence, Pa, (vertices,): what keeps the pressure's order at walls."""
        out = self.fluid.viscosity * against / self._lumped
        out[self.pressure_rows] = 0.0
        return out

    def _correct(self, state: State, weights: Weights, trial: np.ndarray, load: np.ndarray
                 ) -> tuple[np.ndarray, Outflow]:
        """The potential that takes the divergence off, and what passes the caps.

        The pressure and the flow of an outlet at the end of the step are found
        together with those of what follows it: `_response` says how a unit of
        potential there changes the field and all outlets' flows.
        """
        potential = self._poisson.solve(load, np.zeros(self.n))
        outflow, change = self._coupled(state, weights, self._through(load, potential))
        inward = {self.caps.inlet: self.flow_through(self.caps.inlet, trial)}
        return potential + self._response.fields @ change, replace(outflow, flow=outflow.flow | inward)

    def _through(self, load: np.ndarray, potential: np.ndarray) -> np.ndarray:
        """Outward flow through each outlet, from the balance of the Poisson problem, m^3/s."""
        residual = load - self._poisson.matrix @ potential
        return np.array([residual[self.cap_vertices[tag]].sum() for tag in self.caps.outlets])

    def _coupled(self, state: State, weights: Weights, free: np.ndarray) -> tuple[Outflow, np.ndarray]:
        """Outlets with what follows them, and their potential; free: flows (k,) were it zero."""
        tags, dt, scale = list(self.caps.outlets), weights.dt, self._scale(weights)
        if not tags:
            return Outflow({}, {}, {}), np.zeros(0)
        before = np.array([state.pressure[t] for t in tags])
        base, slope = np.array([self.caps.outlets[t].affine(state.stored[t], state.flow[t], dt) for t in tags]).T
        G = scale * self._response.flows
        pressure = np.linalg.solve(np.eye(len(tags)) - slope[:, None] * G, base + slope * (free - G @ before))
        flow = free + G @ (pressure - before)
        stored = {t: self.caps.outlets[t].stored(state.stored[t], state.flow[t], q, dt)
                  for t, q in zip(tags, flow, strict=True)}
        return (Outflow(stored, dict(zip(tags, pressure.tolist(), strict=True)),
                        dict(zip(tags, flow.tolist(), strict=True))), scale * (pressure - before))

    def _respond(self) -> Response:
        """Fields and outflows under a unit of potential at each outlet."""
        k = len(self.caps.outlets)
        fields, flows = np.zeros((self.n, k)), np.zeros((k, k))
        zero = np.zeros(self.n)
        for column, tag in enumerate(self.caps.outlets):
            unit = np.zeros(self.n)
            unit[self.cap_vertices[tag]] = 1.0
            fields[:, column] = self._poisson.solve(zero, unit)
            flows[:, column] = self._through(zero, fields[:, column])
        return Response(fields, flows)

    def _check(self, after: State, before: State) -> None:
        if np.isfinite(after.u).all() and np.isfinite(after.p).all():
            return
        rate = kernels.passages(self.cells, before.u)
        worst = int(np.argmax(rate))
        raise DidNotConverge(
            "flow_not_finite", f"the flow grew without bound at t = {before.time:.4f} s; before it the CFL number was "
            f"{rate[worst] * before.dt:.1f} in cell {worst}, at "
            f"{np.round(1e3 * self.points[self.tets[worst]].mean(axis=0), 1).tolist()} mm", "finite velocities",
            "Take a smaller time step, or a finer mesh there.", before)

    def _shown(self, state: State, flow: dict[int, float], iterations: int) -> Step:
        inlet = self.caps.inlet
        pressure = state.pressure | {inlet: self.mean_pressure(state.p, inlet)}
        return Step(state.time, pressure, flow, abs(sum(flow.values())) / max(abs(flow[inlet]), 1e-12),
                    float(kernels.passages(self.cells, state.u).max() * state.dt), iterations)

    def mean_pressure(self, p: np.ndarray, tag: int) -> float:
        """Area mean over a cap, Pa."""
        areas = np.linalg.norm(self.outward[tag], axis=1)
        return float((p[self.faces[tag][:, :self.element.corners - 1]].mean(axis=1) * areas).sum() / areas.sum())

    def power(self, state: State, step: Step) -> dict[int, float]:
        """Outward flux of total pressure through each cap, integral of (p + rho |u|^2 / 2) u.n, W (W/m in a plane)."""
        work = {t: step.pressure[t] * step.flow[t] for t in self.caps.outlets}
        work[self.caps.inlet] = float(self._weighed(self.caps.inlet, state.u) @ state.p)
        return {t: w + self._kinetic_flux(t, state.u) for t, w in work.items()}

    def _kinetic_flux(self, tag: int, u: np.ndarray) -> float:
        at, cubes = u[self.faces[tag]], self.element.face_cubes
        squares, through = at @ at.swapaxes(1, 2), np.einsum("tfk,tk->tf", at, self.outward[tag])
        return float(0.5 * self.fluid.density * np.einsum("tfg,fgh,th->", squares, cubes, through, optimize=True))

    def dissipation(self, state: State) -> float:
        """Power that viscosity turns into heat, integral of 2 mu D:D, W; with a law by each cell's viscosity."""
        viscosity = self.fluid.viscosity + self.fluid.density * self._extra_viscosity(state.u)
        return float((viscosity * kernels.squared_strain(self.cells, state.u)).sum())

    def kinetic_energy(self, state: State) -> float:
        """J."""
        return float(0.5 * self.fluid.density * (state.u * kernels.multiply(self.pattern, self.mass, state.u)).sum())

    def traction(self, state: State) -> np.ndarray:
        """Wall shear stress vectors at the wall's vertices (vertices, 3), Pa; zero elsewhere."""
        rate = self.wall_slope.rate(state.u)
        if self.fluid.law is None:
            return self.fluid.viscosity * rate
        return self.fluid.law.viscosity(np.linalg.norm(rate, axis=1))[:, None] * rate


def _tables(element: taylor_hood.Element) -> Tables:
    """An element's integrals as the kernels take them."""
    k, m = len(element.mean), element.corners
    first, second = np.triu_indices(k, 1)
    rows, columns = np.r_[first, np.arange(k)], np.r_[second, np.arange(k)]
    skew = element.convection[:, :, first, second].reshape(k * m, -1)
    even = [element.stiffness[i, j] + (element.stiffness[j, i] if i != j else 0) for i in range(m) for j in range(i, m)]
    return Tables(np.ascontiguousarray(skew), np.array([e[rows, columns] for e in even]), first, second)


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
