"""Ends of a vessel that the image no longer resolves: a branch stops before them.

Where a lumen fades below two voxels, its width is the noise's. Flow sent
through it jets through narrowings that may not exist. A narrow stretch behind
which the vessel is wide again for some diameters is a stenosis, and stays.
"""

from dataclasses import replace

import numpy as np

from solvers.geometry.centrelines import Branch, Tree

AGAIN = 5.0
"""Diameters over which a vessel must be resolved behind a narrow stretch for that to be a stenosis."""
KEPT = 1.0
"""Diameters of a branch, beyond its parent's lumen, that are kept whatever their width."""


def solve(tree: Tree, least: float) -> tuple[Tree, float]:
    """The tree with its outlets moved back to where the lumen is `least` (mm) wide, and the length given up, mm."""
    leaves = set(tree.leaves)
    made = tuple(_shortened(b, _parent_radius(tree, b), least) if i in leaves else b
                 for i, b in enumerate(tree.branches))
    return replace(tree, branches=made), sum(b.length for b in tree.branches) - sum(b.length for b in made)


def _parent_radius(tree: Tree, branch: Branch) -> float:
    """Of the parent where the branch leaves it, mm."""
    if branch.parent < 0:
        return 0.0
    parent = tree.branches[branch.parent]
    return float(parent.radius[np.argmin(np.linalg.norm(parent.points - branch.points[0], axis=1))])


def _shortened(branch: Branch, parent_radius: float, least: float) -> Branch:
    s, wide = branch.abscissa, 2 * branch.radius >= least
    diameter = 2 * float(np.median(branch.radius[wide])) if wide.any() else least
    first = int(np.searchsorted(s, parent_radius + KEPT * diameter))
    for i in first + np.flatnonzero(~wide[first:]):
        if _longest(s[i:], wide[i:]) < AGAIN * diameter:
            return _until(branch, i)
    return branch


def _longest(s: np.ndarray, wide: np.ndarray) -> float:
    """Length of the longest unbroken wide stretch, mm."""
    edges = np.flatnonzero(np.diff(np.r_[0, wide.astype(int), 0]))
    return max((float(s[b - 1] - s[a]) for a, b in edges.reshape(-1, 2)), default=0.0)


def _until(branch: Branch, end: int) -> Branch:
    """The branch's first `end` points."""
    return branch.but(**{name: getattr(branch, name)[:end]
                         for name in ("points", "radius", "area", "area_inner", "area_outer")})
