"""Cross-sections of a closed surface by planes."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from solvers.geometry.surface import Surface


@dataclass(frozen=True)
class Section:
    """One closed contour in a plane. area, mm^2; perimeter, mm; centroid (3,) LPS mm.

    segments (n, 2, 2): the contour's pieces in the plane's own coordinates
    about the point asked for. frame: that plane's two unit vectors (2, 3).
    grazed: the part of the perimeter where the wall faces along the normal, as
    a cap does. slope: mean of how much it does (0 for a straight tube).
    """

    area: float
    perimeter: float
    centroid: np.ndarray
    segments: np.ndarray
    frame: np.ndarray
    grazed: float
    slope: float

    def encloses(self, points: np.ndarray) -> np.ndarray:
        """Which points (n, 2) in the plane's coordinates the contour goes around."""
        return np.abs(_winding(self.segments, points)) > 0.5


class Cutter:
    """Cuts one surface many times."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface
        corners = surface.points[surface.triangles]
        centre = corners.mean(axis=1)
        self._slack = float(np.linalg.norm(corners - centre[:, None], axis=2).max())
        self._near = cKDTree(centre)
        self._normals = surface.normals / np.linalg.norm(surface.normals, axis=1, keepdims=True).clip(1e-30)

    def cut(self, point: np.ndarray, normal: np.ndarray, reach: float) -> Section | None:
        """The contour around `point` in the plane square to `normal` (unit); None when there is none.

        Where several contours enclose the point, the smallest. Looks for triangles
        within `reach` (mm) first, farther when the contour is not closed there.
        """
        frame = plane_frame(normal)
        for radius in (reach, 3 * reach, np.inf):
            found = self._contours(point, normal, frame, radius)
            if found is None:
                continue
            segments, label, rows, is_closed = found
            if is_closed:
                return _around(segments, label, np.abs(self._normals[rows] @ normal), point, frame)
        return None

    def _contours(self, point: np.ndarray, normal: np.ndarray, frame: np.ndarray, radius: float
                  ) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool] | None:
        """Segments (n, 2, 2), the contour each belongs to, their triangles; whether all are closed."""
        rows = (np.arange(len(self._surface.triangles)) if np.isinf(radius)
                else np.array(self._near.query_ball_point(point, radius + self._slack), dtype=int))
        corners = self._surface.triangles[rows]
        height = (self._surface.points[corners] - point) @ normal
        above = height >= 0
        crossed = above.any(axis=1) & ~above.all(axis=1)
        rows, corners, height, above = rows[crossed], corners[crossed], height[crossed], above[crossed]
        if len(rows) == 0:
            return None
        ends, keys = self._crossings(corners, height, above)
        segments = (ends - point) @ frame.T
        nodes, index = np.unique(keys, return_inverse=True)
        index = index.reshape(keys.shape)
        graph = sparse.coo_matrix((np.ones(len(index)), (index[:, 0], index[:, 1])), shape=(len(nodes),) * 2)
        label = csgraph.connected_components(graph, directed=False)[1][index[:, 0]]
        degree = np.bincount(index.ravel())
        whole = np.isin(label, np.unique(label[(degree[index] != 2).any(axis=1)]), invert=True)
        # A contour around the point that is whole is enough; pieces of others may be cut off by the reach.
        good = bool(whole.any()) and bool(_enclosing(segments[whole], label[whole]).size)
        return segments[whole], label[whole], rows[whole], good or np.isinf(radius)

    def _crossings(self, corners: np.ndarray, height: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the plane enters and leaves each triangle (n, 2, 3), and the edges' keys (n, 2)."""
        n = len(self._surface.points)
        ends, keys = np.empty((len(corners), 2, 3)), np.empty((len(corners), 2), np.int64)
        for i in range(3):
            j = (i + 1) % 3
            for side, here in enumerate((above[:, i] & ~above[:, j], ~above[:, i] & above[:, j])):
                a, b = corners[here, i], corners[here, j]
                low, high = np.minimum(a, b), np.maximum(a, b)
                flip = a > b
                ha, hb = height[here, i], height[here, j]
                hl, hh = np.where(flip, hb, ha), np.where(flip, ha, hb)
                t = (hl / (hl - hh))[:, None]
                ends[here, side] = self._surface.points[low] * (1 - t) + self._surface.points[high] * t
                keys[here, side] = low * n + high
        return ends, keys


def plane_frame(normal: np.ndarray) -> np.ndarray:
    """Two unit vectors (2, 3) square to `normal` and to each other, right-handed with it."""
    helper = np.eye(3)[np.argmin(np.abs(normal))]
    first = np.cross(normal, helper)
    first /= np.linalg.norm(first)
    return np.array([first, np.cross(normal, first)])


def _winding(segments: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How often the segments go around each point, (n,)."""
    a = segments[None, :, 0] - points[:, None]
    b = segments[None, :, 1] - points[:, None]
    turn = np.arctan2(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0], (a * b).sum(axis=-1))
    return turn.sum(axis=1) / (2 * np.pi)


def _enclosing(segments: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Contours that go around the origin once."""
    a, b = segments[:, 0], segments[:, 1]
    turn = np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], (a * b).sum(axis=-1))
    around = np.bincount(label, turn) / (2 * np.pi)
    return np.flatnonzero(np.abs(np.abs(around) - 1) < 0.1)


def _around(segments: np.ndarray, label: np.ndarray, along: np.ndarray, point: np.ndarray,
            frame: np.ndarray) -> Section | None:
    candidates = _enclosing(segments, label)
    if candidates.size == 0:
        return None
    a, b = segments[:, 0], segments[:, 1]
    cross = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    areas = np.abs(np.bincount(label, cross) / 2)
    mine = label == candidates[np.argmin(areas[candidates])]
    area = float(abs(cross[mine].sum()) / 2)
    if area <= 0:
        return None
    centre = ((a + b)[mine] * cross[mine, None]).sum(axis=0) / (3 * cross[mine].sum())
    length = np.linalg.norm((b - a)[mine], axis=1)
    grazed = float(length[along[mine] > 0.75].sum() / length.sum())
    slope = float((length * along[mine]).sum() / length.sum())
    return Section(area, float(length.sum()), point + centre @ frame, segments[mine], frame, grazed, slope)
