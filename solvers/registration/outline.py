"""The body on CT, MR and PET, as a mask: what is laid on what, and what counts in judging it."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from solvers.geometry.volume import Volume
from solvers.imaging import regions

BLUR = {"PT": 3.0}
"""mm, one standard deviation: below the noise of the modality a body has no edge."""
LEAST_BLUR = 1.0
FLOOR = 0.02
"""Share of the bright voxels' value that is added before the logarithm: noise of the air is no tissue."""
REACH = 15.0
"""mm, one standard deviation: how far the tissue behind the skin is averaged."""
POCKET = 0.05
"""Of the body's volume: what is dark and smaller (bone on PET, gas) is part of it even where the image cuts it open."""


def body(volume: Volume, modality: str) -> np.ndarray:
    """The largest connected body with what it encloses, boolean (i, j, k).

    CT by its numbers. MR and PET first where the logarithm of the blurred image is above Otsu's threshold, for bright
    tissue (fat, a tumour) must not make dark tissue pass for air; then the rim is drawn in to where the image is half
    of the tissue behind it (bright tissue counts as the usual), where a blurred edge lies.
    Source: Otsu 1979, doi:10.1109/TSMC.1979.4310076.
    """
    values = np.nan_to_num(np.asarray(volume.values, np.float32), nan=float(np.nanmin(volume.values)))
    if modality == "CT":
        return regions.body(values, volume.spacing)
    blur = BLUR.get(modality, LEAST_BLUR)
    smooth = ndimage.gaussian_filter(values, blur / volume.spacing)
    return _largest(_drawn_in(smooth, _tissue(smooth, volume), volume.spacing, 4 * blur), volume)


def _tissue(smooth: np.ndarray, volume: Volume) -> np.ndarray:
    above = smooth - smooth.min()
    bright = float(np.percentile(above[above > 0], 75)) if (above > 0).any() else 1.0
    level = np.log(above + FLOOR * bright)
    return _without_pockets(_largest(level > threshold_otsu(level.ravel()), volume))


def _without_pockets(mask: np.ndarray) -> np.ndarray:
    dark, count = ndimage.label(~mask)
    size = np.bincount(dark.ravel(), minlength=count + 1)
    size[0] = 0
    return mask | (size < POCKET * mask.sum())[dark]


def _largest(mask: np.ndarray, volume: Volume) -> np.ndarray:
    return regions.body(np.where(mask, 0.0, 2 * regions.AIR), volume.spacing)


def _drawn_in(smooth: np.ndarray, mask: np.ndarray, spacing: np.ndarray, shell: float) -> np.ndarray:
    """The mask without the outer voxels of its `shell` (mm) that are darker than half of the tissue behind them."""
    if mask.all() or not mask.any():
        return mask
    inner = ndimage.distance_transform_edt(mask, spacing) > shell
    above = smooth - float(np.median(smooth[~mask]))
    height = np.log(np.maximum(above, 1e-6 * float(above.max())))
    usual = float(np.median(height[inner])) if inner.any() else 0.0
    weight = ndimage.gaussian_filter(inner.astype(np.float32), REACH / spacing)
    behind = ndimage.gaussian_filter(np.where(inner, np.minimum(height, usual), 0).astype(np.float32), REACH / spacing)
    is_known = weight > 1e-3
    half = np.log(0.5) + behind / np.maximum(weight, 1e-3)
    return mask & (inner | ~is_known | (height > half))


def around(mask: np.ndarray, spacing: np.ndarray, margin: float) -> np.ndarray:
    """The mask and what lies within `margin` mm of it."""
    return mask if not mask.any() else ndimage.distance_transform_edt(~mask, spacing) <= margin
