"""What a search for a structure hands back."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Candidate:
    """name; seed: voxels that are surely it; start: what it takes before the regions compete (boolean)."""

    name: str
    seed: np.ndarray
    start: np.ndarray


@dataclass(frozen=True)
class Missing:
    """A structure that is not found, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Found:
    """A structure: mask (boolean, on the working grid), confidence (0 to 1), whether the image holds all of it."""

    name: str
    mask: np.ndarray
    confidence: float
    is_whole: bool
