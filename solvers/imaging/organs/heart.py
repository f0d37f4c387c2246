"""The heart with its pericardium: the one thick thing between the lungs."""

import numpy as np

from solvers.imaging.organs.bones import Bones, column
from solvers.imaging.organs.found import Missing
from solvers.imaging.organs.lungs import Lungs
from solvers.imaging.organs.scan import Scan, largest

THICK = 18.0
"""A ball of that radius fits into the heart, mm, and not into the arch or the great veins."""
SOFT = (-20.0, 700.0)
"""HU, blood with contrast medium included."""
VOLUME = (250.0, 1500.0)
"""ml: men 500 to 1000, women less, dilated hearts more."""


def find(scan: Scan, bones: Bones, lungs: Lungs, taken: np.ndarray) -> np.ndarray | Missing:
    """taken: the liver and what else is no heart. It has to have lung on both sides; its base is cut where it thins."""
    if not (lungs.left.any() and lungs.right.any()) or bones.spine is None:
        return Missing("heart", "no lung is seen on either side of it")
    right = np.maximum.accumulate(lungs.right, axis=0)
    left = np.maximum.accumulate(lungs.left[::-1], axis=0)[::-1]
    between = right & left & ~column(scan, bones.spine, 32.0)
    soft = (scan.smooth > SOFT[0]) & (scan.smooth < SOFT[1]) & ~bones.mask & ~taken & ~lungs.airways & ~lungs.both
    heart = largest(scan.cut(soft & between, THICK, THICK + 6.0))
    if not VOLUME[0] < scan.ml(heart) < VOLUME[1]:
        return Missing("heart", f"the thick part between the lungs has {scan.ml(heart):.0f} ml, a heart "
                                f"{VOLUME[0]:g} to {VOLUME[1]:g} ml")
    return heart
