"""Hip bones, thigh bones and vertebrae, told apart within the mask of all bone."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from solvers.imaging.organs.bones import Bones, column
from solvers.imaging.organs.lungs import Lungs
from solvers.imaging.organs.scan import Scan, larger, touching

THICK = 8.0
"""Hip and thigh bones hold a ball of that radius, ribs do not, mm."""
CREST = 145.0
"""Of the crest of a hip bone above what is thick around its socket, mm, at most."""
HEAD = (15.0, 32.0)
"""Radius of the head of the femur as seen (with a part of its socket), mm."""
BETWEEN = (18.0, 45.0)
"""From vertebra to vertebra, mm."""


@dataclass(frozen=True)
class Skeleton:
    """Masks by name; pelvis: slice of the upper edge of the hip bones, -1 without; n_vertebrae seen over their whole
    height, and whether their names are known (the hip bones are in view).
    """

    masks: dict[str, np.ndarray]
    pelvis: int
    n_vertebrae: int


def find(scan: Scan, bones: Bones, lungs: Lungs) -> Skeleton:
    if bones.spine is None:
        return Skeleton({}, -1, 0)
    masks: dict[str, np.ndarray] = {}
    top = -1
    for side, sign in (("left", 1), ("right", -1)):
        whole = _pelvic(scan, bones, lungs, sign)
        if not whole.any():
            continue
        top = max(top, int(np.nonzero(whole.any((0, 1)))[0][-1]))
        femur = _femur(scan, whole, sign)
        masks[f"hip_{side}"] = whole & ~femur
        if femur.any():
            masks[f"femur_{side}"] = femur
    levels = _levels(scan, bones, top)
    masks |= _vertebrae(scan, bones, levels, top)
    return Skeleton({n: m for n, m in masks.items() if m.any()}, top, max(len(levels) - 1, 0))


def _pelvic(scan: Scan, bones: Bones, lungs: Lungs, sign: int) -> np.ndarray:
    """On one side, bone that is thick somewhere, below the lungs and reaching 40 mm or more along the body."""
    assert bones.spine is not None
    x = sign * (np.arange(scan.values.shape[0])[:, None] - bones.spine[:, 0]) * scan.spacing[0]
    air = np.nonzero(lungs.both.any((0, 1)))[0]
    low = np.arange(scan.values.shape[2]) < (air[0] if len(air) else scan.values.shape[2])
    bone = bones.mask & ((x > 28) & low[None])[:, None]
    thick = larger(scan.eroded(bone, THICK), 0.3 / scan.voxel_ml)
    if not thick.any():
        return thick
    crest = int(np.nonzero(thick.any((0, 1)))[0][-1]) + int(CREST / scan.spacing[2])
    bone[..., crest:] = False
    found = touching(bone, thick)
    rows = np.nonzero(found.any((0, 1)))[0]
    return found if len(rows) * scan.spacing[2] > 40 else np.zeros(bone.shape, bool)


def _femur(scan: Scan, bone: np.ndarray, sign: int) -> np.ndarray:
    """The ball of its head, and what lies to the side of it and lower."""
    depth = scan.away(scan.closed(bone, 4.0))
    top = float(depth.max())
    if not HEAD[0] < top < HEAD[1]:
        return np.zeros(bone.shape, bool)
    centre = np.array(np.unravel_index(int(np.argmax(depth)), depth.shape))
    x, y, z = (((np.arange(n) - c) * h).reshape([-1 if a == b else 1 for b in range(3)])
               for a, (n, c, h) in enumerate(zip(bone.shape, centre, scan.spacing, strict=True)))
    ball = x**2 + y**2 + z**2 < (top + 1.5) ** 2
    beside = (sign * x > 0.5 * top) & (z < 0.5 * top)
    return np.asarray(touching(bone & (ball | beside), ball & bone))


def _levels(scan: Scan, bones: Bones, pelvis: int) -> np.ndarray:
    """Slices half way between vertebrae, from the sacrum up: where the arches leave the largest gap (the foramina).

    The bone beside the canal, summed slice by slice, has one peak a vertebra. Empty when the peaks are not regular.
    """
    assert bones.spine is not None
    x, y = ((np.arange(n)[:, None] - bones.spine[:, a]) * scan.spacing[a]
            for a, n in enumerate(scan.values.shape[:2]))
    beside = ((np.abs(x) > 8) & (np.abs(x) < 25))[:, None] & ((y > 8) & (y < 34))[None]
    share = (bones.mask & beside).sum((0, 1)) / np.maximum(beside.sum((0, 1)), 1)
    share = ndimage.gaussian_filter1d(share.astype(float), 4.0 / scan.spacing[2])
    step = max(int(BETWEEN[0] / scan.spacing[2]), 1)
    from scipy.signal import find_peaks  # loads much of SciPy, which every command would wait for

    gaps, _ = find_peaks(-share, distance=step, prominence=0.03)
    gaps = gaps[gaps > _sacrum(scan, bones, pelvis)] if pelvis >= 0 else gaps
    apart = np.diff(gaps) * scan.spacing[2]
    if len(apart) == 0 or apart.min() < BETWEEN[0] or apart.max() > BETWEEN[1]:
        return np.zeros(0, int)
    return np.asarray(gaps)


def _sacrum(scan: Scan, bones: Bones, pelvis: int) -> int:
    """The slice up to which the column may be sacrum: 50 mm below the crests of the hip bones.

    The line through the crests crosses the fourth lumbar vertebra or the disc below it.
    """
    return pelvis - int(50 / scan.spacing[2])


def _vertebrae(scan: Scan, bones: Bones, levels: np.ndarray, pelvis: int) -> dict[str, np.ndarray]:
    """Bone near the spine between one level and the next, named from the crests of the hip bones upwards."""
    if pelvis < 0 or len(levels) < 2 or bones.spine is None:
        return {}
    fourth = int(np.searchsorted(levels, pelvis + 5.0 / scan.spacing[2])) - 1
    names = [f"L{n}" for n in range(5, 0, -1)] + [f"T{n}" for n in range(12, 0, -1)]
    near = bones.mask & column(scan, bones.spine, 45.0)
    found = {}
    for n, (low, high) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        place = n - fourth + 1
        if 0 <= place < len(names):
            mask = near.copy()
            mask[..., :low], mask[..., high:] = False, False
            found[f"vertebrae_{names[place]}"] = larger(mask, 1.0 / scan.voxel_ml)
    return found
