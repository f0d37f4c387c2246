"""Body, lung and bone on CT by thresholds and connected parts; units HU and mm."""

import numpy as np
from scipy import ndimage

AIR = -300.0
"""Between air or lung and tissue."""
LUNG = (-960.0, -500.0)
"""Median of a lung; gas in the bowel is darker, fat brighter."""
DENSE = 280.0
"""Brighter than organs with contrast medium are."""


def body(values: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The largest connected body with what it encloses in each slice (lungs, gas); boolean (i, j, k)."""
    tissue = values > AIR
    tissue = ndimage.binary_opening(tissue, ndimage.generate_binary_structure(3, 1))
    labels, count = ndimage.label(tissue)
    if count == 0:
        return np.zeros(values.shape, bool)
    size = np.bincount(labels.ravel())
    size[0] = 0
    whole = labels == int(np.argmax(size))
    filled = whole.copy()
    axis = int(np.argmax(spacing)) if spacing.max() > 1.05 * spacing.min() else 2
    for n in range(values.shape[axis]):
        place = tuple(n if a == axis else slice(None) for a in range(3))
        filled[place] = ndimage.binary_fill_holes(whole[place])
    return filled


def lung(values: np.ndarray, inside: np.ndarray, spacing: np.ndarray, smallest_ml: float = 60.0) -> np.ndarray:
    """Large air-filled parts of the body with the density of lung; vessels within them filled."""
    labels, count = ndimage.label((values < -400) & inside)
    if count == 0:
        return np.zeros(values.shape, bool)
    ml = np.bincount(labels.ravel(), minlength=count + 1) * float(np.prod(spacing)) / 1000
    large = [n for n in range(1, count + 1) if ml[n] > smallest_ml]
    kept = [n for n in large if LUNG[0] < float(np.median(values[labels == n])) < LUNG[1]]
    return ndimage.binary_closing(np.isin(labels, kept), iterations=2) & inside


def skeleton(values: np.ndarray, inside: np.ndarray, vessel: np.ndarray, spacing: np.ndarray, dense: float = DENSE,
             smallest_ml: float = 1.0) -> np.ndarray:
    """Bone: dense cores with what is above 180 HU within 4 mm of them, marrow filled in each slice.

    `vessel`: the lumen and its rim, left out. Dense bowel content and metal are not told from bone.
    """
    smooth = ndimage.gaussian_filter(values, 0.5)
    core = (smooth > dense) & inside & ~vessel
    labels, count = ndimage.label(core, np.ones((3, 3, 3)))
    if count == 0:
        return core
    ml = np.bincount(labels.ravel(), minlength=count + 1) * float(np.prod(spacing)) / 1000
    core = (ml > smallest_ml / 4)[labels] & core
    if not core.any():
        return core
    near = ndimage.distance_transform_edt(~core, spacing) < 4.0
    bone = ndimage.binary_closing(near & (smooth > 180) & inside & ~vessel, iterations=2)
    axis = int(np.argmax(spacing)) if spacing.max() > 1.05 * spacing.min() else 2
    for n in range(values.shape[axis]):
        place = tuple(n if a == axis else slice(None) for a in range(3))
        bone[place] = ndimage.binary_fill_holes(bone[place])
    bone &= ~vessel
    labels, count = ndimage.label(bone)
    ml = np.bincount(labels.ravel(), minlength=count + 1) * float(np.prod(spacing)) / 1000
    return bone & (ml > smallest_ml)[labels]
