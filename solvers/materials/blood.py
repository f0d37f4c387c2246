"""Laws of blood's viscosity: Pa s at a shear rate in 1/s. `Fluid.law` of the 3D flow takes any of them.

The default parameters are common ones for human blood at 37 degrees and a hematocrit near 0.45; whoever has measured
ones gives those. `law` gives them by name and hematocrit.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from solvers.errors import BadInput

Name = Literal["newtonian", "carreau_yasuda", "casson", "quemada"]
SOURCES = {"carreau_yasuda": "Cho & Kensey 1991 (Carreau's law of blood), Biorheology 28:241",
           "casson": "Merrill 1969 (Casson's law of blood, yield stress by hematocrit), Physiol Rev 49:863",
           "quemada": "Quemada 1978 (law of suspensions), doi:10.1007/BF01517309; Cokelet 1987 (blood by hematocrit), "
                      "in Handbook of Bioengineering"}
USUAL = 0.45
"""Hematocrit where none is given."""
RANGE = (0.25, 0.60)
"""Of hematocrits for which the laws were measured."""
PLASMA = 0.0012
"""Viscosity of plasma at 37 degrees, Pa s."""
LEAST_RATE = 0.5
"""1/s: below it laws with a yield stress keep the viscosity they have here. A hundred times less changes the drop of a
tube by 1e-6 and takes three times the work."""


@dataclass(frozen=True)
class CarreauYasuda:
    """slow and fast: viscosity at rest and at high rates, Pa s; time in s; power and bend without unit.

    Source of the form: Bird, Armstrong & Hassager 1987, Dynamics of Polymeric Liquids; of the numbers (bend 2):
    Cho & Kensey 1991, Biorheology 28:241.
    """

    slow: float = 0.056
    fast: float = 0.00345
    time: float = 3.313
    power: float = 0.3568
    bend: float = 2.0

    def viscosity(self, rate: np.ndarray) -> np.ndarray:
        thinned = (1 + (self.time * rate) ** self.bend) ** ((self.power - 1) / self.bend)
        return self.fast + (self.slow - self.fast) * thinned


@dataclass(frozen=True)
class Casson:
    """plastic viscosity, Pa s; yield stress, Pa: the square roots of stress and rate are on a line.

    Source of the form: Casson 1959, in Rheology of Disperse Systems; Merrill 1969, Physiol Rev 49:863.
    """

    plastic: float = 0.0035
    yield_stress: float = 0.005

    @staticmethod
    def of(hematocrit: float) -> "Casson":
        """The defaults are those at 0.45. The yield stress goes with the cube of what the hematocrit has above 0.05
        (Merrill 1969), the plastic viscosity exponentially from plasma's, 1.2 mPa s."""
        base = Casson()
        return Casson(PLASMA * (base.plastic / PLASMA) ** (hematocrit / USUAL),
                      base.yield_stress * ((hematocrit - 0.05) / (USUAL - 0.05)) ** 3)

    def viscosity(self, rate: np.ndarray) -> np.ndarray:
        return (np.sqrt(self.plastic) + np.sqrt(self.yield_stress / np.maximum(rate, LEAST_RATE))) ** 2


@dataclass(frozen=True)
class Quemada:
    """A suspension by hematocrit; plasma viscosity, Pa s; slow and fast: intrinsic viscosities at rest and at high
    rates; critical rate, 1/s. The suspension must not be packed: slow * hematocrit < 2.

    Source: Quemada 1978, doi:10.1007/BF01517309.
    """

    hematocrit: float = 0.45
    plasma: float = PLASMA
    slow: float = 4.33
    fast: float = 2.07
    critical: float = 1.88

    @staticmethod
    def of(hematocrit: float) -> "Quemada":
        """By hematocrit, as fitted to viscosities of human blood (Cokelet 1987); packed at none of them."""
        slow, fast, critical = (float(np.exp(np.polyval(p, hematocrit))) for p in (
            (-6.738, 13.80, -10.41, 3.874), (-0.6479, 2.711, -2.803, 1.3435), (3.697, -25.60, 27.923, -6.1508)))
        return Quemada(hematocrit, slow=slow, fast=fast, critical=critical)

    def viscosity(self, rate: np.ndarray) -> np.ndarray:
        root = np.sqrt(rate / self.critical)
        k = (self.slow + self.fast * root) / (1 + root)
        return self.plasma * (1 - 0.5 * k * self.hematocrit) ** -2.0


def law(name: Name, hematocrit: float | None = None) -> CarreauYasuda | Casson | Quemada | None:
    """The law of that name, None for a constant viscosity.

    Raises BadInput `hematocrit_unused` where a law does not know it, `bad_hematocrit` outside 0.25 to 0.60.
    """
    if name in ("newtonian", "carreau_yasuda"):
        if hematocrit is not None:
            raise BadInput("hematocrit_unused", f"the viscosity law {name} does not depend on the hematocrit",
                           "casson or quemada", "Choose one of these, or leave the hematocrit out.")
        return CarreauYasuda() if name == "carreau_yasuda" else None
    part = USUAL if hematocrit is None else hematocrit
    if not RANGE[0] <= part <= RANGE[1]:
        raise BadInput("bad_hematocrit", f"the hematocrit is {part:g}", f"a part of one, {RANGE[0]:g} to {RANGE[1]:g}",
                       f"For per cent write {part / 100:g}." if part > 1 else "")
    return Casson.of(part) if name == "casson" else Quemada.of(part)
