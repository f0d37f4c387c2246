"""The label map and its table."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.segment.result import Lumen
from solvers.geometry.volume import Volume
from solvers.library import anatomy

CONFIDENCE = {"body": 0.95, "lung": 0.9, "skeleton": 0.6, "arterial_calcification": 0.6,
              "false_lumen": 0.7}
"""How far a label is to be believed, 0 to 1: thresholds alone do not tell bone from other dense things."""


@dataclass(frozen=True)
class Labels:
    """Label numbers on the image's grid, and per label its name, confidence and volume in ml."""

    values: np.ndarray
    rows: tuple[tuple[str, float, float], ...]


def compose(volume: Volume, lumen: Lumen, masks: dict[str, np.ndarray]) -> Labels:
    """Masks laid over each other, the lumen on top."""
    layers: list[tuple[str, np.ndarray]] = [(n, masks[n]) for n in ("body", "lung", "skeleton") if n in masks]
    if lumen.false_lumen is not None and lumen.false_lumen.any():
        layers.append(("false_lumen", lumen.false_lumen & (lumen.field >= 0)))
    layers += [("arterial_calcification", lumen.calcium & (lumen.field >= 0)), ("arterial_lumen", lumen.field < 0)]
    values = np.zeros(volume.values.shape, np.uint8)
    for name, mask in layers:
        values[mask] = anatomy.structure(name).index
    return _counted(volume, lumen, values, [name for name, _ in layers])


def aorta(lumen: Lumen) -> np.ndarray:
    """The aorta's trunk alone: its (true) lumen, the false lumen, and `aorta` for the flap and clot between them."""
    assert lumen.aorta is not None and lumen.false_lumen is not None
    values = np.where(lumen.aorta, anatomy.structure("aorta").index, 0).astype(np.uint8)
    values[lumen.aorta & lumen.false_lumen] = anatomy.structure("false_lumen").index
    values[lumen.aorta & (lumen.field < 0)] = anatomy.structure("arterial_lumen").index
    return values


def _counted(volume: Volume, lumen: Lumen, values: np.ndarray, names: list[str]) -> Labels:
    ml = volume.voxel_volume / 1000
    rows = [(name, lumen.confidence if name == "arterial_lumen" else CONFIDENCE[name],
             float(np.sum(values == anatomy.structure(name).index)) * ml) for name in names]
    kept = sorted((r for r in rows if r[2] > 0), key=lambda r: anatomy.structure(r[0]).index)
    return Labels(values, tuple(kept))


def write_table(path: Path, labels: Labels) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["index", "name", "snomed", "laterality", "colour", "confidence", "volume_ml"])
        for name, confidence, volume in labels.rows:
            s = anatomy.structure(name)
            writer.writerow([s.index, s.name, s.snomed, s.laterality, s.colour, confidence, f"{volume:.3f}"])
