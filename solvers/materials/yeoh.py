"""Two-term polynomial isotropic solid, as fitted to aneurysms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from solvers.fenics import ufl
from solvers.materials.law import isochoric


@dataclass(frozen=True)
class Yeoh:
    """alpha, beta: Pa."""

    alpha: float
    beta: float

    @property
    def shear_modulus(self) -> float:
        return 2 * self.alpha

    def strain_energy(self, C: Any, fibres: Sequence[Any] = ()) -> Any:
        """alpha (I1 - 3) + beta (I1 - 3)^2 of the isochoric C, J/m^3.

        Source: Raghavan & Vorp 2000, doi:10.1016/S0021-9290(99)00201-8.
        """
        strain = ufl.tr(isochoric(C)) - 3
        return self.alpha * strain + self.beta * strain**2
