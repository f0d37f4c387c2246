"""Labels without any symmetry, for tests of what is exported."""

import csv
from pathlib import Path

import numpy as np

from pipeline import formats
from solvers.geometry.volume import Volume
from solvers.library import anatomy

NAMES = ("arterial_lumen", "kidney_left", "arterial_calcification")


def drawn(affine: np.ndarray, size: tuple[int, ...]) -> Volume:
    """Three labels; one touches the first slice, one the last corner."""
    values = np.zeros(size, np.uint8)
    for name, start, stop in zip(NAMES, ((0.1, 0.3, 0.0), (0.6, 0.2, 0.4), (0.9, 0.9, 0.9)),
                                 ((0.4, 0.45, 0.7), (0.65, 0.8, 0.5), (1.0, 1.0, 1.0)), strict=True):
        box = tuple(slice(int(a * n), int(np.ceil(b * n))) for a, b, n in zip(start, stop, size, strict=True))
        values[box] = anatomy.structure(name).index
        values[box][::2, 1::3, 1:-1:2] = 0
    return Volume(values, affine)


def mask(labels: Volume, name: str) -> np.ndarray:
    return labels.values == anatomy.structure(name).index


def write(folder: Path, labels: Volume) -> None:
    """labels.nii.gz and labels.tsv, as the segment stage names them."""
    folder.mkdir(parents=True)
    formats.write_volume(folder / "labels.nii.gz", labels)
    with (folder / "labels.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([("index", "name", "colour"), *((s.index, s.name, s.colour)
                                                         for s in map(anatomy.structure, NAMES))])


def voxels(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Sorted centres of the set voxels, mm, (n, 3)."""
    at = np.argwhere(values) @ affine[:3, :3].T + affine[:3, 3]
    return at[np.lexsort(np.round(at, 2).T)]
