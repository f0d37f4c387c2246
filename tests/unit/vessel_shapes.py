"""Vessels whose centreline, radius and narrowing are known, as level fields."""

import numpy as np
from scipy.spatial import cKDTree

from solvers.geometry.volume import Volume


def line(start, end, step=0.1):
    """Points every `step` mm between two points."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    n = max(int(np.linalg.norm(end - start) / step), 1) + 1
    return start + np.linspace(0, 1, n)[:, None] * (end - start)


def curve(*knots, step=0.1):
    """A smooth curve through the knots."""
    from scipy.interpolate import CubicSpline

    knots = np.asarray(knots, float)
    s = np.r_[0, np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))]
    return CubicSpline(s, knots)(np.linspace(0, s[-1], int(s[-1] / step) + 1))


def narrowed(points, radius, at, percent, length):
    """Radius along `points` with a cosine stenosis of `percent` of the diameter."""
    s = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    x = np.clip(np.abs(s - at) / (length / 2), 0, 1)
    return np.broadcast_to(radius, s.shape) * (1 - percent / 100 * 0.5 * (1 + np.cos(np.pi * x)))


def tube_field(tubes, affine, shape):
    """Level field (mm, negative inside, clipped at 4 mm) of [(points, radius)], on a grid."""
    grid = Volume(np.zeros(shape, np.float32), np.asarray(affine, float))
    x = grid.position(np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1).reshape(-1, 3))
    value = np.full(len(x), 4.0)
    for points, radius in tubes:
        radius = np.broadcast_to(radius, len(points))
        distance, nearest = cKDTree(points).query(x, distance_upper_bound=radius.max() + 4)
        near = np.isfinite(distance)
        value[near] = np.minimum(value[near], distance[near] - radius[nearest[near]])
    return grid.but(np.clip(value, -4, 4).reshape(shape).astype(np.float32))


def grid_around(tubes, spacing, margin=4.0, rotation=None):
    """An affine (columns `rotation` times spacing) and shape that hold all tubes."""
    rotation = np.eye(3) if rotation is None else rotation
    spacing = np.broadcast_to(spacing, 3)
    low = np.min([((p @ rotation) - np.max(r)).min(axis=0) for p, r in tubes], axis=0) - margin
    high = np.max([((p @ rotation) + np.max(r)).max(axis=0) for p, r in tubes], axis=0) + margin
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = rotation @ low
    return affine, tuple(np.ceil((high - low) / spacing).astype(int) + 1)


def aorta_tubes(stenosis=60.0):
    """An aorta along -z (head up) with renal, common, external and internal iliac arteries; LPS mm.

    Returns {name: (points, radius)}; the left iliac is narrowed in its middle.
    """
    aorta = curve([0, 0, 130], [1, -2, 95], [0, 0, 60])
    iliac_l = curve([0, 0, 60], [10, 1, 40], [22, 4, 12])
    iliac_r = curve([0, 0, 60], [-10, 1, 40], [-22, 4, 12])
    tubes = {"abdominal_aorta": (aorta, np.linspace(9, 8, len(aorta))),
             "iliac_artery_left": (iliac_l, narrowed(iliac_l, 4.8, 27, stenosis, 16)),
             "iliac_artery_right": (iliac_r, np.full(len(iliac_r), 4.8)),
             "renal_artery_left": (curve([1, -1.5, 106], [18, 2, 102], [36, 8, 98]), 2.8),
             "renal_artery_right": (curve([1, -1.5, 101], [-16, 2, 97], [-35, 9, 93]), 2.8)}
    for side, sign in (("left", 1), ("right", -1)):
        start = [sign * 22, 4, 12]
        tubes[f"external_iliac_artery_{side}"] = (curve(start, [sign * 28, 0, -6], [sign * 33, -6, -26]), 3.6)
        tubes[f"internal_iliac_artery_{side}"] = (curve(start, [sign * 22, 12, -3], [sign * 19, 20, -20]), 2.6)
    return {name: (points, np.broadcast_to(radius, len(points))) for name, (points, radius) in tubes.items()}
