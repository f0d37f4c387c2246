"""A shape that an image shows under load: its stress there, and its shape without load.

Two ways. `stretched` keeps the imaged shape and looks for the stretch in it: a
symmetric field 1 + sym grad u whose stresses balance the load on that shape. Its
pieces, each brought to rest, need not fit together exactly (what is left over is
a small residual stress); nothing moves, so a rough surface cannot buckle. In the
limit it is what stepwise prestressing on a fixed shape tends to.
`unloaded` asks for one stress-free shape (inverse elastostatics): the unknown is
the place each point of the known shape came from; f = dX/dx, F = f^-1. Sharper,
but it deepens every dent, and a rough surface may have no such shape.

Sources: Gee, Foerster & Wall 2010, doi:10.1002/cnm.1236 (prestressing);
Govindjee & Mihalic 1998, doi:10.1016/S0045-7825(98)00100-5 (inverse).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from solvers.fenics import fem, ufl
from solvers.materials.law import Law
from solvers.materials.neo_hookean import NeoHookean
from solvers.mechanics import stress
from solvers.mechanics.body import Body, Elements, Loads, Prestretch, State
from solvers.mechanics.equilibrium import cauchy, converge, held, sound, volume_weight
from solvers.numerics import newton
from solvers.numerics.newton import Evidence, Newton

START, STEPS = 3e5, 4
"""Pa: shear modulus of the neo-Hookean solid that the prestress starts from, as stiff as a wall under pressure (laws
that stiffen are soft at rest, and Newton's method overshoots); steps from it to the law."""


@dataclass(frozen=True)
class _Between:
    """A mixture of two laws: `part` of the second."""

    one: Law
    two: Law
    part: Any

    @property
    def shear_modulus(self) -> float:
        return self.two.shear_modulus

    def strain_energy(self, C: Any, fibres: Sequence[Any]) -> Any:
        return (1 - self.part) * self.one.strain_energy(C, ()) + self.part * self.two.strain_energy(C, fibres)


@dataclass(frozen=True)
class Stretched:
    """body: the known shape with its prestretch; displacement (n, 3) m: from it to the shape whose gradient is
    nearest to that of the pieces at rest; state: the known shape in itself, where `equilibrium.solve` may start;
    stresses under the load; min_J."""

    body: Body
    displacement: np.ndarray
    state: State
    stresses: stress.Stresses
    min_J: float
    evidence: Evidence


@dataclass(frozen=True)
class ZeroPressure:
    """body: the shape without load, its fibres with it; displacement (n, 3) m from the known shape to it; state: the
    known shape seen from it, where `equilibrium.solve` may start; stresses under the load; min_J."""

    body: Body
    displacement: np.ndarray
    state: State
    stresses: stress.Stresses
    min_J: float
    evidence: Evidence


def stretched(body: Body, loads: Loads, numerics: Newton = Newton()) -> Stretched:
    """`body`, known under `loads`, with the stretch that balances them; springs are at rest where there is none.

    Raises DidNotConverge.
    """
    elements = Elements(body, loads)
    w = fem.Function(elements.space)
    u, p = ufl.split(w)
    F = ufl.Identity(3) + ufl.sym(ufl.grad(u))
    back = [ufl.inv(F) * m for m in elements.fibres]
    fibres = [a / ufl.sqrt(ufl.inner(a, a)) for a in back]
    part = fem.Constant(elements.mesh, 0.0)
    sigma = cauchy(_Between(NeoHookean(START), body.law, part), F, p, fibres)
    volume = ufl.det(F) - 1 - p / body.bulk
    evidence = _balance(elements, w, sigma, ufl.det(F), volume, u, numerics, "the prestress", part)
    found = stress.at_quadrature(elements, sigma, ufl.det(F))
    known = elements.state(w, loads.pressure)
    prestretch = Prestretch(stress.values(elements, F), known.displacement)
    state = replace(known, displacement=np.zeros_like(known.displacement))
    return Stretched(replace(body, prestretch=prestretch), _at_rest(elements, ufl.inv(F), numerics), state, found,
                     sound(elements, found.J), evidence)


def _at_rest(elements: Elements, back: Any, numerics: Newton) -> np.ndarray:
    """Displacement (n, 3) m whose gradient comes nearest to back - 1 by least squares; its mean is zero."""
    space = elements.u_space[0]
    d, v = fem.Function(space), ufl.TestFunction(space)
    wanted = ufl.inner(back - ufl.Identity(3), ufl.grad(v)) * elements.dx
    anchor = 1.0  # 1/m^2, next to nothing beside the gradient's
    form = ufl.inner(ufl.grad(d), ufl.grad(v)) * elements.dx + anchor * ufl.inner(d, v) * elements.dx - wanted
    problem = newton.Residual(form, d, wanted)
    newton.solve(problem, numerics, "the shape at rest")
    problem.close()
    return elements.nodal(d)


def unloaded(body: Body, loads: Loads, numerics: Newton = Newton()) -> ZeroPressure:
    """The shape that becomes `body` under `loads`; springs are at rest in it.

    Raises DidNotConverge.
    """
    elements = Elements(body, loads)
    w = fem.Function(elements.space)
    U, p = ufl.split(w)
    f = ufl.Identity(3) + ufl.grad(U)
    fibres = [f * m / ufl.sqrt(ufl.inner(f * m, f * m)) for m in elements.fibres]
    F, j = ufl.inv(f), ufl.det(f)
    sigma = cauchy(body.law, F, p, fibres)
    evidence = _balance(elements, w, sigma, 1 / j, 1 - (1 + p / body.bulk) * j, -U, numerics,
                        "the zero-pressure shape")
    found = stress.at_quadrature(elements, sigma, 1 / j)
    known = elements.state(w, loads.pressure)
    came = known.displacement
    start = State(-came, known.pressure, loads.pressure)
    carried = np.array([stress.values(elements, fibre) for fibre in fibres]) if fibres else body.fibres
    return ZeroPressure(body.moved(came, carried), came, start, found, sound(elements, found.J), evidence)


def _balance(elements: Elements, w: Any, sigma: Any, J: Any, volume: Any, displaced: Any, numerics: Newton,
             what: str, part: Any = None) -> Evidence:
    """Solve for `w` the balance of the stress with the load on the shape of the elements, where it is a dead load.

    J: ratio of volumes from rest; volume: what must vanish for the pressure field to keep it, the same as the loaded
    shape's own on its domain; displaced: what the springs are displaced by; part: a
    constant to be raised from 0 to 1 under the whole load; None: the load is.
    """
    body, loads, dx, ds = elements.body, elements.loads, elements.dx, elements.ds
    v, q = ufl.TestFunctions(elements.space)
    pressure, full = (fem.Constant(elements.mesh, float(loads.pressure)) for _ in range(2))
    push = ufl.inner(ufl.FacetNormal(elements.mesh), v) * ds(elements.INNER)
    form = ufl.inner(sigma, ufl.grad(v)) * dx + pressure * push
    form += volume_weight(body) * volume * q * dx
    form += held(elements, displaced, v, 1.0)

    def apply(size: float) -> None:
        if part is None:
            pressure.value = size * loads.pressure
        else:
            part.value = size

    problem = newton.Residual(form, w, full * push)
    if part is None:
        return converge(elements, problem, apply, numerics, what, loads, J)
    first = newton.solve(problem, replace(numerics, tolerance=numerics.on_the_way), f"Newton on {what}")
    last = converge(elements, problem, apply, replace(numerics, load_steps=STEPS), what, loads, J)
    return replace(last, iterations=first.iterations + last.iterations, load_steps=1 + last.load_steps)
