"""What the synthetic scans share: a grid, soft shapes, the trunk without its vessels, files of fixed bytes."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid

from pipeline import formats
from solvers.geometry.volume import Volume
from solvers.randomness import rng


@dataclass(frozen=True)
class Grid:
    """Voxels (i, j, k), their spacing and the centre of the whole, LPS mm; axes are the patient's."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def affine(self) -> np.ndarray:
        affine = np.diag([*self.spacing, 1.0])
        affine[:3, 3] = np.array(self.centre) - (np.array(self.shape) - 1) / 2 * np.array(self.spacing)
        return affine

    def axes(self) -> tuple[np.ndarray, ...]:
        """Coordinates along x, y, z, shaped to broadcast."""
        lines = [self.affine[i, 3] + np.arange(self.shape[i]) * self.spacing[i] for i in range(3)]
        return tuple(np.meshgrid(*lines, indexing="ij", sparse=True))


def softly(distance: np.ndarray, width: float = 0.6) -> np.ndarray:
    """1 where a distance is negative, 0 where positive, with a soft edge (mm)."""
    return 1 / (1 + np.exp(np.clip(distance / width, -30, 30)))


def ellipsoid(axes: tuple[np.ndarray, ...], centre: tuple[float, ...], size: tuple[float, ...]) -> np.ndarray:
    """About the distance (mm) to an ellipsoid, negative inside."""
    squares = sum(((a - c) / s) ** 2 for a, c, s in zip(axes, centre, size, strict=True))
    return (np.sqrt(squares) - 1) * min(size)


TISSUE = {"CT": {"air": -1000, "fat": -95, "muscle": 58, "marrow": 190, "cortex": 620, "disc": 80, "liver": 105,
                 "kidney": 185, "medulla": 120, "bowel": 35, "gas": -880, "vein": 120, "wall": 48, "calcium": 950},
          "MR": {"air": 8, "fat": 130, "muscle": 110, "marrow": 90, "cortex": 25, "disc": 80, "liver": 160,
                 "kidney": 420, "medulla": 300, "bowel": 100, "gas": 10, "vein": 240, "wall": 100, "calcium": 20}}


def surroundings(grid: Grid, seed: int, modality: str) -> np.ndarray:
    """Everything but the vessels: body, fat, muscle, spine, pelvis, kidneys, liver, bowel."""
    value, axes = TISSUE[modality], grid.axes()
    x, y, z = axes
    cylinder = (np.sqrt((x / 109) ** 2 + ((y - 8) / 84) ** 2) - 1) * 84 + 0 * z
    image = np.full(grid.shape, float(value["air"]), np.float32)
    lay = painter(image)
    lay(softly(cylinder), value["fat"])
    shell = np.abs(cylinder + 17) - 6
    lay(softly(shell) * softly(-(y - 20) - 45, 8), value["muscle"])
    for sign in (1, -1):
        psoas = np.sqrt(((x - 2 - sign * (36 + (30 - z) * 0.06)) / 15) ** 2 + ((y - 42) / 17) ** 2) - 1
        lay(softly(psoas * 15), value["muscle"])
        back = np.sqrt(((x - 2 - sign * 33) / 26) ** 2 + ((y - 76) / 13) ** 2) - 1
        lay(softly(back * 13 + 0 * z), value["muscle"])
    _spine(lay, axes, value)
    _organs(lay, axes, value, seed)
    return image


def painter(image: np.ndarray):
    def lay(weight: np.ndarray, value: float) -> None:
        image[...] = image * (1 - weight) + value * weight
    return lay


def _spine(lay, axes: tuple[np.ndarray, ...], value: dict[str, float]) -> None:
    x, y, z = axes
    body = (np.sqrt(((x - 2) / 23) ** 2 + ((y - 46) / 17) ** 2) - 1) * 17 + 0 * z
    height = np.abs((z + 200) % 36 - 18) - 14.5
    bone = np.maximum(body, height + 0 * x)
    lay(softly(body), value["disc"])
    lay(softly(bone), value["cortex"])
    lay(softly(bone + 1.8), value["marrow"])
    arch = np.maximum(np.abs(np.sqrt((x - 2) ** 2 + (y - 74) ** 2) - 13) - 2.5, height - 6)
    lay(softly(arch), value["cortex"])
    for sign in (1, -1):
        wing = np.abs((x - 2) * sign - 62 - (y - 40) * 0.45 + (z + 90) * 0.25) - 4
        wing = np.maximum(np.maximum(wing, z + 48), np.abs(y - 45) - 32)
        lay(softly(wing), value["cortex"])
        lay(softly(wing + 2), value["marrow"])


def _organs(lay, axes: tuple[np.ndarray, ...], value: dict[str, float], seed: int) -> None:
    x, y, z = axes
    for sign, lift in ((1, 3), (-1, -4)):
        centre = (sign * 70 + 3, 36.0, 50.0 + lift)
        kidney = ellipsoid(axes, centre, (23, 21, 46))
        sinus = ellipsoid(axes, (centre[0] - sign * 15, 33.0, centre[2]), (14, 11, 22))
        lay(softly(kidney), value["kidney"])
        lay(softly(ellipsoid(axes, centre, (13, 12, 34))), value["medulla"])
        lay(softly(sinus), value["fat"])
    lay(softly(ellipsoid(axes, (-62, -22, 88), (44, 44, 46))), value["liver"])
    draw = rng(seed, "bowel")
    for _ in range(16):
        centre = (draw.uniform(-70, 70), draw.uniform(-60, -32), draw.uniform(-85, 60))
        size = (draw.uniform(11, 20), draw.uniform(9, 14), draw.uniform(11, 22))
        loop = ellipsoid(axes, centre, size)
        lay(softly(loop), value["bowel"] + draw.uniform(-15, 60))
        if draw.random() < 0.4:
            lay(softly(np.maximum(loop + 4, y - centre[1])), value["gas"])


def write_nifti(path: Path, volume: Volume) -> None:
    """NIfTI whose bytes do not depend on the hour (gzip keeps a time otherwise)."""
    plain = path.with_suffix("")
    formats.write_volume(plain, volume)
    path.write_bytes(gzip.compress(plain.read_bytes(), 9, mtime=0))
    plain.unlink()


def uid(*names: object) -> str:
    return generate_uid(entropy_srcs=["anatwin sample", *map(str, names)])
