"""Newton's method for a discrete residual, with a line search, and a load applied in steps.

The unknown is a DOLFINx function and the tangent is the exact derivative of the
residual, factored by MUMPS. To factor it costs more than ten times a step with
factors at hand, so they serve again (the chord method) as long as each step
takes off most of the residual. A step that makes things worse is halved; a load
step that fails is halved too. What comes back has converged: else
`DidNotConverge`, which carries the last converged unknowns.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from solvers.errors import DidNotConverge
from solvers.fenics import PETSc, fem, petsc, ufl


@dataclass(frozen=True)
class Newton:
    """tolerance: residual over the size of the forces in it; on_the_way: the same before the last load step.
    load_steps: parts in which the load is first tried; a part may be halved max_halvings times. max_steps: tangents
    in a part; max_cuts: halvings of a step with a new one. chord: a step with an old tangent must leave at most this
    part of the residual, else the next one is with a new tangent; 0: always a new one."""

    tolerance: float = 1e-7
    on_the_way: float = 1e-2
    max_steps: int = 20
    max_cuts: int = 6
    load_steps: int = 1
    max_halvings: int = 5
    chord: float = 0.4


@dataclass(frozen=True)
class Evidence:
    """How it converged: steps in all, load steps, the relative residual, and the sequence of the last load
    step's relative residuals."""

    iterations: int
    load_steps: int
    residual: float
    history: tuple[float, ...]

    def then(self, other: "Evidence") -> "Evidence":
        """Two solves after each other as one; the worse residual stays."""
        return Evidence(self.iterations + other.iterations, self.load_steps + other.load_steps,
                        max(self.residual, other.residual), other.history)


class Residual:
    """A residual form of `unknown`, its tangent, and their assembled arrays.

    force: a form whose assembled norm is the size of the forces at full load; the
    residual is divided by it.
    """

    def __init__(self, form: Any, unknown: Any, force: Any, bcs: tuple[Any, ...] = ()) -> None:
        self.unknown, self.bcs = unknown, list(bcs)
        self._form = fem.form(form)
        self._tangent = fem.form(ufl.derivative(form, unknown))
        self._force = fem.form(force)
        self._vector = petsc.create_vector(unknown.function_space)
        self._matrix = petsc.create_matrix(self._tangent)
        self._step = petsc.create_vector(unknown.function_space)
        self._solver = _mumps(self._matrix)

    def close(self) -> None:
        """Free PETSc's memory; the unknown stays."""
        for item in (self._solver, self._matrix, self._vector, self._step):
            item.destroy()

    def scale(self) -> float:
        """Norm of the forces, N."""
        return float(np.linalg.norm(fem.assemble_vector(self._force).array))

    def vector(self) -> Any:
        """The residual at the unknown as it stands, N."""
        with self._vector.localForm() as local:
            local.set(0.0)
        petsc.assemble_vector(self._vector, self._form)
        self._vector.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
        petsc.set_bc(self._vector, self.bcs, x0=self.unknown.x.petsc_vec, alpha=-1.0)
        return self._vector

    def tangent(self) -> Any:
        """The derivative of `vector`."""
        self._matrix.zeroEntries()
        petsc.assemble_matrix(self._matrix, self._tangent, bcs=self.bcs)
        self._matrix.assemble()
        return self._matrix

    def direction(self, is_new: bool = True) -> np.ndarray:
        """The step from the last `vector`, with the tangent there if `is_new`, else with the one last factored."""
        if is_new:
            self._solver.setOperators(self.tangent())
        self._solver.solve(self._vector, self._step)
        return -self._step.array


def _mumps(matrix: Any) -> Any:
    solver = PETSc.KSP().create(matrix.comm)
    solver.setType("preonly")
    solver.setOperators(matrix)
    pc = solver.getPC()
    pc.setType("lu")
    pc.setFactorSolverType("mumps")
    pc.setFactorSetUpSolverType()
    pc.getFactorMatrix().setMumpsIcntl(14, 80)  # room for pivoting, %
    return solver


def solve(problem: Residual, numerics: Newton, name: str = "Newton") -> Evidence:
    """Bring the residual to zero at the load as it stands; the unknown holds the answer."""
    scale = problem.scale() or 1.0
    history = [_norm(problem) / scale]
    tangents, is_new = 0, True
    while history[-1] > numerics.tolerance:
        tangents += is_new
        if tangents > numerics.max_steps or not np.isfinite(history[-1]):
            raise _stopped(name, history, numerics)
        now = _stepped(problem, history[-1], scale, numerics, is_new)
        if now is None and is_new:
            raise _stopped(name, history, numerics)
        if now is not None:
            history.append(now)
        is_new = now is None or now > numerics.chord * history[-2]
    return Evidence(len(history) - 1, 1, history[-1], tuple(history))


def _stepped(problem: Residual, last: float, scale: float, numerics: Newton, is_new: bool) -> float | None:
    """One step, halved until it helps if its tangent is new; the residual after it, or None where nothing helped."""
    x = problem.unknown.x
    step, before, length = problem.direction(is_new), x.array.copy(), 1.0
    for _ in range(numerics.max_cuts + 1 if is_new else 1):
        x.array[:] = before + length * step
        x.scatter_forward()
        now = _norm(problem) / scale
        if now < last * (1 - 1e-4 * length) or now <= numerics.tolerance:
            return now
        length /= 2
    x.array[:] = before
    x.scatter_forward()
    problem.vector()
    return None


def in_steps(problem: Residual, apply: Callable[[float], None], numerics: Newton, name: str = "Newton",
             load: str = "the load") -> Evidence:
    """Raise the load from where the unknown is at rest (part 0) to the whole of it (1); `apply(part)` sets it.

    Before the last step a looser tolerance is enough.
    """
    x, done, size = problem.unknown.x, 0.0, 1.0 / numerics.load_steps
    smallest = size / 2**numerics.max_halvings
    evidence = Evidence(0, 0, 0.0, ())
    good = x.array.copy()
    loose = replace(numerics, tolerance=max(numerics.tolerance, numerics.on_the_way))
    while done < 1.0:
        part = done + size if done + size < 1.0 - 1e-9 else 1.0
        apply(part)
        try:
            found = solve(problem, numerics if part == 1.0 else loose, name)
        except DidNotConverge as error:
            size /= 2
            x.array[:] = good
            x.scatter_forward()
            if size < smallest * (1 - 1e-9):
                raise DidNotConverge(error.code, f"{error.happened}, at {100 * done:.0f} % of {load}",
                                     error.wanted, error.hint, good) from error
            continue
        evidence = replace(found, iterations=evidence.iterations + found.iterations, load_steps=evidence.load_steps + 1)
        done, good = part, x.array.copy()
    return evidence


def _norm(problem: Residual) -> float:
    return float(problem.vector().norm())


def _stopped(name: str, history: list[float], numerics: Newton) -> DidNotConverge:
    return DidNotConverge("newton_stopped", f"{name} stopped after {len(history) - 1} steps at residual "
                          f"{history[-1]:.1e}", f"{numerics.tolerance:.0e}",
                          "Try more load steps, or inspect the mesh where it is worst.")
