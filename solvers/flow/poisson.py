"""The pressure's linear system: a Laplacian whose matrix stays, solved again and again."""

import numpy as np
from scipy import sparse

from solvers.errors import DidNotConverge
from solvers.fenics import PETSc


class Poisson:
    """The matrix with fixed rows, factored once (MUMPS), or conjugate gradients with GAMG when large."""

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
