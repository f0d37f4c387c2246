"""A vessel drawn shorter along its straight stretches: equal triangles there are long ones on the vessel itself.

Away from junctions, bends and narrowings, flow changes slowly along a vessel,
so cells may be longer than wide. Every point keeps its place across the
centreline; the centreline itself is drawn shorter.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from solvers.geometry.centrelines import Branch, Tree
from solvers.geometry.sizing import STEP, Station, narrowness, sampled

BEND = 0.35
"""Greatest product of shortening, curvature and radius: beyond 1, the inner wall of a bend would fold."""


@dataclass(frozen=True)
class Shortening:
    """For each branch: abscissa (k,), by how much it is shortened there (k,), and how far the line moves (k, 3)."""

    abscissa: tuple[np.ndarray, ...]
    factor: tuple[np.ndarray, ...]
    shift: tuple[np.ndarray, ...]

    def applied(self, points: np.ndarray, station: Station) -> np.ndarray:
        """Where the points (n, 3), located by `station`, lie on the shortened vessel."""
        along = station.abscissa + np.einsum("ij,ij->i", points - station.foot, station.tangent)
        moved = points.copy()
        for i, (s, shift) in enumerate(zip(self.abscissa, self.shift, strict=True)):
            here = station.branch == i
            moved[here] += np.stack([np.interp(along[here], s, shift[:, k]) for k in range(3)], axis=1)
        return moved


def shortened(tree: Tree, stretch: float, window: float) -> Shortening:
    """The shortening by `stretch` where nothing happens. window: mm, as `Sizing` has it."""
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for i, branch in enumerate(tree.branches):
        s, line, tangent, _ = sampled(branch)
        factor = _factor(tree, i, stretch, window)
        start = np.zeros(3)
        if branch.parent >= 0:
            above = sampled(tree.branches[branch.parent])[1]
            start = parts[branch.parent][2][np.argmin(np.linalg.norm(above - line[0], axis=1))]
        pace = np.gradient(line, s, axis=0) * (1 / factor - 1)[:, None]
        step = (pace[1:] + pace[:-1]) / 2 * np.diff(s)[:, None]
        parts.append((s, factor, start + np.vstack([np.zeros(3), np.cumsum(step, axis=0)])))
    return Shortening(*(tuple(p[k] for p in parts) for k in range(3)))


def _factor(tree: Tree, index: int, stretch: float, window: float) -> np.ndarray:
    """By how much a branch is shortened at its samples (k,), 1 near junctions."""
    branch = tree.branches[index]
    s, _, _, radius = sampled(branch)
    room = np.full(len(s), np.inf)
    for place, reach in _junctions(tree, index):
        room = np.minimum(room, (np.abs(s - place) - reach) / (2 * radius))
    calm = np.clip(room, 0, 1) * (1 - narrowness(branch, window))
    bend = BEND / (_curvature(branch) * radius).clip(1e-6)
    wanted = np.minimum(1 + (stretch - 1) * calm, bend.clip(1, None))
    width = float(np.median(radius)) / STEP
    smooth = gaussian_filter1d(minimum_filter1d(wanted, int(width) * 2 + 1, mode="nearest"), width / 2, mode="nearest")
    return np.where(room <= 0, 1.0, smooth)


def _junctions(tree: Tree, index: int) -> list[tuple[float, float]]:
    """Abscissas on a branch near which others begin, and how far (mm) the junction reaches."""
    branch = tree.branches[index]
    s, line, _, radius = sampled(branch)
    found = []
    if branch.parent >= 0:
        _, above, _, wide = sampled(tree.branches[branch.parent])
        own = wide[np.argmin(np.linalg.norm(above - line[0], axis=1))]
        found.append((0.0, 1.3 * float(own + radius[min(len(radius) - 1, int(own / STEP))])))
    for child in tree.children(index):
        first = sampled(tree.branches[child])
        at = int(np.argmin(np.linalg.norm(line - first[1][0], axis=1)))
        found.append((float(s[at]), 1.5 * float(max(np.median(first[3]), 0.7 * radius[at]))))
    return found


def _curvature(branch: Branch) -> np.ndarray:
    """1/mm at the samples, of the line smoothed over about a radius."""
    s, line, _, radius = sampled(branch)
    smooth = gaussian_filter1d(line, max(1.0, float(np.median(radius)) / STEP / 2), axis=0, mode="nearest")
    tangent = np.gradient(smooth, s, axis=0)
    turn = np.gradient(tangent / np.linalg.norm(tangent, axis=1, keepdims=True).clip(1e-9), s, axis=0)
    return np.linalg.norm(turn, axis=1)
