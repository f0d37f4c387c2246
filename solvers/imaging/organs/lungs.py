"""Lungs, right and left, and the airways that lead into them."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from solvers.imaging.organs.scan import Scan, touching

AIRY = -450.0
"""Between lung and soft tissue, HU."""
MEDIAN = (-950.0, -500.0)
"""Median of a lung, HU (breathed out to emphysema); gas in the bowel is darker."""
LUMEN = (-950.0, -880.0)
"""Airways are grown at thresholds from the first to the second, HU, as long as they do not leak into the lung."""
SMALLEST = 20.0
"""ml: less is not called a lung."""
TRACHEA = (40.0, 600.0)
"""Area of the trachea's section, mm^2 (8 to 27 mm wide: Breatnach 1984, doi:10.2214/ajr.142.5.903)."""
AIRWAYS = (5.0, 150.0)
"""Volume of trachea and large bronchi on this grid, ml."""
VESSEL = -500.0
"""Within the lung what is denser is vessel (or wall of a bronchus), HU."""


@dataclass(frozen=True)
class Lungs:
    """Masks; empty where not found."""

    left: np.ndarray
    right: np.ndarray
    airways: np.ndarray

    @property
    def both(self) -> np.ndarray:
        return self.left | self.right


def find(scan: Scan, spine: np.ndarray | None) -> Lungs:
    air = (scan.values < AIRY) & scan.eroded(scan.body, 4.0)
    lung = _lungs(scan, air)
    airways = _airways(scan, air, lung)
    lung = _lungs(scan, air & ~scan.dilated(airways, 3.0))
    left, right = _sides(scan, lung, spine)
    return Lungs(scan.closed(left, 5.0) & scan.body & ~airways, scan.closed(right, 5.0) & scan.body & ~airways, airways)


def vessels(values: np.ndarray, lung: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Vessels of the lung on the scan's own grid, HU: what is dense within it, 3 mm from its surface and hilum."""
    reach = np.maximum(np.round(3.0 / np.asarray(spacing)), 1).astype(int)
    inner = ndimage.minimum_filter(lung, tuple(2 * reach + 1), mode="nearest")
    return np.asarray(inner & (values > VESSEL))


def _lungs(scan: Scan, air: np.ndarray) -> np.ndarray:
    """Parts of air with a lung's volume and density."""
    labels, count = ndimage.label(ndimage.binary_opening(air))
    size = np.bincount(labels.ravel(), minlength=count + 1) * scan.voxel_ml
    found = np.zeros(air.shape, bool)
    for n in np.nonzero(size > SMALLEST)[0]:
        if n and MEDIAN[0] < float(np.median(scan.values[labels == n])) < MEDIAN[1]:
            found |= labels == n
    return touching(air, found) if found.any() else found


def _sides(scan: Scan, lung: np.ndarray, spine: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Left and right: the watershed of the depth in the lung, from what is deep on either side of the middle."""
    if not lung.any():
        return lung, lung
    x = np.arange(lung.shape[0])[:, None]
    middle = _middle(scan) if spine is None else spine[:, 0]
    off = (x - middle[None]) * scan.spacing[0]
    deep = scan.eroded(lung, 8.0)
    deep = deep if deep.any() else lung
    marker = np.where(deep & (off > 25)[:, None], 1, 0) + np.where(deep & (off < -25)[:, None], 2, 0)
    parts = watershed(-ndimage.distance_transform_edt(lung, scan.spacing), marker.astype(np.int32), mask=lung)
    sides = (off > 0)[:, None] & np.ones(lung.shape, bool)
    parts = np.where((parts == 0) & lung, np.where(sides, 1, 2), parts)
    found = [parts == n for n in (1, 2)]
    left, right = (f if scan.ml(f) > SMALLEST else np.zeros(lung.shape, bool) for f in found)
    return left, right


def _middle(scan: Scan) -> np.ndarray:
    x = np.arange(scan.body.shape[0])[:, None]
    return np.asarray((x * scan.body.sum(1)).sum(0) / np.maximum(scan.body.sum((0, 1)), 1))


def _airways(scan: Scan, air: np.ndarray, lung: np.ndarray) -> np.ndarray:
    """From the trachea's section, at the highest threshold that keeps a tree's volume; none without lungs below it."""
    seed = _trachea(scan)
    found = np.zeros(air.shape, bool)
    if seed is None or not lung[..., :int(np.nonzero(seed)[2].min())].any():
        return found
    for threshold in np.arange(LUMEN[0], LUMEN[1] + 1, 10.0):
        grown = touching((scan.values < threshold) & air, seed)
        if scan.ml(grown) > AIRWAYS[1] or (scan.ml(found) > AIRWAYS[0] and scan.ml(grown) > 2 * scan.ml(found)):
            break
        found = grown
    if scan.ml(found) < AIRWAYS[0]:
        return np.zeros(air.shape, bool)
    return scan.dilated(found, 1.5 * float(scan.spacing.min())) & (scan.values < AIRY)


def _trachea(scan: Scan) -> np.ndarray | None:
    """Round dark sections near the body's middle that lie over each other for 20 mm; the uppermost such chain."""
    dark = (scan.values < -800) & scan.eroded(scan.body, 15.0)
    middle, need = _middle(scan), max(int(np.ceil(20.0 / scan.spacing[2])), 3)
    chain: dict[int, np.ndarray] = {}
    last: np.ndarray | None = None
    for k in reversed(range(dark.shape[2])):
        section = _section(scan, dark[..., k], float(middle[k]), last)
        if section is None:
            chain, last = {}, None
            continue
        chain[k], last = section
        if len(chain) >= need:
            seed = np.zeros(dark.shape, bool)
            for row, mask in chain.items():
                seed[..., row] = mask
            return seed
    return None


def _section(scan: Scan, dark: np.ndarray, middle: float, last: np.ndarray | None
             ) -> tuple[np.ndarray, np.ndarray] | None:
    """Of one slice, the part of a trachea's area nearest to the middle, near the last one; and its centre."""
    labels, count = ndimage.label(dark)
    area = np.bincount(labels.ravel(), minlength=count + 1) * float(np.prod(scan.spacing[:2]))
    best, found = 35.0, None
    for n in range(1, count + 1):
        if not TRACHEA[0] < area[n] < TRACHEA[1]:
            continue
        centre = np.array(ndimage.center_of_mass(labels == n))
        off = abs(centre[0] - middle) * scan.spacing[0]
        near = last is None or float(np.hypot(*((centre - last) * scan.spacing[:2]))) < 8.0
        if near and off < best:
            best, found = off, (labels == n, centre)
    return found
