"""Narrowings of a vessel, by the diameter that the healthy lumen on both sides foretells."""

from dataclasses import dataclass, replace

import numpy as np

from solvers.geometry.centrelines import Branch, Lesion, Tree


@dataclass(frozen=True)
class Criteria:
    """What counts as a lesion. Parts of the reference diameter; lengths mm.

    percent: least diameter stenosis. healthy: lumen at least this part of the
    reference is healthy. shoulder: a lesion reaches to where the lumen has come
    back to this part. window: how far healthy lumen is looked for, in reference
    diameters on each side. side: least healthy length needed on each side.
    each_side: against either side alone, at least this part of `percent` must
    be lost (beside an aneurysm the other side tells what is normal).
    """

    percent: float = 30.0
    healthy: float = 0.88
    shoulder: float = 0.93
    window: float = 4.0
    side: float = 2.5
    each_side: float = 0.67


def solve(tree: Tree, criteria: Criteria = Criteria()) -> list[Lesion]:
    """Lesions of all branches, the most severe first, called L1, L2, ...; empty when there is none.

    The reference is a straight line fitted to healthy lumen on both sides, so
    taper is no lesion; healthy lumen must come back beyond the narrowing, so
    neither a junction's step nor the end of an aneurysm is one.
    """
    found = [lesion for i in range(len(tree.branches)) for lesion in _of_branch(tree, i, criteria)]
    found.sort(key=lambda lesion: (-lesion.percent_diameter_stenosis, lesion.branch, lesion.abscissa))
    return [replace(lesion, id=f"L{n}") for n, lesion in enumerate(found, start=1)]


def _of_branch(tree: Tree, index: int, criteria: Criteria) -> list[Lesion]:
    branch = tree.branches[index]
    known = np.isfinite(branch.area)
    if known.sum() < 8:
        return []
    s, d = branch.abscissa[known], np.sqrt(4 * branch.area[known] / np.pi)
    baseline = healthy_line(s, d, criteria.healthy)
    found, taken = [], np.zeros(len(s), bool)
    while not taken.all():
        k = int(np.where(taken, np.inf, d / baseline).argmin())
        if d[k] / baseline[k] > 1 - 0.8 * criteria.percent / 100:
            break
        first, last = _extent(d, baseline, k, criteria.shoulder)
        taken[first:last + 1] = True
        reference = _reference(s, d, baseline, first, last, criteria)
        if reference is not None:
            lesion = _lesion(index, branch, s, d, first, last, reference)
            if lesion.percent_diameter_stenosis >= criteria.percent:
                found.append(lesion)
    return found


def healthy_line(s: np.ndarray, d: np.ndarray, healthy: float) -> np.ndarray:
    """A straight line through the healthy diameters: refitted until the narrow places are left out."""
    use = d >= np.median(d) * healthy
    for _ in range(20):
        line = _theil_sen(s[use], d[use])
        fitted = np.maximum(line[0] + line[1] * s, 0.3 * np.median(d))
        again = d >= healthy * fitted
        if again.sum() < 5 or (again == use).all():
            break
        use = again
    return fitted


def _theil_sen(s: np.ndarray, d: np.ndarray) -> tuple[float, float]:
    """Intercept and slope: medians over pairs (at most 300 points are used)."""
    pick = np.unique(np.linspace(0, len(s) - 1, min(len(s), 300)).astype(int))
    x, y = s[pick], d[pick]
    i, j = np.triu_indices(len(x), k=max(len(x) // 4, 1))
    far = np.abs(x[j] - x[i]) > 1e-9
    slope = float(np.median((y[j] - y[i])[far] / (x[j] - x[i])[far])) if far.any() else 0.0
    return float(np.median(y - slope * x)), slope


def _extent(d: np.ndarray, baseline: np.ndarray, k: int, shoulder: float) -> tuple[int, int]:
    """From the narrowest place out to where the lumen has come back."""
    back = d >= shoulder * baseline
    before, after = np.flatnonzero(back[:k]), np.flatnonzero(back[k:])
    return (int(before[-1]) if before.size else 0), (k + int(after[0]) if after.size else len(d) - 1)


def _reference(s: np.ndarray, d: np.ndarray, baseline: np.ndarray, first: int, last: int,
               criteria: Criteria) -> np.ndarray | None:
    """Reference diameter at all s, from healthy lumen near the lesion; None when a side is missing."""
    reach = criteria.window * float(baseline[first:last + 1].mean())
    healthy = (d >= criteria.healthy * baseline) & (d <= 1.3 * baseline)
    before = healthy & (s <= s[first]) & (s >= s[first] - reach)
    after = healthy & (s >= s[last]) & (s <= s[last] + reach)
    if any(_span(s[side]) < criteria.side for side in (before, after)):
        return None
    proximal, distal = (np.median(s[x]) for x in (before, after))
    a, b = (np.median(d[x]) for x in (before, after))
    if 1 - d[first:last + 1].min() / min(a, b) < criteria.each_side * criteria.percent / 100:
        return None
    return a + (b - a) * (np.clip(s, proximal, distal) - proximal) / (distal - proximal)


def _span(s: np.ndarray) -> float:
    return float(np.ptp(s)) if len(s) > 1 else 0.0


def _lesion(index: int, branch: Branch, s: np.ndarray, d: np.ndarray, first: int, last: int,
            reference: np.ndarray) -> Lesion:
    here = slice(first, last + 1)
    k = first + int(d[here].argmin())
    known = np.isfinite(branch.area)
    areas = [float(a[known][here].min()) for a in (branch.area, branch.area_inner, branch.area_outer)]
    return Lesion(id="", branch=index, branch_name=branch.name, abscissa=float(s[k]), start=float(s[first]),
                  end=float(s[last]), length=float(s[last] - s[first]), minimal_area=areas[0],
                  minimal_area_low=min(areas[0], areas[1]), minimal_area_high=max(areas[0], areas[2]),
                  minimal_diameter=float(d[k]), reference_diameter=float(reference[k]),
                  percent_diameter_stenosis=float(100 * (1 - d[k] / reference[k])))
