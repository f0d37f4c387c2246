"""Where the edge of a bright vessel lies: half way between its own and its surroundings' intensity.

The lumen's intensity is taken from the wide parts nearby, so that a narrow part is
measured against what its lumen would be without blur. The surroundings are looked up
along the outward normal, so that a vein, a bone or calcium that touches counts with
its own intensity. The profile of a blurred edge is an error function; its inverse turns
intensity into distance. What a curved edge loses by blur is added back.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import erfinv
from skimage.graph import MCP_Geometric
from skimage.measure import euler_number

from solvers.imaging import distance

ROOT_2PI = float(np.sqrt(2 * np.pi))


@dataclass(frozen=True)
class HalfMaximum:
    """Settings. Lengths in mm.

    reach: the edge may lie this far from the mask it started from. lumen_scale: how far the lumen's intensity is
    shared. calcium: voxels above lumen + this (in units of the contrast, and 4 noise) are calcium or metal.
    systematic: standard deviation of the edge that is not noise, in parts of the blur (chosen so that on synthetic
    scans about two thirds of the true surface lie between the contours). smoothing: in voxels, before the edge is read;
    averaging: what noise this and the interpolation between voxels leave.
    wall: what touches the lumen is the artery's wall, at least this bright, though fat or air may lie just behind it.
    darker: surroundings are darker than the lumen by this part of the usual contrast; what is not (calcium, a stent's
    metal) tells nothing about the half level, which is then that of the places beside it.
    """

    reach: float = 2.0
    lumen_scale: float = 6.0
    calcium: float = 0.45
    rounds: int = 2
    systematic: float = 0.15
    limit: float = 3.0
    smoothing: float = 0.25
    averaging: float = 0.6
    wall: float = -np.inf
    darker: float = 0.3


@dataclass(frozen=True)
class Edge:
    """Level field and standard deviation of its zero, both mm (i, j, k); calcium; the blur's sigma, mm."""

    field: np.ndarray
    deviation: np.ndarray
    calcium: np.ndarray
    blur: float
    noise: float


def solve(values: np.ndarray, mask: np.ndarray, spacing: np.ndarray, noise: float,
          settings: HalfMaximum = HalfMaximum()) -> Edge:
    """The edge of `mask`'s vessel in `values` (i, j, k); `noise` is the image's standard deviation."""
    smooth = ndimage.gaussian_filter(values, settings.smoothing)
    start = mask
    blur = float(np.cbrt(np.prod(spacing))) * 0.6
    for _ in range(settings.rounds):
        near, lumen, around, doubt = _references(smooth, mask, spacing, blur, settings)
        calcium = _calcium(values, near, lumen, around, noise, settings)
        half, contrast = (lumen + around) / 2, np.maximum(lumen - around, 4 * noise + 1e-6)
        blur = _blur(smooth, half, contrast, near, spacing)
        field = _profile(smooth, half, contrast, blur)
        field = _beside_calcium(field, smooth, calcium, lumen, near, half, spacing, blur)
        field = np.where(np.abs(near) > settings.reach, np.sign(near) * settings.limit, field)
        field = _bridged(field, start, spacing)
        mask = _solid(_without_crust(field < 0, calcium, spacing), start)
    mask = without_tunnels(mask)
    field = np.where(mask == (field < 0), field, np.where(mask, -1, 1) * 0.02 * spacing.min())
    field = distance.reinitialise(field, spacing, settings.limit)
    bend = np.clip(distance.curvature(field, spacing, 1.5), -0.6, 0.6)
    bend = np.where(np.abs(field) < 0.99 * settings.limit, bend, 0)
    field = np.clip(field - blur**2 / 2 * bend, -settings.limit, settings.limit)
    deviation = _deviation(contrast, doubt, noise, blur, settings)
    return Edge(field, deviation, calcium, blur, noise)


def _weighted(values: np.ndarray, weight: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Gaussian mean of `values` with weights; where no weight is near, the nearest weighted value."""
    total = ndimage.gaussian_filter(weight, sigma, truncate=3, mode="nearest")
    mean = ndimage.gaussian_filter(values * weight, sigma, truncate=3, mode="nearest") / np.maximum(total, 1e-30)
    known = total > 1e-8 * max(float(total.max()), 1e-30)
    if known.all() or not known.any():
        return mean
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return mean[tuple(nearest)]


def _spread(values: np.ndarray, weight: np.ndarray, mean: np.ndarray | None, sigma: np.ndarray) -> np.ndarray:
    """Weighted standard deviation of `values` in the neighbourhood."""
    mean = _weighted(values, weight, sigma) if mean is None else mean
    return np.sqrt(np.maximum(_weighted(values**2, weight, sigma) - mean**2, 0))


def _references(smooth: np.ndarray, mask: np.ndarray, spacing: np.ndarray, blur: float, settings: HalfMaximum
                ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rough signed distance of the mask, intensity of the lumen and of the surroundings, the half level's doubt."""
    near = distance.rough(mask, spacing)
    depth = np.clip(-near, 0, 5.0)
    lumen = _weighted(smooth, depth**4, settings.lumen_scale / spacing)
    edge = (near > 0) & (near <= spacing.max() * 1.01)
    slope = distance.gradient(ndimage.gaussian_filter(near, 1.0 / spacing), spacing)[:, edge]
    normal = slope / np.maximum(np.linalg.norm(slope, axis=0), 1e-6)
    around = np.zeros(mask.shape)
    around[edge] = _outward(smooth, np.argwhere(edge).T * spacing[:, None] - normal * near[edge], normal, spacing,
                            blur, lumen[edge])
    around = np.maximum(around, settings.wall)
    contrast = lumen - around
    weight = np.where(edge & (contrast > settings.darker * np.median(contrast[edge])), 1.0, 0.0)
    doubt = np.hypot(_spread(smooth, depth**4, lumen, settings.lumen_scale / spacing),
                     _spread(around, weight, None, 3.0 / spacing)) / 2
    return near, lumen, _weighted(around, weight, 1.2 / spacing), doubt


def _outward(smooth: np.ndarray, foot: np.ndarray, normal: np.ndarray, spacing: np.ndarray, blur: float,
             lumen: np.ndarray) -> np.ndarray:
    """Intensity of what lies beyond each foot point (3, n): the plateau past the blur, or the trough before a rise."""
    steps = 2.2 * blur + np.arange(6) * 0.4
    lead = np.arange(0.5 * blur, steps[0], 0.4)
    every = np.r_[lead, steps]
    points = foot[:, None, :] + every[None, :, None] * normal[:, None, :]
    profile = ndimage.map_coordinates(smooth, points / spacing[:, None, None], order=1, mode="nearest")
    lowest = np.minimum.accumulate(profile, axis=0)
    risen = np.maximum.accumulate(profile > lowest + 0.15 * lumen, axis=0)
    plateau = np.where(risen[len(lead):], np.nan, profile[len(lead):])
    trough = np.min(np.where(risen, np.inf, profile), axis=0)
    counts = np.sum(~np.isnan(plateau), axis=0)
    ordered = np.sort(plateau, axis=0)
    middle = ordered[np.maximum(counts - 1, 0) // 2, np.arange(profile.shape[1])]
    return np.where(counts > 0, middle, trough)


def _calcium(values: np.ndarray, near: np.ndarray, lumen: np.ndarray, around: np.ndarray, noise: float,
             settings: HalfMaximum) -> np.ndarray:
    """Voxels too bright for blood, in or beside the vessel."""
    bright = lumen + np.maximum(settings.calcium * (lumen - around), 5 * noise)
    found = (values > bright) & (near < 2.5)
    labels, count = ndimage.label(found, np.ones((3, 3, 3)))
    size = np.bincount(labels.ravel(), minlength=count + 1)
    return found & (size[labels] >= 3)


def _blur(smooth: np.ndarray, half: np.ndarray, contrast: np.ndarray, near: np.ndarray, spacing: np.ndarray) -> float:
    """Sigma of the edge's blur, mm: from central differences at the half level, as of an error function."""
    at = (np.abs(smooth - half) < 0.2 * contrast) & (np.abs(near) < 1.5)
    if at.sum() < 30:
        return float(np.cbrt(np.prod(spacing))) * 0.6
    gradient = distance.gradient(smooth, spacing)[:, at]
    slope = np.maximum(np.linalg.norm(gradient, axis=0), 1e-9)
    step = np.sum(np.abs(gradient) * spacing[:, None], axis=0) / slope
    part = (smooth[at] - half[at]) / contrast[at]
    crossing = np.clip(step * slope / contrast[at] * np.exp(erfinv(2 * part) ** 2), 0, 0.49)
    sigma = step / (np.sqrt(2) * erfinv(2 * np.maximum(crossing, 1e-3)))
    return float(np.clip(np.median(sigma), 0.3 * spacing.min(), 2.0))


def _profile(smooth: np.ndarray, half: np.ndarray, contrast: np.ndarray, blur: float) -> np.ndarray:
    """Distance to the edge read from the intensity, mm, negative inside."""
    part = np.clip((smooth - half) / contrast, -0.49, 0.49)
    return -np.sqrt(2) * blur * erfinv(2 * part)


def _beside_calcium(field: np.ndarray, smooth: np.ndarray, calcium: np.ndarray, lumen: np.ndarray, near: np.ndarray,
                    half: np.ndarray, spacing: np.ndarray, blur: float) -> np.ndarray:
    """Calcium is not lumen: its edge towards the lumen is half way to its own peak; its outer shell is not lumen."""
    if not calcium.any():
        return field
    size = tuple(2 * int(np.ceil(1.5 / h)) + 1 for h in spacing)
    peak = ndimage.maximum_filter(np.where(calcium, smooth, -np.inf), size)
    known = np.isfinite(peak)
    peak = np.where(known, peak, lumen + 1)
    part = (smooth - (lumen + peak) / 2) / np.maximum(peak - lumen, 1e-6)
    past = np.sqrt(2) * blur * erfinv(2 * np.clip(part, -0.49, 0.49))
    field = np.where(known, np.maximum(field, past), field)
    away, nearest = ndimage.distance_transform_edt(~calcium, spacing, return_indices=True)
    shell = (away > 0) & (away < 2.2) & (np.abs(near) < 4)
    here = np.argwhere(shell).T
    core = nearest[:, shell]
    step = (here - core) * spacing[:, None]
    step = step / np.maximum(np.linalg.norm(step, axis=0), 1e-9)
    beyond = core * spacing[:, None] + step * 3.2
    value = ndimage.map_coordinates(smooth, beyond / spacing[:, None], order=1, mode="nearest")
    outer = np.zeros(field.shape, bool)
    outer[shell] = value < half[shell]
    return np.where(outer, np.maximum(field, 0.3), field)


def _solid(mask: np.ndarray, core: np.ndarray) -> np.ndarray:
    """The part of `mask` that hangs on the core's largest piece, holes filled."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return core
    size = np.bincount(labels[core & mask], minlength=count + 1)
    size[0] = 0
    return filled(labels == int(np.argmax(size)))


def _bridged(field: np.ndarray, core: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """`field` with a thin passage wherever the core is one piece and the lumen is not.

    A part narrower than the blur stays below the half level; its vessel goes on behind it all the same.
    """
    labels, count = ndimage.label(field < 0)
    size = np.bincount(labels[core], minlength=count + 1)
    size[0] = 0
    main = int(np.argmax(size))
    lost = [n for n in np.flatnonzero(size * np.prod(spacing) > 25.0) if n != main]
    if not lost:
        return field
    cost = np.where(core, 1.0 + 4.0 * np.maximum(field, 0), -1.0)
    router = MCP_Geometric(cost, sampling=tuple(spacing))
    _, _ = router.find_costs(np.argwhere(labels == main))
    field = field.copy()
    for n in lost:
        inside = np.argwhere((labels == n) & core)
        _passage(field, core, router, inside)
    return field


def _passage(field: np.ndarray, core: np.ndarray, router: MCP_Geometric, inside: np.ndarray) -> None:
    """Open `field` along the cheapest way from the main lumen to one of the points `inside`."""
    target = inside[0]
    try:
        way = np.array(router.traceback(tuple(target)))
    except ValueError:
        return
    opened = np.zeros(field.shape, bool)
    opened[tuple(way.T)] = True
    opened = ndimage.binary_dilation(opened) & core
    field[opened] = np.minimum(field[opened], -0.2)


def _without_crust(mask: np.ndarray, calcium: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Beside calcium, what is only a voxel thick is its partial volume."""
    if not calcium.any():
        return mask
    near = ndimage.distance_transform_edt(~calcium, spacing) < 2.5
    return mask & (~near | ndimage.binary_opening(mask))


def filled(mask: np.ndarray) -> np.ndarray:
    """Without holes, also those that open only into a face of the image."""
    mask = mask.copy()
    for axis in range(3):
        for place in (0, -1):
            face = tuple(place if a == axis else slice(None) for a in range(3))
            mask[face] = ndimage.binary_fill_holes(mask[face])
    return ndimage.binary_fill_holes(mask)


def without_tunnels(mask: np.ndarray) -> np.ndarray:
    """Without tunnels a voxel or two wide, such as noise and a stent's struts leave in a lumen.

    Only what closes a tunnel is added, so that the crotch of a fork stays as it is.
    """
    if euler_number(mask, 1) == ndimage.label(mask)[1]:
        return mask
    closed = ndimage.binary_closing(np.pad(mask, 2, mode="edge"))[2:-2, 2:-2, 2:-2]
    labels, _ = ndimage.label(closed & ~mask, np.ones((3, 3, 3)))
    mask = mask.copy()
    for n, box in enumerate(ndimage.find_objects(labels), start=1):
        wide = tuple(slice(max(b.start - 1, 0), b.stop + 1) for b in box)
        before, added = (np.pad(part, 1) for part in (mask[wide], labels[wide] == n))
        if euler_number(before | added, 1) > euler_number(before, 1):
            mask[wide] |= labels[wide] == n
    return mask


def _deviation(contrast: np.ndarray, doubt: np.ndarray, noise: float, blur: float, settings: HalfMaximum
               ) -> np.ndarray:
    """Standard deviation of the edge's place, mm: noise and doubt of the half level over slope, and a part of the blur.

    The spread of the lumen's and the surroundings' intensities holds the noise too; it is taken out.
    """
    slope = contrast / (blur * ROOT_2PI)
    level = np.sqrt(np.maximum(doubt**2 - noise**2 / 2, 0))
    return np.sqrt((settings.averaging * noise / slope) ** 2 + (level / slope) ** 2 + (settings.systematic * blur) ** 2)


def noise_of(values: np.ndarray) -> float:
    """Standard deviation of an image's noise, from second differences along the first axis (median of halves).

    Robust: anatomy has few voxels of strong curvature; constant air and padding are left out.
    """
    second = values[2:] - 2 * values[1:-1] + values[:-2]
    changing = np.abs(second[second != 0])
    return float(np.median(changing) / 0.6745 / np.sqrt(6)) if changing.size else 0.0
