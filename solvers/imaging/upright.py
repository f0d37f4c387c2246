"""Slices that are shifted against each other, brought onto an upright and even grid by linear interpolation."""

import numpy as np

from solvers.geometry.frames import Shifts


def upright(values: np.ndarray, shifts: Shifts, out: np.ndarray) -> np.ndarray:
    """Fill `out`, (columns + wider, rows + wider, slices), from slices `values` (columns, rows, given slices); `out`.

    Within a slice bilinear, between slices linear along their normal, so a point of
    the body stays where it is. Where no slice reaches, the smallest value of all.
    Integers are rounded.
    """
    fill, is_whole = values.min(), out.dtype.kind in "iu"
    for k in range(shifts.n_slices):
        below = max(int(np.searchsorted(shifts.height, k + 1e-3)) - 1, 0)
        above = min(below + 1, len(shifts.height) - 1)
        gap = shifts.height[above] - shifts.height[below]
        weight = (k - shifts.height[below]) / gap if gap else 0.0
        made = _moved(values[:, :, below], shifts.aside[below], out.shape)
        if weight > 1e-3:
            made = (1 - weight) * made + weight * _moved(values[:, :, above], shifts.aside[above], out.shape)
        made = np.where(np.isnan(made), fill, made)
        out[:, :, k] = np.rint(made) if is_whole else made
    return out


def _moved(one: np.ndarray, aside: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A slice (columns, rows) whose first pixel lies `aside` (2,) pixels into an image of `shape`; NaN beyond it."""
    made = one.astype(np.float64)
    for axis in (0, 1):
        made = _moved_along(made, axis, float(aside[axis]), shape[axis])
    return made


def _moved_along(one: np.ndarray, axis: int, by: float, size: int) -> np.ndarray:
    at = np.arange(size) - by
    low = np.floor(at + 1e-3).astype(int)
    part = np.clip(at - low, 0, 1)
    part[part < 2e-3] = 0
    last = one.shape[axis] - 1
    first = np.take(one, np.clip(low, 0, last), axis)
    second = np.take(one, np.clip(low + 1, 0, last), axis)
    turned = part[:, None] if axis == 0 else part[None, :]
    made = np.where(turned > 0, (1 - turned) * first + turned * second, first)
    beyond = (low < 0) | (low + (part > 0) > last)
    made[beyond if axis == 0 else (slice(None), beyond)] = np.nan
    return made
