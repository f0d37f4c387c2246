"""Backward differences of second order with steps that may change."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Weights:
    """For a step dt (s) that is `ratio` times the last: du/dt = (now u - past(u_n, u_n-1)) / dt.

    Source: Hairer, Norsett & Wanner 1993, doi:10.1007/978-3-540-78862-1 (zero-stable up to a ratio of 1 + sqrt 2).
    """

    dt: float
    ratio: float = 1.0

    @property
    def now(self) -> float:
        return (1 + 2 * self.ratio) / (1 + self.ratio)

    def past(self, last: np.ndarray, first: np.ndarray) -> np.ndarray:
        """What of the derivative is known, times dt, negative."""
        return (1 + self.ratio) * last - self.ratio**2 / (1 + self.ratio) * first

    def ahead(self, last: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Extrapolated to the end of the step, to second order."""
        return (1 + self.ratio) * last - self.ratio * first
