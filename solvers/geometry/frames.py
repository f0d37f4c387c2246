"""Where parallel slices lie: from their corner positions and direction cosines to one affine.

Thickness, spacing and tilt as written in headers are hearsay; positions and
orientations are what the scanner moved. All in patient LPS, millimetres.
"""

from dataclasses import dataclass

import numpy as np

from solvers.errors import BadInput

LINE_TOLERANCE = 0.02  # mm
"""How far a slice may lie from the line through all of them, rounding of the text apart."""
ORIENTATION_TOLERANCE = 5e-4
"""Largest difference of a direction cosine between slices of one stack (0.03 degrees)."""
SHEAR_TOLERANCE = np.deg2rad(0.1)
"""Largest angle between the line of slices and their normal that is kept as measured."""


@dataclass(frozen=True)
class Stack:
    """Slices in order along their normal, and the grid that they make.

    `affine` takes (column, row, slice) to LPS mm; `order` lists the given
    slices from the first to the last; `residual` is the largest distance of a
    slice from the fitted line, mm.
    """

    affine: np.ndarray
    order: np.ndarray
    residual: float

    @property
    def spacing(self) -> np.ndarray:
        """Edge lengths of a voxel along column, row and slice, mm, shape (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)


def in_plane_axes(cosines: np.ndarray) -> np.ndarray:
    """Unit vectors along a row and along a column, shape (2, 3), common to all slices.

    cosines: (slices, 6) as in ImageOrientationPatient. Raises `invalid_orientation`
    when they are not two perpendicular unit vectors, `mixed_orientation` when
    slices differ.
    """
    axes = cosines.reshape(-1, 2, 3)
    lengths = np.linalg.norm(axes, axis=2)
    skew = np.abs(np.einsum("ni,ni->n", axes[:, 0], axes[:, 1]))
    if not np.isfinite(axes).all() or np.abs(lengths - 1).max() > 1e-3 or skew.max() > 1e-3:
        raise BadInput("invalid_orientation", "the slice orientation is not two perpendicular unit vectors",
                       "direction cosines as the standard defines them", "Export the series again.")
    spread = np.abs(cosines - np.median(cosines, axis=0)).max(axis=1)
    if spread.max() > ORIENTATION_TOLERANCE:
        raise BadInput("mixed_orientation",
                       f"slice orientation differs: {len(cosines)} slices have {_orientations(cosines)} orientations",
                       "one orientation", "Separate the planes into series of their own.")
    row, column = cosines.mean(axis=0).reshape(2, 3)
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    return np.array([row, column / np.linalg.norm(column)])



def _orientations(cosines: np.ndarray) -> int:
    """How many orientations (n, 6) there are that differ by more than the tolerance."""
    found: list[np.ndarray] = []
    for one in cosines:
        if all(np.abs(one - other).max() > ORIENTATION_TOLERANCE for other in found):
            found.append(one)
    return len(found)


def stack(positions: np.ndarray, cosines: np.ndarray, pixel_spacing: tuple[float, float],
          thickness: float | None = None, rounding: float = 0.0) -> Stack:
    """The grid of parallel slices.

    positions: (slices, 3) centres of the first pixels, mm. cosines: (slices, 6).
    pixel_spacing: between rows, between columns (DICOM's order), mm. thickness:
    used for a single slice only. rounding: half the last digit of the positions.
    Raises `missing_slice` naming where, `inconsistent_slices` (uneven steps),
    `duplicate_positions`, `gantry_tilt`, and what `in_plane_axes` raises.
    """
    row, column = in_plane_axes(cosines)
    normal = np.cross(row, column)
    tolerance = LINE_TOLERANCE + 2 * rounding
    height = positions @ normal
    order = np.argsort(height, kind="stable")
    if len(order) == 1:
        step, start, residual = normal * _single_thickness(thickness), positions[0], 0.0
    else:
        _check_steps(height[order], tolerance)
        step, start, residual = _line(positions[order])
        _check_tilt(step, normal, len(order), tolerance)
        _check_line(residual, tolerance)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([row * pixel_spacing[1], column * pixel_spacing[0], step])
    affine[:3, 3] = start
    return Stack(affine, order, residual)


def _single_thickness(thickness: float | None) -> float:
    if thickness is None or not thickness > 0:
        raise BadInput("too_few_slices", "one slice without a thickness is not a volume", "several slices",
                       "Give the folder of the whole series.")
    return thickness


def _line(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Least-squares step and start of equally spaced points (n, 3), and the worst distance from it."""
    index = np.arange(len(points)) - (len(points) - 1) / 2
    step = index @ points / (index @ index)
    fitted = points.mean(axis=0) + np.outer(index, step)
    return step, fitted[0], float(np.linalg.norm(points - fitted, axis=1).max())


def _check_steps(height: np.ndarray, tolerance: float) -> None:
    """Steps between sorted slice heights (n,) must be one number."""
    steps = np.diff(height)
    if steps.min() <= tolerance / 2:
        n_same = int((steps <= tolerance / 2).sum())
        raise BadInput("duplicate_positions", f"{n_same + 1} slices lie at the position of another one",
                       "one slice per position", "Separate echoes, phases or repeats into series of their own.")
    usual = float(np.median(steps))
    if np.abs(steps - usual).max() <= 2 * tolerance:
        return
    usual = float(np.median(steps[steps < 1.5 * steps.min()]))
    holes = np.rint(steps / usual).astype(int)
    if np.abs(steps - holes * usual).max() <= 2 * tolerance * holes.max() and holes.max() > 1:
        raise _missing(height, holes, usual)
    raise BadInput("inconsistent_slices",
                   f"slice spacing is not uniform: steps from {steps.min():.3f} to {steps.max():.3f} mm",
                   f"equal steps within {tolerance:.3f} mm", "A slice may be missing, or two series are mixed.")


def _missing(height: np.ndarray, holes: np.ndarray, usual: float) -> BadInput:
    places = [height[i] + k * usual for i in np.flatnonzero(holes > 1) for k in range(1, holes[i])]
    shown = ", ".join(f"{p:.2f}" for p in places[:8]) + (" ..." if len(places) > 8 else "")
    word = "slice is" if len(places) == 1 else "slices are"
    return BadInput("missing_slice", f"{len(places)} {word} missing: a gap at {shown} mm along the slice normal",
                    f"a slice every {usual:.3f} mm", "Export the whole series again.")


def _check_tilt(step: np.ndarray, normal: np.ndarray, n_slices: int, tolerance: float) -> None:
    along = float(step @ normal)
    aside = float(np.linalg.norm(step - along * normal))
    angle = float(np.arctan2(aside, along))
    if angle > SHEAR_TOLERANCE and aside * (n_slices - 1) > tolerance:
        raise BadInput("gantry_tilt",
                       f"the slices are shifted against each other: the line of slices is tilted by "
                       f"{np.rad2deg(angle):.1f} degrees from their normal (gantry tilt, a shear)",
                       "slices stacked along their normal", "Resample the series to an orthogonal grid.")


def _check_line(residual: float, tolerance: float) -> None:
    if residual > tolerance:
        raise BadInput("inconsistent_slices", f"a slice lies {residual:.3f} mm off the line of the others",
                       f"at most {tolerance:.3f} mm", "Two series may be mixed, or positions were edited.")
