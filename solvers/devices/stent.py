"""A balloon-expanded stent on a narrowed vessel, as a function of the vessel.

The lumen is widened to the device along the centreline, less the elastic
recoil; it is never narrowed. Outside the device the widening fades over a
transition length. This is the geometry after deployment, not the mechanics of
the balloon: foreshortening and straightening of the vessel are left out.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from solvers.errors import BadInput
from solvers.geometry.centrelines import Branch, Lesion, Tree

SOURCES = ["Borghi 2013 (recoil of coronary cobalt-chromium stents 5.0, SD 2.2 %), Rev Bras Cardiol Inv 21:326",
           "Aziz 2007 (deficit of the deployed diameter), doi:10.1136/hrt.2006.107052"]


@dataclass(frozen=True)
class Stent:
    """A device in its place; lengths in mm.

    branch: index in the tree; centre: mm along it; diameter: nominal inner
    diameter of the expanded device, None for the vessel's own shape (changes
    nothing; the null test); recoil: share of the diameter lost on deflation;
    transition: mm beyond each end over which the widening fades.
    """

    branch: int
    centre: float
    length: float
    diameter: float | None
    recoil: float = 0.05
    transition: float = 4.0

    @property
    def final_radius(self) -> float:
        """Radius after recoil, mm; 0 for the vessel's own shape."""
        return 0.0 if self.diameter is None else self.diameter / 2 * (1 - self.recoil)

    def weight(self, abscissa: np.ndarray) -> np.ndarray:
        """1 inside the device, fading to 0 over the transition; shape of `abscissa`."""
        outside = np.abs(abscissa - self.centre) - self.length / 2
        t = np.clip(1 - outside / self.transition, 0, 1)
        return t * t * (3 - 2 * t)


def on_lesion(tree: Tree, lesion: Lesion, length: float | None, diameter: float | None, stent: Stent) -> Stent:
    """`stent` put on a lesion: it covers the lesion with 3 mm to spare on both sides
    and is as wide as the healthy vessel, unless told otherwise."""
    return fitted(tree, replace(stent, branch=lesion.branch, centre=(lesion.start + lesion.end) / 2,
                                length=length or lesion.length + 6.0,
                                diameter=diameter or lesion.reference_diameter / (1 - stent.recoil)))


def fitted(tree: Tree, stent: Stent) -> Stent:
    """The device moved along its branch until it lies within; BadInput when it cannot."""
    branch = tree.branches[stent.branch]
    if stent.length > branch.length:
        raise BadInput("stent_too_long", f"the stent is {stent.length:.1f} mm long, {branch.name or 'its branch'} "
                       f"{branch.length:.1f} mm", "a device shorter than the vessel",
                       "Choose a shorter device, or another branch.")
    widest = 1.5 * float(np.nanmax(np.sqrt(4 * branch.area / np.pi)))
    if stent.diameter is not None and stent.diameter > widest:
        raise BadInput("stent_too_wide", f"the stent is {stent.diameter:.1f} mm wide; {branch.name or 'its branch'} "
                       f"would have to stretch by more than half", f"at most {widest:.1f} mm",
                       "Check the unit of the diameter.")
    half = stent.length / 2
    return replace(stent, centre=float(np.clip(stent.centre, half, branch.length - half)))


def deploy(points: np.ndarray, tree: Tree, stent: Stent) -> np.ndarray:
    """Surface points (n, 3) of the vessel after deployment, mm.

    A point of the treated branch at distance rho from the centreline, where
    the device has the radius R, moves outward by weight * max(0, R - rho).
    """
    branch, abscissa, foot = nearest(points, tree)
    offset = points - foot
    rho = np.linalg.norm(offset, axis=1)
    gain = stent.weight(abscissa) * np.maximum(0.0, stent.final_radius - rho) * (branch == stent.branch)
    return points + offset * (gain / np.maximum(rho, 1e-9))[:, None]


def nearest(points: np.ndarray, tree: Tree) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each point (n, 3): the branch, the abscissa and the foot on its centreline.

    The nearest branch is the one whose tube wall is nearest: distance to the
    line less the inscribed radius, so that a thin branch beside a wide one
    keeps its own wall.
    """
    feet = [_foot(points, b) for b in tree.branches]
    gaps = np.stack([distance - radius for distance, radius, _, _ in feet])
    best = np.argmin(np.abs(gaps), axis=0)
    rows = np.arange(len(points))
    abscissa = np.stack([f[2] for f in feet])[best, rows]
    foot = np.stack([f[3] for f in feet])[best, rows]
    return best, abscissa, foot


def _foot(points: np.ndarray, branch: Branch) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Distance, inscribed radius, abscissa and position of the nearest point of a branch's line."""
    fine = np.linspace(0, branch.length, max(2, int(branch.length / 0.1)))
    line = np.stack([np.interp(fine, branch.abscissa, branch.points[:, k]) for k in range(3)], axis=1)
    distance, index = cKDTree(line).query(points)
    radius = np.interp(fine, branch.abscissa, branch.radius)
    return distance, radius[index], fine[index], line[index]
