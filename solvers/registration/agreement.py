"""How well two images agree under a transform: measures that the optimiser does not use itself."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from solvers.geometry.volume import Volume
from solvers.registration import grids


@dataclass(frozen=True)
class Agreement:
    """mutual_information: nats, of the voxels in the reference's body that both images hold.

    dice: of the two bodies within the field that both images hold. overlap: the share of the moving body, there, that
    lies in the reference's. field: share of the reference's body that the moving image holds.
    """

    mutual_information: float
    dice: float
    overlap: float
    field: float


def mutual_information(a: np.ndarray, b: np.ndarray, bins: int) -> float:
    """Of paired values, nats, by a joint histogram whose bins hold equally many of each.

    Bins by rank make it independent of the scales of both. Source: Maes et al. 1997, doi:10.1109/42.563664.
    """
    if len(a) < bins:
        return 0.0
    joint = np.histogram2d(_ranked(a, bins), _ranked(b, bins), bins=bins, range=[[0, bins], [0, bins]])[0]
    p = joint / joint.sum()
    apart = p.sum(axis=1, keepdims=True) * p.sum(axis=0, keepdims=True)
    held = p > 0
    return float((p[held] * np.log(p[held] / apart[held])).sum())


def _ranked(values: np.ndarray, bins: int) -> np.ndarray:
    edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(edges, values, side="right") + 0.5


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Twice the overlap over the sum of two masks; 0 where both are empty."""
    both = int(a.sum()) + int(b.sum())
    return 2 * float((a & b).sum()) / both if both else 0.0


@dataclass(frozen=True)
class Scene:
    """Two images with the masks of their bodies, each on its own grid."""

    fixed: Volume
    fixed_body: np.ndarray
    moving: Volume
    moving_body: np.ndarray


def on_grid(mask: Volume, grid: Volume, transform: sitk.Transform) -> np.ndarray:
    """A mask at the voxels of `grid`, boolean: its edge runs half way between voxels in and out.

    The nearest voxel would draw steps of a whole voxel, which on a grid four times as fine counts as disagreement.
    """
    return np.asarray(grids.resample(mask, grid, transform, "linear", 0.0).values) > 0.5


def judge(scene: Scene, transform: sitk.Transform, bins: int = 32) -> Agreement:
    """The agreement on the grid of the reference."""
    moved = np.asarray(grids.resample(scene.moving, scene.fixed, transform, "linear").values)
    body = on_grid(scene.moving.but(scene.moving_body), scene.fixed, transform)
    common = np.isfinite(moved)
    inside = common & ndimage.binary_dilation(scene.fixed_body, iterations=2)
    fixed, body = scene.fixed_body & common, body & common
    return Agreement(
        mutual_information(np.asarray(scene.fixed.values)[inside], moved[inside], bins), dice(fixed, body),
        float((fixed & body).sum()) / max(int(body.sum()), 1), float(fixed.sum()) / max(int(scene.fixed_body.sum()), 1))


def body_points(volume: Volume, body: np.ndarray, spacing: float = 15.0) -> np.ndarray:
    """Points (n, 3), LPS mm, over the body about `spacing` mm apart: where errors are read."""
    steps = np.maximum(1, np.rint(spacing / volume.spacing)).astype(int)
    thin = np.zeros(body.shape, bool)
    thin[tuple(slice(s // 2, None, s) for s in np.minimum(steps, body.shape).tolist())] = True
    chosen = np.argwhere(thin & body)
    return volume.position(chosen if len(chosen) else np.argwhere(body))
