"""From a level field on a voxel grid to a closed triangulated surface."""

import numpy as np
from scipy import ndimage

from solvers.errors import BadInput
from solvers.geometry.surface import Surface
from solvers.geometry.volume import Volume

MARGIN = 3
"""Voxels kept around the lumen when the grid is cropped."""


def extract(field: Volume, finest: float = 0.5) -> Surface:
    """The zero surface of `field` (negative inside), sub-voxel, closed, normals outward.

    Where the inside touches the border of the image it is closed by a flat cap
    half a step beyond. Anisotropic grids are refined along their coarse axes
    by cubic interpolation, to spacings not below `finest` (mm). Contoured in
    index space, then taken to patient space, so oblique and left-handed
    affines keep their shape and their outward normals.
    """
    values, affine = _cropped(np.asarray(field.values, dtype=np.float64), field.affine)
    values, affine = _isotropic(values, affine, finest)
    points, triangles = _contour(_closed(_away_from_zero(values, small=0.02 * finest)))
    points -= 1.0  # the layer that closes the grid
    points = points @ affine[:3, :3].T + affine[:3, 3]
    surface = Surface(points, triangles)
    return surface if surface.volume > 0 else surface.but(triangles=triangles[:, ::-1].copy())


def level_field(mask: Volume, smoothing: float = 0.5) -> Volume:
    """About the signed distance (mm, negative inside) to the sub-voxel edge of a voxel mask.

    The voxels' steps are smoothed by a Gaussian of `smoothing` times the spacing
    along each axis; the level is then moved so that the volume stays that of
    the mask (a Gaussian alone shrinks tubes).
    """
    inside = np.asarray(mask.values) > 0
    box = _box(inside, margin=2 * MARGIN + 2)
    small = np.pad(inside[box], 1, mode="edge")
    distance = _signed_distance(small, mask.spacing)
    smooth = ndimage.gaussian_filter(distance, smoothing, mode="nearest")
    smooth -= _level_of_volume(smooth, float(small.sum()), float(mask.spacing.mean()))
    values = np.full(inside.shape, float(smooth.max()))
    values[box] = smooth[1:-1, 1:-1, 1:-1]
    return mask.but(values)


def _level_of_volume(values: np.ndarray, n_voxels: float, width: float) -> float:
    """The level below which lie `n_voxels`, voxels within half a `width` (mm) of it counted in part."""
    low, high = float(values.min()), float(values.max())
    for _ in range(50):
        level = (low + high) / 2
        count = np.clip(0.5 - (values - level) / width, 0.0, 1.0).sum()
        low, high = (level, high) if count < n_voxels else (low, level)
    return level


def _signed_distance(inside: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Distance to the voxel faces, mm, clipped at six voxels; negative inside."""
    to_outside = ndimage.distance_transform_edt(inside, sampling=spacing)
    to_inside = ndimage.distance_transform_edt(~inside, sampling=spacing)
    half = spacing.mean() / 2
    signed = np.where(inside, half - to_outside, to_inside - half)
    return np.clip(signed, -12 * half, 12 * half)


def _box(inside: np.ndarray, margin: int) -> tuple[slice, ...]:
    if not inside.any():
        raise BadInput("empty_lumen", "The lumen holds no voxel", "a level field that is negative somewhere",
                       "Look at segment's preview, or give a mask with --use segment.labels=FILE.")
    found = ndimage.find_objects(inside.astype(np.uint8))[0]
    return tuple(slice(max(s.start - margin, 0), min(s.stop + margin, n))
                 for s, n in zip(found, inside.shape, strict=True))


def _cropped(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of the grid around the inside; not-a-number counts as outside."""
    values = np.nan_to_num(values, nan=np.inf, posinf=np.inf)
    finite = values[np.isfinite(values)]
    values = np.where(np.isfinite(values), values, finite.max() if finite.size else 1.0)
    box = _box(values < 0, MARGIN)
    return values[box], _shifted(affine, [s.start for s in box])


def _shifted(affine: np.ndarray, start: list[float]) -> np.ndarray:
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ np.asarray(start, float) + affine[:3, 3]
    return moved


def _closed(values: np.ndarray) -> np.ndarray:
    """One layer more on each face, mirrored in sign where inside: a flat cap half a step out."""
    for axis in range(3):
        first, last = (np.abs(np.take(values, [i], axis=axis)) for i in (0, -1))
        values = np.concatenate([first, values, last], axis=axis)
    return values


def _isotropic(values: np.ndarray, affine: np.ndarray, finest: float) -> tuple[np.ndarray, np.ndarray]:
    """Values on a grid refined along its coarse axes."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    target = max(spacing.min(), finest)
    factors = np.maximum(np.round(spacing / target), 1).astype(int)
    scaled = affine.copy()
    for axis, factor in enumerate(factors):
        if factor > 1:
            values = _refined(values, axis, int(factor))
            scaled[:3, axis] /= factor
    return values, scaled


def _refined(values: np.ndarray, axis: int, factor: int) -> np.ndarray:
    """Natural cubic interpolation with `factor` steps between neighbours."""
    n = values.shape[axis]
    coefficients = ndimage.spline_filter1d(values, order=3, axis=axis, mode="mirror")
    where = np.arange((n - 1) * factor + 1) / factor
    base = np.floor(where).astype(int)
    t = where - base
    weights = [(1 - t) ** 3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6, t**3 / 6]
    shape = [1, 1, 1]
    shape[axis] = len(where)
    result = np.zeros([len(where) if a == axis else s for a, s in enumerate(values.shape)])
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        index = np.abs(base + offset)
        index = np.where(index >= n, 2 * (n - 1) - index, index)
        result += np.take(coefficients, index, axis=axis) * weight.reshape(shape)
    return result


def _away_from_zero(values: np.ndarray, small: float) -> np.ndarray:
    """No node closer than `small` mm to the surface: points of triangles stay apart, none is degenerate."""
    return np.where(np.abs(values) < small, np.where(values < 0, -small, small), values)


def _contour(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points in index coordinates and triangles of the zero level."""
    from vtkmodules.util import numpy_support
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D

    image = vtkImageData()
    image.SetDimensions(*values.shape)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(values.ravel(order="F"), deep=True))
    contour = vtkFlyingEdges3D()
    contour.SetInputData(image)
    contour.SetValue(0, 0.0)
    contour.ComputeNormalsOff()
    contour.ComputeScalarsOff()
    contour.Update()
    output = contour.GetOutput()
    if output.GetNumberOfCells() == 0:
        raise BadInput("empty_lumen", "The level field has no zero surface", "values below and above zero")
    points = numpy_support.vtk_to_numpy(output.GetPoints().GetData()).astype(np.float64)
    triangles = numpy_support.vtk_to_numpy(output.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64)
    return points, triangles
