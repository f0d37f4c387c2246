"""Organs on CT, on the image's own grid."""

from dataclasses import dataclass

import numpy as np

from pipeline.segment.result import Lumen
from solvers.geometry.volume import Volume
from solvers.imaging.organs import census, scan


@dataclass(frozen=True)
class Organ:
    """mask: on the image's grid; is_whole: nothing of it lies outside the image."""

    mask: np.ndarray
    confidence: float
    is_whole: bool


@dataclass(frozen=True)
class Organs:
    """By name, those found, and those not found with the reason; n_vertebrae seen over their whole height."""

    found: dict[str, Organ]
    missing: dict[str, str]
    n_vertebrae: int = 0


STRAIGHT = 0.9
"""Cosine between an axis of the image and one of the body, at least."""


def find(volume: Volume, lumen: Lumen | None) -> Organs:
    axes = volume.affine[:3, :3] / volume.spacing
    order = [int(np.argmax(np.abs(row))) for row in axes]
    if sorted(order) != [0, 1, 2] or np.abs(axes).max(0).min() < STRAIGHT:
        return Organs({}, dict.fromkeys((*census.ORGANS, *census.OTHERS), "the image is oblique to the body"))
    flips = [axes[row, axis] < 0 for row, axis in enumerate(order)]
    turn = tuple(slice(None, None, -1 if f else 1) for f in flips)
    vessel = None if lumen is None else (lumen.field < 0).transpose(order)[turn]
    small = scan.of(volume.values.transpose(order)[turn], volume.spacing[order], vessel)
    result = census.solve(small)
    back = [order.index(n) for n in range(3)]
    found = {f.name: Organ(small.fine(f.mask)[turn].transpose(back), f.confidence, f.is_whole) for f in result.found}
    return Organs(found, {m.name: m.reason for m in result.missing}, result.n_vertebrae)
