"""Three-element Windkessel outlets: a proximal resistance, then a compliance beside a distal resistance."""

from dataclasses import dataclass

import numpy as np

from solvers.errors import BadInput

Memory = float | np.ndarray
"""What follows an outlet remembers: a Windkessel a pressure, Pa, a circuit more."""


@dataclass(frozen=True)
class Windkessel:
    """One outlet in SI: proximal, distal in Pa s/m^3, compliance in m^3/Pa, venous pressure in Pa.

    Source: Westerhof 2009, doi:10.1007/s11517-008-0359-2.
    """

    proximal: float
    distal: float
    compliance: float
    venous: float = 0.0

    @property
    def resistance(self) -> float:
        """Total resistance, Pa s/m^3."""
        return self.proximal + self.distal

    def check(self) -> None:
        """Raises BadInput `bad_outlet` for a resistance or compliance that is negative or no number."""
        values = (self.proximal, self.distal, self.compliance)
        if not all(np.isfinite(v) and v >= 0 for v in values):
            raise BadInput("bad_outlet", f"resistances of {self.proximal:.4g} and {self.distal:.4g} Pa s/m^3 and a "
                           f"compliance of {self.compliance:.4g} m^3/Pa", "finite values, none negative")

    def at_rest(self, pressure: float) -> float:
        """Pressure over the compliance after long rest under a pressure, Pa."""
        return pressure

    def stored(self, stored: Memory, before: float, after: float, dt: float) -> float:
        """Pressure over the compliance after `dt` while the flow goes from `before` to `after` evenly (exact), Pa."""
        x = dt / (self.distal * self.compliance) if self.distal * self.compliance > 0 else np.inf
        kept = np.exp(-x)
        share = (1 - kept) / x
        driven = before * (share - kept) + after * (1 - share)
        return float(self.venous + (float(stored) - self.venous) * kept + self.distal * driven)

    def affine(self, stored: Memory, before: float, dt: float) -> tuple[float, float]:
        """Inlet pressure after `dt` as base + slope * flow then, for a flow that changes evenly: Pa, Pa s/m^3."""
        base = self.stored(stored, before, 0.0, dt)
        return base, self.stored(stored, before, 1.0, dt) - base + self.proximal

    def impedance(self, frequency: float) -> complex:
        """Input impedance at a frequency in Hz, Pa s/m^3."""
        return self.proximal + self.distal / (1 + 2j * np.pi * frequency * self.distal * self.compliance)
