"""A scalar image in patient space."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Volume:
    """`values[i, j, k]` at the patient position `affine @ (i, j, k, 1)`, LPS mm."""

    values: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """Voxel edge lengths along i, j, k in mm, shape (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel, mm^3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def position(self, index: np.ndarray) -> np.ndarray:
        """Index coordinates (n, 3) to patient LPS mm (n, 3)."""
        return np.asarray(index) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def index(self, position: np.ndarray) -> np.ndarray:
        """Patient LPS mm (n, 3) to continuous index coordinates (n, 3)."""
        return (np.asarray(position) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T

    def but(self, values: np.ndarray) -> "Volume":
        """The same grid with other values."""
        return replace(self, values=values)
