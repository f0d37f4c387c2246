"""The label map and its table."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.segment.organs import Organs
from pipeline.segment.result import Lumen
from solvers.geometry.volume import Volume
from solvers.library import anatomy

CONFIDENCE = {"body": 0.95, "lung": 0.9, "skeleton": 0.6, "arterial_calcification": 0.6,
              "false_lumen": 0.7}
"""How far a label is to be believed, 0 to 1: thresholds alone do not tell bone from other dense things."""


@dataclass(frozen=True)
class Labels:
    """Label numbers on the image's grid, and per label its name, confidence, volume in ml, and whether the image holds
    all of it.
    """

    values: np.ndarray
    rows: tuple[tuple[str, float, float, bool], ...]


UNDER = ("subcutaneous_fat", "torso_fat", "skeletal_muscle", "lung_left", "lung_right", "lung_airways")
"""Laid below the skeleton; the other organs lie above it."""


def compose(volume: Volume, lumen: Lumen, masks: dict[str, np.ndarray], organs: Organs) -> Labels:
    """Masks laid over each other, the lumen on top."""
    low = [(n, o.mask) for n, o in organs.found.items() if n in UNDER]
    high = [(n, o.mask) for n, o in organs.found.items() if n not in UNDER and n not in masks]
    layers: list[tuple[str, np.ndarray]] = [(n, masks[n]) for n in ("body", "lung") if n in masks]
    layers += [*low, *((n, masks[n]) for n in ("skeleton",) if n in masks), *high]
    if lumen.false_lumen is not None and lumen.false_lumen.any():
        layers.append(("false_lumen", lumen.false_lumen & (lumen.field >= 0)))
    layers += [("arterial_calcification", lumen.calcium & (lumen.field >= 0)), ("arterial_lumen", lumen.field < 0)]
    values = np.zeros(volume.values.shape, np.uint8)
    for name, mask in layers:
        values[mask] = anatomy.structure(name).index
    return _counted(volume, lumen, values, [name for name, _ in layers], organs)


def of_regions(volume: Volume, found: Organs) -> Labels:
    """Regions that do not overlap, without a vessel."""
    values = np.zeros(volume.values.shape, np.uint8)
    for name, one in found.found.items():
        values[one.mask] = anatomy.structure(name).index
    return _counted(volume, None, values, list(found.found), found)


def aorta(lumen: Lumen) -> np.ndarray:
    """The aorta's trunk alone: its (true) lumen, the false lumen, and `aorta` for the flap and clot between them."""
    assert lumen.aorta is not None and lumen.false_lumen is not None
    values = np.where(lumen.aorta, anatomy.structure("aorta").index, 0).astype(np.uint8)
    values[lumen.aorta & lumen.false_lumen] = anatomy.structure("false_lumen").index
    values[lumen.aorta & (lumen.field < 0)] = anatomy.structure("arterial_lumen").index
    return values


def _counted(volume: Volume, lumen: Lumen | None, values: np.ndarray, names: list[str], organs: Organs) -> Labels:
    rows = [_row(volume, lumen, values, name, organs) for name in names]
    kept = sorted((r for r in rows if r[2] > 0), key=lambda r: anatomy.structure(r[0]).index)
    return Labels(values, tuple(kept))


def _row(volume: Volume, lumen: Lumen | None, values: np.ndarray, name: str,
         organs: Organs) -> tuple[str, float, float, bool]:
    here = values == anatomy.structure(name).index
    organ = organs.found.get(name)
    if name == "arterial_lumen" and lumen is not None:
        confidence = lumen.confidence
    else:
        confidence = CONFIDENCE[name] if name in CONFIDENCE or organ is None else organ.confidence
    cut = any(here.take(n, axis).any() for axis in range(3) for n in (0, -1))
    is_whole = not cut and (organ is None or organ.is_whole)
    return name, confidence, float(here.sum()) * volume.voxel_volume / 1000, is_whole


def write_table(path: Path, labels: Labels) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["index", "name", "snomed", "laterality", "colour", "confidence", "volume_ml", "whole"])
        for name, confidence, volume, is_whole in labels.rows:
            s = anatomy.structure(name)
            writer.writerow([s.index, s.name, s.snomed, s.laterality, s.colour, confidence, f"{volume:.3f}",
                             "yes" if is_whole else "no"])
