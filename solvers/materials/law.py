"""What every hyperelastic law offers."""

from collections.abc import Sequence
from typing import Any, Protocol

from solvers.fenics import ufl

STEEPEST = 3.0
"""Exponent of an energy beyond which it goes on as a parabola: stresses there are above 1 MPa, and only Newton's
trials see them."""


class Law(Protocol):
    """A hyperelastic solid that resists change of shape; parameters in Pa."""

    def strain_energy(self, C: Any, fibres: Sequence[Any]) -> Any:
        """Isochoric energy per reference volume, J/m^3.

        C: right Cauchy-Green tensor, (3, 3). fibres: unit directions in the
        reference shape, one per family; laws without fibres ignore them.
        """
        ...

    @property
    def shear_modulus(self) -> float:
        """Shear modulus at rest, Pa."""
        ...


def isochoric(C: Any) -> Any:
    """C without its change of volume: C / det(C)^(1/3)."""
    return ufl.det(C) ** (-1 / 3) * C


def tame_exponential(Q: Any) -> Any:
    """exp(Q), beyond `STEEPEST` its parabola there: twice differentiable, and Newton's trials do not overflow."""
    low, beyond = ufl.min_value(Q, STEEPEST), ufl.max_value(Q - STEEPEST, 0.0)
    return ufl.exp(low) * (1 + beyond + beyond**2 / 2)
