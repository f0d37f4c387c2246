"""Exponential isotropic solid of Demiray: stiffens with stretch as arteries do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from solvers.fenics import ufl
from solvers.materials.law import isochoric, tame_exponential


@dataclass(frozen=True)
class Demiray:
    """a: shear modulus at rest, Pa; b: how fast it stiffens."""

    a: float
    b: float

    @property
    def shear_modulus(self) -> float:
        return self.a

    def strain_energy(self, C: Any, fibres: Sequence[Any] = ()) -> Any:
        """a/b (exp(b/2 (I1 - 3)) - 1) of the isochoric C, J/m^3.

        Source: Delfino 1997, doi:10.1016/S0021-9290(97)00025-0, after Demiray 1972,
        doi:10.1016/0021-9290(72)90047-4.
        """
        return self.a / self.b * (tame_exponential(self.b / 2 * (ufl.tr(isochoric(C)) - 3)) - 1)
