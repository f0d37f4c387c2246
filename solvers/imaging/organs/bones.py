"""The skeleton as one mask, and the line of the spine through the slices."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.morphology import convex_hull_image

from solvers.imaging.organs.scan import Scan, larger, touching

CORE = 200.0
"""Where bone is sought, HU; thin cortex is no brighter on thick slices."""
CORTEX = 300.0
"""What nowhere reaches this is no bone, HU: a kidney with contrast medium."""
BONE = 110.0
"""Spongy bone beside a core, HU."""
SOFT = 50.0
SHARE = 0.33
BRIGHT = 130.0
"""No organ without contrast medium is as bright, HU."""
MARROW = 80.0
"""Marrow within a vertebra, HU; less with age."""


@dataclass(frozen=True)
class Bones:
    """mask; spine: centre of the vertebral column (x, y) in each slice, index, or None where none is seen;
    trusted: the slices in which it is.
    """

    mask: np.ndarray
    spine: np.ndarray | None
    trusted: np.ndarray


def find(scan: Scan) -> Bones:
    """Bone: dense cores with what is denser than muscle around them, marrow filled in each slice."""
    inside = scan.body & ~scan.dilated(scan.vessel, 2.0) & ~_pools(scan) & ~_organs(scan)
    core = _with_cortex(scan, (scan.values > CORE) & inside)
    bone = touching((scan.values > _edge(scan)) & inside & scan.dilated(core, 5.0), core)
    spine, trusted = _spine(scan, (scan.values > MARROW) & inside & scan.dilated(core, 20.0))
    if spine is not None:
        near = column(scan, spine, 27.0)
        bone |= _hulls(bone & near) & (scan.smooth > MARROW) & inside
    for k in range(bone.shape[2]):
        bone[..., k] = ndimage.binary_fill_holes(bone[..., k])
    return Bones(larger(bone & inside, 1.0 / scan.voxel_ml), spine, trusted)


def _edge(scan: Scan) -> np.ndarray:
    """Where bone ends: SHARE of the way from muscle to the brightest within 3 mm, at least BONE."""
    reach = tuple(2 * int(max(np.round(3.0 / s), 1)) + 1 for s in scan.spacing)
    brightest = ndimage.maximum_filter(np.minimum(scan.values, 1000), reach, mode="nearest")
    return np.asarray(np.maximum(BONE, SOFT + SHARE * (brightest - SOFT)))


def _with_cortex(scan: Scan, core: np.ndarray) -> np.ndarray:
    """The parts of more than 0.25 ml of which 3 % are as dense as cortex."""
    labels, count = ndimage.label(core, np.ones((3, 3, 3)))
    size = np.bincount(labels.ravel(), minlength=count + 1)
    dense = np.bincount(labels[scan.values > CORTEX], minlength=count + 1)
    kept = (size * scan.voxel_ml > 0.25) & (dense > 0.03 * size)
    kept[0] = False
    return np.asarray(kept[labels])


def _organs(scan: Scan) -> np.ndarray:
    """Organs with contrast medium: brighter than any without, 14 mm wide, and not in a shell as dense as cortex."""
    labels, count = ndimage.label(scan.opened((scan.smooth > BRIGHT) & (scan.smooth < CORTEX) & scan.body, 7.0))
    if count == 0:
        return labels > 0
    away, nearest = ndimage.distance_transform_edt(labels == 0, scan.spacing, return_indices=True)
    around = (away > 0) & (away < 5.0)
    owner = labels[tuple(n[around] for n in nearest)]
    shell = np.bincount(owner, minlength=count + 1)
    dense = np.bincount(owner[scan.values[around] > CORTEX], minlength=count + 1)
    soft = (dense < 0.08 * shell) & (np.bincount(labels.ravel(), minlength=count + 1) * scan.voxel_ml > 15)
    soft[0] = False
    return scan.dilated(soft[labels], 4.0) & (scan.smooth < CORTEX)


def _pools(scan: Scan) -> np.ndarray:
    """Blood with contrast medium that no artery's mask holds: as dense as bone, 14 mm wide, before the spine, between
    lungs (heart, caval veins).
    """
    wide = scan.opened((scan.values > CORE) & scan.body, 7.0)
    air = (scan.values < -500) & scan.body
    chest = air.sum((0, 1)) > 0.1 * scan.body.sum((0, 1))
    return scan.dilated(wide & _front(scan) & chest, 4.0)


def _front(scan: Scan) -> np.ndarray:
    """What lies in the front 55 % of the body's depth; the middle of a vertebra lies behind."""
    rows = scan.body.any(0)
    first, last = np.argmax(rows, 0), rows.shape[0] - np.argmax(rows[::-1], 0)
    y = np.arange(rows.shape[0])[:, None]
    return np.broadcast_to((y - first < 0.55 * (last - first))[None], scan.body.shape)


def _hulls(mask: np.ndarray) -> np.ndarray:
    """The convex hull in each slice: marrow lies within the shell of its vertebra, the aorta outside."""
    found = mask.copy()
    for k in range(mask.shape[2]):
        if mask[..., k].sum() > 3:
            found[..., k] = convex_hull_image(mask[..., k], tolerance=1e-6)
    return found


def column(scan: Scan, spine: np.ndarray, mm: float) -> np.ndarray:
    """What lies within so many mm of the line of the spine in its slice."""
    x, y = (np.arange(n)[:, None] - spine[:, a] for a, n in enumerate(scan.values.shape[:2]))
    return np.hypot((x * scan.spacing[0])[:, None], (y * scan.spacing[1])[None]) < mm


def _spine(scan: Scan, bone: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """The path through all slices that passes the most bone near the body's middle, by dynamic programming.

    A slice is scored by the share of bone within about 15 mm, the size of a vertebral body; from slice to slice the
    path moves by at most a voxel. A slice is trusted when that share is above a quarter.
    """
    share = ndimage.gaussian_filter(bone.astype(np.float32), np.append(12.0 / scan.spacing[:2], 6.0 / scan.spacing[2]))
    x = np.arange(bone.shape[0]) * scan.spacing[0]
    middle = _middle(scan)
    score = share * np.exp(-0.5 * ((x[:, None, None] - middle[None, None, :]) / 25.0) ** 2)
    score[~scan.body | _front(scan)] *= 0.3
    best, steps = score[..., 0].astype(float), []
    for k in range(1, bone.shape[2]):
        moved = np.stack([_shifted(best, dx, dy) - 0.01 * (abs(dx) + abs(dy)) for dx, dy in _MOVES])
        steps.append(np.argmax(moved, 0))
        best = moved.max(0) + score[..., k]
    here = np.unravel_index(int(np.argmax(best)), best.shape)
    path = [here]
    for step in reversed(steps):
        dx, dy = _MOVES[step[here]]
        here = (here[0] - dx, here[1] - dy)
        path.append(here)
    line = np.array(path[::-1], int)
    trusted = share[line[:, 0], line[:, 1], np.arange(len(line))] > 0.25
    if trusted.sum() * scan.spacing[2] < 20.0:
        return None, trusted
    smooth = ndimage.gaussian_filter1d(line.astype(float), 6.0 / scan.spacing[2], axis=0, mode="nearest")
    return smooth, trusted


_MOVES = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]


def _shifted(values: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """values[i - dx, j - dy], with -inf where that lies outside."""
    found = np.full(values.shape, -np.inf)
    nx, ny = values.shape
    found[max(dx, 0):nx + min(dx, 0), max(dy, 0):ny + min(dy, 0)] = \
        values[max(-dx, 0):nx + min(-dx, 0), max(-dy, 0):ny + min(-dy, 0)]
    return found


def _middle(scan: Scan) -> np.ndarray:
    """x of the body's middle in each slice, mm."""
    x = np.arange(scan.values.shape[0])[:, None] * scan.spacing[0]
    area = scan.body.sum((0, 1))
    overall = float((x[:, None] * scan.body).sum() / max(area.sum(), 1))
    return np.where(area > 0, (x * scan.body.sum(1)).sum(0) / np.maximum(area, 1), overall)
