"""The ends of a vessel: cut square to the centreline, extended to a circle, closed by a flat cap."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial import Delaunay

from solvers.errors import BadInput
from solvers.geometry.centrelines import Branch, Tree
from solvers.geometry.sections import Cutter, Section, plane_frame
from solvers.geometry.sizing import sampled
from solvers.geometry.surface import Surface

FULL = 0.02
"""Share of a section's perimeter that may graze the wall; the area may change by four times as much."""


@dataclass(frozen=True)
class End:
    """Where a vessel is cut. normal: unit, outward; radius: of the circle of the section's area; mm."""

    branch: int
    role: str
    name: str
    centre: np.ndarray
    normal: np.ndarray
    radius: float
    abscissa: float


@dataclass(frozen=True)
class Circle:
    """The rim in which an extended end stops."""

    centre: np.ndarray
    normal: np.ndarray
    radius: float


def ends(surface: Surface, tree: Tree) -> list[End]:
    """The root's inlet and each leaf's outlet, where the lumen is whole and full."""
    cutter = Cutter(surface)
    return [_end(cutter, tree, tree.root, "inlet"), *(_end(cutter, tree, i, "outlet") for i in tree.leaves)]


def _end(cutter: Cutter, tree: Tree, index: int, role: str) -> End:
    branch = tree.branches[index]
    name = branch.name or f"branch_{index}"
    s, line, _, radius = sampled(branch)
    last = 0 if role == "inlet" else len(s) - 1
    tip = float(np.median(radius[np.abs(s - s[last]) < 2 * radius[last]]))
    reach, first = 0.6 * float(s[-1]), np.inf
    for depth in np.arange(0.1 * tip, reach, 0.1 * tip):
        place = depth if role == "inlet" else s[-1] - depth
        normal = _direction(branch, place, tip) * (-1 if role == "inlet" else 1)
        point = np.array([np.interp(place, s, line[:, k]) for k in range(3)])
        here = cutter.cut(point, normal, 2 * tip)
        inside = here and cutter.cut(point - 0.25 * tip * normal, normal, 2 * tip)
        if here and inside and _is_full(here, inside):
            return End(index, role, name, here.centroid, normal, float(np.sqrt(here.area / np.pi)), float(place))
        if here:
            first = min(first, float(depth))
            if depth - first > 4 * max(tip, float(np.sqrt(here.area / np.pi))):  # well inside: it has no full section
                break
    raise BadInput("no_square_end", f"no full cross-section was found near the end of {name}",
                   "a closed section of steady area", "Check the surface and the centreline there.")


def _is_full(here: Section, inside: Section) -> bool:
    """The section is not part of the end's own closing wall, and the one a quarter radius inside is no larger."""
    return here.grazed < FULL and here.slope < 0.25 and abs(inside.area - here.area) < 4 * FULL * inside.area


def _direction(branch: Branch, place: float, reach: float) -> np.ndarray:
    """Unit tangent at an abscissa, in flow direction, averaged over `reach` on both sides."""
    ends = np.clip([place - reach, place + reach], 0, branch.length)
    a, b = (np.array([np.interp(x, branch.abscissa, branch.points[:, k]) for k in range(3)]) for x in ends)
    return (b - a) / np.linalg.norm(b - a)


def cut_off(surface: Surface, end: End) -> tuple[Surface, np.ndarray]:
    """The surface without what lies beyond an end, and the rim: point indices in order, (k,).

    Seen from outside, the rim runs counter-clockwise about the end's normal.
    Points very near the plane are moved onto it, so that no slivers arise.
    """
    points, triangles = surface.points.copy(), surface.triangles
    height = (points - end.centre) @ end.normal
    edge = np.sqrt(4 / np.sqrt(3) * surface.area / len(triangles))
    near = (np.abs(height) < 0.15 * edge) & (np.linalg.norm(points - end.centre, axis=1) < 3 * end.radius)
    points[near] -= height[near, None] * end.normal
    height[near] = 0.0
    beyond = _beyond(points, triangles, height, end)
    kept, rim = _split(points, triangles, height, beyond)
    return _with_rim(kept, rim, end)


def _beyond(points: np.ndarray, triangles: np.ndarray, height: np.ndarray, end: End) -> np.ndarray:
    """Points above the plane that hang together with those just above the end's centre, (n,) flags."""
    above = height > 0
    edges = np.vstack([triangles[:, sides] for sides in ([0, 1], [1, 2], [2, 0])])
    edges = edges[above[edges].all(axis=1)]
    graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(points),) * 2)
    label = csgraph.connected_components(graph, directed=False)[1]
    near = np.flatnonzero(above & (np.linalg.norm(points - end.centre, axis=1) < 1.6 * end.radius))
    if near.size == 0:
        raise BadInput("no_end", f"nothing lies beyond the end of {end.name}", "a vessel that goes on past its end")
    return above & np.isin(label, np.unique(label[near]))


def _split(points: np.ndarray, triangles: np.ndarray, height: np.ndarray, beyond: np.ndarray
           ) -> tuple[Surface, np.ndarray]:
    """The part not beyond; directed rim edges (k, 2) as they run in the kept triangles."""
    n_out = beyond[triangles].sum(axis=1)
    whole, one, two = (triangles[n_out == k] for k in (0, 1, 2))
    one, two = _turn(one, beyond[one]), _turn(two, ~beyond[two])
    # `one`: corner 0 is beyond. `two`: corner 0 is kept. A cut at height 0 is the kept corner itself.
    out, kept = np.concatenate([one[:, 0], one[:, 0], two[:, 1], two[:, 2]]), \
        np.concatenate([one[:, 1], one[:, 2], two[:, 0], two[:, 0]])
    keys, index = np.unique(out.astype(np.int64) * len(points) + kept, return_inverse=True)
    a, b = keys // len(points), keys % len(points)
    t = (height[b] / (height[b] - height[a]))[:, None]
    grown = np.vstack([points, points[b] + t * (points[a] - points[b])])
    number = np.where(height[b] == 0, b, len(points) + np.arange(len(keys)))[index]
    p01, p02, q01, q02 = np.split(number, np.cumsum([len(one), len(one), len(two)]))
    made = [np.column_stack(c) for c in ((p01, one[:, 1], one[:, 2]), (p01, one[:, 2], p02), (two[:, 0], q01, q02))]
    new = np.vstack([whole, *made])
    new = new[(new[:, 0] != new[:, 1]) & (new[:, 1] != new[:, 2]) & (new[:, 2] != new[:, 0])]
    return Surface(grown, new), _rim_edges(new)


def _turn(triangles: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Triangles turned so that the one flagged corner comes first."""
    if len(triangles) == 0:
        return triangles
    order = (np.argmax(first, axis=1)[:, None] + np.arange(3)) % 3
    return np.take_along_axis(triangles, order, 1)


def _rim_edges(triangles: np.ndarray) -> np.ndarray:
    """Directed edges without a partner (k, 2)."""
    sides = np.vstack([triangles[:, e] for e in ([0, 1], [1, 2], [2, 0])]).astype(np.int64)
    n = sides.max() + 1
    return sides[~np.isin(sides[:, 0] * n + sides[:, 1], sides[:, 1] * n + sides[:, 0])]


def rims(triangles: np.ndarray) -> list[np.ndarray]:
    """Closed rims of an open surface as point indices, each against the run of its triangles' sides.

    Every rim then runs the way that a cap's outward triangles need.
    """
    step = {int(b): int(a) for a, b in _rim_edges(triangles)}
    found = []
    while step:
        start = min(step)
        loop = [start]
        while (after := step.pop(loop[-1], None)) is not None and after != start:
            loop.append(after)
        found.append(np.array(loop))
    return found


def _with_rim(surface: Surface, edges: np.ndarray, end: End) -> tuple[Surface, np.ndarray]:
    """The compact surface and the rim nearest to the end."""
    surface = surface.compact()
    loops = rims(surface.triangles)
    if not loops:
        raise BadInput("no_square_end", f"the cut at the end of {end.name} does not close", "one closed rim")
    gap = [np.linalg.norm(surface.points[r].mean(axis=0) - end.centre) for r in loops]
    rim = loops[int(np.argmin(gap))]
    off = np.abs((surface.points[rim] - end.centre) @ end.normal).max()
    if off > 1e-6 * end.radius:
        raise BadInput("no_square_end", f"the rim at the end of {end.name} is not flat", "one flat rim")
    return surface, rim


def extend(surface: Surface, rim: np.ndarray, end: End, length: float, step: float) -> tuple[Surface, Circle]:
    """A straight extension of `length` mm whose section turns from the rim's shape into the circle of its area.

    step: mm between its rings.
    """
    frame = plane_frame(end.normal)
    flat = (surface.points[rim] - end.centre) @ frame.T
    area, centre = _area_and_centroid(flat)
    flat = flat - centre
    unit = _on_circle(flat)
    circle = unit * np.sqrt(area / _area_and_centroid(unit)[0])  # a polygon of the rim's area
    n_rings = max(2, round(length / step))
    t = np.arange(1, n_rings + 1) / n_rings
    blend = (t * t * (3 - 2 * t))[:, None, None]
    shape = flat * (1 - blend) + circle * blend
    start = end.centre + centre @ frame
    rings = start + shape @ frame + (t * length)[:, None, None] * end.normal
    n, k = len(surface.points), len(rim)
    number = np.vstack([rim, n + np.arange(n_rings * k).reshape(n_rings, k)])
    a, b = number[:-1], number[1:]
    a2, b2 = np.roll(a, -1, axis=1), np.roll(b, -1, axis=1)
    sides = np.concatenate([np.stack([a, a2, b2], -1).reshape(-1, 3), np.stack([a, b2, b], -1).reshape(-1, 3)])
    grown = Surface(np.vstack([surface.points, rings.reshape(-1, 3)]), np.vstack([surface.triangles, sides]))
    return grown, Circle(start + length * end.normal, end.normal, float(np.sqrt(area / np.pi)))


def _area_and_centroid(flat: np.ndarray) -> tuple[float, np.ndarray]:
    after = np.roll(flat, -1, axis=0)
    cross = flat[:, 0] * after[:, 1] - flat[:, 1] * after[:, 0]
    return float(cross.sum() / 2), ((flat + after) * cross[:, None]).sum(axis=0) / (3 * cross.sum())


def _on_circle(flat: np.ndarray) -> np.ndarray:
    """Unit vectors spread by the rim's arc length, turned to lie nearest to the rim's own directions."""
    step = np.linalg.norm(np.roll(flat, -1, axis=0) - flat, axis=1)
    angle = 2 * np.pi * np.r_[0, np.cumsum(step)[:-1]] / step.sum()
    own = np.arctan2(flat[:, 1], flat[:, 0])
    turn = np.angle(np.mean(np.exp(1j * (own - angle))))
    return np.column_stack([np.cos(angle + turn), np.sin(angle + turn)])


def cap(rim: np.ndarray, normal: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """A flat mesh of a near-circular rim (k, 3) that runs counter-clockwise about `normal`.

    Returns the new points inside (p, 3), and triangles (t, 3) whose indices
    count the rim first; wound so that `normal` is outward. edge: mm inside.
    """
    frame = plane_frame(normal)
    centre = rim.mean(axis=0)
    flat = (rim - centre) @ frame.T
    inside = _filling(flat, edge)
    every = np.vstack([flat, inside])
    found = Delaunay(every).simplices
    a, b, c = (every[found[:, i]] for i in range(3))
    cross = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    found = np.where(cross[:, None] < 0, found[:, [0, 2, 1]], found)
    keep = (np.abs(cross) > 1e-9 * np.abs(cross).max()) & _within(flat, every[found].mean(axis=1))
    found = found[keep].astype(np.int64)
    if {tuple(e) for e in _rim_edges(found)} != set(zip(range(len(rim)), np.roll(range(len(rim)), -1), strict=True)):
        raise BadInput("no_cap", "an end's rim could not be closed by a flat cap", "a rim that is nearly round",
                       "Use longer extensions.")
    return centre + inside @ frame, found


def _filling(flat: np.ndarray, edge: float) -> np.ndarray:
    """Points of rings inside the rim, the rim's own shape shrunk, until one point remains in the middle."""
    radius = float(np.linalg.norm(flat, axis=1).mean())
    n_rings = max(1, round(radius / (0.95 * edge)))
    angle = np.unwrap(np.arctan2(flat[:, 1], flat[:, 0]))
    size = np.linalg.norm(flat, axis=1)
    rim_step = 2 * np.pi * radius / len(flat)
    rings = []
    for i in range(1, n_rings):
        share = 1 - i / n_rings
        spacing = rim_step + (edge - rim_step) * min(1.0, 2 * i / n_rings)
        n = max(5, round(2 * np.pi * radius * share / spacing))
        where = angle[0] + 2 * np.pi * (np.arange(n) + 0.5 * (i % 2)) / n
        local = np.interp(where, np.r_[angle, angle[0] + 2 * np.pi], np.r_[size, size[0]], period=2 * np.pi)
        rings.append(share * local[:, None] * np.column_stack([np.cos(where), np.sin(where)]))
    return np.vstack([*rings, np.zeros((1, 2))])


def _within(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which points (n, 2) lie inside the polygon (k, 2), by crossings."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, None, 0], points[:, None, 1]
    spans = (a[:, 1] > y) != (b[:, 1] > y)
    rise = np.where(b[:, 1] == a[:, 1], 1.0, b[:, 1] - a[:, 1])
    crosses = a[:, 0] + (y - a[:, 1]) / rise * (b[:, 0] - a[:, 0]) > x
    return (spans & crosses).sum(axis=1) % 2 == 1
