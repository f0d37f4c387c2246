"""Between `Volume` and SimpleITK, and an image on another grid."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk

from solvers.errors import BadInput
from solvers.geometry.volume import Volume

Interpolator = Literal["nearest", "linear", "cubic"]
INTERPOLATORS = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline}
SQUARE = 1e-3
"""Largest cosine between two axes of a grid that ITK takes for orthogonal."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """ITK on one thread: sums over threads would change their last digits from run to run."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def to_itk(volume: Volume, dtype: Any = np.float32) -> sitk.Image:
    """The same voxels at the same places, values as `dtype`. BadInput `sheared_grid` where axes are not orthogonal."""
    axes = volume.affine[:3, :3] / volume.spacing
    if np.abs(axes.T @ axes - np.eye(3)).max() > SQUARE:
        raise BadInput("sheared_grid", "the axes of the image are not at right angles", "an image on an upright grid",
                       "Read the scan with anatwin ingest, which makes one.")
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.asarray(volume.values, dtype).T))
    image.SetSpacing(volume.spacing.tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetDirection(axes.ravel().tolist())
    return image


def to_volume(image: sitk.Image) -> Volume:
    """An ITK image as a `Volume`."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image).T, affine)


def resample(image: Volume, grid: Volume, transform: sitk.Transform, how: Interpolator,
             outside: float = float("nan")) -> Volume:
    """`image` at the voxels of `grid`, float32; `outside` where it has none.

    `transform` maps points of the grid to points of the image, LPS mm.
    """
    with one_thread():
        made = sitk.Resample(to_itk(image), to_itk(grid.but(np.zeros(grid.values.shape[:3])), np.uint8), transform,
                             INTERPOLATORS[how], outside, sitk.sitkFloat32)
    return grid.but(sitk.GetArrayFromImage(made).T)


def coarser(volume: Volume, finest: float) -> Volume:
    """The volume blurred and sampled so that no voxel edge is shorter than about `finest` mm, float32."""
    steps = np.maximum(1, np.rint(finest / volume.spacing)).astype(int)
    with one_thread():
        image = to_itk(volume)
        blur = np.where(steps > 1, 0.5 * steps * volume.spacing, 0.0)
        if blur.any():
            image = sitk.SmoothingRecursiveGaussian(image, np.maximum(blur, 1e-3 * volume.spacing).tolist())
        return to_volume(image[tuple(slice(None, None, int(s)) for s in steps)])


def mapped(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """Points (n, 3) of the reference, LPS mm, in the moving image."""
    return np.array([transform.TransformPoint(p) for p in np.asarray(points, float).tolist()]).reshape(-1, 3)


def matrix(transform: sitk.Transform) -> np.ndarray:
    """A rigid transform as a matrix (4, 4)."""
    made = np.eye(4)
    corners = mapped(transform, np.vstack([np.zeros(3), np.eye(3)]))
    made[:3, 3] = corners[0]
    made[:3, :3] = (corners[1:] - corners[0]).T
    return made
