"""From the shape without load to the shape under load."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.errors import DidNotConverge
from solvers.fenics import fem, ufl
from solvers.materials.law import Law
from solvers.mechanics import stress
from solvers.mechanics.body import Body, Elements, Loads, State
from solvers.numerics import newton
from solvers.numerics.newton import Evidence, Newton

STEADY = 30.0
"""Times the shear modulus at rest: stiffness against what the linear pressure field leaves of a change of volume. It
vanishes with it as cells get finer; without it coarse bent cells give way."""
CRUSHED = 0.2
"""Least ratio of volumes that a nearly incompressible wall may show anywhere."""


@dataclass(frozen=True)
class Equilibrium:
    """A body in balance under load. state: its displacement and pressure field; stresses at points of integration;
    min_J: least ratio of volumes."""

    state: State
    stresses: stress.Stresses
    min_J: float
    evidence: Evidence

    @property
    def displacement(self) -> np.ndarray:
        """From the body's own shape, (n, 3) m."""
        return self.state.displacement


def solve(body: Body, loads: Loads, numerics: Newton = Newton(), start: State | None = None) -> Equilibrium:
    """The shape of `body` under `loads`, from its own shape or from its equilibrium `start` under another pressure.

    Stationary point of the sum of W(C) + p (J - 1) - p^2 / (2 bulk); the pressure of
    the blood follows the wall. Raises DidNotConverge.
    Source: Holzapfel 2000, Nonlinear Solid Mechanics, ch. 8.
    """
    elements = Elements(body, loads)
    w = fem.Function(elements.space)
    before = 0.0
    if start is not None:
        elements.put(w, start)
        before = start.load
    pressure = fem.Constant(elements.mesh, float(loads.pressure))
    full = fem.Constant(elements.mesh, float(max(abs(loads.pressure), abs(before))))
    form, force = residual(elements, w, pressure, full)
    u, p = ufl.split(w)
    growth = ufl.det(ufl.Identity(3) + ufl.grad(u))
    F = (ufl.Identity(3) + ufl.grad(u)) * elements.prestretch

    def apply(part: float) -> None:
        pressure.value = before + part * (loads.pressure - before)

    evidence = converge(elements, newton.Residual(form, w, force), apply, numerics,
                        "the loaded shape", loads, ufl.det(F))
    found = stress.at_quadrature(elements, cauchy(body.law, F, p, elements.fibres), ufl.det(F), growth)
    return Equilibrium(elements.state(w, loads.pressure), found, sound(elements, found.J), evidence)


def residual(elements: Elements, w: Any, pressure: Any, full: Any) -> tuple[Any, Any]:
    """Forces out of balance as a form, and the form of the load of the pressure `full` alone."""
    body, dx, ds = elements.body, elements.dx, elements.ds
    (u, p), (v, q) = ufl.split(w), ufl.TestFunctions(elements.space)
    F = ufl.variable(ufl.Identity(3) + ufl.grad(u))
    J = ufl.det(F)
    before = ufl.det(elements.prestretch)
    P = ufl.diff(energy(body.law, F * elements.prestretch, elements.fibres), F) / before + p * J * ufl.inv(F).T
    form = ufl.inner(P, ufl.grad(v)) * dx + volume_weight(body) * (J * before - 1 - p / body.bulk) * q * dx
    area = J * ufl.inv(F).T * ufl.FacetNormal(elements.mesh)
    size = ufl.sqrt(ufl.inner(area, area))
    form += pressure * ufl.inner(area, v) * ds(elements.INNER)
    form += held(elements, u + elements.held, v, size)
    return form, full * ufl.inner(area, v) * ds(elements.INNER)


def held(elements: Elements, u: Any, v: Any, size: Any) -> Any:
    """Work of the springs at the ends and on the outside, displaced by `u`; size: growth of the facets' area."""
    n = ufl.FacetNormal(elements.mesh)
    tether = fem.Constant(elements.mesh, float(elements.loads.tether))
    return (size * ufl.inner(elements.springs * u, v) * elements.ds(elements.HELD)
            + size * tether * ufl.inner(u - ufl.inner(u, n) * n, v) * elements.ds(elements.OUTER))


def energy(law: Law, F: Any, fibres: list[Any]) -> Any:
    """Energy of the law, and of what steadies the volume between the pressure's points, J/m^3 of the rest."""
    return law.strain_energy(F.T * F, fibres) + STEADY * law.shear_modulus / 2 * (ufl.det(F) - 1) ** 2


def volume_weight(body: Body) -> float:
    """Brings the volume's residual to newtons, so that one norm holds both: shear modulus per millimetre, Pa/m."""
    return body.law.shear_modulus / 1e-3


def cauchy(law: Law, F: Any, p: Any, fibres: list[Any]) -> Any:
    """Cauchy stress (3, 3), Pa, of the deformation gradient F and the pressure field."""
    F = ufl.variable(F)
    P = ufl.diff(energy(law, F, fibres), F)
    return P * F.T / ufl.det(F) + p * ufl.Identity(3)


def converge(elements: Elements, problem: newton.Residual, apply: Any, numerics: Newton, what: str, loads: Loads,
             J: Any) -> Evidence:
    """Newton's method on `problem`; where it fails, the message names the worst cell of the last good shape."""
    try:
        apply(1.0)
        return newton.in_steps(problem, apply, numerics, f"Newton on {what}", f"{loads.pressure / 1000:.3g} kPa")
    except DidNotConverge as error:
        ratio = stress.values(elements, J).min(axis=1)
        happened = f"{error.happened}; {_worst(elements, ratio)} in the last shape that converged"
        raise DidNotConverge(error.code, happened, error.wanted, error.hint, error.state) from error
    finally:
        problem.close()


def sound(elements: Elements, J: np.ndarray) -> float:
    """The least ratio of volumes; raises DidNotConverge where a cell is crushed."""
    if J.min() <= CRUSHED:
        raise DidNotConverge("crushed_cell", f"a cell of the wall is crushed: {_worst(elements, J.min(axis=1))}",
                             "J near 1", "Use a finer wall mesh there.")
    return float(J.min())


def _worst(elements: Elements, ratio: np.ndarray) -> str:
    cell = int(np.argmin(ratio))
    x, y, z = 1000 * elements.body.points[elements.body.cells[cell, :4]].mean(axis=0)
    return f"worst cell {cell} (J = {ratio[cell]:.2f}) at ({x:.1f}, {y:.1f}, {z:.1f}) mm"
