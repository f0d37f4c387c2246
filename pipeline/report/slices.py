"""Three planes of the scan with the edge of the lumen, as pictures."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from scipy import ndimage

from pipeline.formats import read_volume
from solvers.geometry.volume import Volume

FINER = 3
LUMEN_LABEL = 1
EDGE = "#ff3b6b"
CT_WINDOW = (-150.0, 550.0)
"""Hounsfield units from black to white, usual for angiography."""
PLANES = {0: ("Sagittal", "A", "P"), 1: ("Coronal", "R", "L"), 2: ("Axial", "R", "L")}
"""Patient axis (LPS) that a plane is square to: its name, and what is at its left and right edge."""


@dataclass(frozen=True)
class Slice:
    """One picture: base64 PNG, what it shows in words."""

    png: str
    caption: str


def slices(volume: Path, lumen: Path | None, labels: Path | None, through: np.ndarray | None,
           anatomical: bool, is_ct: bool = False) -> list[Slice]:
    """Three planes through `through` (LPS mm; the middle of the lumen when None).

    The edge is the zero of the lumen's level field, or the labels' border.
    Sides are named only where the header's axes are the patient's.
    """
    image = read_volume(volume)
    level = _level(lumen, labels)
    point = _middle(level or image) if through is None else through
    window = CT_WINDOW if is_ct else _window(image)
    return planes(image, level, point, window, anatomical)


def planes(image: Volume, level: Volume | None, point: np.ndarray, window: tuple[float, float],
           anatomical: bool) -> list[Slice]:
    """Three planes of `image` through `point` (LPS mm) with the line where `level` is zero.

    image: grey (i, j, k), black to white over `window`, or colours from 0 to 1, (i, j, k, 3).
    """
    return [_slice(image, level, point, window, axis, anatomical) for axis in _axes(image)]


def figures(pictures: Sequence[Slice], what: str) -> str:
    """Pictures side by side, each described for those who do not see it."""
    inside = "".join(f'<figure><img alt="{escape(s.caption)}: {escape(what)}" src="data:image/png;base64,{s.png}">'
                     f"<figcaption>{escape(s.caption)}</figcaption></figure>" for s in pictures)
    return f'<div class="slices">{inside}</div>'


def _level(lumen: Path | None, labels: Path | None) -> Volume | None:
    """Negative inside the lumen."""
    if lumen is not None:
        return read_volume(lumen)
    if labels is None:
        return None
    found = read_volume(labels)
    return found.but(0.5 - (found.values == LUMEN_LABEL))


def _middle(grid: Volume) -> np.ndarray:
    inside = np.argwhere(grid.values < 0)
    centre = inside[len(inside) // 2] if len(inside) else (np.array(grid.values.shape) - 1) / 2
    return grid.position(centre[None])[0]


def _window(image: Volume) -> tuple[float, float]:
    """Grey values from black to white where they have no unit: nearly all of the image."""
    low, high = np.percentile(image.values[::3, ::3, ::3].astype(float), [1, 99.7])
    return float(low), float(max(high, low + 1e-6))


def _axes(image: Volume) -> list[int]:
    """Index axes in the order axial, coronal, sagittal, by the patient axis each runs along most."""
    runs = patient_axes(image)
    return sorted(range(3), key=lambda axis: -runs[axis])


def patient_axes(image: Volume) -> list[int]:
    """For each index axis the patient axis it runs along most, each used once."""
    size = np.abs(image.affine[:3, :3] / image.spacing)
    runs, left = [0, 0, 0], size.copy()
    for _ in range(3):
        patient, axis = np.unravel_index(int(np.argmax(left)), left.shape)
        runs[int(axis)] = int(patient)
        left[patient, :] = -1
        left[:, axis] = -1
    return runs


def _slice(image: Volume, level: Volume | None, point: np.ndarray, window: tuple[float, float], axis: int,
           anatomical: bool) -> Slice:
    runs = patient_axes(image)
    shape = np.array(image.values.shape[:3])
    at = int(np.clip(np.rint(image.index(point[None])[0][axis]), 0, shape[axis] - 1))
    right, down = _layout(runs, axis)
    plane = np.moveaxis(image.values, (down, right), (0, 1))
    plane = np.take(plane, at, axis=2).astype(float)
    flips = (_flip(image, down, runs), _flip(image, right, runs))
    aspect = image.spacing[down] / image.spacing[right]
    field = None if level is None else _sampled(image, level, axis, at, right, down)
    name, left_side, right_side = PLANES[runs[axis]]
    png = _png(plane, field, window, flips, aspect, (left_side, right_side) if anatomical else None)
    what = f"{name} plane" if anatomical else f"Plane {3 - axis} of the scan (side unverified)"
    return Slice(png, what)


def _layout(runs: list[int], axis: int) -> tuple[int, int]:
    """Index axes drawn to the right and downwards: x or y to the right, z or y downwards."""
    others = sorted((a for a in range(3) if a != axis), key=lambda a: runs[a])
    return others[0], others[1]


def _flip(image: Volume, axis: int, runs: list[int]) -> bool:
    """Whether an axis must be turned so that the patient's left is at the right, posterior and feet downwards."""
    along = image.affine[runs[axis], axis] > 0
    return bool(along) if runs[axis] == 2 else not along


def _sampled(image: Volume, level: Volume, axis: int, at: int, right: int, down: int) -> np.ndarray:
    """The level field on the plane, `FINER` times finer than the image, rows downwards."""
    n_down, n_right = image.values.shape[down], image.values.shape[right]
    rows, columns = np.meshgrid(np.arange(0, n_down - 1 + 1e-9, 1 / FINER), np.arange(0, n_right - 1 + 1e-9, 1 / FINER),
                                indexing="ij")
    index = np.zeros((rows.size, 3))
    index[:, axis], index[:, down], index[:, right] = at, rows.ravel(), columns.ravel()
    where = level.index(image.position(index))
    outside = float(np.max(level.values))
    values = ndimage.map_coordinates(level.values, where.T, order=1, mode="constant", cval=outside, output=float)
    return values.reshape(rows.shape)


def _png(plane: np.ndarray, field: np.ndarray | None, window: tuple[float, float], flips: tuple[bool, bool],
         aspect: float, sides: tuple[str, str] | None) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    turn = (slice(None, None, -1 if flips[0] else 1), slice(None, None, -1 if flips[1] else 1))
    height, width = plane.shape[0] * aspect, plane.shape[1]
    figure = Figure(figsize=(3.6, 3.6 * height / width), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    extent = (-0.5, plane.shape[1] - 0.5, plane.shape[0] - 0.5, -0.5)
    axes.imshow(plane[turn], cmap="gray", vmin=window[0], vmax=window[1], aspect=aspect, extent=extent,
                interpolation="bilinear")
    if field is not None and field.min() < 0 < field.max():
        rows, columns = (np.linspace(0, n - 1, m) for n, m in zip(plane.shape, field.shape, strict=True))
        axes.contour(columns, rows, field[turn], levels=[0.0], colors=EDGE, linewidths=1.0)
    for x, side in zip((0.02, 0.98), sides or (), strict=False):
        axes.text(x, 0.5, side, transform=axes.transAxes, color="white", fontsize=9, va="center",
                  ha="left" if x < 0.5 else "right", bbox={"facecolor": "black", "alpha": 0.5, "lw": 0, "pad": 1.5})
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True})
    return base64.b64encode(buffer.getvalue()).decode()
