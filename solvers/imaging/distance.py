"""From a function that is nearly a distance at its zero to a signed distance around it."""

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree


def rough(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Signed distance of a mask to half-voxel precision, mm, negative inside, shape (i, j, k)."""
    inside = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"), spacing)
    outside = ndimage.distance_transform_edt(np.pad(~mask, 1, mode="edge"), spacing)
    core = (slice(1, -1),) * 3
    half = float(np.cbrt(np.prod(spacing))) / 2
    return np.where(mask, half - inside[core], outside[core] - half)


def gradient(values: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Central differences, (3, i, j, k), per mm; an axis of one sample has none."""
    parts = [np.gradient(values, h, axis=a) if values.shape[a] > 1 else np.zeros_like(values)
             for a, h in enumerate(spacing)]
    return np.stack(parts)


def reinitialise(values: np.ndarray, spacing: np.ndarray, limit: float) -> np.ndarray:
    """Signed distance (mm, clipped to +-limit) to the zero level of `values`, with its sign.

    Next to the zero the distance is that to the plane through the crossings on the grid's edges; farther away it is
    the distance to the feet of those voxels and to the crossings.
    """
    near, size, crossings = _beside(values, spacing)
    inside = values < 0
    field = np.where(inside, -limit, limit).astype(float)
    if not near.any():
        return field
    slope = gradient(values, spacing)
    normal = slope / np.maximum(np.linalg.norm(slope, axis=0), 1e-9)
    index = np.argwhere(near)
    size[near] = np.minimum(size[near], cKDTree(crossings).query(index * spacing)[0])
    signed = np.where(inside[near], -size[near], size[near])
    feet = index * spacing - signed[:, None] * normal[:, near].T
    band = ndimage.binary_dilation(near, iterations=int(np.ceil(limit / spacing.min())) + 1) & ~near
    away, _ = cKDTree(np.vstack([feet, crossings])).query(np.argwhere(band) * spacing, distance_upper_bound=limit)
    away = np.minimum(away, limit)
    field[band] = np.where(inside[band], -away, away)
    field[near] = np.clip(signed, -limit, limit)
    return field


def _beside(values: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels with a sign change to a neighbour, their distance to the plane through the crossings; these, mm."""
    inverse, crossings = np.zeros(values.shape), []
    for axis in range(3):
        closest = np.full(values.shape, np.inf)
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        a, b = values[low], values[high]
        cross = (a < 0) != (b < 0)
        part = np.clip(np.abs(a) / np.maximum(np.abs(a) + np.abs(b), 1e-12), 1e-3, 1 - 1e-3)
        closest[low] = np.minimum(closest[low], np.where(cross, part * spacing[axis], np.inf))
        closest[high] = np.minimum(closest[high], np.where(cross, (1 - part) * spacing[axis], np.inf))
        crossings.append(np.argwhere(cross) * spacing + (part[cross] * spacing[axis])[:, None] * np.eye(3)[axis])
        with np.errstate(divide="ignore"):
            inverse += 1 / closest**2
    with np.errstate(divide="ignore"):
        return inverse > 0, 1 / np.sqrt(inverse), np.concatenate(crossings)


def curvature(field: np.ndarray, spacing: np.ndarray, sigma: float) -> np.ndarray:
    """Sum of the principal curvatures of the level surfaces, 1/mm, smoothed over `sigma` mm."""
    slope = gradient(ndimage.gaussian_filter(field, sigma / spacing), spacing)
    normal = slope / np.maximum(np.linalg.norm(slope, axis=0), 1e-6)
    parts = [np.gradient(normal[a], h, axis=a) if field.shape[a] > 1 else 0.0 for a, h in enumerate(spacing)]
    return np.asarray(sum(parts))
