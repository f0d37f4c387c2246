"""Structured tubes of tetrahedra along z, made for the tests of flow and walls."""

from collections.abc import Callable

import numpy as np

WALL, INLET, OUTLET = 1, 2, 3

# Six tetrahedra of a hexahedron around its diagonal 0-6; neighbours share the same cuts.
CUTS = np.array([[0, 1, 2, 6], [0, 2, 3, 6], [0, 3, 7, 6], [0, 7, 4, 6], [0, 4, 5, 6], [0, 5, 1, 6]])


def tube(n_across: int, n_along: int, length: float, radius: Callable[[np.ndarray], np.ndarray] | float) -> tuple[
        np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points (n, 3), tets (c, 4), boundary triangles (t, 3) and their tags; inlet at z = 0.

    n_across cells over the diameter; radius: m, a number or a function of z.
    """
    u = np.linspace(-1, 1, n_across + 1)
    x, y = np.meshgrid(u, u, indexing="ij")
    disc_x, disc_y = x * np.sqrt(1 - y**2 / 2), y * np.sqrt(1 - x**2 / 2)
    z = np.linspace(0, length, n_along + 1)
    r = radius(z) if callable(radius) else np.full_like(z, radius)
    points = np.stack([np.multiply.outer(disc_x, r), np.multiply.outer(disc_y, r),
                       np.broadcast_to(z, (*x.shape, len(z)))], axis=-1)
    number = np.arange(points[..., 0].size).reshape(points.shape[:3])
    i, j, k = (a.ravel() for a in np.meshgrid(*(np.arange(s - 1) for s in number.shape), indexing="ij"))
    corners = np.stack([number[i + a, j + b, k + c] for a, b, c in
                        ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1))], 1)
    tets = corners[:, CUTS].reshape(-1, 4)
    triangles, tags = _boundary(points.reshape(-1, 3), tets, length)
    return points.reshape(-1, 3), tets, triangles, tags


def _boundary(points: np.ndarray, tets: np.ndarray, length: float) -> tuple[np.ndarray, np.ndarray]:
    faces = np.sort(tets[:, [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]].reshape(-1, 3), axis=1)
    unique, counts = np.unique(faces, axis=0, return_counts=True)
    triangles = unique[counts == 1]
    z = points[triangles][:, :, 2]
    tags = np.full(len(triangles), WALL)
    tags[(z < 1e-9).all(axis=1)] = INLET
    tags[(z > length - 1e-9).all(axis=1)] = OUTLET
    return triangles, tags


def cylinder(n_around: int, n_along: int, radius: float, length: float) -> tuple[np.ndarray, np.ndarray]:
    """The open surface of a cylinder along z: points (n, 3) on it and triangles (t, 3) with outward normals."""
    angle, z = np.meshgrid(np.arange(n_around) * 2 * np.pi / n_around, np.linspace(0, length, n_along + 1))
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], -1).reshape(-1, 3)
    row, column = (a.ravel() for a in np.meshgrid(np.arange(n_along), np.arange(n_around), indexing="ij"))
    a, b = row * n_around + column, row * n_around + (column + 1) % n_around
    return points, np.vstack([np.stack([a, b, a + n_around], 1), np.stack([b, b + n_around, a + n_around], 1)])
