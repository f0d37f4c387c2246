"""A triangulated surface, its size and its topology."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph


@dataclass(frozen=True)
class Surface:
    """Triangles in LPS mm: points (n, 3), triangles (m, 3) wound so that normals point outward."""

    points: np.ndarray
    triangles: np.ndarray

    @cached_property
    def normals(self) -> np.ndarray:
        """Normals of the triangles with the length of twice their area, mm^2, shape (m, 3)."""
        a, b, c = (self.points[self.triangles[:, i]] for i in range(3))
        return np.cross(b - a, c - a)

    @property
    def area(self) -> float:
        """mm^2."""
        return float(np.linalg.norm(self.normals, axis=1).sum() / 2)

    @property
    def volume(self) -> float:
        """Enclosed volume, mm^3, by the divergence theorem; negative when normals point inward."""
        base = self.points[self.triangles[:, 0]] - self.points.mean(axis=0)
        return float(np.einsum("ij,ij->", base, self.normals) / 6)

    @cached_property
    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Unique edges (e, 2), and how many triangles share each (e,)."""
        t = np.sort(np.vstack([self.triangles[:, sides] for sides in ([0, 1], [1, 2], [2, 0])]), axis=1)
        keys, counts = np.unique(t[:, 0].astype(np.int64) * len(self.points) + t[:, 1], return_counts=True)
        return np.column_stack([keys // len(self.points), keys % len(self.points)]), counts

    @property
    def is_closed(self) -> bool:
        """Every edge is shared by exactly two triangles (closed and edge-manifold)."""
        return bool(len(self.triangles) > 0 and np.all(self.edges[1] == 2))

    @property
    def euler(self) -> int:
        """Euler characteristic: 2 for each part without a handle."""
        return int(len(np.unique(self.triangles)) - len(self.edges[0]) + len(self.triangles))

    def parts(self) -> list["Surface"]:
        """Connected parts, the largest enclosed volume first."""
        edges = self.edges[0]
        n = len(self.points)
        graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
        label = csgraph.connected_components(graph, directed=False)[1][self.triangles[:, 0]]
        found = [Surface(self.points, self.triangles[label == i]).compact() for i in np.unique(label)]
        return sorted(found, key=lambda part: -abs(part.volume))

    def compact(self) -> "Surface":
        """The same surface without unused points."""
        used, triangles = np.unique(self.triangles, return_inverse=True)
        return Surface(self.points[used], triangles.reshape(-1, 3))

    def but(self, **changes: np.ndarray) -> "Surface":
        return replace(self, **changes)


def joined(parts: list[Surface]) -> Surface:
    """Several surfaces as one."""
    offsets = np.cumsum([0] + [len(p.points) for p in parts[:-1]])
    return Surface(np.vstack([p.points for p in parts]),
                   np.vstack([p.triangles + o for p, o in zip(parts, offsets, strict=True)]))
