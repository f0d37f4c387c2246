"""Tetrahedra: their volumes, angles and shape, their boundary, and prisms cut into them."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

FACES = np.array([[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]])
"""Corners of the face opposite to each corner, wound so that normals point outward."""


@dataclass(frozen=True)
class Quality:
    """Worst shapes of a mesh. Angles in degrees; the scaled Jacobian is 1 for a regular tetrahedron."""

    n_tets: int
    n_inverted: int
    min_dihedral_deg: float
    max_dihedral_deg: float
    min_scaled_jacobian: float
    mean_scaled_jacobian: float


def volumes(points: np.ndarray, tets: np.ndarray) -> np.ndarray:
    """Signed volume of each tetrahedron (m,), in the points' unit cubed."""
    a, b, c, d = (points[tets[:, i]] for i in range(4))
    return np.einsum("ij,ij->i", np.cross(b - a, c - a), d - a) / 6


def dihedral_angles(points: np.ndarray, tets: np.ndarray) -> np.ndarray:
    """The six angles between faces of each tetrahedron, radians, (m, 6)."""
    corners = points[tets]
    normals = np.cross(corners[:, FACES[:, 1]] - corners[:, FACES[:, 0]],
                       corners[:, FACES[:, 2]] - corners[:, FACES[:, 0]])
    normals /= np.linalg.norm(normals, axis=2, keepdims=True).clip(1e-300)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    cosine = np.stack([-(normals[:, i] * normals[:, j]).sum(axis=1) for i, j in pairs], axis=1)
    return np.arccos(np.clip(cosine, -1, 1))


def scaled_jacobians(points: np.ndarray, tets: np.ndarray) -> np.ndarray:
    """Jacobian over the largest product of three edges at a corner, 1 for the regular shape, (m,).

    Source: Knupp et al. 2006, The Verdict geometric quality library, SAND2007-1751.
    """
    corners = points[tets]
    length = np.linalg.norm(corners[:, :, None] - corners[:, None], axis=3)
    product = np.stack([np.prod([length[:, i, j] for j in range(4) if j != i], axis=0) for i in range(4)], axis=1)
    jacobian = 6 * volumes(points, tets)
    return np.sqrt(2) * jacobian / np.maximum(product.max(axis=1), np.abs(jacobian)).clip(1e-300)


_WAYS = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if x or y or z], float)
_WAYS /= np.linalg.norm(_WAYS, axis=1, keepdims=True)


def eased(points: np.ndarray, tets: np.ndarray, free: np.ndarray, least: float, sweeps: int = 6) -> np.ndarray:
    """`points` with the corners of cells flatter than `least` (scaled Jacobian) moved, each to where the flattest
    cell around it is least flat; only those flagged `free` (n,)."""
    points = points.copy()
    around = sparse.csr_matrix((np.ones(tets.size), (tets.ravel(), np.arange(len(tets)).repeat(4))),
                               shape=(len(points), len(tets)))
    for _ in range(sweeps):
        flat = scaled_jacobians(points, tets) < least
        moving = np.unique(tets[flat])
        moving = moving[free[moving]]
        before = points[moving]
        for v in moving:
            points[v] = _eased_point(points, tets[around[v].indices], v)
        if np.array_equal(before, points[moving]):
            break
    return points


def _eased_point(points: np.ndarray, near: np.ndarray, v: int) -> np.ndarray:
    """The best place found for point `v`, a corner of the cells `near` (k, 4), by steps that get shorter."""
    corners, own = points[near], near == v
    step = 0.4 * float(np.linalg.norm(corners - points[v], axis=2)[~own].min())
    best, place = scaled_jacobians(points, near).min(), points[v].copy()
    for _ in range(5):
        trials = place + step * _WAYS
        moved = np.where(own[None, :, :, None], trials[:, None, None, :], corners[None])
        flattest = scaled_jacobians(moved.reshape(-1, 3), np.arange(moved.size // 3).reshape(-1, 4))
        flattest = flattest.reshape(len(trials), -1).min(axis=1)
        if flattest.max() > best:
            best, place = flattest.max(), trials[flattest.argmax()]
        else:
            step /= 2
    return place


def quality(points: np.ndarray, tets: np.ndarray) -> Quality:
    angles, shape = np.degrees(dihedral_angles(points, tets)), scaled_jacobians(points, tets)
    return Quality(len(tets), int((volumes(points, tets) <= 0).sum()), float(angles.min()), float(angles.max()),
                   float(shape.min()), float(shape.mean()))


def boundary(tets: np.ndarray) -> np.ndarray:
    """Triangles that belong to one tetrahedron only (k, 3), wound outward."""
    faces = tets[:, FACES].reshape(-1, 3)
    _, first, counts = np.unique(np.sort(faces, axis=1), axis=0, return_index=True, return_counts=True)
    return faces[np.sort(first[counts == 1])]


def is_conforming(tets: np.ndarray) -> bool:
    """No face belongs to more than two tetrahedra, and the boundary is closed."""
    faces = np.sort(tets[:, FACES].reshape(-1, 3), axis=1)
    counts = np.unique(faces, axis=0, return_counts=True)[1]
    sides = np.sort(np.vstack([boundary(tets)[:, e] for e in ([0, 1], [1, 2], [2, 0])]), axis=1)
    return bool(counts.max() <= 2 and (np.unique(sides, axis=0, return_counts=True)[1] % 2 == 0).all())


def cut_prisms(bottom: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Prisms between triangles (m, 3) and their copies `top` (m, 3) as tetrahedra (3 m, 4).

    Seen from the top, a bottom triangle is wound counter-clockwise. The
    diagonal of a side starts at its lower-numbered bottom corner, so that
    neighbours agree.
    """
    turn = np.argmin(bottom, axis=1)
    order = (turn[:, None] + np.arange(3)) % 3
    b, t = np.take_along_axis(bottom, order, 1), np.take_along_axis(top, order, 1)
    first = b[:, 1] < b[:, 2]
    # b0 is the smallest: its sides' diagonals are b0-t1 and b0-t2; the third side's is b1-t2 or b2-t1.
    whole = np.column_stack([b[:, 0], t[:, 0], t[:, 1], t[:, 2]])
    one = np.where(first[:, None], np.column_stack([b[:, 0], b[:, 1], b[:, 2], t[:, 2]]),
                   np.column_stack([b[:, 0], b[:, 1], b[:, 2], t[:, 1]]))
    two = np.where(first[:, None], np.column_stack([b[:, 0], b[:, 1], t[:, 2], t[:, 1]]),
                   np.column_stack([b[:, 0], t[:, 1], b[:, 2], t[:, 2]]))
    return np.stack([whole, one, two], axis=1).reshape(-1, 4)
