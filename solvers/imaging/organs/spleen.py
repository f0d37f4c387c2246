"""The spleen: an even soft part at the left wall under ribs."""

import numpy as np

from solvers.imaging.organs.found import Candidate, Missing
from solvers.imaging.organs.liver import like_seed
from solvers.imaging.organs.parts import Parts
from solvers.imaging.organs.scan import Scan

BESIDE = 65.0
"""Of its middle from the spine's line to the left, at least, mm."""
BEHIND = (-60.0, 55.0)
PEAK = 10.0
"""Inscribed radius, mm, at least."""
BRIGHTNESS = (25.0, 200.0)
"""HU without (about 50: Boll 2009, doi:10.1148/radiol.2532081650) and with contrast medium after the first minute."""
EVEN = 14.0
"""Standard deviation of its inner half, HU, at most: bowel and stomach are mixed."""
ALIKE = 10.0
WIDE = 35.0
PASSAGE = 8.0


def seek(scan: Scan, parts: Parts, ribbed: np.ndarray, taken: np.ndarray, room: np.ndarray) -> Candidate | Missing:
    place, count = parts.place, len(parts.peak)
    wall = ~scan.eroded(room, 12.0) & room & (parts.labels > 0)
    at_wall = np.bincount(parts.labels[wall], minlength=count) > 0.1 * np.maximum(parts.volume, 1e-9) / scan.voxel_ml
    near = (place[:, 0] > BESIDE) & (place[:, 1] > BEHIND[0]) & (place[:, 1] < BEHIND[1]) \
        & ribbed[np.round(place[:, 2]).astype(int)]
    mixed = np.bincount(parts.labels[taken], minlength=count) * scan.voxel_ml > 0.3 * parts.volume
    good = near & at_wall & ~mixed & (parts.peak > PEAK) & (parts.deviation < EVEN) \
        & (parts.median > BRIGHTNESS[0]) & (parts.median < BRIGHTNESS[1])
    if not good.any():
        return Missing("spleen", "no even soft part of a spleen's size lies at the left wall under ribs")
    first = int(np.argmax(np.where(good, parts.volume, 0)))
    like = good & (np.abs(parts.median - parts.median[first]) < max(2 * parts.deviation[first], ALIKE))
    members = parts.joined(first, like, PASSAGE)
    seed = parts.core(members) & ~taken
    return Candidate("spleen", seed, like_seed(scan, parts, members, seed, WIDE) & ~taken)
