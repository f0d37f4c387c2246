"""The label map and its table."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.segment.result import Lumen
from solvers.geometry.volume import Volume
from solvers.library import anatomy

CONFIDENCE = {"body": 0.95, "lung": 0.9, "skeleton": 0.6, "arterial_calcification": 0.6}
"""How far a label is to be believed, 0 to 1: thresholds alone do not tell bone from other dense things."""


@dataclass(frozen=True)
class Labels:
    """Label numbers on the image's grid, and per label its name, confidence and volume in ml."""

    values: np.ndarray
    rows: tuple[tuple[str, float, float], ...]


def compose(volume: Volume, lumen: Lumen, masks: dict[str, np.ndarray]) -> Labels:
    """Masks laid over each other, the lumen on top."""
    layers: list[tuple[str, np.ndarray]] = [(n, masks[n]) for n in ("body", "lung", "skeleton") if n in masks]
    layers += [("arterial_calcification", lumen.calcium & (lumen.field >= 0)), ("arterial_lumen", lumen.field < 0)]
    values = np.zeros(volume.values.shape, np.uint8)
    for name, mask in layers:
        values[mask] = anatomy.structure(name).index
    ml = volume.voxel_volume / 1000
    rows = [(name, lumen.confidence if name == "arterial_lumen" else CONFIDENCE[name],
             float(np.sum(values == anatomy.structure(name).index)) * ml) for name, _ in layers]
    kept = sorted((r for r in rows if r[2] > 0), key=lambda r: anatomy.structure(r[0]).index)
    return Labels(values, tuple(kept))


def write_table(path: Path, labels: Labels) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["index", "name", "snomed", "laterality", "colour", "confidence", "volume_ml"])
        for name, confidence, volume in labels.rows:
            s = anatomy.structure(name)
            writer.writerow([s.index, s.name, s.snomed, s.laterality, s.colour, confidence, f"{volume:.3f}"])
