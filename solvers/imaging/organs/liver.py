"""The liver: the deepest soft part on the right, under ribs."""

import numpy as np

from solvers.imaging.organs.found import Candidate, Missing
from solvers.imaging.organs.parts import Parts
from solvers.imaging.organs.scan import Scan, largest

PEAK = 25.0
"""A ball of that radius fits into a liver, mm, and into no muscle, kidney or loop of bowel."""
BRIGHTNESS = (20.0, 200.0)
"""HU without (55 to 65, less when fat: Boll 2009, doi:10.1148/radiol.2532081650) and with contrast medium."""
PASSAGE = 15.0
"""Between its lobes, least inscribed radius, mm; to stomach and heart it is less."""
ALIKE = 10.0
"""Lobes differ by less, HU."""
WIDE, TIGHT = 35.0, 15.0
"""What may be liver (streaks and shading darken it), and what surely is, by the difference from its median, HU."""


def seek(scan: Scan, parts: Parts, ribbed: np.ndarray) -> tuple[Candidate | Missing, np.ndarray]:
    """The liver, and what of it is sure. ribbed: by slice, whether ribs are near."""
    right = (parts.place[:, 0] < 0) & ribbed[np.round(parts.place[:, 2]).astype(int)]
    good = right & (parts.peak > PEAK) & (parts.median > BRIGHTNESS[0]) & (parts.median < BRIGHTNESS[1])
    if not good.any():
        return Missing("liver", f"no soft part of {PEAK:g} mm inscribed radius and {BRIGHTNESS[0]:g} to "
                                f"{BRIGHTNESS[1]:g} HU lies on the right under ribs"), parts.labels < 0
    first = int(np.argmax(np.where(good, parts.volume, 0)))
    like = np.abs(parts.median - parts.median[first]) < max(2 * parts.deviation[first], ALIKE)
    members = parts.joined(first, like, PASSAGE)
    seed = parts.core(members)
    wide, sure = (like_seed(scan, parts, members, seed, band) for band in (WIDE, TIGHT))
    return Candidate("liver", seed, wide), sure


def like_seed(scan: Scan, parts: Parts, members: list[int], seed: np.ndarray, band: float) -> np.ndarray:
    """Of the parts, what differs from the seed by less than `band` over some millimetres, in one piece, no thread."""
    alike = np.abs(scan.blurred(scan.smooth, 2.0) - float(np.median(scan.smooth[seed]))) < band
    return largest(scan.opened(scan.closed(alike & np.isin(parts.labels, members), 3.0) & parts.soft, 4.0) | seed)
