"""Where a point lies along a vessel, and how long the edges of a mesh should be there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import grey_closing
from scipy.spatial import cKDTree

from solvers.geometry.centrelines import Branch, Tree

STEP = 0.25
"""mm between samples of a centreline."""
NARROW = 0.3
"""Relative narrowing of the radius at which a stretch gets its full refinement."""


@dataclass(frozen=True)
class Station:
    """Places along a tree, one per point: branch (n,), abscissa (n,) mm, foot (n, 3) on the
    centreline, tangent (n, 3) there in flow direction, distance (n,) from it and the lumen's radius (n,) there, mm."""

    branch: np.ndarray
    abscissa: np.ndarray
    foot: np.ndarray
    tangent: np.ndarray
    distance: np.ndarray
    radius: np.ndarray


@dataclass(frozen=True)
class Sizing:
    """Edge lengths relative to the lumen.

    across: cells over the diameter; across_narrow: the same where the vessel is
    narrowed, for there the drop is decided (of a 60 % iliac stenosis: 12.2 mmHg
    with 6.7 cells over the throat in 28,000, 11.5 with 8 in 24,000, 11.1 with 11
    in 47,000, 10.8 in 77,000); slope: how fast the edge length may grow along the
    vessel (mm per mm); window: mm, the longest narrowing that is told from a taper.
    """

    across: float = 5.0
    across_narrow: float = 13.5
    slope: float = 0.08
    window: float = 40.0

    def scaled(self, factor: float) -> "Sizing":
        """`factor` times as many cells everywhere."""
        return Sizing(self.across * factor, self.across_narrow * factor, self.slope, self.window)

    def with_across(self, across: float) -> "Sizing":
        """This many cells over a healthy diameter, and as many more as now where it is narrowed."""
        return self.scaled(across / self.across)


def locate(points: np.ndarray, tree: Tree) -> Station:
    """The nearest branch and abscissa of each point (n, 3).

    Nearest is the branch whose tube wall encloses the point most deeply, or is
    least far away: a thin branch beside a wide one keeps its own wall.
    """
    found = [_on_branch(np.asarray(points, float), b) for b in tree.branches]
    gap = np.stack([f.distance / f.radius for f in found])
    best, rows = np.argmin(gap, axis=0), np.arange(len(points))
    pick = {name: np.stack([getattr(f, name) for f in found])[best, rows]
            for name in ("abscissa", "foot", "tangent", "distance", "radius")}
    return Station(best, **pick)


def _on_branch(points: np.ndarray, branch: Branch) -> Station:
    s, line, tangent, radius = sampled(branch)
    distance, index = cKDTree(line).query(points)
    return Station(np.zeros(len(points), int), s[index], line[index], tangent[index], distance, radius[index])


def sampled(branch: Branch) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Abscissa (k,), points (k, 3), tangents (k, 3) and lumen radius (k,) every `STEP` mm.

    The radius is that of the circle of equal area where the area is known.
    """
    s = np.linspace(0, branch.length, max(3, int(branch.length / STEP) + 1))
    line, tangent = (np.stack([np.interp(s, branch.abscissa, a[:, k]) for k in range(3)], axis=1)
                     for a in (branch.points, branch.tangent))
    known = np.isfinite(branch.area) & (branch.area > 0)
    own = np.where(known, np.sqrt(np.where(known, branch.area, 1.0) / np.pi), branch.radius)
    own = np.minimum(own, 1.5 * branch.radius)  # a section through a junction is not this branch's lumen
    return s, line, tangent, np.interp(s, branch.abscissa, own)


def along(branch: Branch, sizing: Sizing) -> tuple[np.ndarray, np.ndarray]:
    """Abscissa (k,) and the edge length (k,) wanted at the wall there, mm."""
    s, _, _, radius = sampled(branch)
    narrow = narrowness(branch, sizing.window)
    h = 2 * radius / (sizing.across + (sizing.across_narrow - sizing.across) * narrow)
    return s, _lipschitz(s, h, sizing.slope)


def narrowness(branch: Branch, window: float) -> np.ndarray:
    """How much the vessel is narrowed at its samples (k,): 0 where it is healthy, 1 from `NARROW` on.

    It is narrowed between two wider places; a vessel that tapers to its end is not.
    """
    radius = sampled(branch)[3]
    width = max(3, min(int(window / STEP), len(radius) // 2 * 2 - 1)) | 1
    healthy = grey_closing(np.pad(radius, width, mode="edge"), size=width)[width:-width]
    return np.clip((1 - radius / healthy) / NARROW, 0, 1)


def _lipschitz(s: np.ndarray, h: np.ndarray, slope: float) -> np.ndarray:
    """The largest function below `h` that grows no faster than `slope`."""
    rising = np.minimum.accumulate(h - slope * s) + slope * s
    falling = np.minimum.accumulate((h + slope * s)[::-1])[::-1] - slope * s
    return np.minimum(rising, falling)


def edge_lengths(station: Station, tree: Tree, sizing: Sizing) -> np.ndarray:
    """Edge length wanted at each located point (n,), mm."""
    h = np.empty(len(station.branch))
    for i, branch in enumerate(tree.branches):
        here = station.branch == i
        h[here] = np.interp(station.abscissa[here], *along(branch, sizing))
    return h


def across(points: np.ndarray, triangles: np.ndarray, tree: Tree) -> np.ndarray:
    """How many triangles (m,) as wide as each of a wall's would lie over the lumen's diameter there."""
    corners = points[triangles]
    middle = corners.mean(axis=1)
    station = locate(middle, tree)
    around = np.cross(station.tangent, middle - station.foot)
    around /= np.linalg.norm(around, axis=1, keepdims=True).clip(1e-12)
    return 2 * station.radius / np.ptp(np.einsum("tkd,td->tk", corners, around), axis=1).clip(1e-12)


def expected_tets(tree: Tree, sizing: Sizing, extensions: float, layers: int,
                  stretch: Sequence[np.ndarray] | None = None) -> float:
    """About how many tetrahedra a mesh of this sizing has.

    extensions: their length in diameters, summed. stretch: for each branch, by
    how much cells are longer than wide at its samples. Fitted to meshes: a tube of
    one diameter and n edges across has about 9.3 n^2 triangles on its wall, each with
    three tetrahedra per layer, and 2 n^3 + 18.5 n^2 inside.
    """
    total = extensions * _per_diameter(sizing.across, layers)
    for i, branch in enumerate(tree.branches):
        s, h = along(branch, sizing)
        diameter = 2 * sampled(branch)[3]
        longer = stretch[i] if stretch else 1.0
        total += np.trapezoid(_per_diameter(diameter / h, layers) / diameter / longer, s)
    return float(total)


def _per_diameter(across: np.ndarray | float, layers: int) -> np.ndarray | float:
    return (2.0 * across + 18.5 + 28.0 * layers) * across**2
