"""The soft parts of the trunk: one for each place that is deep within soft tissue, with what it is like.

Two organs that touch do so over a neck; the watershed of the depth parts them there.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from solvers.imaging.organs.scan import Scan, box_of

SOFT = (-20.0, 300.0)
"""Soft tissue with or without contrast medium, HU: half way to fat, and below bone."""
HEIGHT = 1.5
"""A part's depth exceeds that of its neck by this, mm."""


@dataclass(frozen=True)
class Parts:
    """labels: part of each voxel, 0 outside soft tissue; soft, depth (mm): of the voxels. Arrays over parts (row 0 is
    void): volume (ml), peak (greatest depth, mm), median and deviation (HU, of the deeper half), place: mm from the
    spine's line to the left and to the back, and the slice; low, high: first and last slice; fat: share of fat around.
    saddle[a, b]: depth at the widest passage from part to part, mm.
    """

    labels: np.ndarray
    soft: np.ndarray
    depth: np.ndarray
    volume: np.ndarray
    peak: np.ndarray
    median: np.ndarray
    deviation: np.ndarray
    place: np.ndarray
    low: np.ndarray
    high: np.ndarray
    fat: np.ndarray
    saddle: np.ndarray

    def joined(self, start: int, allowed: np.ndarray, passage: float) -> list[int]:
        """The part with those of `allowed` that hang on it, one by the other, by passages wider than that, mm."""
        found, todo = [start], [start]
        while todo:
            here = todo.pop()
            for n in np.nonzero(allowed & (self.saddle[here] >= passage))[0]:
                if n not in found:
                    found.append(int(n))
                    todo.append(int(n))
        return found

    def core(self, members: list[int]) -> np.ndarray:
        """The deeper half of some parts."""
        deep = np.zeros(len(self.peak))
        deep[members] = 1
        return np.asarray((deep[self.labels] > 0) & (self.depth > 0.5 * self.peak[self.labels]))


def find(scan: Scan, soft: np.ndarray, spine: np.ndarray) -> Parts:
    depth = scan.away(soft)
    labels, count = _basins(soft, depth)
    every = np.arange(count + 1)
    peak = np.asarray(ndimage.maximum(depth, labels, every))
    deep = np.where(depth > 0.5 * peak[labels], labels, 0)
    median = np.asarray(ndimage.median(scan.smooth, deep, every))
    spread = 1.48 * np.asarray(ndimage.median(np.abs(scan.smooth - median[deep]), deep, every))
    centre = np.asarray(ndimage.center_of_mass(soft, labels, every)).reshape(-1, 3)
    centre[~np.isfinite(centre)] = 0
    off = (centre[:, :2] - spine[np.round(centre[:, 2]).astype(int)]) * scan.spacing[:2]
    boxes = ndimage.find_objects(labels, max_label=count)
    low, high = (np.array([-1] + [-1 if b is None else (b[2].start, b[2].stop - 1)[n] for b in boxes]) for n in (0, 1))
    return Parts(labels, soft, depth, np.bincount(labels.ravel(), minlength=count + 1) * scan.voxel_ml, peak, median,
                 spread, np.column_stack([off, centre[:, 2]]), low, high, _fat(scan, labels, count),
                 _saddles(labels, depth, count))


def _basins(soft: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, int]:
    found, box = np.zeros(soft.shape, np.int32), box_of(soft, 1)
    if box is None:
        return found, 0
    blunt = ndimage.gaussian_filter(depth[box], 1.0)
    seeds, count = ndimage.label(h_maxima(blunt, HEIGHT))
    found[box] = watershed(-blunt, seeds, mask=soft[box])
    return found, int(count)


def _fat(scan: Scan, labels: np.ndarray, count: int) -> np.ndarray:
    """Of the voxels next to each part, the share that is fat."""
    fat, total = np.zeros(count + 1), np.ones(count + 1)
    for axis in range(3):
        for a, b in _pairs(axis):
            edge = (labels[a] > 0) & (labels[a] != labels[b])
            total += np.bincount(labels[a][edge], minlength=count + 1)
            fat += np.bincount(labels[a][edge & (scan.smooth[b] < SOFT[0]) & (scan.smooth[b] > -200)],
                               minlength=count + 1)
    return fat / total


def _saddles(labels: np.ndarray, depth: np.ndarray, count: int) -> np.ndarray:
    found = np.zeros((count + 1, count + 1))
    for axis in range(3):
        a, b = _pairs(axis)[0]
        edge = (labels[a] > 0) & (labels[b] > 0) & (labels[a] != labels[b])
        least = np.minimum(depth[a][edge], depth[b][edge])
        np.maximum.at(found, (labels[a][edge], labels[b][edge]), least)
    return np.maximum(found, found.T)


def _pairs(axis: int) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    first = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
    last = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
    return [(first, last), (last, first)]
