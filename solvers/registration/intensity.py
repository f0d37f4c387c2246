"""MR intensities: the coil's shading taken off, and a scale that can be compared.

An MR has no unit. What was done is told by name with its numbers, so that it can be undone.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk

from solvers.errors import BadInput
from solvers.geometry.volume import Volume
from solvers.registration import grids

Scale = Literal["none", "robust_z", "percentile"]


@dataclass(frozen=True)
class Unshaded:
    """The image over its `bias`, whose mean in the mask is 1; `variation`: the bias' coefficient of variation there."""

    image: Volume
    bias: np.ndarray
    variation: float


@dataclass(frozen=True)
class Scaled:
    """The image as (value - offset) / unit; `offset` and `unit` in the image's own units."""

    image: Volume
    offset: float
    unit: float


def unshade(image: Volume, mask: np.ndarray, working: float = 8.0, control: float = 200.0) -> Unshaded:
    """N4 in `mask`, fitted on voxels of about `working` mm with control points `control` mm apart on its first level.

    BadInput `nothing_to_correct` where the mask is empty. Source: Tustison et al. 2010, doi:10.1109/TMI.2010.2046908.
    """
    if not mask.any():
        raise BadInput("nothing_to_correct", "no body was found on the MR", "an image with a body in it")
    whole = grids.to_itk(image)
    steps = np.maximum(1, np.rint(working / image.spacing)).astype(int).tolist()
    with grids.one_thread():
        method = sitk.N4BiasFieldCorrectionImageFilter()
        method.SetMaximumNumberOfIterations([30, 30, 20])
        method.SetConvergenceThreshold(1e-4)
        cells = np.maximum(1, np.rint(image.spacing * image.values.shape / control)).astype(int)
        method.SetNumberOfControlPoints((cells + 3).tolist())
        least = float(np.asarray(image.values)[mask].max()) * 1e-4
        method.Execute(sitk.Shrink(sitk.Maximum(whole, least), steps),
                       sitk.Shrink(grids.to_itk(image.but(mask), np.uint8), steps))
        bias = np.exp(sitk.GetArrayFromImage(method.GetLogBiasFieldAsImage(whole)).T)
    bias /= bias[mask].mean()
    return Unshaded(image.but(np.asarray(image.values, np.float32) / bias), bias, float(bias[mask].std()))


def scaled(image: Volume, mask: np.ndarray, scale: Scale) -> Scaled:
    """The image on its scale over `mask`.

    robust_z: 0 at the median, 1 a standard deviation of a normal distribution with the same quartiles. percentile: 0 at
    the first, 1 at the 99th. BadInput `no_contrast` where the mask holds one value only.
    """
    if scale == "none":
        return Scaled(image, 0.0, 1.0)
    inside = np.asarray(image.values)[mask]
    low, first, middle, third, high = (float(v) for v in np.percentile(inside, [1, 25, 50, 75, 99]))
    offset, unit = (middle, (third - first) / 1.349) if scale == "robust_z" else (low, high - low)
    if not unit > 0:
        raise BadInput("no_contrast", "the body holds one value only", "an MR with contrast between tissues")
    return Scaled(image.but((np.asarray(image.values, np.float32) - offset) / unit), offset, unit)
