"""Laws of blood's viscosity: Pa s at a shear rate in 1/s. `Fluid.law` of the 3D flow takes any of them.

The default parameters are common ones for human blood at 37 degrees and a hematocrit near 0.45; whoever has measured
ones gives those.
"""

from dataclasses import dataclass

import numpy as np

LEAST_RATE = 1e-3
"""1/s: below it laws with a yield stress have no viscosity."""


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

    def viscosity(self, rate: np.ndarray) -> np.ndarray:
        return (np.sqrt(self.plastic) + np.sqrt(self.yield_stress / np.maximum(rate, LEAST_RATE))) ** 2


@dataclass(frozen=True)
class Quemada:
    """A suspension by hematocrit; plasma viscosity, Pa s; slow and fast: intrinsic viscosities at rest and at high
    rates; critical rate, 1/s. The suspension must not be packed: slow * hematocrit < 2.

    Source: Quemada 1978, doi:10.1007/BF01517309.
    """

    hematocrit: float = 0.45
    plasma: float = 0.0012
    slow: float = 4.33
    fast: float = 2.07
    critical: float = 1.88

    def viscosity(self, rate: np.ndarray) -> np.ndarray:
        root = np.sqrt(rate / self.critical)
        k = (self.slow + self.fast * root) / (1 + root)
        return self.plasma * (1 - 0.5 * k * self.hematocrit) ** -2.0
