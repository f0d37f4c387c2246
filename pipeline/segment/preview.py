"""A picture of what was found: slices through the lumen in three planes with the contours, and projections."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.segment.result import Lumen
from solvers.geometry.volume import Volume
from solvers.library import anatomy


def write(path: Path, volume: Volume, lumen: Lumen) -> None:
    """preview.png: above, slices with the contour and its inner and outer limits; below, brightest values."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 9), dpi=80, facecolor="black")
    FigureCanvasAgg(figure)
    low, high = _window(volume, lumen)
    fields = ((lumen.field, "#ff3030", 1.2), (lumen.inner, "#ffd040", 0.6), (lumen.outer, "#40c0ff", 0.6))
    for axis in range(3):
        place = _busiest(lumen.field < 0, axis)
        slice_axes, projection = figure.add_subplot(2, 3, axis + 1), figure.add_subplot(2, 3, axis + 4)
        letter = "ijk"[axis]
        _show(slice_axes, volume, volume.values.take(place, axis), axis, low, high, f"slice {place} of axis {letter}")
        for field, colour, width in fields:
            _contour(slice_axes, field.take(place, axis), colour, width)
        if lumen.false_lumen is not None:
            _contour(slice_axes, 0.5 - lumen.false_lumen.take(place, axis), "#c060ff", 1.2)
        _show(projection, volume, volume.values.max(axis), axis, low, high, f"brightest along axis {letter}")
        _contour(projection, lumen.field.min(axis), "#ff3030", 0.9)
    false = "" if lumen.false_lumen is None or not lumen.false_lumen.any() else ", false lumen (violet)"
    figure.suptitle(f"Arterial lumen (red), one standard deviation inside (yellow) and outside (blue){false}",
                    color="white")
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})


def write_regions(path: Path, volume: Volume, values: np.ndarray) -> None:
    """Slices through the middle of all labels, without and with their colours."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    shown = {s.index: s.colour for s in anatomy.structures().values()}
    colours = ListedColormap([shown.get(n, "#000000") for n in range(256)])
    middle = np.argwhere(values > 0).mean(axis=0).astype(int)
    low, high = np.percentile(volume.values, [1, 99.7])
    figure = Figure(figsize=(13, 9), dpi=80, facecolor="black")
    for axis, place in enumerate(middle):
        plain, marked = figure.add_subplot(2, 3, axis + 1), figure.add_subplot(2, 3, axis + 4)
        for axes in (plain, marked):
            _show(axes, volume, volume.values.take(place, axis), axis, low, high,
                  f"slice {place} of axis {'ijk'[axis]}")
        across, up = (volume.spacing[a] for a in range(3) if a != axis)
        marked.imshow(np.ma.masked_equal(values.take(place, axis).T, 0), cmap=colours, vmin=0, vmax=255, alpha=0.6,
                      aspect=up / across, interpolation="nearest", origin="lower" if axis < 2 else "upper")
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})


def _window(volume: Volume, lumen: Lumen) -> tuple[float, float]:
    """Grey levels from the surroundings' to a little above the lumen's."""
    inside = np.median(volume.values[lumen.field < 0])
    around = np.percentile(volume.values[(lumen.field > 0) & (lumen.field < lumen.limit)], 10)
    return float(around - 0.4 * (inside - around)), float(inside + 0.5 * (inside - around))


def _busiest(mask: np.ndarray, axis: int) -> int:
    """The slice with the most lumen."""
    return int(np.argmax(mask.sum(tuple(a for a in range(3) if a != axis))))


def _show(axes: Any, volume: Volume, image: np.ndarray, axis: int, low: float, high: float, title: str) -> None:
    across, up = (volume.spacing[a] for a in range(3) if a != axis)
    axes.imshow(image.T, cmap="gray", vmin=low, vmax=high, aspect=up / across, interpolation="nearest",
                origin="lower" if axis < 2 else "upper")
    axes.set_title(title, color="white", fontsize=9)
    axes.set_axis_off()


def _contour(axes: Any, field: np.ndarray, colour: str, width: float) -> None:
    if field.min() < 0 < field.max():
        axes.contour(field.T, [0.0], colors=[colour], linewidths=width)
