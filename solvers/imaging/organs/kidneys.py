"""The kidneys: soft parts in fat on either side of the spine."""

import numpy as np

from solvers.imaging.organs.found import Candidate, Missing
from solvers.imaging.organs.parts import Parts

BESIDE = (50.0, 85.0)
"""Of a kidney's middle from the spine's line to the side, mm; the spleen lies farther."""
BEHIND = (-40.0, 45.0)
"""And to the back, mm."""
PEAK = (9.0, 32.0)
"""Inscribed radius, mm: its parenchyma is 15 to 25 mm thick, the whole 50 to 60 mm wide (Emamian 1993,
doi:10.2214/ajr.160.1.8416654)."""
FAT = 0.4
"""Share of its surface in fat."""
ALIKE = 15.0
"""Its poles differ by less, HU."""
PASSAGE = 4.0
SMALLEST = 20.0
"""ml of the part to begin with."""


def seek(parts: Parts, side: str, pelvis: float, taken: np.ndarray) -> Candidate | Missing:
    """side: left or right; pelvis: the slice of its upper edge; taken: voxels of other organs."""
    name, sign = f"kidney_{side}", 1 if side == "left" else -1
    across = sign * parts.place[:, 0]
    near = (across > BESIDE[0]) & (across < BESIDE[1]) & (parts.place[:, 1] > BEHIND[0]) \
        & (parts.place[:, 1] < BEHIND[1]) & (parts.place[:, 2] > pelvis) & (parts.median > 0)
    good = near & (parts.peak > PEAK[0]) & (parts.peak < PEAK[1]) & (parts.fat > FAT) & (parts.volume > SMALLEST)
    if not good.any():
        return Missing(name, "no soft part of a kidney's size lies in fat beside the spine")
    first = int(np.argmax(np.where(good, parts.fat * np.minimum(parts.peak, 15.0), 0)))
    like = near & (np.abs(parts.median - parts.median[first]) < ALIKE) & (parts.peak < PEAK[1])
    members = parts.joined(first, like & (parts.fat > 0.8 * FAT), PASSAGE)
    return Candidate(name, parts.core(members) & ~taken, np.isin(parts.labels, members) & ~taken)
