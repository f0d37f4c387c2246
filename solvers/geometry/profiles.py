"""Radius and cross-section areas along the stretches of a vessel."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from solvers.geometry.branching import Stretch, Wall, abscissa, beyond_caps, resampled, smoothed
from solvers.geometry.centrelines import Branch, Tree
from solvers.geometry.sections import Cutter, Section

GRAZED = 0.08
"""A section with more of its perimeter than this on a cap is not one of the tube."""
ROUNDED = 0.3
"""Near an end, nor is one where the wall closes in with more than this mean slope."""
MERGED = 1.18
"""Near a junction, a section this much larger than the inscribed circle foretells has merged with another branch."""
FEWEST = 4
"""A stretch between two junctions with fewer good sections than this has none that can be trusted."""
TURN = 3.0
"""Planes are cut square to the line smoothed over this length, mm: an eccentric plaque shall not tilt them."""


@dataclass(frozen=True)
class Contours:
    """The lumen, and where given the contours one standard deviation inside and outside."""

    lumen: Cutter
    inner: Cutter | None = None
    outer: Cutter | None = None


@dataclass(frozen=True)
class Profile:
    """A stretch at even steps, with what was cut there."""

    points: np.ndarray
    normals: np.ndarray
    radius: np.ndarray
    sections: tuple[Section | None, ...]
    parent: int


def measure(stretches: list[Stretch], wall: Wall, contours: Contours, step: float = 0.75) -> Tree:
    """The tree with inscribed radius and areas; NaN in junctions and at caps (see `_valid`)."""
    parents = {stretch.parent for stretch in stretches}
    profiles = [_profile(stretch, wall, contours.lumen, step, i not in parents) for i, stretch in enumerate(stretches)]
    branches = []
    for index, profile in enumerate(profiles):
        area = np.where(_valid(profiles, index), _areas(profile), np.nan)
        inner = _other(profile, area, contours.inner, -1)
        outer = _other(profile, area, contours.outer, +1)
        branches.append(Branch(profile.points, profile.radius, area, inner, outer, profile.parent))
    return Tree(tuple(branches))


def _profile(stretch: Stretch, wall: Wall, cutter: Cutter, step: float, is_leaf: bool) -> Profile:
    points = resampled(stretch.points, step)
    normals = square_to(points)
    radius = beyond_caps(abscissa(points), wall.distance(points), stretch.parent < 0, is_leaf)
    sections = tuple(cutter.cut(p, n, 3 * r + 3) for p, n, r in zip(points, normals, radius, strict=True))
    return Profile(points, normals, radius, sections, stretch.parent)


def square_to(line: np.ndarray) -> np.ndarray:
    """Unit normals (n, 3) of the planes in which sections are cut at the points (n, 3), even steps apart, of a line."""
    turn = np.gradient(smoothed(line, abscissa(line)[-1] / (len(line) - 1), TURN), axis=0)
    return turn / np.linalg.norm(turn, axis=1, keepdims=True)


def _areas(profile: Profile) -> np.ndarray:
    return np.array([np.nan if s is None else s.area for s in profile.sections])


def _valid(profiles: list[Profile], index: int) -> np.ndarray:
    """Where the section is that of this branch alone."""
    profile = profiles[index]
    good = ~np.isnan(_areas(profile)) & ~_inside_others(profiles, index) & ~_crosses_others(profiles, index)
    s = abscissa(profile.points)
    starts, ends = profile.parent < 0, index not in [p.parent for p in profiles]
    for is_cap, distance in ((starts, s), (ends, s[-1] - s)):
        good &= ~(_at_cap(profile, distance) if is_cap else _merged(profile, distance, good))
    return good if good.sum() >= FEWEST else np.zeros(len(good), bool)


def _at_cap(profile: Profile, distance: np.ndarray) -> np.ndarray:
    """Close to an open end, or on its cap: the unbroken run of sections from the end that touch the cap."""
    typical = float(np.median(profile.radius))
    touching = np.array([s is None or s.grazed > GRAZED or s.slope > ROUNDED for s in profile.sections])
    free = distance[~touching & (distance > 0.3 * typical)]
    return distance < min(free.min(initial=np.inf), 2.5 * typical)


def _merged(profile: Profile, distance: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Near a junction: from where the sections begin to open into the other branch."""
    areas = _areas(profile)
    ratio = areas / (np.pi * profile.radius.clip(0.1) ** 2)
    near = distance < 2 * np.median(profile.radius)
    clear = np.flatnonzero(good & ~near)
    usual, next_to = 1.03, np.inf
    if clear.size:
        usual = np.median(ratio[clear])
        next_to = np.median(areas[clear[np.argsort(distance[clear], kind="stable")[:5]]])
    open_ = near & ((ratio > MERGED * usual) | (areas > MERGED * next_to))
    return distance <= distance[open_].max(initial=-1.0)


def _inside_others(profiles: list[Profile], index: int) -> np.ndarray:
    """Inside the inscribed tube of the parent, or of a sibling that is not much smaller."""
    me = profiles[index]
    result = np.zeros(len(me.points), bool)
    if me.parent < 0:
        return result
    siblings = [i for i, p in enumerate(profiles) if p.parent == me.parent and i != index]
    typical = np.median(me.radius)
    for i in [me.parent, *[i for i in siblings if np.median(profiles[i].radius) > 0.7 * typical]]:
        distance, nearest = cKDTree(profiles[i].points).query(me.points)
        ahead = (nearest == len(profiles[i].points) - 1) & (i == me.parent)
        reach = np.where(ahead & (typical > 0.75 * np.median(profiles[i].radius)), 0.0, 1.05)
        result |= distance < reach * profiles[i].radius[nearest]
    return result


def _crosses_others(profiles: list[Profile], index: int) -> np.ndarray:
    """Another branch's line runs through the contour."""
    me = profiles[index]
    result = np.zeros(len(me.points), bool)
    for k, (point, normal, section) in enumerate(zip(me.points, me.normals, me.sections, strict=True)):
        if section is None:
            continue
        reach = np.abs(section.segments).max() * 1.5
        result[k] = any(_runs_through(profiles[i].points, point, normal, section, reach)
                        for i in range(len(profiles)) if i != index)
    return result


def _runs_through(line: np.ndarray, point: np.ndarray, normal: np.ndarray, section: Section, reach: float) -> bool:
    offset = line - point
    height = offset @ normal
    j = np.flatnonzero((height[:-1] < 0) != (height[1:] < 0))
    if j.size == 0:
        return False
    t = (height[j] / (height[j] - height[j + 1]))[:, None]
    crossing = offset[j] * (1 - t) + offset[j + 1] * t
    crossing = crossing[(np.linalg.norm(crossing, axis=1) < reach)]
    apart = np.linalg.norm(crossing, axis=1) > 0.25 * np.sqrt(section.area / np.pi)
    return bool(section.encloses(crossing[apart] @ section.frame.T).any()) if apart.any() else False


def _other(profile: Profile, area: np.ndarray, cutter: Cutter | None, sign: int) -> np.ndarray:
    """Areas of the inner (sign -1) or outer (+1) contour where `area` is known.

    Where that contour cannot be cut (closed up in a tight place, or run together
    with a neighbour), the radius is moved by the branch's usual step instead.
    """
    if cutter is None:
        return area.copy()
    found = np.full(len(area), np.nan)
    for k in np.flatnonzero(~np.isnan(area)):
        section = cutter.cut(profile.points[k], profile.normals[k], 3 * profile.radius[k] + 3)
        found[k] = np.nan if section is None else section.area
    radius = np.sqrt(area / np.pi)
    step = sign * (np.sqrt(found / np.pi) - radius)
    usual = float(np.nanmedian(step)) if np.isfinite(step).any() else 0.0
    lost = np.isfinite(area) & ~((step > -0.05) & (step < 3 * abs(usual) + 0.5))
    replaced = np.pi * np.maximum(radius + sign * max(usual, 0.0), 0.3 * radius) ** 2
    return np.where(lost, replaced, found)
