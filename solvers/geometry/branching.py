"""From lines that run from the inlet to each end, to the tree of unbranched stretches."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from solvers.geometry.sections import plane_frame
from solvers.geometry.surface import Surface

FINE = 0.25
"""Step at which lines are compared, mm."""
STUB = 1.0
"""A line that leaves the others for less than this before its end is none of its own, mm."""


@dataclass(frozen=True)
class Stretch:
    """One unbranched stretch: points (n, 3) mm; parent: index of the stretch upstream, -1 at the root."""

    points: np.ndarray
    parent: int


class Wall:
    """Distances to a surface, exact to its triangles."""

    def __init__(self, surface: Surface) -> None:
        import pyvista
        from vtkmodules.vtkCommonDataModel import vtkStaticCellLocator

        self._surface = surface
        self._mesh = pyvista.PolyData.from_regular_faces(surface.points, surface.triangles)
        self._locator = vtkStaticCellLocator()
        self._locator.SetDataSet(self._mesh)
        self._locator.BuildLocator()
        self._samples = cKDTree(np.vstack([surface.points, surface.points[surface.triangles].mean(axis=1)]))

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Distance of each point (n, 3) to the wall, mm, (n,)."""
        from vtkmodules.vtkCommonCore import reference

        found, cell, sub, square = [0.0, 0.0, 0.0], reference(0), reference(0), reference(0.0)
        result = np.empty(len(points))
        for i, point in enumerate(points):
            self._locator.FindClosestPoint(point, found, cell, sub, square)
            result[i] = float(square) ** 0.5
        return result

    def about(self, points: np.ndarray) -> np.ndarray:
        """The same to the nearest sample of the surface: fast, a little large."""
        return self._samples.query(points)[0]

    def exit(self, start: np.ndarray, direction: np.ndarray) -> float | None:
        """How far the ray from an inside point runs until it leaves, mm."""
        a, b, c = (self._surface.points[self._surface.triangles[:, i]] for i in range(3))
        e1, e2 = b - a, c - a
        p = np.cross(direction, e2)
        det = (e1 * p).sum(axis=1)
        det = np.where(np.abs(det) < 1e-12, np.inf, det)
        u = ((start - a) * p).sum(axis=1) / det
        q = np.cross(start - a, e1)
        v = (q * direction).sum(axis=1) / det
        t = (e2 * q).sum(axis=1) / det
        hit = t[(u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-6)]
        return float(hit.min()) if hit.size else None


def abscissa(points: np.ndarray) -> np.ndarray:
    return np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]


def resampled(points: np.ndarray, step: float) -> np.ndarray:
    """The same line with points about `step` apart, ends kept."""
    keep = np.r_[True, np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-9]
    s = abscissa(points[keep])
    at = np.linspace(0.0, s[-1], max(int(round(s[-1] / step)), 2) + 1)
    return np.column_stack([np.interp(at, s, points[keep][:, i]) for i in range(3)])


def smoothed(points: np.ndarray, step: float, width: float) -> np.ndarray:
    """A line of even `step` without wiggles shorter than about `width` (mm); ends stay."""
    n = min(int(4 * width / step), len(points) - 1)
    before, after = 2 * points[0] - points[n:0:-1], 2 * points[-1] - points[-2:-n - 2:-1]
    padded = np.vstack([before, points, after])
    return ndimage.gaussian_filter1d(padded, width / step, axis=0)[n:n + len(points)]


def centred(points: np.ndarray, step: float, wall: Wall, rounds: int = 8) -> np.ndarray:
    """Each point moved, square to the line, to where the inscribed sphere is largest.

    A move must gain a twentieth of its length in radius, and goes no farther
    than a third of the radius: beside a wider vessel the maximum is no longer
    this branch's own.
    """
    tangent = np.gradient(smoothed(points, step, 2.0), axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    frames = np.array([plane_frame(t) for t in tangent])
    angles = np.arange(8) * np.pi / 4
    moves = np.einsum("ka,nai->nki", np.column_stack([np.cos(angles), np.sin(angles)]), frames)
    best, radius = points.copy(), wall.about(points)
    size, farthest = 0.2 * radius, 0.35 * radius + 0.5
    for _ in range(rounds):
        tried = best[:, None] + size[:, None, None] * moves
        found = wall.about(tried.reshape(-1, 3)).reshape(len(points), -1)
        found[np.linalg.norm(tried - points[:, None], axis=2) > farthest[:, None]] = 0.0
        k = found.argmax(axis=1)
        better = found.max(axis=1) > radius + 0.05 * size
        best[better] = tried[np.arange(len(points)), k][better]
        radius = np.where(better, found.max(axis=1), radius)
        size = np.where(better, size, size / 2)
    return best


def straight_end(points: np.ndarray, wall: Wall, trim: float) -> np.ndarray:
    """The line's last stretch (`trim` radii) replaced by a straight one that runs to the wall."""
    radius = float(wall.distance(points[-len(points) // 4:]).max())
    back = abscissa(points[::-1])[::-1]
    keep = np.flatnonzero(back >= min(trim * radius, back[0] / 3))[-1]
    base = np.flatnonzero(back >= min(back[keep] + 1.5 * radius, back[0] * 2 / 3))[-1]
    direction = points[keep] - points[base]
    direction /= np.linalg.norm(direction)
    length = wall.exit(points[keep], direction)
    if length is None or length > 6 * radius:
        return points
    n = max(int(length / FINE), 2)
    tail = points[keep] + np.linspace(0, length, n + 1)[1:, None] * direction
    return np.vstack([points[:keep + 1], tail])


def to_both_ends(points: np.ndarray, wall: Wall, trim: float) -> np.ndarray:
    line = straight_end(resampled(points, FINE), wall, trim)
    return resampled(straight_end(line[::-1], wall, trim)[::-1], FINE)


def beyond_caps(s: np.ndarray, radius: np.ndarray, starts: bool, ends: bool) -> np.ndarray:
    """Near an open end the nearest wall is the cap: the tube's radius from just before is carried on."""
    result = radius.copy()
    for is_cap, distance in ((starts, s), (ends, s[-1] - s)):
        if is_cap:
            typical = np.median(radius[distance <= max(4 * np.median(radius), 5.0)])
            trusted = np.flatnonzero(distance >= 1.1 * typical)
            if trusted.size:
                k = trusted[distance[trusted].argmin()]
                result[distance < distance[k]] = radius[k]
    return result


def stretches(lines: list[np.ndarray], wall: Wall, apart: float = 0.7) -> list[Stretch]:
    """Split lines (steps of FINE, all from one inlet) where they part; parents first.

    Two lines have parted where they are more than `apart` of the radius (at
    least 0.5 mm) from each other and stay so: in a wide trunk they need not
    lie on each other. They part where they last ran together before that, or
    where they were closest within about a radius.
    """
    radii = [beyond_caps(abscissa(line), wall.about(line), starts=True, ends=False) for line in lines]
    found: list[Stretch] = []
    todo = [(list(range(len(lines))), [0] * len(lines), -1)]
    while todo:
        members, starts, parent = todo.pop(0)
        groups, cuts = _parted(lines, radii, members, starts, apart)
        lead = members[0]
        stop = cuts[lead] if len(groups) > 1 else len(lines[lead]) - 1
        points = lines[lead][starts[lead]:stop + 1]
        if parent >= 0:
            points = _joined(found[parent].points[-1], points)
        found.append(Stretch(points, parent))
        if len(groups) > 1:
            index = len(found) - 1
            todo += [(group, cuts, index) for group in groups]
    return without_stubs(found)


def without_stubs(found: list[Stretch]) -> list[Stretch]:
    """Without ends shorter than STUB or stretches of no length; one that goes on in one is one with it.

    Parents stay first.
    """
    while True:
        children = [[j for j, s in enumerate(found) if s.parent == i] for i in range(len(found))]
        stub = next((i for i, s in enumerate(found) if s.parent >= 0
                     and abscissa(s.points)[-1] < (FINE / 2 if children[i] else STUB)), None)
        single = next((i for i, below in enumerate(children) if len(below) == 1), None)
        if stub is not None:
            found = _removed(found, stub, found[stub].parent)
        elif single is not None:
            after = children[single][0]
            points = np.vstack([found[single].points, found[after].points[1:]])
            found = [*found[:single], Stretch(points, found[single].parent), *found[single + 1:]]
            found = _removed(found, after, single)
        else:
            return found


def _removed(found: list[Stretch], index: int, heir: int) -> list[Stretch]:
    """Without one stretch; its children become those of `heir`."""
    def place(parent: int) -> int:
        parent = heir if parent == index else parent
        return parent - (parent > index)

    return [Stretch(s.points, place(s.parent)) for i, s in enumerate(found) if i != index]


def _parted(lines: list[np.ndarray], radii: list[np.ndarray], members: list[int], starts: list[int],
            apart: float) -> tuple[list[list[int]], list[int]]:
    """The groups in which `members` go on after the first parting, and the index of it on each line."""
    if len(members) == 1:
        return [members], starts
    lead = members[0]
    leaves = {i: _parting(lines[i], lines[lead], radii[lead], starts[i], apart) for i in members[1:]}
    first = min(leaves.values())
    at = lines[min(leaves, key=lambda i: (leaves[i], i))][first]
    cuts = list(starts)
    for i in members:
        nearest = int(np.linalg.norm(lines[i] - at, axis=1).argmin())
        cuts[i] = min(max(nearest, starts[i] + 2), len(lines[i]) - 1)
    gone = [i for i, k in leaves.items() if k <= first + int(1.0 / FINE)]
    groups = [[lead] + [i for i in members[1:] if i not in gone]]
    while gone:
        head = gone[0]
        group = [head] + [i for i in gone[1:] if _parting(lines[i], lines[head], radii[head], cuts[i], apart)
                          > cuts[i] + int(2.0 / FINE)]
        groups.append(group)
        gone = [i for i in gone if i not in group]
    return groups, cuts


def _joined(joint: np.ndarray, points: np.ndarray, over: float = 6.0) -> np.ndarray:
    """`points` led away from `joint` instead of from their own start, within about `over` mm."""
    s = abscissa(points)
    fade = np.clip(1 - s / min(over, 0.5 * s[-1] + 1e-9), 0.0, 1.0)
    return points + (fade**2 * (3 - 2 * fade))[:, None] * (joint - points[0])


def _parting(line: np.ndarray, other: np.ndarray, radius: np.ndarray, start: int, apart: float) -> int:
    """Index of `line`, from `start` on, at which it leaves `other` for good."""
    distance, nearest = cKDTree(other).query(line)
    away = distance > np.maximum(apart * radius[nearest], 0.5)
    run = int(4.0 / FINE)
    padded = np.r_[away, np.ones(run, bool)]
    count = np.convolve(padded, np.ones(run), "full")[run - 1:run - 1 + len(line)]
    hits = np.flatnonzero(count[start:] >= run)
    if not hits.size:
        return len(line) - 1
    gone = start + int(hits[0])
    wide = float(radius[nearest[gone]])
    together, short = (max(start, gone - int(n * wide / FINE)) for n in (2.5, 1.2))
    near = distance[together:gone + 1] <= max(0.12 * wide, 0.5)
    if near.any():
        return together + int(np.flatnonzero(near)[-1])
    return short + int(distance[short:gone + 1].argmin())
