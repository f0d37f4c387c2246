"""A CT of the trunk made ready for finding organs: patient axes, a grid of 2 to 3 mm, the body's outline."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

GRID = 2.5
"""Organs are sought on a grid about that coarse, mm; their edge is then put on the scan's own."""
AIR = -300.0
"""Between air or lung and tissue, HU."""
FAT = (-190.0, -30.0)
"""Adipose tissue, HU (Kvist 1988; Yoshizumi 1999, doi:10.1148/radiology.211.1.r99ap15283)."""
MUSCLE = (-29.0, 150.0)
"""Skeletal muscle, HU (Mitsiopoulos 1998, doi:10.1152/jappl.1998.85.1.115)."""


@dataclass(frozen=True)
class Scan:
    """values: HU on the working grid, (x, y, z) towards the patient's left, back and head; spacing: mm; stride, shape:
    of the scan that it was made from, along the same axes. vessel: arterial lumen on the working grid, where known.
    """

    values: np.ndarray
    spacing: np.ndarray
    stride: np.ndarray
    shape: tuple[int, ...]
    vessel: np.ndarray

    @cached_property
    def smooth(self) -> np.ndarray:
        """Values with the noise of single voxels taken out (median of 3 x 3 x 3)."""
        return np.asarray(ndimage.median_filter(self.values, 3, mode="nearest"))

    @cached_property
    def body(self) -> np.ndarray:
        """The trunk with what it encloses in each slice; what hangs on it by less than 16 mm (table, arms) is cut."""
        whole = largest(ndimage.binary_opening(self.values > AIR, ndimage.generate_binary_structure(3, 1)))
        for k in range(whole.shape[2]):
            whole[..., k] = ndimage.binary_fill_holes(whole[..., k])
        return self.dilated(largest(self.eroded(whole, 8.0)), 9.0) & whole

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing)) / 1000

    def ml(self, mask: np.ndarray) -> float:
        return float(mask.sum()) * self.voxel_ml

    def away(self, mask: np.ndarray) -> np.ndarray:
        """Distance of each voxel to the nearest outside `mask`, mm; the image's border does not count as outside."""
        found, box = np.zeros(mask.shape, np.float32), box_of(mask, 1)
        if box is not None:
            padded = np.pad(mask[box], 1, mode="edge")
            found[box] = ndimage.distance_transform_edt(padded, self.spacing)[1:-1, 1:-1, 1:-1]
        return found

    def eroded(self, mask: np.ndarray, mm: float) -> np.ndarray:
        return self.away(mask) > mm

    def dilated(self, mask: np.ndarray, mm: float) -> np.ndarray:
        found, box = np.zeros(mask.shape, bool), box_of(mask, int(mm / self.spacing.min()) + 1)
        if box is not None:
            found[box] = ndimage.distance_transform_edt(~mask[box], self.spacing) <= mm
        return found

    def opened(self, mask: np.ndarray, mm: float) -> np.ndarray:
        """Without what a ball of that radius does not fit into."""
        return self.dilated(self.eroded(mask, mm), mm) & mask

    def cut(self, mask: np.ndarray, thick: float, reach: float) -> np.ndarray:
        """What lies within `reach` mm of where the mask is more than `thick` mm deep: threads and stalks are cut."""
        return self.dilated(self.eroded(mask, thick), reach) & mask

    def closed(self, mask: np.ndarray, mm: float) -> np.ndarray:
        """With the gaps filled into which a ball of that radius does not fit."""
        return self.eroded(self.dilated(mask, mm), mm) | mask

    def blurred(self, values: np.ndarray, mm: float) -> np.ndarray:
        return np.asarray(ndimage.gaussian_filter(values.astype(np.float32), mm / self.spacing, mode="nearest"))

    def touches_border(self, mask: np.ndarray, margin: int = 1) -> bool:
        """Whether a mask comes to a face of the image, or to where the image holds no body for being cut there."""
        faces = [mask.take(range(n, n + margin) if n == 0 else range(s - margin, s), axis).any()
                 for axis, s in enumerate(mask.shape) for n in (0, 1)]
        return bool(any(faces))

    def fine(self, mask: np.ndarray) -> np.ndarray:
        """`mask` on the scan's own grid, its edge smooth: the level 1/2 of the blurred mask, by trilinear weights."""
        box = box_of(mask, 2)
        found = np.zeros(self.shape, bool)
        if box is None:
            return found
        level = ndimage.gaussian_filter(mask[box].astype(np.float32), 0.6)
        low = [b.start * int(s) for b, s in zip(box, self.stride, strict=True)]
        high = [min(b.stop * int(s), n) for b, s, n in zip(box, self.stride, self.shape, strict=True)]
        for axis, (a, b, s) in enumerate(zip(low, high, self.stride, strict=True)):
            level = _stretched(level, axis, int(s), b - a)
        found[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = level > 0.5
        return found


def of(values: np.ndarray, spacing: np.ndarray, vessel: np.ndarray | None = None, grid: float = GRID) -> Scan:
    """A scan of HU whose axes run to the patient's left, back and head."""
    stride = np.maximum(np.floor(grid / np.asarray(spacing) + 0.5), 1).astype(int)
    small = block_mean(values, stride)
    lumen = np.zeros(small.shape, bool) if vessel is None else block_mean(vessel, stride) > 0.5
    return Scan(small, np.asarray(spacing) * stride, stride, tuple(values.shape), lumen)


def block_mean(values: np.ndarray, stride: np.ndarray) -> np.ndarray:
    """Means of blocks of `stride` voxels; the last block of an axis may be a part of one."""
    found = values
    for axis, step in enumerate(stride):
        starts = np.arange(0, found.shape[axis], step)
        sizes = np.diff(np.append(starts, found.shape[axis])).astype(np.float32)
        found = np.add.reduceat(found, starts, axis, dtype=np.float32)
        found /= sizes.reshape([-1 if a == axis else 1 for a in range(3)])
    return found


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return np.zeros(mask.shape, bool)
    size = np.bincount(labels.ravel())
    size[0] = 0
    return np.asarray(labels == int(np.argmax(size)))


def touching(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The connected parts of `mask` that hold a voxel of `seed`."""
    labels, count = ndimage.label(mask)
    kept = np.zeros(count + 1, bool)
    kept[np.unique(labels[seed & mask])] = True
    kept[0] = False
    return np.asarray(kept[labels])


def larger(mask: np.ndarray, voxels: float) -> np.ndarray:
    """The connected parts of more than so many voxels."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    kept = np.bincount(labels.ravel(), minlength=count + 1) > voxels
    kept[0] = False
    return np.asarray(kept[labels])


def box_of(mask: np.ndarray, margin: int) -> tuple[slice, ...] | None:
    """The smallest box that holds the mask, wider by `margin` voxels; None of an empty mask."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        return None
    return tuple(slice(max(s.start - margin, 0), min(s.stop + margin, n))
                 for s, n in zip(found[0], mask.shape, strict=True))


def _stretched(values: np.ndarray, axis: int, step: int, length: int) -> np.ndarray:
    """Linear interpolation along one axis from centres of blocks of `step` voxels to the voxels."""
    if step == 1:
        return values
    place = np.clip((np.arange(length) + 0.5) / step - 0.5, 0, values.shape[axis] - 1)
    low = np.minimum(place.astype(int), values.shape[axis] - 2) if values.shape[axis] > 1 else np.zeros(length, int)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    part = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    return values.take(low, axis) * (1 - part) + values.take(high, axis) * part
