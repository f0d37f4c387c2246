"""Fat and muscle: by HU, and by which side of the fascia and of the wall they lie on."""

from dataclasses import dataclass

import numpy as np

from solvers.imaging.organs.bones import Bones
from solvers.imaging.organs.scan import FAT, MUSCLE, Scan
from solvers.imaging.organs.wall import Wall


@dataclass(frozen=True)
class Tissue:
    """Masks: fat outside and inside the fascia, muscle of the wall and limbs."""

    subcutaneous_fat: np.ndarray
    torso_fat: np.ndarray
    skeletal_muscle: np.ndarray


def find(scan: Scan, bones: Bones, wall: Wall) -> Tissue:
    """Skin is left out of both. Muscle beside the spine within the room (psoas) is not told from bowel and left out."""
    inside = scan.eroded(scan.body, 3.0)
    fat = (scan.values > FAT[0]) & (scan.values < FAT[1]) & inside
    muscle = (scan.smooth > MUSCLE[0]) & (scan.values < MUSCLE[1]) & inside & ~wall.room & ~bones.mask
    return Tissue(fat & ~wall.fascia, fat & wall.room, scan.opened(muscle & wall.fascia, float(scan.spacing.max())))
