"""How thick the wall is: by a rule from the lumen that the vessel would have without its narrowings."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import grey_closing

from solvers.geometry.centrelines import Branch, Tree
from solvers.geometry.sizing import STEP, locate, sampled

WINDOW = 40.0
"""mm; a narrowing shorter than this is filled before the rule is asked: a stenosis has no thin wall."""


@dataclass(frozen=True)
class Thickness:
    """h = R (a exp(b R) + c exp(d R)), R the lumen's radius; a, c: 1; b, d: 1/m."""

    a: float
    b: float
    c: float
    d: float

    def of(self, radius: np.ndarray) -> np.ndarray:
        """Thickness, m, for radii in m."""
        R = np.asarray(radius, float)
        return R * (self.a * np.exp(self.b * R) + self.c * np.exp(self.d * R))


@dataclass(frozen=True)
class Site:
    """Where points lie along the tree: branch (n,), tangent (n, 3) in flow direction, radius (n,) m of the lumen there
    and healthy (n,) m, the same without narrowings."""

    branch: np.ndarray
    tangent: np.ndarray
    radius: np.ndarray
    healthy: np.ndarray


def site(points: np.ndarray, tree: Tree) -> Site:
    """points (n, 3) m; the tree is in mm."""
    station = locate(1000 * points, tree)
    healthy = np.empty(len(points))
    for i, branch in enumerate(tree.branches):
        here = station.branch == i
        healthy[here] = np.interp(station.abscissa[here], *healthy_radius(branch))
    return Site(station.branch, station.tangent, station.radius / 1000, healthy / 1000)


def healthy_radius(branch: Branch) -> tuple[np.ndarray, np.ndarray]:
    """Abscissa (k,) and the lumen's radius (k,) with its narrowings filled, mm."""
    s, _, _, radius = sampled(branch)
    width = min(int(WINDOW / STEP), len(s)) | 1
    return s, grey_closing(radius, size=width, mode="nearest")
