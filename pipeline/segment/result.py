"""What every way of finding the lumen hands back."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Lumen:
    """On the image's grid: level field (mm, negative inside), standard deviation of its zero (mm), calcium.

    `limit`: the field is clipped to this many mm. intensity, blur (mm) and noise are None for a mask that was given.
    aorta: its trunk with all lumens, false_lumen: the second one of a dissection (masks); None where not looked for.
    second_lumen: `none`, `contrast` (then the field is that of the true lumen) or `no contrast` (clot, not segmented);
    empty where not looked for. valve: centre of the aortic valve, index; None where the heart is not seen.
    """

    method: str
    field: np.ndarray
    deviation: np.ndarray
    calcium: np.ndarray
    limit: float
    confidence: float
    intensity: float | None = None
    blur: float | None = None
    noise: float | None = None
    n_tubes: int = 0
    n_branches: int = 0
    n_leaks: int = 0
    aorta: np.ndarray | None = None
    false_lumen: np.ndarray | None = None
    second_lumen: str = ""
    valve: np.ndarray | None = None

    @property
    def inner(self) -> np.ndarray:
        """The field whose zero lies one standard deviation inside."""
        return np.minimum(self.field + self.deviation, self.limit)

    @property
    def outer(self) -> np.ndarray:
        """The field whose zero lies one standard deviation outside."""
        return np.maximum(self.field - self.deviation, -self.limit)
