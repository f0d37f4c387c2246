"""Neo-Hookean solid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from solvers.fenics import ufl
from solvers.materials.law import isochoric


@dataclass(frozen=True)
class NeoHookean:
    """mu: shear modulus, Pa."""

    mu: float

    @property
    def shear_modulus(self) -> float:
        return self.mu

    def strain_energy(self, C: Any, fibres: Sequence[Any] = ()) -> Any:
        """mu/2 (I1 - 3) of the isochoric C, J/m^3."""
        return self.mu / 2 * (ufl.tr(isochoric(C)) - 3)
