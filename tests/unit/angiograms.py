"""A contrast CT angiogram made of balls and cones, with its exact lumen; small enough for every test run."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

PSF = 1.2 / 2.3548
"""Sigma of the point spread, mm: 1.2 mm full width at half maximum."""


@dataclass(frozen=True)
class Angiogram:
    """values (HU), spacing (mm), level field of the true lumen (mm, negative inside) and of the calcium."""

    values: np.ndarray
    spacing: np.ndarray
    truth: np.ndarray
    throat: np.ndarray
    throat_diameter: float


def chain(grid: np.ndarray, points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Distance to a chain of cones (approximately signed distance), grid (3, i, j, k)."""
    best = np.full(grid.shape[1:], np.inf, np.float32)
    for a, b, ra, rb in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
        low, high = np.minimum(a, b) - 12 - max(ra, rb), np.maximum(a, b) + 12 + max(ra, rb)
        box = tuple(slice(int(np.searchsorted(grid[(n,) + tuple(0 if m != n else slice(None) for m in range(3))],
                                              low[n])),
                          int(np.searchsorted(grid[(n,) + tuple(0 if m != n else slice(None) for m in range(3))],
                                              high[n]))) for n in range(3))
        g = grid[(slice(None), *box)]
        if g.size == 0:
            continue
        ab = b - a
        t = np.clip(np.tensordot(ab, g - a[:, None, None, None], 1) / (ab @ ab), 0, 1)
        away = np.linalg.norm(g - a[:, None, None, None] - ab[:, None, None, None] * t, axis=0)
        best[box] = np.minimum(best[box], away - (ra + (rb - ra) * t))
    return best


def make(shape: tuple[int, int, int] = (110, 84, 84), contrast: float = 300.0, noise: float = 25.0, seed: int = 1,
         stenosis: float = 0.6, flip: tuple[int, int, int] = (0, 1, 2), vein: bool = True) -> Angiogram:
    """Aorta dividing into two iliac arteries, one narrowed beside calcium; renal artery, vein, vertebra, kidney."""
    spacing, fine = np.array([0.9, 0.9, 1.5]), np.array([2, 2, 3])
    h = spacing / fine
    axes = [(np.arange(n * f) + 0.5) * s - sp / 2 for n, f, s, sp in zip(shape, fine, h, spacing, strict=True)]
    grid = np.stack(np.meshgrid(*[a.astype(np.float32) for a in axes], indexing="ij"))
    size = np.array(shape) * spacing
    rng = np.random.default_rng(seed)
    x, y, z = size * (0.5, 0.42, 0.45)
    fork = np.array([x + rng.uniform(-2, 2), y, z])
    aorta = np.array([[x, y + 3, size[2] + 20], [x + 1, y + 1, z + 30], fork])
    lumen = chain(grid, aorta, np.array([9.5, 8.8, 8.0]))
    right = np.array([fork, fork + (-14, -3, -22), fork + (-22, -2, -45), fork + (-26, 3, -90)])
    left = np.array([fork, fork + (14, -3, -22), fork + (22, -2, -45), fork + (26, 3, -90)])
    lumen = np.minimum(lumen, chain(grid, right, np.array([4.9, 4.8, 4.7, 4.5])))
    middle, along = left[1] * 0.4 + left[2] * 0.6, (left[2] - left[1]) / np.linalg.norm(left[2] - left[1])
    s = np.linspace(-1, 1, 21)
    centre = middle + along * s[:, None] * 10
    narrow = 4.75 * (1 - stenosis * 0.5 * (1 + np.cos(np.pi * s)))
    side = np.cross(along, [0, 1, 0])
    centre = centre + side * (4.75 - narrow)[:, None] * 0.7
    lumen = np.minimum(lumen, chain(grid, np.vstack([left[:2], centre, left[2:]]),
                                    np.r_[4.9, 4.8, narrow, 4.7, 4.5]))
    renal = np.array([[x, y + 2, z + 22], [x + 18, y + 4, z + 20], [x + 34, y + 9, z + 20]])
    lumen = np.minimum(lumen, chain(grid, renal, np.array([2.7, 2.6, 2.5])))
    hu = np.full(grid.shape[1:], -90.0, np.float32)
    soft = np.linalg.norm((grid[:2].T - (x, y + 4)).T / np.array([38, 26])[:, None, None, None], axis=0) < 1
    hu[soft] = 50
    spine = np.hypot(grid[0] - x, (grid[1] - y - 28) * 1.2) - 16
    hu[spine < 0] = 180
    hu[np.abs(spine) < 1.0] = 500
    kidney = np.linalg.norm((grid.T - (x + 44, y + 14, z + 20)).T / np.array([11, 12, 24])[:, None, None, None], axis=0)
    hu[kidney < 1] = 190
    if vein:
        cava = chain(grid, np.array([[x - 19, y + 5, -20], [x - 17.5, y + 5, z + 15], [x - 19, y + 5, size[2] + 20]]),
                     np.array([8.0, 8.6, 8.0]))
        hu[cava < 0] = 120
    plaque = chain(grid, centre[6:15] - side * 3.4 * (stenosis > 0), np.full(9, 1.3)) if stenosis > 0 else None
    vessel_wall = chain(grid, left, np.full(4, 6.0))
    hu[(vessel_wall < 0)] = 60
    if plaque is not None:
        hu[plaque < 0] = 900
    gradient = 1 + 0.06 * (grid[2] - z) / size[2]
    hu[lumen < 0] = (contrast * gradient)[lumen < 0]
    hu = ndimage.gaussian_filter(hu, PSF / h)
    blocks = [v for n, f in zip(shape, fine, strict=True) for v in (n, f)]
    values = hu.reshape(blocks).mean((1, 3, 5))
    truth = ndimage.map_coordinates(lumen, np.stack(np.meshgrid(
        *[(np.arange(n) + 0.5) * f - 0.5 for n, f in zip(shape, fine, strict=True)], indexing="ij")), order=1)
    values = values + rng.normal(0, noise, values.shape)
    k = int(np.argmin(narrow))
    return Angiogram(np.ascontiguousarray(values.transpose(flip)).astype(np.float32), spacing[list(flip)],
                     np.ascontiguousarray(truth.transpose(flip)), centre[k][list(flip)], 2 * float(narrow[k]))
