"""A front that runs from known tubes into their branches and stops where it leaks."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra


@dataclass(frozen=True)
class LeakControl:
    """How a front may widen. Lengths mm, areas mm^2.

    A front leaks where its area exceeds `widening` times the median of the `memory` fronts before it plus
    `allowance`, or `largest` anywhere; not where half of it lies in a tube that is known. `back`: fronts taken
    back upstream of a leak. `shortest`: a branch that ends before this is a spur. `thinnest`: a branch's far end is cut
    back while its fronts are smaller.
    """

    step: float = 2.0
    widening: float = 1.8
    allowance: float = 6.0
    memory: int = 5
    largest: float = 300.0
    back: int = 2
    shortest: float = 6.0
    thinnest: float = 7.0
    farthest: float = 250.0


@dataclass(frozen=True)
class Growth:
    """The tubes with their branches (boolean mask) and what was stopped."""

    mask: np.ndarray
    n_leaks: int
    n_branches: int

    def __or__(self, other: "Growth") -> "Growth":
        """What either front reached."""
        return Growth(self.mask | other.mask, max(self.n_leaks, other.n_leaks), max(self.n_branches, other.n_branches))


def grow(candidate: np.ndarray, start: np.ndarray, known: np.ndarray, spacing: np.ndarray,
         control: LeakControl) -> Growth:
    """`start` and those parts of `candidate` that a front reaches from it without leaking.

    candidate, start, known (tubes seen elsewhere): boolean (i, j, k).
    Fronts are the pieces of equal geodesic distance from `start`, in steps.
    """
    start = start & candidate
    index, distance = distances(candidate, start, spacing, control.farthest)
    outside = np.isfinite(distance) & (distance > 0)
    if not outside.any():
        return Growth(start, 0, 0)
    front, size, parent, level = fronts(candidate.shape, index[outside], distance[outside], control.step)
    area = size * float(np.prod(spacing)) / control.step
    safe = np.bincount(front, known.ravel()[index[outside]], minlength=len(area)) > 0.5 * size
    kept, n_leaks = _followed(area, safe, parent, level, control)
    at_border = np.bincount(front, on_border(candidate.shape, index[outside]), minlength=len(area)) > 0
    kept = _pruned(kept, area, parent, level, at_border, control)
    mask = start.copy()
    mask.ravel()[index[outside]] |= kept[front]
    return Growth(mask, n_leaks, int(np.sum(kept & (level == 0))))


def distances(candidate: np.ndarray, start: np.ndarray, spacing: np.ndarray, limit: float
              ) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of the candidate voxels connected to `start`, and their geodesic distance from it, mm."""
    labels, _ = ndimage.label(candidate, np.ones((3, 3, 3)))
    reached = np.isin(labels, np.unique(labels[start])) & candidate
    index = np.flatnonzero(reached)
    graph = _graph(reached, index, spacing)
    inner = start.ravel()[index]
    rim = np.flatnonzero(inner & ~ndimage.binary_erosion(start, np.ones((3, 3, 3))).ravel()[index])
    distance = dijkstra(graph, directed=False, indices=rim, min_only=True, limit=limit)
    distance[inner] = 0
    return index, distance


def _graph(mask: np.ndarray, index: np.ndarray, spacing: np.ndarray) -> csr_matrix:
    """Neighbours (26) inside `mask` with their distances."""
    number = np.full(mask.shape, -1, np.int32)
    number.ravel()[index] = np.arange(len(index), dtype=np.int32)
    padded = np.pad(number, 1, constant_values=-1)
    steps = [s for s in np.ndindex(3, 3, 3) if s > (1, 1, 1)]
    rows, cols, data = [], [], []
    core = padded[1:-1, 1:-1, 1:-1]
    for s in steps:
        view = padded[tuple(slice(o, o + n) for o, n in zip(s, mask.shape, strict=True))]
        both = (core >= 0) & (view >= 0)
        rows.append(core[both])
        cols.append(view[both])
        data.append(np.full(len(rows[-1]), np.linalg.norm((np.array(s) - 1) * spacing)))
    n = len(index)
    return csr_matrix((np.concatenate(data), (np.concatenate(rows), np.concatenate(cols))), shape=(n, n))


def fronts(shape: tuple[int, ...], index: np.ndarray, distance: np.ndarray, step: float
            ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Front number of each voxel; per front its voxel count, its parent front (-1 at the start) and its level."""
    mask = np.zeros(shape, bool)
    mask.ravel()[index] = True
    graph = _graph(mask, index, np.ones(3)).tocoo()
    level = (distance / step).astype(np.int32)
    same = level[graph.row] == level[graph.col]
    n = len(index)
    pieces = csr_matrix((graph.data[same], (graph.row[same], graph.col[same])), shape=(n, n))
    count, front = connected_components(pieces, directed=False)
    levels = np.zeros(count, np.int32)
    levels[front] = level
    low, high = np.where(level[graph.row] < level[graph.col], [graph.row, graph.col], [graph.col, graph.row])
    up = level[high] == level[low] + 1
    links = csr_matrix((np.ones(up.sum()), (front[high[up]], front[low[up]])), shape=(count, count))
    parent = np.where(np.diff(links.indptr) > 0, np.asarray(links.argmax(axis=1)).ravel(), -1)
    return front, np.bincount(front, minlength=count), parent, levels


def _followed(area: np.ndarray, safe: np.ndarray, parent: np.ndarray, level: np.ndarray, control: LeakControl
              ) -> tuple[np.ndarray, int]:
    """Fronts that a branch passes before it leaks, and the number of leaks."""
    kept = np.zeros(len(area), bool)
    leaks = 0
    for f in np.lexsort((np.arange(len(area)), level)):
        above = _ancestors(f, parent, control.memory)
        if (level[f] > 0 and not above) or any(not kept[a] for a in above[:1]):
            continue
        usual = np.median(area[above]) if above else control.largest
        if not safe[f] and area[f] > min(control.widening * usual + control.allowance, control.largest):
            leaks += 1
            for a in above[:control.back]:
                kept[a] = False
            continue
        kept[f] = True
    return kept, leaks


def _ancestors(front: int, parent: np.ndarray, count: int) -> list[int]:
    found: list[int] = []
    while parent[front] >= 0 and len(found) < count:
        front = parent[front]
        found.append(int(front))
    return found


def on_border(shape: tuple[int, ...], index: np.ndarray) -> np.ndarray:
    where = np.unravel_index(index, shape)
    return np.any([(w == 0) | (w == n - 1) for w, n in zip(where, shape, strict=True)], axis=0)


def _pruned(kept: np.ndarray, area: np.ndarray, parent: np.ndarray, level: np.ndarray, at_border: np.ndarray,
            control: LeakControl) -> np.ndarray:
    """Without orphans, without thin far ends, without spurs; what leaves the image is no spur."""
    kept = kept.copy()
    order = np.lexsort((np.arange(len(area)), level))
    for f in order:
        if parent[f] >= 0 and not kept[parent[f]]:
            kept[f] = False
    children = np.bincount(parent[kept & (parent >= 0)], minlength=len(area))
    for f in order[::-1]:
        if kept[f] and children[f] == 0 and area[f] < control.thinnest and not at_border[f]:
            kept[f] = False
            if parent[f] >= 0:
                children[parent[f]] -= 1
    reach = np.where(kept, level + at_border * 100, -1)
    for f in order[::-1]:
        if kept[f] and parent[f] >= 0:
            reach[parent[f]] = max(reach[parent[f]], reach[f])
    root = np.arange(len(area))
    for f in order:
        if parent[f] >= 0:
            root[f] = root[parent[f]]
    return kept & ((reach[root] + 1) * control.step >= control.shortest)
