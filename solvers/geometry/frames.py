"""Where parallel slices lie: from their corner positions and direction cosines to one affine.

Thickness, spacing and tilt as written in headers are hearsay; positions and
orientations are what the scanner moved. All in patient LPS, millimetres.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from solvers.errors import BadInput

LINE_TOLERANCE = 0.02  # mm
"""How far a slice may lie from the line through all of them, rounding of the text apart."""
ORIENTATION_TOLERANCE = 5e-4
"""Largest difference of a direction cosine between slices of one stack (0.03 degrees)."""
SHEAR_TOLERANCE = np.deg2rad(0.1)
"""Largest angle between the line of slices and their normal that is kept as measured."""


ACCEPTABLE = {"missing_slice": "missing slices are interpolated from their neighbours",
              "uneven_slices": "unevenly spaced slices are interpolated onto even ones"}
"""Refusals that a person may overrule, and what is done then."""


@dataclass(frozen=True)
class Shifts:
    """Parallel slices that lie on no upright, even grid, seen from the first voxel of the grid made for them.

    `height`: of each slice along the normal, in steps of the grid, (slices,).
    `aside`: of each slice's first pixel along column and row index, pixels, (slices, 2).
    `wider`: columns and rows that the grid has more than a slice. `n_slices`: of the grid.
    """

    height: np.ndarray
    aside: np.ndarray
    wider: tuple[int, int]
    n_slices: int


@dataclass(frozen=True)
class Stack:
    """Slices in order along their normal, and the grid that they make.

    `affine` takes (column, row, slice) to LPS mm; `order` lists the given
    slices from the first to the last; `residual` is the largest distance of a
    slice from the fitted line, mm. `shifts`: set when the slices must be
    resampled to lie on the grid, and `corrected` says in words why.
    """

    affine: np.ndarray
    order: np.ndarray
    residual: float
    shifts: Shifts | None = None
    corrected: tuple[str, ...] = ()

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
          thickness: np.ndarray | None = None, rounding: float = 0.0, accept: Collection[str] = ()) -> Stack:
    """The grid of two or more parallel slices.

    positions: (slices, 3) centres of the first pixels, mm. cosines: (slices, 6).
    pixel_spacing: between rows, between columns (DICOM's order), mm. thickness:
    of each slice, mm, (slices,); None when unknown. rounding: half the last digit
    of the positions. accept: codes (of ACCEPTABLE) that the person overrules.

    A gantry tilt, and steps that differ although each slice touches the next, are
    given an upright grid (`shifts`). Raises `missing_slice` naming where,
    `uneven_slices`, `inconsistent_slices`, `duplicate_positions`, and what
    `in_plane_axes` raises.
    """
    axes = np.vstack([(pair := in_plane_axes(cosines)), np.cross(*pair)])
    tolerance = LINE_TOLERANCE + 2 * rounding
    order = np.argsort(positions @ axes[2], kind="stable")
    placed = positions[order]
    height = placed @ axes[2]
    said = _check_steps(height, tolerance, None if thickness is None else thickness[order], accept)
    if said:
        residual = _from_line(placed, height)
        _check_line(residual, tolerance)
        said += _tilt(placed[-1] - placed[0], axes[2], tolerance)
        return _upright(placed, axes, pixel_spacing, order, residual, said)
    step, start, residual = _line(placed)
    _check_line(residual, tolerance)
    said = _tilt(step * (len(order) - 1), axes[2], tolerance)
    if said:
        return _upright(placed, axes, pixel_spacing, order, residual, said)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([axes[0] * pixel_spacing[1], axes[1] * pixel_spacing[0], step])
    affine[:3, 3] = start
    return Stack(affine, order, residual)


def single(position: np.ndarray, cosines: np.ndarray, pixel_spacing: tuple[float, float],
           thickness: float) -> Stack:
    """The grid of one slice, as thick as it says, mm. position: (3,), cosines: (6,), pixel_spacing as for `stack`."""
    axes = in_plane_axes(cosines[None])
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([axes[0] * pixel_spacing[1], axes[1] * pixel_spacing[0],
                                      np.cross(*axes) * thickness])
    affine[:3, 3] = position
    return Stack(affine, np.array([0]), 0.0)


def _line(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Least-squares step and start of equally spaced points (n, 3), and the worst distance from it."""
    index = np.arange(len(points)) - (len(points) - 1) / 2
    step = index @ points / (index @ index)
    fitted = points.mean(axis=0) + np.outer(index, step)
    return step, fitted[0], float(np.linalg.norm(points - fitted, axis=1).max())


def _from_line(points: np.ndarray, height: np.ndarray) -> float:
    """The worst distance of unevenly spaced points (n, 3) from a straight line over their heights (n,), mm."""
    known = np.column_stack([height - height.mean(), np.ones(len(height))])
    fitted = known @ np.linalg.lstsq(known, points, rcond=None)[0]
    return float(np.linalg.norm(points - fitted, axis=1).max())


def _check_steps(height: np.ndarray, tolerance: float, thickness: np.ndarray | None,
                 accept: Collection[str]) -> tuple[str, ...]:
    """Nothing when steps between sorted heights (n,) are one number; what must be corrected when that is safe."""
    steps = np.diff(height)
    if steps.min() <= tolerance / 2:
        n_same = int((steps <= tolerance / 2).sum())
        raise BadInput("duplicate_positions", f"{n_same + 1} slices lie at the position of another one",
                       "one slice per position", "Separate echoes, phases or repeats into series of their own.")
    if np.abs(steps - np.median(steps)).max() <= 2 * tolerance:
        return ()
    if _is_covered(steps, thickness):
        return (f"slice spacing differs ({steps.min():.2f} to {steps.max():.2f} mm) as slice thickness does, without "
                "a gap: interpolated along the slices to even steps",)
    problem = _uneven(height, steps, tolerance)
    if problem.code not in accept:
        raise problem
    return (f"{problem.happened}; overruled: {ACCEPTABLE[problem.code]}",)


def _is_covered(steps: np.ndarray, thickness: np.ndarray | None) -> bool:
    """Whether thickness differs from slice to slice as the steps do, and each slice reaches the next."""
    if thickness is None or np.ptp(thickness) <= 0.01 * thickness.max():
        return False
    return bool((steps <= 1.02 * (thickness[1:] + thickness[:-1]) / 2).all())


def _uneven(height: np.ndarray, steps: np.ndarray, tolerance: float) -> BadInput:
    """Slices missing from an even stack by name, or uneven steps."""
    usual = float(np.median(steps[steps < 1.5 * steps.min()]))
    holes = np.rint(steps / usual).astype(int)
    if np.abs(steps - holes * usual).max() <= 2 * tolerance * holes.max() and holes.max() > 1:
        return _missing(height, holes, usual)
    return BadInput("uneven_slices",
                    f"slice spacing is not uniform: steps from {steps.min():.3f} to {steps.max():.3f} mm",
                    f"equal steps within {tolerance:.3f} mm",
                    "A slice may be missing, or two series are mixed: export the series again. To go on all the same: "
                    "--accept uneven_slices, slices are then interpolated.")


def _missing(height: np.ndarray, holes: np.ndarray, usual: float) -> BadInput:
    places = [height[i] + k * usual for i in np.flatnonzero(holes > 1) for k in range(1, holes[i])]
    shown = ", ".join(f"{p:.2f}" for p in places[:8]) + (" ..." if len(places) > 8 else "")
    word = "slice is" if len(places) == 1 else "slices are"
    return BadInput("missing_slice", f"{len(places)} {word} missing: a gap at {shown} mm along the slice normal",
                    f"a slice every {usual:.3f} mm", "Export the whole series again. To go on without: "
                    "--accept missing_slice, the gap is then interpolated.")


def _tilt(whole: np.ndarray, normal: np.ndarray, tolerance: float) -> tuple[str, ...]:
    """What to say of a line from first to last slice (3,) that leaves the slices' normal."""
    along = float(whole @ normal)
    aside = float(np.linalg.norm(whole - along * normal))
    angle = float(np.arctan2(aside, along))
    if angle <= SHEAR_TOLERANCE or aside <= tolerance:
        return ()
    return (f"the line of slices is tilted by {np.rad2deg(angle):.1f} degrees from their normal (gantry tilt, a "
            "shear): resampled within the slices to an orthogonal grid",)


def _check_line(residual: float, tolerance: float) -> None:
    if residual > tolerance:
        raise BadInput("inconsistent_slices", f"a slice lies {residual:.3f} mm off the line of the others",
                       f"at most {tolerance:.3f} mm", "Two series may be mixed, or positions were edited: export the "
                       "series again.")


def _upright(placed: np.ndarray, axes: np.ndarray, pixel_spacing: tuple[float, float], order: np.ndarray,
             residual: float, said: tuple[str, ...]) -> Stack:
    """An even grid with orthogonal axes (3, 3) that holds all slices whose first pixels are `placed` (slices, 3)."""
    local = (placed - placed[0]) @ axes.T
    step, n_slices = _even(local[:, 2])
    aside = local[:, :2] / [pixel_spacing[1], pixel_spacing[0]]
    low, wide = aside.min(axis=0), np.ceil(np.ptp(aside, axis=0) - 1e-3).astype(int)
    scale = np.array([pixel_spacing[1], pixel_spacing[0], step])
    affine = np.eye(4)
    affine[:3, :3] = axes.T * scale
    affine[:3, 3] = placed[0] + (low * scale[:2]) @ axes[:2]
    shifts = Shifts(local[:, 2] / step, aside - low, (int(wide[0]), int(wide[1])), n_slices)
    return Stack(affine, order, residual, shifts, said)


def _even(height: np.ndarray) -> tuple[float, int]:
    """An even step through sorted heights (n,) that keeps both ends, and how many slices that makes.

    It follows the smallest step that a tenth of the slices have, so that no part of the body is thinned out.
    """
    steps = np.sort(np.diff(height))
    usual = steps[len(steps) // 10]
    n_steps = max(1, round(float(height[-1] - height[0]) / float(usual)))
    return float(height[-1] - height[0]) / n_steps, n_steps + 1
