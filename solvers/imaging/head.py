"""Whether a volume shows a head, told from its shape: for a refusal, so it errs towards yes.

CT: a closed ring of bone round tissue of a brain's size, in slices one above another. Any other image: an outline of
a head's width, depth and roundness with air round it, in slices one above another; or longer than a trunk, for arms
that lie against a head hide its outline, and a PET of the whole body holds a face. Own rules; sizes are those of
adults and children from two years (width 12 to 17 cm, length 16 to 21 cm; recalled from growth charts) with a margin.
"""

import numpy as np
from scipy import ndimage

from solvers.geometry.volume import Volume

STEP_MM = 3.0
BONE_HU = 250.0
BRAIN_CM2 = (30.0, 260.0)
"""Area inside the skull in one slice."""
WIDTH_CM, DEPTH_CM = (10.0, 20.0), (12.0, 25.0)
"""Outline of a head, left to right and front to back."""
HEIGHT_CM = 2.5
"""Slices that look so must reach over this height."""
LONG_CM = 75.0
"""Head to foot: longer, and not CT, is taken for the whole body."""


def shows_head(volume: Volume, *, is_ct: bool) -> bool:
    """Whether a head, or part of one, seems to be in a volume (LPS mm; HU when `is_ct`)."""
    if is_ct and _runs(upright(volume, fill=-1000.0), _is_skull):
        return True
    grid = upright(volume, fill=float(np.min(volume.values)))
    if not is_ct and grid.shape[2] * STEP_MM >= 10 * LONG_CM:
        return True
    return _runs(grid, _has_outline_of_head, _outline_cut(volume, is_ct))


def upright(volume: Volume, fill: float) -> np.ndarray:
    """The volume on an upright grid of STEP_MM, (left, back, head); outside of it stands `fill`."""
    size = np.array(volume.values.shape[:3])
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    smooth = ndimage.uniform_filter(np.asarray(volume.values, np.float32),
                                    np.maximum(1, np.round(STEP_MM / spacing)).astype(int).tolist(), mode="nearest")
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in size], indexing="ij")).reshape(3, -1)
    corners = volume.affine[:3, :3] @ ends + volume.affine[:3, 3:]
    low, high = corners.min(axis=1), corners.max(axis=1)
    shape = np.maximum(1, np.ceil((high - low) / STEP_MM).astype(int) + 1)
    to_index = np.linalg.inv(volume.affine[:3, :3])
    return ndimage.affine_transform(smooth, to_index * STEP_MM, to_index @ (low - volume.affine[:3, 3]),
                                    tuple(int(n) for n in shape), order=1, mode="constant", cval=fill)


def _outline_cut(volume: Volume, is_ct: bool) -> float:
    """What is brighter is body."""
    if is_ct:
        return -400.0
    sample = np.asarray(volume.values, np.float32).ravel()[:: max(1, volume.values.size // 200_000)]
    return float(np.percentile(sample, 1) + 0.12 * (np.percentile(sample, 98) - np.percentile(sample, 1)))


def _runs(grid: np.ndarray, looks: "object", *args: float) -> bool:
    """Whether enough slices one above another look so."""
    wanted = min(max(1, round(10 * HEIGHT_CM / STEP_MM)), max(2, grid.shape[2] - 1))
    run = 0
    for k in range(grid.shape[2]):
        run = run + 1 if looks(grid[:, :, k], *args) else 0  # type: ignore[operator]
        if run >= wanted:
            return True
    return False


def _is_skull(plane: np.ndarray) -> bool:
    """Bone that closes round a brain's area of soft tissue."""
    bone = ndimage.binary_closing(np.pad(plane > BONE_HU, 3), np.ones((3, 3)))[3:-3, 3:-3]
    inside = ndimage.binary_fill_holes(bone) & ~bone
    labels, n = ndimage.label(inside)
    for number in range(1, n + 1):
        part = labels == number
        area = part.sum() * (STEP_MM / 10) ** 2
        if BRAIN_CM2[0] <= area <= BRAIN_CM2[1] and -50 < np.median(plane[part]) < 120:
            return True
    return False


def _has_outline_of_head(plane: np.ndarray, cut: float) -> bool:
    """One round body of a head's size with air on all sides but at most one."""
    labels, n = ndimage.label(ndimage.binary_opening(plane > cut, np.ones((3, 3))))
    if not n:
        return False
    biggest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    body = ndimage.binary_fill_holes(labels == biggest)
    across, along = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    width, depth = (STEP_MM / 10 * (np.ptp(a) + 1) for a in (across, along))
    cuts = [body[0].sum(), body[-1].sum(), body[:, 0].sum(), body[:, -1].sum()]
    if sum(c * STEP_MM > 60 for c in cuts) > 1 or not WIDTH_CM[0] <= width <= WIDTH_CM[1]:
        return False
    filled = body.sum() / (len(across) * len(along))
    return DEPTH_CM[0] <= depth <= DEPTH_CM[1] and 0.62 <= filled <= 0.92 and depth >= 0.95 * width
