"""Regions that compete for voxels: by their brightness, and by who is there already.

Each round every voxel goes to the region for which brightness and the share of its neighbourhood speak most: the
threshold dynamics of Esedoglu & Otto 2015 (doi:10.1002/cpa.21527) for the competition of Zhu & Yuille 1996
(doi:10.1109/34.537343). What is no organ competes with the mean of its own surroundings (Lankton & Tannenbaum 2008,
doi:10.1109/TIP.2008.2004611), so where two tissues are alike the border stays at the neck where it was put.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from solvers.imaging.organs.found import Candidate
from solvers.imaging.organs.scan import Scan


@dataclass(frozen=True)
class Rules:
    """reach: of a neighbourhood, mm (one standard deviation); around: of the surroundings' mean; rounds; deviation:
    least standard deviation of a tissue's brightness, HU; worst: no brightness costs more than this.
    """

    reach: float = 3.0
    around: float = 10.0
    rounds: int = 12
    deviation: float = 8.0
    worst: float = 4.5
    rim: float = 1.8


def solve(scan: Scan, soft: np.ndarray, sought: list[Candidate], rules: Rules = Rules()) -> dict[str, np.ndarray]:
    """Masks within `soft`, by name; where candidates start from the same voxels, the first has them.

    The outermost voxels of soft tissue hold a part of fat or air and tell nothing: they go where the next ones go.
    """
    box = _box(scan, soft, [c.start for c in sought])
    values, room = scan.smooth[box], soft[box]
    firm = scan.away(room) > 1.1 * float(scan.spacing.max())
    tissues = [_Tissue.of(scan, c.seed, rules) for c in sought]
    labels = np.zeros(values.shape, np.int8)
    for n, candidate in enumerate(sought, 1):
        labels[candidate.start[box] & firm & (labels == 0)] = n
    for _ in range(rules.rounds):
        costs = [_others(scan, values, firm & (labels == 0), rules)]
        costs += [t.cost(scan, values, labels == n, rules) for n, t in enumerate(tissues, 1)]
        score = [np.log(scan.blurred(firm & (labels == n), rules.reach) + 1e-4) - cost for n, cost in enumerate(costs)]
        labels = np.where(firm, np.argmax(score, 0), 0).astype(np.int8)
    away, nearest = ndimage.distance_transform_edt(~firm, scan.spacing, return_indices=True)
    labels = np.where(room & (away < rules.rim * float(scan.spacing.max())), labels[tuple(nearest)], 0)
    found = {c.name: np.zeros(soft.shape, bool) for c in sought}
    for n, mask in enumerate(found.values(), 1):
        mask[box] = labels == n
    return found


@dataclass(frozen=True)
class _Tissue:
    """Median and standard deviation of an organ's brightness, HU."""

    median: float
    deviation: float

    @classmethod
    def of(cls, scan: Scan, seed: np.ndarray, rules: Rules) -> "_Tissue":
        inside = scan.smooth[seed]
        median = float(np.median(inside))
        return cls(median, max(1.48 * float(np.median(np.abs(inside - median))), rules.deviation))

    def cost(self, scan: Scan, values: np.ndarray, here: np.ndarray, rules: Rules) -> np.ndarray:
        """Against the organ's mean near by, which drifts with streaks and shading, drawn to its median."""
        weight = scan.blurred(here, rules.around)
        mean = (scan.blurred(np.where(here, values, 0), rules.around) + 0.2 * self.median) / (weight + 0.2)
        return np.asarray(np.minimum((values - mean) ** 2 / (2 * self.deviation**2), rules.worst))


def _others(scan: Scan, values: np.ndarray, rest: np.ndarray, rules: Rules) -> np.ndarray:
    weight = scan.blurred(rest, rules.around) + 1e-4
    mean = scan.blurred(np.where(rest, values, 0), rules.around) / weight
    return np.minimum((values - mean) ** 2 / (2 * (1.5 * rules.deviation) ** 2), rules.worst)


def _box(scan: Scan, soft: np.ndarray, starts: list[np.ndarray]) -> tuple[slice, ...]:
    """What lies within 40 mm of any start."""
    every = np.any(starts, axis=0)
    box = []
    for axis in range(3):
        n = np.nonzero(every.any(tuple(a for a in range(3) if a != axis)))[0]
        margin = int(40 / scan.spacing[axis])
        box.append(slice(max(int(n[0]) - margin, 0), min(int(n[-1]) + margin + 1, soft.shape[axis])))
    return tuple(box)
