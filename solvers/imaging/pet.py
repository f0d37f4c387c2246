"""Uptake on PET: where it is high by several rules, and the usual measures of each such place.

All images are standardised uptake values, SUV by body weight in g/mL, as
arrays [i, j, k] with `spacing` in mm per step. Thresholds take the voxel whole
(its value decides), which is how volumes of PET lesions are defined; only
`peak` counts parts of voxels. Nothing here tells disease from healthy uptake
(brain, heart, kidneys, bladder): a reader does.

Sources: fixed thresholds and the share of the maximum, Boellaard et al. 2015 (EANM guideline 2.0),
doi:10.1007/s00259-014-2961-x; PERCIST, Wahl et al. 2009, doi:10.2967/jnumed.108.057307.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage

CONNECTED = np.ones((3, 3, 3), bool)
"""Voxels that share a face, an edge or a corner belong together."""
PEAK_RADIUS = (3 * 1000 / (4 * np.pi)) ** (1 / 3)
"""Radius in mm of the sphere of 1 mL, 6.2 mm."""
LIVER_RADIUS = 15.0
"""Radius in mm of the sphere of reference in the liver."""


@dataclass(frozen=True)
class Rule:
    """How a region is cut out: all above a fixed SUV `threshold`, or above a `share` of its own maximum."""

    name: str
    threshold: float | None = None
    share: float = 0.41


@dataclass(frozen=True)
class Measures:
    """Of one region: volume (mL), total uptake (SUV mL = g), maximum, mean and peak (SUV, g/mL).

    `peak` is None where no sphere of 1 mL around the region lies whole in the image.
    """

    mtv: float
    tlg: float
    suv_max: float
    suv_mean: float
    suv_peak: float | None


@dataclass(frozen=True)
class Liver:
    """The sphere of reference: centre (index), mean and standard deviation of SUV in it, how many voxels."""

    centre: tuple[float, float, float]
    mean: float
    deviation: float
    n_voxels: int

    @property
    def threshold(self) -> float:
        """What a measurable lesion must reach by PERCIST: 1.5 mean + 2 standard deviations, in SUV as given.

        The rule is written for SUL; both are one factor apart, so it holds in either.
        """
        return 1.5 * self.mean + 2.0 * self.deviation


def above(suv: np.ndarray, threshold: float, spacing: np.ndarray, smallest_ml: float = 0.0) -> np.ndarray:
    """Connected regions of SUV >= threshold as numbers 1, 2, ... (int32), the hottest first.

    Regions below `smallest_ml` (volume in mL) are left out.
    """
    labels, count = ndimage.label(suv >= threshold, CONNECTED)
    if count == 0:
        return labels.astype(np.int32)
    numbers = np.arange(1, count + 1)
    size = np.bincount(labels.ravel(), minlength=count + 1)[1:] * float(np.prod(spacing)) / 1000
    hottest = ndimage.maximum(suv, labels, numbers)
    kept = [n for n in sorted(numbers, key=lambda n: -hottest[n - 1]) if size[n - 1] >= smallest_ml]
    renamed = np.zeros(count + 1, np.int32)
    renamed[kept] = np.arange(1, len(kept) + 1)
    return renamed[labels]


def hottest(suv: np.ndarray, region: np.ndarray) -> tuple[int, int, int]:
    """Index of the hottest voxel of a region (boolean)."""
    flat = np.flatnonzero(region)
    i, j, k = np.unravel_index(flat[np.argmax(suv.ravel()[flat])], suv.shape)
    return int(i), int(j), int(k)


def seeds(suv: np.ndarray, thresholds: Sequence[float], spacing: np.ndarray,
          smallest_ml: float = 0.0) -> list[tuple[int, int, int]]:
    """The hottest voxel of each region: of the highest threshold, then of lower ones where there is none yet."""
    found: list[tuple[int, int, int]] = []
    for threshold in sorted(thresholds, reverse=True):
        labels = above(suv, threshold, spacing, smallest_ml)
        taken = {int(labels[seed]) for seed in found}
        found += [hottest(suv, labels == n) for n in range(1, int(labels.max()) + 1) if n not in taken]
    return sorted(found, key=lambda seed: -float(suv[seed]))


def share_of_maximum(suv: np.ndarray, seed: tuple[int, int, int], share: float = 0.41) -> np.ndarray | None:
    """The connected region (boolean) above `share` of the value at `seed`; None where it runs into hotter uptake.

    Uptake low against its surroundings has no such contour: the region would
    flow out into whatever is warmer.
    """
    peak = float(suv[seed])
    labels, _ = ndimage.label(suv >= share * peak, CONNECTED)
    region = labels == labels[seed]
    return None if float(suv[region].max()) > peak else region


def named(labels: np.ndarray, seeds: Sequence[tuple[int, int, int]]) -> dict[int, int]:
    """Number of the seed to the region that it names: the hottest seed (they come first) in each region."""
    found: dict[int, int] = {}
    for number, seed in enumerate(seeds, start=1):
        region = int(labels[seed])
        if region and region not in found.values():
            found[number] = region
    return found


def delineate(suv: np.ndarray, rule: Rule, seeds: Sequence[tuple[int, int, int]], spacing: np.ndarray,
              smallest_ml: float = 0.0) -> Iterator[tuple[int, np.ndarray | None]]:
    """Number of the seed (1, 2, ...) and its region (boolean) by `rule`; None where the rule gives none.

    Seeds that a fixed threshold leaves in one region with a hotter one, or does not reach, do not appear.
    """
    if rule.threshold is None:
        yield from ((n, share_of_maximum(suv, seed, rule.share)) for n, seed in enumerate(seeds, start=1))
        return
    labels = above(suv, rule.threshold, spacing, smallest_ml)
    yield from ((n, labels == region) for n, region in named(labels, seeds).items())


def measures(suv: np.ndarray, region: np.ndarray, spacing: np.ndarray) -> Measures:
    """The usual numbers of a region (boolean, not empty)."""
    values = np.asarray(suv[region], float)
    ml = len(values) * float(np.prod(spacing)) / 1000
    return Measures(ml, ml * float(values.mean()), float(values.max()), float(values.mean()),
                    peak(suv, region, spacing))


# The sphere of 1 mL


def peak(suv: np.ndarray, region: np.ndarray, spacing: np.ndarray, steps: int = 2) -> float | None:
    """The highest mean over a sphere of 1 mL whose centre lies in the region, SUV.

    Centres stand `steps` to the voxel along each axis, the first at its centre, so that the
    highest mean is not missed; each voxel counts with the share of it that lies in the
    sphere. Spheres that reach out of the image do not count; None when none is left.
    """
    reach = np.ceil(PEAK_RADIUS / np.asarray(spacing) + 1.5).astype(int)
    box, lost = _around(region, reach)
    values = np.pad(np.asarray(suv[box], float), lost, constant_values=np.nan)
    centres = np.argwhere(np.pad(region[box], lost))
    offsets = product(*[np.arange(steps) / steps] * 3)
    means = np.concatenate([_means(values, part, sphere(spacing, PEAK_RADIUS, offset)) for offset in offsets
                            for part in np.array_split(centres, 1 + len(centres) // 20_000)])
    return float(np.nanmax(means)) if np.isfinite(means).any() else None


def _around(region: np.ndarray, reach: np.ndarray) -> tuple[tuple[slice, ...], list[tuple[int, int]]]:
    """The region's box widened by `reach`, and by how much that leaves the image on either side."""
    found = ndimage.find_objects(region.astype(np.uint8))[0]
    wide = [(s.start - int(r), s.stop + int(r)) for s, r in zip(found, reach, strict=True)]
    lost = [(max(0, -a), max(0, b - n)) for (a, b), n in zip(wide, region.shape, strict=True)]
    return tuple(slice(max(0, a), min(n, b)) for (a, b), n in zip(wide, region.shape, strict=True)), lost


def _means(values: np.ndarray, centres: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means around the centres (n, 3): NaN where a voxel that has weight is NaN."""
    steps = np.argwhere(weights > 0)
    places = centres[:, None, :] + (steps - np.array(weights.shape) // 2)[None]
    return values[tuple(np.moveaxis(places, -1, 0))] @ weights[tuple(steps.T)]


def sphere(spacing: np.ndarray, radius: float, offset: Sequence[float] = (0.0, 0.0, 0.0), finer: int = 8) -> np.ndarray:
    """Weights of the voxels around the middle one for the mean over a sphere; odd shape, their sum is 1.

    offset: of the sphere's centre from the middle voxel's, in voxels.
    A voxel's weight is the share of its finer^3 points that lie in the sphere.
    """
    step, shift = np.asarray(spacing, float), np.asarray(offset, float)
    reach = np.ceil(radius / step + 0.5 + np.abs(shift)).astype(int)
    points = [(np.arange((2 * r + 1) * finer) + 0.5) / finer - 0.5 - r for r in reach]
    x, y, z = ((p - s) * d for p, s, d in zip(points, shift, step, strict=True))
    inside = x[:, None, None] ** 2 + y[None, :, None] ** 2 + z[None, None, :] ** 2 <= radius**2
    n = 2 * reach + 1
    share = inside.reshape(n[0], finer, n[1], finer, n[2], finer).mean(axis=(1, 3, 5))
    return share / share.sum()


# The liver, and lean body mass


def liver(suv: np.ndarray, mask: np.ndarray, spacing: np.ndarray, towards_right: np.ndarray) -> Liver | None:
    """Mean and deviation of SUV in a sphere of 3 cm in the right lobe; None where none fits in the mask.

    mask: the liver (boolean). towards_right: direction to the patient's right, along the index axes, (3,).
    The sphere lies as deep as it can in that half of the liver which is the patient's right.
    The voxels whose centre is in the sphere count whole: parts would narrow the deviation.
    """
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), spacing)[1:-1, 1:-1, 1:-1]
    where = np.argwhere(mask & (depth >= LIVER_RADIUS + 0.5 * float(np.max(spacing))))
    if not len(where):
        return None
    side = (np.asarray(spacing) * towards_right) @ np.argwhere(mask).T
    right = where[(np.asarray(spacing) * towards_right) @ where.T >= np.median(side)]
    if not len(right):
        return None
    centre = right[np.argmax(depth[tuple(right.T)])]
    apart = (np.argwhere(mask) - centre) * np.asarray(spacing)
    values = suv[mask][np.linalg.norm(apart, axis=1) <= LIVER_RADIUS]
    i, j, k = (float(c) for c in centre)
    return Liver((i, j, k), float(values.mean()), float(values.std(ddof=1)), len(values))


def lean_body_mass(weight_kg: float, height_m: float, sex: str) -> float:
    """Fat-free mass in kg of an adult; sex: "F" or "M".

    Source: Janmahasatian et al. 2005, doi:10.2165/00003088-200544100-00004.
    """
    a, b = {"M": (6680.0, 216.0), "F": (8780.0, 244.0)}[sex]
    return 9270.0 * weight_kg / (a + b * weight_kg / height_m**2)
