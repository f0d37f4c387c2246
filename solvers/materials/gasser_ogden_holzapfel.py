"""Artery wall with dispersed collagen fibres that resist stretch only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from solvers.fenics import ufl
from solvers.materials.law import isochoric


@dataclass(frozen=True)
class GasserOgdenHolzapfel:
    """mu, k1: Pa; k2: 1; kappa: dispersion, 0 (aligned) to 1/3 (isotropic); angle: of the two fibre families to
    the circumference, rad."""

    mu: float
    k1: float
    k2: float
    kappa: float
    angle: float

    @property
    def shear_modulus(self) -> float:
        return self.mu

    def strain_energy(self, C: Any, fibres: Sequence[Any]) -> Any:
        """mu/2 (I1 - 3) + k1/(2 k2) sum (exp(k2 E^2) - 1), E = kappa (I1 - 3) + (1 - 3 kappa)(I4 - 1), J/m^3.

        A family's term is zero where E < 0 (its fibres do not push).
        Source: Gasser, Ogden & Holzapfel 2006, doi:10.1098/rsif.2005.0073.
        """
        C = isochoric(C)
        I1 = ufl.tr(C)
        psi = self.mu / 2 * (I1 - 3)
        for a in fibres:
            E = self.kappa * (I1 - 3) + (1 - 3 * self.kappa) * (ufl.inner(a, C * a) - 1)
            E = ufl.max_value(E, 0.0)
            psi += self.k1 / (2 * self.k2) * (ufl.exp(self.k2 * E**2) - 1)
        return psi
