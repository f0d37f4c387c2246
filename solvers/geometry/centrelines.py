"""The tree of a vessel: branches with radius and cross-section area along them."""

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Branch:
    """One unbranched stretch, ordered in the direction of flow; lengths in mm.

    points (n, 3) LPS; radius (n,) of the maximal inscribed sphere; area (n,) of
    the lumen's cross-section square to the line; area_inner and area_outer (n,)
    of the contours one standard deviation inside and outside (equal to `area`
    where none were given). NaN where a plane cannot be cut, as inside a
    junction. parent: index of the branch upstream, -1 at the root. The first
    point of a child lies on its parent's centreline.
    """

    points: np.ndarray
    radius: np.ndarray
    area: np.ndarray
    area_inner: np.ndarray
    area_outer: np.ndarray
    parent: int = -1
    name: str = ""

    @property
    def abscissa(self) -> np.ndarray:
        """Arc length from the first point, mm, shape (n,)."""
        return np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))]

    @property
    def length(self) -> float:
        return float(self.abscissa[-1])

    @property
    def tangent(self) -> np.ndarray:
        """Unit tangents in the direction of flow, shape (n, 3)."""
        t = np.gradient(self.points, self.abscissa, axis=0)
        return t / np.linalg.norm(t, axis=1, keepdims=True)

    def but(self, **changes: object) -> "Branch":
        return replace(self, **changes)


@dataclass(frozen=True)
class Tree:
    """Branches of one vessel; parents come before their children."""

    branches: tuple[Branch, ...] = field(default_factory=tuple)

    def children(self, index: int) -> list[int]:
        return [i for i, b in enumerate(self.branches) if b.parent == index]

    @property
    def root(self) -> int:
        return next(i for i, b in enumerate(self.branches) if b.parent < 0)

    @property
    def leaves(self) -> list[int]:
        """Branches with an outlet at their end."""
        return [i for i in range(len(self.branches)) if not self.children(i)]

    def path(self, index: int) -> list[int]:
        """Branch indices from the root to `index`."""
        path = [index]
        while self.branches[path[0]].parent >= 0:
            path.insert(0, self.branches[path[0]].parent)
        return path


@dataclass(frozen=True)
class Lesion:
    """A narrowing. abscissa, start, end: mm along the branch; areas mm^2, diameters mm.

    Diameters are area-equivalent. reference_diameter is interpolated from the
    healthy lumen on both sides. minimal_area_low/high: from the inner and
    outer contours.
    """

    id: str
    branch: int
    branch_name: str
    abscissa: float
    start: float
    end: float
    length: float
    minimal_area: float
    minimal_area_low: float
    minimal_area_high: float
    minimal_diameter: float
    reference_diameter: float
    percent_diameter_stenosis: float
