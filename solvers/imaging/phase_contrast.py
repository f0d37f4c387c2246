"""Velocity by phase-contrast MR: wraps undone, background phase taken off, flow through a plane with its uncertainty.

Arrays are (i, j, k, t, c): a volume (k = 1 for one slice) at t times of a beat,
c encoded directions, m/s. A phase of half a turn is the encoding velocity
(VENC); what is faster comes back with the wrong sign. Tissue at rest says where
zero is, for the wraps and for the phase that eddy currents leave.

Sources: Herraez et al. 2002 (unwrapping by reliability), doi:10.1364/AO.41.007437; recalled: Walker et al. 1993
(background by a fit to static tissue), Conturo & Smith 1990 (noise of a phase).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.restoration import unwrap_phase

from solvers.errors import BadInput

STEADY = 2.0
"""Tissue whose phase varies over the beat by less than so many times its noise is at rest."""
SEEN = 5.0
"""Signal over noise from which a voxel counts."""
LEAST_PER_TERM = 10
"""Static voxels for each coefficient of the background."""
MOVING = 2.0
"""A voxel moves where its speed over the beat (root mean square) is so many times its noise."""
GROWN = 2
"""Voxels by which a region of flow grows into what moves."""
EDGE_DEVIATION = 0.35
"""Standard deviation of a lumen's edge, in voxels, as of a mask that someone drew."""
ACROSS = 0.95
"""Cosine between a single encoded direction and the plane's normal, at least."""


@dataclass(frozen=True)
class Encoded:
    """Velocity as encoded (i, j, k, t, c), m/s, along unit `directions` (c, 3), each with its `venc` (c,), m/s.

    magnitude: (i, j, k, t), any unit. affine: index to LPS mm.
    """

    velocity: np.ndarray
    magnitude: np.ndarray
    directions: np.ndarray
    venc: np.ndarray
    affine: np.ndarray

    def __post_init__(self) -> None:
        v, n = self.velocity, len(self.venc)
        if v.ndim != 5 or v.shape[4] != n or self.directions.shape != (n, 3) or self.magnitude.shape != v.shape[:4]:
            raise BadInput("velocity_shapes_differ", f"velocity {v.shape}, magnitude {self.magnitude.shape}, {n} VENC",
                           "velocity (i, j, k, t, c), magnitude (i, j, k, t), c directions",
                           "Give the magnitude of the same series.")
        if not (np.asarray(self.venc) > 0).all():
            raise BadInput("no_venc", "a VENC is not above zero", "m/s for each direction", "Give it in the settings.")

    @property
    def spacing(self) -> np.ndarray:
        """Edge lengths of a voxel, mm, (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)


@dataclass(frozen=True)
class Corrections:
    """What is done: `unwrap`; order of the background's polynomial, None for no correction; where vessels lie."""

    unwrap: bool = True
    background: int | None = 2
    vessel: np.ndarray | None = None


@dataclass(frozen=True)
class Corrected:
    """As `Encoded` after corrections, with the evidence.

    static: tissue at rest (i, j, k). noise: standard deviation of a voxel's
    velocity, m/s, (i, j, k, c). background: what was taken off, m/s, and its
    standard deviation, both (i, j, k, c). wrapped: share of seen voxels that
    were moved by a turn or more.
    """

    encoded: Encoded
    static: np.ndarray
    noise: np.ndarray
    background: np.ndarray
    background_sd: np.ndarray
    wrapped: float

    @property
    def velocity(self) -> np.ndarray:
        return self.encoded.velocity


def solve(measured: Encoded, corrections: Corrections = Corrections()) -> Corrected:
    """Undo wraps, then take off the background.

    Raises BadInput `little_static_tissue` where too few voxels at rest are seen to fit the background.
    """
    sigma = noise(measured)
    strength = np.maximum(measured.magnitude.mean(axis=3), 1e-30)
    seen = strength > SEEN * sigma
    static = _at_rest(measured, sigma, seen, corrections.vessel)
    velocity, wrapped = measured.velocity, 0.0
    if corrections.unwrap:
        velocity = np.stack([unwrapped(velocity[..., c], float(venc), seen, static)
                             for c, venc in enumerate(measured.venc)], axis=-1)
        moved = np.abs(velocity - measured.velocity) > np.asarray(measured.venc)
        wrapped = float(moved[seen].mean()) if seen.any() else 0.0
    background = spread = np.zeros((*seen.shape, len(measured.venc)))
    if corrections.background is not None:
        fits = [fitted_background(velocity[..., c].mean(axis=3), static, strength, corrections.background)
                for c in range(len(measured.venc))]
        background, spread = (np.stack(parts, axis=-1) for parts in zip(*fits, strict=True))
    clean = replace(measured, velocity=velocity - background[:, :, :, None])
    each = sigma / strength[..., None] * np.asarray(measured.venc) / np.pi
    return Corrected(clean, static, each, background, spread, wrapped)


def noise(measured: Encoded) -> float:
    """Standard deviation of one channel of the complex signal, in units of magnitude.

    By the phase's variation over the beat times the magnitude, which is this
    number in all tissue at rest; for a single time by the residual of a smooth
    magnitude.
    """
    strength = measured.magnitude.mean(axis=3)
    bright = strength > 0.5 * threshold_otsu(strength) if np.ptp(strength) > 0 else strength > 0
    if measured.magnitude.shape[3] < 3:
        rough = strength - ndimage.median_filter(strength, size=tuple(min(3, n) for n in strength.shape))
        return float(1.4826 * np.median(np.abs(rough[bright]))) if bright.any() else 0.0
    return float(np.percentile(_restlessness(measured)[bright], 25)) if bright.any() else 0.0


def _restlessness(measured: Encoded) -> np.ndarray:
    """Circular standard deviation of the phase over the beat times the mean magnitude, largest of the directions."""
    turned = np.exp(1j * np.pi * measured.velocity / np.asarray(measured.venc))
    length = np.clip(np.abs(turned.mean(axis=3)), 1e-12, 1.0)
    return np.sqrt(-2 * np.log(length)).max(axis=3) * measured.magnitude.mean(axis=3)


def _at_rest(measured: Encoded, sigma: float, seen: np.ndarray, vessel: np.ndarray | None) -> np.ndarray:
    """Seen voxels whose phase is steady over the beat, away from the vessels that are known."""
    rest = seen if measured.magnitude.shape[3] < 3 else seen & (_restlessness(measured) < STEADY * sigma)
    if vessel is None:
        return rest
    reach = tuple(slice(None) if n > 1 else slice(1, 2) for n in vessel.shape)
    near = ndimage.binary_dilation(vessel, np.ones((3, 3, 3), bool)[reach], iterations=2)
    return rest & ~near


# Wraps

def unwrapped(velocity: np.ndarray, venc: float, seen: np.ndarray, static: np.ndarray) -> np.ndarray:
    """Velocity (i, j, k, t) of one direction without wraps in the seen voxels (i, j, k).

    Each time alone, in space; then whole turns are taken off each connected
    region so that its tissue at rest, or else its edge, lies about zero.
    """
    region, n_regions = ndimage.label(seen)
    rests = [_resting(region == n, static) for n in range(1, n_regions + 1)]
    result = np.array(velocity, float)
    for time in range(velocity.shape[3]):
        phase = np.ma.masked_array(np.pi * velocity[..., time] / venc, ~seen)
        flat = phase[:, :, 0] if phase.shape[2] == 1 else phase
        free = np.ma.getdata(unwrap_phase(flat, rng=0)).reshape(seen.shape)
        turns = np.zeros(n_regions + 1)
        turns[1:] = [np.round(np.median(free[rest]) / (2 * np.pi)) for rest in rests]
        result[..., time][seen] = ((free - 2 * np.pi * turns[region]) * venc / np.pi)[seen]
    return result


def _resting(region: np.ndarray, static: np.ndarray) -> np.ndarray:
    """Voxels of a region about which its velocity is zero."""
    found = region & static
    if found.any():
        return found
    flat = region[:, :, 0] if region.shape[2] == 1 else region
    return region & ~ndimage.binary_erosion(flat).reshape(region.shape)


# Background

def fitted_background(velocity: np.ndarray, static: np.ndarray, strength: np.ndarray,
                      order: int) -> tuple[np.ndarray, np.ndarray]:
    """The polynomial through the velocity (i, j, k) of tissue at rest, weighted by signal, and its deviation.

    Voxels further than three deviations off the fit are left out of the next one.
    """
    terms = _terms(velocity.shape, order)
    kept = static.copy()
    for _ in range(3):
        if kept.sum() < LEAST_PER_TERM * len(terms):
            raise BadInput("little_static_tissue", f"{int(kept.sum())} voxels of tissue at rest are seen",
                           f"{LEAST_PER_TERM * len(terms)} or more for a background of order {order}",
                           "Lower the order with --set measure_flow.background_order, or set it to none.")
        weight = strength[kept] / strength[kept].max()
        design = np.column_stack([t[kept] for t in terms])
        values = velocity[kept]
        factors = np.linalg.lstsq(design * weight[:, None], values * weight, rcond=None)[0]
        off = weight * (values - design @ factors)
        scatter = max(1.4826 * float(np.median(np.abs(off))), 1e-12)
        kept[kept] = np.abs(off) < 3 * scatter
    normal = np.linalg.pinv((design * weight[:, None]).T @ (design * weight[:, None])) * scatter**2
    whole = np.stack(terms, axis=-1)
    return whole @ factors, np.sqrt(np.einsum("...a,ab,...b->...", whole, normal, whole))


def _terms(shape: tuple[int, ...], order: int) -> list[np.ndarray]:
    """Products of Legendre polynomials over the grid, of total order at most `order`; fewer along short axes."""
    places = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape]
    powers = [p for p in product(range(order + 1), repeat=3)
              if sum(p) <= order and all(q < n for q, n in zip(p, shape, strict=True))]
    lines = [[np.polynomial.legendre.Legendre.basis(q)(x) for q in range(order + 1)] for x in places]
    return [np.einsum("i,j,k->ijk", lines[0][a], lines[1][b], lines[2][c]) for a, b, c in powers]


# Vessels and planes

def vessels(clean: Corrected, least: float = 20.0) -> np.ndarray:
    """Regions of flow (i, j, k), numbered from the largest.

    Seeds are where signal times speed is above Otsu's threshold; each grows by up
    to GROWN voxels into those that move more than their noise, so that the slow
    layer at the wall is in it. least: mm^3 below which a region is dropped.
    """
    measured = clean.encoded
    strength = measured.magnitude.mean(axis=3)
    speed = np.sqrt((measured.velocity**2).sum(axis=4).mean(axis=3))
    seen = strength > SEEN * noise(measured)
    bright = np.where(seen, strength * speed, 0.0)
    if not np.ptp(bright) > 0:
        return np.zeros(strength.shape, int)
    seed = bright > threshold_otsu(bright[seen])
    moving = seen & (speed > MOVING * np.sqrt((clean.noise**2).sum(axis=3)))
    region, n = ndimage.label(ndimage.binary_dilation(seed, mask=moving | seed, iterations=GROWN))
    sizes = np.bincount(region.ravel())[1:] * float(np.prod(measured.spacing))
    order = [i for i in np.argsort(-sizes, kind="stable") if sizes[i] >= least]
    number = np.zeros(n + 1, int)
    number[[i + 1 for i in order]] = np.arange(1, len(order) + 1)
    return number[region]


@dataclass(frozen=True)
class Plane:
    """Points on a flat cross-section: index coordinates (n, 3), each standing for `element`, m^2; unit normal, LPS.

    inside: the lumen (n,); narrower, wider: the same with its edge moved by half
    a voxel. per_voxel: points for each voxel's face, as neighbours share noise.
    """

    points: np.ndarray
    inside: np.ndarray
    narrower: np.ndarray
    wider: np.ndarray
    element: float
    normal: np.ndarray
    per_voxel: float = 1.0


def slice_plane(mask: np.ndarray, affine: np.ndarray, index: int = 0) -> Plane:
    """The lumen (i, j) in one slice of the volume."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    depth = ndimage.distance_transform_edt(mask, edges[:2]) - ndimage.distance_transform_edt(~mask, edges[:2])
    near = ndimage.binary_dilation(mask, iterations=2)
    points = np.column_stack([np.argwhere(near), np.full(int(near.sum()), index)])
    half = float(edges[:2].min())  # centres of the first voxels lie half a voxel off the edge
    return Plane(points, mask[near], depth[near] > half, depth[near] >= -half, float(edges[0] * edges[1]) * 1e-6,
                 affine[:3, 2] / edges[2])


def cross_section(mask: np.ndarray, affine: np.ndarray, centre: np.ndarray, normal: np.ndarray,
                  reach: float) -> Plane:
    """The lumen of `mask` (i, j, k) around a point (3,), LPS mm, cut across `normal`, within `reach` mm.

    Raises BadInput `no_lumen` where the plane meets none near the point.
    """
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    step, unit = float(edges.min()) / 2, normal / np.linalg.norm(normal)
    first = np.cross(unit, np.eye(3)[np.argmin(np.abs(unit))])
    first /= np.linalg.norm(first)
    n = int(np.ceil(reach / step))
    grid = step * np.arange(-n, n + 1)
    places = centre + grid[:, None, None] * first + grid[None, :, None] * np.cross(unit, first)
    index = (places - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    depth = ndimage.map_coordinates(_depth(mask, edges), np.moveaxis(index, -1, 0), order=1, mode="nearest")
    within = np.all((index >= -0.5) & (index <= np.array(mask.shape) - 0.5), axis=-1)
    region, _ = ndimage.label((depth > 0) & within)
    here = np.argwhere(region > 0)
    if not len(here) or np.linalg.norm(here - n, axis=1).min() * step > max(2.0, edges.max()):
        raise BadInput("no_lumen", "the plane meets no lumen near its point", "a point in a vessel",
                       "Move the plane, or give a mask with --use segment.labels.")
    mine = region == region[tuple(here[np.linalg.norm(here - n, axis=1).argmin()])]
    half = 0.5 * float(edges.mean())
    close = ndimage.distance_transform_edt(~mine) * step <= 2 * half
    kept = mine | (close & within & (region == 0))
    return Plane(index[kept], mine[kept], (mine & (depth > half))[kept], (kept & (depth > -half))[kept],
                 step**2 * 1e-6, unit, float(edges.mean() / step) ** 2)


def _depth(mask: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Distance to the mask's edge, mm, positive inside; the edge lies half a voxel off the last centre."""
    half = 0.5 * float(edges.mean())
    return np.where(mask, ndimage.distance_transform_edt(mask, edges) - half,
                    half - ndimage.distance_transform_edt(~mask, edges))


# Flow

@dataclass(frozen=True)
class Flow:
    """Through a plane, positive along its normal: flow (t,), m^3/s, with standard deviations by source (t,).

    peak: fastest velocity along the normal with its sign, mean: over the lumen; m/s, (t,). area: m^2.
    period: s; times (t,), s, from the first.
    """

    times: np.ndarray
    period: float
    flow: np.ndarray
    noise: np.ndarray
    background: np.ndarray
    edge: np.ndarray
    peak: np.ndarray
    mean: np.ndarray
    area: float

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation of the flow by all sources, m^3/s, (t,)."""
        return np.sqrt(self.noise**2 + self.background**2 + self.edge**2)

    @property
    def net(self) -> float:
        """Mean flow over the beat, m^3/s."""
        return self._over_beat(self.flow)

    @property
    def net_deviation(self) -> float:
        """Of `net`: noise differs from time to time, background and edge do not."""
        alike = np.hypot(self._over_beat(self.background), abs(self._over_beat(self.edge)))
        return float(np.hypot(np.sqrt((self.noise**2).sum()) / len(self.noise), alike))

    @property
    def regurgitant_fraction(self) -> float:
        """Volume that goes back over the one that goes forth; forth is the way of the net flow. NaN without flow."""
        forth, back = (self._over_beat(np.clip(s * self.flow, 0, None)) for s in (1, -1))
        large, small = max(forth, back), min(forth, back)
        return small / large if large > 0 else float("nan")

    def _over_beat(self, values: np.ndarray) -> float:
        """Mean over the period by trapezia, the beat closed on itself."""
        if len(values) == 1:
            return float(values[0])
        times = np.r_[self.times, self.times[0] + self.period]
        return float(np.trapezoid(np.r_[values, values[0]], times) / self.period)


def through(clean: Corrected, plane: Plane, times: np.ndarray, period: float) -> Flow:
    """Flow through the lumen of a plane over the beat.

    Raises BadInput `not_through_plane` where the encoded directions do not tell the velocity along the normal, and
    `bad_beat` where the times do not lie within a period.
    """
    times = np.asarray(times, float)
    if len(times) != clean.velocity.shape[3] or np.any(np.diff(times) <= 0) or np.ptp(times) >= period:
        raise BadInput("bad_beat", f"{len(times)} times from 0 to {np.ptp(times):.3g} s in a beat of {period:.3g} s",
                       "rising times within one beat, one for each image", "Give the beat's length in the settings.")
    share = _along(clean.encoded.directions, plane.normal)
    along = sum(w * _at(clean.velocity[..., c], plane.points) for c, w in enumerate(share))
    spread = np.sqrt(sum((w * _at(clean.noise[..., c], plane.points)) ** 2 for c, w in enumerate(share)))
    drift = np.sqrt(sum((w * _at(clean.background_sd[..., c], plane.points)) ** 2 for c, w in enumerate(share)))
    inside, dA = plane.inside, plane.element
    flow = dA * along[inside].sum(axis=0)
    swing = EDGE_DEVIATION * dA * (along[plane.wider].sum(axis=0) - along[plane.narrower].sum(axis=0))
    one = np.ones(len(times))
    lumen = along[inside]
    return Flow(times, period, flow, dA * np.sqrt(plane.per_voxel * (spread[inside] ** 2).sum()) * one,
                dA * float(drift[inside].sum()) * one, swing,
                lumen[np.abs(lumen).argmax(axis=0), np.arange(len(times))], lumen.mean(axis=0), dA * int(inside.sum()))


def _along(directions: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Weights (c,) of the encoded components that make up the velocity along the normal."""
    if len(directions) == 3 and abs(np.linalg.det(directions)) > 0.1:
        return np.linalg.solve(directions.T, normal)
    cosines = directions @ normal
    best = int(np.abs(cosines).argmax())
    if abs(cosines[best]) < ACROSS:
        raise BadInput("not_through_plane", f"velocity is encoded at {np.degrees(np.arccos(abs(cosines[best]))):.0f} "
                       "degrees to the normal of the plane", "encoding through the plane, or along three directions",
                       "Choose the plane of the image.")
    return np.where(np.arange(len(directions)) == best, np.sign(cosines), 0.0)


def _at(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values (i, j, k[, t]) at index coordinates (n, 3), trilinear, (n[, t])."""
    layers: Sequence[np.ndarray] = [values] if values.ndim == 3 else np.moveaxis(values, 3, 0)
    found = [ndimage.map_coordinates(v, points.T, order=1, mode="nearest") for v in layers]
    return found[0] if values.ndim == 3 else np.stack(found, axis=-1)
