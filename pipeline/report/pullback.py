"""Along the path through a lesion: pressure, area and diameter, as a catheter drawn back would meet them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from pipeline.formats import read_lesions, read_mesh, read_tree
from solvers.geometry.centrelines import Lesion, Tree
from solvers.units import MMHG

REACH = 1.6
"""Wall points farther from the centreline than this times the inscribed radius belong elsewhere."""


@dataclass(frozen=True)
class Pullback:
    """Along one path, each (n,): abscissa from the inlet in mm, area in mm^2 with its two contours, pressure in mmHg.

    pressure (None without flow): time-averaged wall pressure around the circumference at each place.
    """

    abscissa: np.ndarray
    area: np.ndarray
    area_inner: np.ndarray
    area_outer: np.ndarray
    pressure: np.ndarray | None
    lesion: Lesion
    start: float
    end: float

    @property
    def diameter(self) -> np.ndarray:
        """Area-equivalent diameter, mm."""
        return 2.0 * np.sqrt(self.area / np.pi)


def pullbacks(centrelines: Path, lesions: Path, wall: Path | None) -> dict[str, Pullback]:
    """For each lesion the path from the inlet through it to the farthest outlet behind it."""
    tree = read_tree(centrelines)
    pressure = None if wall is None else _wall_pressure(tree, wall)
    return {lesion.id: _along(tree, lesion, pressure) for lesion in read_lesions(lesions)}


def _along(tree: Tree, lesion: Lesion, pressure: list[np.ndarray] | None) -> Pullback:
    branches = [*tree.path(lesion.branch), *_onward(tree, lesion.branch)]
    starts, abscissa, keep = {}, [], []
    travelled = 0.0
    for n, index in enumerate(branches):
        branch = tree.branches[index]
        onto = branches[n + 1] if n + 1 < len(branches) else None
        last = branch.length if onto is None else _leaves_at(tree, index, onto)
        starts[index] = travelled
        keep.append(branch.abscissa <= last + 1e-9)
        abscissa.append(travelled + branch.abscissa[keep[-1]])
        travelled += last

    def joined(arrays: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.asarray(a, float)[k] for a, k in zip(arrays, keep, strict=True)])

    chosen = [tree.branches[i] for i in branches]
    start = starts[lesion.branch]
    return Pullback(np.concatenate(abscissa), joined([b.area for b in chosen]), joined([b.area_inner for b in chosen]),
                    joined([b.area_outer for b in chosen]),
                    None if pressure is None else joined([pressure[i] for i in branches]), lesion,
                    start + lesion.start, start + lesion.end)


def _onward(tree: Tree, index: int) -> list[int]:
    """Branches after `index` along the longest way to an outlet."""
    ways = [[child, *_onward(tree, child)] for child in tree.children(index)]
    return max(ways, key=lambda way: sum(tree.branches[i].length for i in way), default=[])


def _leaves_at(tree: Tree, index: int, child: int) -> float:
    """Abscissa on a branch where its child starts."""
    branch = tree.branches[index]
    nearest = np.argmin(np.linalg.norm(branch.points - tree.branches[child].points[0], axis=1))
    return float(branch.abscissa[int(nearest)])


def _wall_pressure(tree: Tree, wall: Path) -> list[np.ndarray] | None:
    """Mean pressure in mmHg of the wall points nearest to each centreline point; NaN where there are none."""
    mesh = read_mesh(wall, "m")
    if "pressure_mean" not in mesh.point_data:
        return None
    points = np.asarray(mesh.points, float) * 1000.0
    values = np.asarray(mesh.point_data["pressure_mean"], float) / MMHG
    line = np.vstack([b.points for b in tree.branches])
    radius = np.concatenate([b.radius for b in tree.branches])
    distance, owner = cKDTree(line).query(points)
    near = np.isfinite(values) & (distance < REACH * np.where(np.isfinite(radius), radius, np.inf)[owner])
    count = np.bincount(owner[near], minlength=len(line))
    total = np.bincount(owner[near], weights=values[near], minlength=len(line))
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    ends = np.cumsum([len(b.points) for b in tree.branches])[:-1]
    return [_smooth(part) for part in np.split(mean, ends)]


def _smooth(values: np.ndarray) -> np.ndarray:
    """Gaps between points that own no wall filled from their neighbours, never beyond the ends."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) < 2:
        return values
    inside = np.arange(known[0], known[-1] + 1)
    filled = values.copy()
    filled[inside] = np.interp(inside, known, values[known])
    return filled
