"""Liver, kidneys and spleen: sought one after the other, then they compete for the soft tissue of the trunk."""

import numpy as np
from scipy import ndimage

from solvers.imaging.organs import competition, kidneys, liver, parts, spleen
from solvers.imaging.organs.bones import Bones
from solvers.imaging.organs.found import Candidate, Missing
from solvers.imaging.organs.lungs import Lungs
from solvers.imaging.organs.scan import Scan, largest
from solvers.imaging.organs.wall import Wall


def find(scan: Scan, bones: Bones, wall: Wall, lungs: Lungs, pelvis: float
         ) -> tuple[dict[str, np.ndarray], list[Missing]]:
    """Masks by name, and what is missing. pelvis: slice of the upper edge of the hip bones, -1 without."""
    assert bones.spine is not None
    soft = wall.room & (scan.smooth > parts.SOFT[0]) & (scan.smooth < parts.SOFT[1]) & ~lungs.both & ~lungs.airways
    ribbed = _ribbed(scan, bones)
    above = ribbed & (np.arange(len(ribbed)) > pelvis)
    first, sure = liver.seek(scan, parts.find(scan, soft, bones.spine), above)
    rest = parts.find(scan, soft & ~sure & _behind(scan, bones), bones.spine)
    both = [kidneys.seek(rest, side, pelvis, sure) for side in ("left", "right")]
    taken = np.any([sure, *(k.start for k in both if isinstance(k, Candidate))], axis=0)
    sought = [*both, spleen.seek(scan, rest, above, taken, wall.room), first]
    good = {s.name: s for s in sought if isinstance(s, Candidate) and s.seed.any()}
    missing = [s if isinstance(s, Missing) else Missing(s.name, "what lies in its place belongs to another organ")
               for s in sought if s.name not in good]
    if not good:
        return {}, missing
    masks = competition.solve(scan, soft, list(good.values()))
    return {n: _tidy(scan, n, m, wall) for n, m in masks.items()}, missing


STALK = {"liver": (12.0, 22.0), "spleen": (6.0, 14.0), "kidney_left": (5.0, 11.0), "kidney_right": (5.0, 11.0)}
"""Of each organ: depth of its trunk and how far it reaches beyond, mm. Vessels that leave it are cut there."""


def _tidy(scan: Scan, name: str, mask: np.ndarray, wall: Wall) -> np.ndarray:
    """The largest part without the vessels that leave it; of liver and spleen with those within."""
    trunk = largest(scan.cut(mask, *STALK[name]))
    if name.startswith("kidney"):
        return trunk
    return np.asarray(ndimage.binary_fill_holes(scan.closed(trunk, 3.0) & wall.room))


def _behind(scan: Scan, bones: Bones) -> np.ndarray:
    """What lies less than 80 mm before the spine: the bed of kidneys and spleen."""
    assert bones.spine is not None
    y = np.arange(scan.values.shape[1])[:, None] - bones.spine[:, 1]
    return np.broadcast_to((y * scan.spacing[1] > -80)[None], scan.values.shape)


def _ribbed(scan: Scan, bones: Bones) -> np.ndarray:
    """Slices of a trunk between ribs: 200 mm wide, four bones or more away from the spine within 20 mm above or below.

    A thigh has one such bone, a skull is one.
    """
    assert bones.spine is not None
    x = np.arange(scan.values.shape[0])[:, None] - bones.spine[:, 0]
    side = bones.mask & (np.abs(x) * scan.spacing[0] > 50)[:, None]
    count = np.array([ndimage.label(side[..., k])[1] for k in range(side.shape[2])])
    wide = scan.body.any(1).sum(0) * scan.spacing[0] > 200
    near = 2 * int(20 / scan.spacing[2]) + 1
    return np.asarray((ndimage.maximum_filter1d(count, near) >= 4) & wide)
