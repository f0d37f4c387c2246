"""The tree of large arteries in a contrast scan: tubes, branches, edge. No seed is given."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from solvers.errors import BadInput
from solvers.imaging import aorta, discs, edges, heart, wavefront

CONTROL, HALF_MAXIMUM = wavefront.LeakControl(), edges.HalfMaximum()
STEP = 1.5
"""Grid on which discs are sought, mm."""
REACH = 150.0
"""Arteries are followed this far beyond the main tube, mm."""
DIMMER = 0.75
"""A lumen whose contrast is below this part of that of the lumen nearby is another one (a false lumen)."""
NATIVE = 110.0
"""Blood without contrast medium stays below this, HU."""


@dataclass(frozen=True)
class Kind:
    """What a modality asks of a vessel. Intensities in its own units.

    usual: contrast beyond twice this makes a tube no more likely an artery.
    floor: what surrounds a vessel counts as at least this (fat and air make no contrast). least: a lumen is brighter.
    firm: a voxel this many standard deviations of noise above a level is bright by itself; below, its neighbours must
    be bright too: where blood is but half mixed with contrast medium, noise alone would make a sponge.
    """

    is_ct: bool
    search: discs.Search
    floor: float
    least: float
    usual: float
    firm: float


@dataclass(frozen=True)
class Demands:
    """When the main tube is believed. Lengths in mm; texture in parts of the contrast.

    brightness: other tubes differ from it by less than this (half of it on CT). growth: the front runs where the
    intensity is above this part of the way from the surroundings to the lumen.
    """

    length: float = 40.0
    slender: float = 3.0
    radius: float = 4.5
    texture: float = 0.11
    brightness: float = 0.45
    growth: float = 0.6


@dataclass(frozen=True)
class Arteries:
    """On the part of the grid `window`: the edge, the mask it started from, the trunk; the tubes that were believed.

    valve: centre of the aortic valve, index of the whole grid; None when the scan does not show the heart.
    """

    edge: edges.Edge
    window: tuple[slice, slice, slice]
    tubes: list[discs.Tube]
    growth: wavefront.Growth
    lumen: float
    aorta: aorta.Aorta
    valve: np.ndarray | None


def kind_of(values: np.ndarray, is_ct: bool) -> Kind:
    """Search settings for CT (HU) or, for MR, relative to the image's own range."""
    if is_ct:
        search = discs.Search(tuple(np.geomspace(90, 700, 12)), contrast=80.0, brightest=900.0)
        return Kind(True, search, 0.0, NATIVE, 200.0, 2.0)
    low, high = np.percentile(values[::2, ::2, ::2], [60, 99.9])
    levels = np.geomspace(max(low, 0.05 * high), 0.75 * high, 14)
    return Kind(False, discs.Search(tuple(levels), ratio=1.7), -np.inf, 0.25 * float(high), np.inf, 0.0)


def solve(values: np.ndarray, spacing: np.ndarray, is_ct: bool, demands: Demands = Demands(),
          control: wavefront.LeakControl = CONTROL,
          half_maximum: edges.HalfMaximum = HALF_MAXIMUM) -> Arteries:
    """Lumen of the large arteries in `values` (i, j, k) with `spacing` (3,) mm.

    Raises BadInput `no_contrast_vessel` when no round bright tube is long, even and bright enough.
    """
    kind = kind_of(values, is_ct)
    tubes = believed(find_tubes(values, spacing, kind), kind, demands, partial(_reach, values, spacing))
    window = _window(values, spacing, tubes)
    crop, shift = values[window], np.array([w.start for w in window]) * spacing
    growth, beyond = _grown(crop, spacing, shift, tubes, kind, demands, control)
    tight = _around(growth.mask, spacing, 9.0)
    part = crop[tight]
    noise = edges.noise_of(part)
    edge = edges.solve(part, growth.mask[tight], spacing, noise, half_maximum)
    trunk, valve = _trunk(part, edge.field < 0, spacing, shift + spacing * [t.start for t in tight], tubes[0],
                          beyond, tight, kind)
    whole = tuple(slice(w.start + t.start, w.start + t.stop) for w, t in zip(window, tight, strict=True))
    return Arteries(edge, whole, tubes, growth, tubes[0].lumen, trunk, valve)  # type: ignore[arg-type]


def find_tubes(values: np.ndarray, spacing: np.ndarray, kind: Kind) -> list[discs.Tube]:
    """Tubes on a coarse even grid; centres in mm from the first voxel."""
    target = np.maximum(np.round(np.array(values.shape) * spacing / STEP).astype(int), 1)
    blurred = ndimage.gaussian_filter(values, np.maximum(0.35 * STEP / spacing - 0.2, 0))
    coarse = ndimage.zoom(blurred, target / np.array(values.shape), order=1, grid_mode=True, mode="nearest")
    step = spacing * np.array(values.shape) / np.array(coarse.shape)
    found = discs.find(coarse, step, kind.search)
    moved = discs.Discs(**{**vars(found), "centre": found.centre + step / 2 - spacing / 2,
                           "around": np.maximum(found.around, kind.floor)})
    return discs.bridged(discs.chain(moved, STEP), blurred, spacing)


def believed(tubes: list[discs.Tube], kind: Kind, demands: Demands,
             reach: Callable[[discs.Tube], float] | None = None) -> list[discs.Tube]:
    """The main tube first, then those as bright as it is where they are; BadInput when there is none.

    reach: how far (mm) a wide vessel goes on from a tube; on CT it decides between tubes that could both be the main
    one: the aorta goes on beyond its straight parts, the pulmonary artery and the veins near the heart soon divide.
    """
    main = [t for t in tubes if _is_main(t, kind, demands)]
    if not main:
        raise BadInput("no_contrast_vessel", "No artery filled with contrast medium was found",
                       f"a round, even, bright tube at least {demands.length:.0f} mm long",
                       "Use a contrast CT or MR angiogram, or give a mask with --use segment.labels=FILE.")
    weight = [(t.radius * min(t.contrast, 2 * kind.usual)) ** 2 for t in main]
    score = [t.length * w for t, w in zip(main, weight, strict=True)]
    best = main[int(np.argmax(score))]
    if kind.is_ct and reach is not None:
        rivals = [n for n, s in enumerate(score) if s > 0.25 * max(score)]
        best = main[max(rivals, key=lambda n: weight[n] * reach(main[n]))] if len(rivals) > 1 else best
    others = [t for t in tubes if t is not best and t.length >= 12 and _texture(t) < 1.3 * demands.texture
              and abs(t.lumen / best.lumen - 1) < demands.brightness / (1 if kind.is_ct is False else 2)]
    return [best, *others]


def _reach(values: np.ndarray, spacing: np.ndarray, tube: discs.Tube) -> float:
    """Length (mm) of the vessel about as bright as `tube` and not thinner than half of it, through its middle."""
    stride = np.maximum(np.round(2.0 / spacing), 1).astype(int)
    step, shift = spacing * stride, (stride - 1) / 2 * spacing
    rough = heart.block_mean(values, stride)
    contrast = tube.contrast
    bright = (rough > tube.lumen - 0.4 * contrast) & (rough < tube.lumen + 0.4 * contrast)
    bright = ndimage.binary_closing(bright, iterations=1)
    thick = ndimage.distance_transform_edt(bright, step) >= 0.5 * tube.radius
    start = thick & _within(_middle(tube) - shift, max(tube.radius, 4.0), thick, step)
    far = 0.0
    for _ in range(2):
        if not start.any():
            return far
        index, away = wavefront.distances(thick, start, step, np.inf)
        away[~np.isfinite(away)] = -1
        far = float(away.max())
        start = np.zeros(thick.shape, bool)
        start.ravel()[index[int(away.argmax())]] = True
    return far


def _middle(tube: discs.Tube) -> np.ndarray:
    """Centre (3,) mm of the disc half way along the tube."""
    along = np.argsort(tube.discs.centre[:, tube.discs.axis[0]])
    return tube.discs.centre[along[len(along) // 2]]


def _texture(tube: discs.Tube) -> float:
    return float(np.median(tube.discs.noise)) / max(tube.contrast, 1e-6)


def _is_main(tube: discs.Tube, kind: Kind, demands: Demands) -> bool:
    long = tube.length >= max(demands.length, demands.slender * tube.radius)
    return long and tube.radius >= demands.radius and tube.lumen > kind.least and _texture(tube) < demands.texture


def _window(values: np.ndarray, spacing: np.ndarray, tubes: list[discs.Tube]) -> tuple[slice, slice, slice]:
    """The part of the grid near the main tube."""
    centre = tubes[0].discs.centre
    low = np.maximum(np.floor((centre.min(0) - REACH) / spacing), 0).astype(int)
    high = np.minimum(np.ceil((centre.max(0) + REACH) / spacing) + 1, values.shape).astype(int)
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))  # type: ignore[return-value]


def _around(mask: np.ndarray, spacing: np.ndarray, margin: float) -> tuple[slice, slice, slice]:
    where = [np.flatnonzero(mask.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    room = np.ceil(margin / spacing).astype(int)
    return tuple(slice(max(w[0] - r, 0), min(w[-1] + r + 1, n))  # type: ignore[return-value]
                 for w, r, n in zip(where, room, mask.shape, strict=True))


def _grown(values: np.ndarray, spacing: np.ndarray, shift: np.ndarray, tubes: list[discs.Tube], kind: Kind,
           demands: Demands, control: wavefront.LeakControl) -> tuple[wavefront.Growth, heart.Heart]:
    """The tubes and their branches on the cropped grid, and the heart, which is none of them.

    The second front goes by the intensity that the first one met, which is more exact in wide vessels and too bright in
    a thin one near a wide one: it only adds.
    """
    all_discs = discs.join([t.discs for t in tubes])
    smooth = ndimage.gaussian_filter(values, 0.5)
    lumen, around, _, _ = _nearest(values.shape, spacing, shift, all_discs)
    _, _, radius, away = _nearest(values.shape, spacing, shift, tubes[0].discs)
    core, start = away < 0.7 * radius, away < 1.25 * radius + 1.0
    bright = _bright(smooth, around + demands.growth * (lumen - around), kind)
    middle = _within(_middle(tubes[0]) - shift, 12.0, bright, spacing)
    beyond = heart.solve(bright, bright & core & middle, tubes[0].radius, spacing)
    if beyond.centre is not None:
        all_discs = discs.join([t.discs for t in _connected(tubes, bright & ~beyond.mask, core, spacing, shift)])
        all_discs = all_discs.take(all_discs.lumen > 0.85 * tubes[0].lumen)
        lumen, around, _, _ = _nearest(values.shape, spacing, shift, all_discs)
    outside = _with_rim(beyond.mask, bright, spacing)
    ceiling = lumen + 0.6 * (lumen - around) if kind.is_ct else np.inf
    level = around + demands.growth * (lumen - around)
    full = around + DIMMER * (lumen - around)
    dim = _dim(smooth, level, full, spacing) if kind.is_ct else np.zeros(values.shape, bool)
    widest = max(1.2 * float(np.max(tubes[0].discs.radius)), 1.3 * (beyond.vessel or 0.0))
    control = replace(control, largest=np.pi * widest**2)
    known = _in_tubes(values.shape, spacing, shift, [t for t in tubes[1:] if t.radius < 0.75 * tubes[0].radius])
    known |= beyond.trunk
    grown = wavefront.Growth(np.zeros(values.shape, bool), 0, 0)
    for _ in range(2):
        level = around + demands.growth * (lumen - around)
        candidate = _bright(smooth, level, kind) & (smooth < ceiling) & ~outside & ~dim
        grown |= _front(candidate, core, start, known, spacing, control)
        lumen = _own(smooth, grown.mask, spacing, lumen)
        core, start = core | grown.mask, start | grown.mask
    return replace(grown, mask=ndimage.binary_fill_holes(grown.mask) & ~outside), beyond


def _with_rim(heart_mask: np.ndarray, bright: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The heart with what lies within 3 mm of it and was not bright: a front must not run round it in its rim."""
    if not heart_mask.any():
        return heart_mask
    return heart_mask | (ndimage.distance_transform_edt(~heart_mask, spacing) < 3.0) & ~bright


def _trunk(values: np.ndarray, lumen: np.ndarray, spacing: np.ndarray, shift: np.ndarray, tube: discs.Tube,
           beyond: heart.Heart, tight: tuple[slice, slice, slice], kind: Kind
           ) -> tuple[aorta.Aorta, np.ndarray | None]:
    """The aorta in the part `tight` of the window, from the valve or the main tube on; the valve's place (index)."""
    corner = spacing * [t.start for t in tight]
    start = tube.discs.centre[0] - shift if beyond.centre is None else beyond.centre - corner
    part = replace(beyond, mask=beyond.mask[tight], trunk=beyond.trunk[tight])
    found = aorta.solve(values, lumen, spacing, start, part, kind.is_ct)
    return found, None if beyond.centre is None else (start + shift) / spacing


def _dim(smooth: np.ndarray, level: np.ndarray, full: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Wide regions above `level` whose inside is not as bright as the lumen nearby (`full`): a false lumen."""
    depth = ndimage.distance_transform_edt(smooth > level, spacing)
    core = (depth > 3.0) & (ndimage.gaussian_filter(smooth, 1.5 / spacing) < full)
    labels, count = ndimage.label(core)
    ml = np.bincount(labels.ravel(), minlength=count + 1) * float(np.prod(spacing)) / 1000
    core &= (ml > 0.3)[labels]
    if not core.any():
        return core
    return (ndimage.distance_transform_edt(~core, spacing) < 4.5) & (smooth < full)


def _within(centre: np.ndarray, reach: float, like: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Voxels nearer than `reach` mm to `centre` (3,) mm."""
    ways = np.ogrid[tuple(slice(0, n) for n in like.shape)]
    return np.asarray(sum((w * h - c) ** 2 for w, h, c in zip(ways, spacing, centre, strict=True)) < reach**2)


def _connected(tubes: list[discs.Tube], bright: np.ndarray, core: np.ndarray, spacing: np.ndarray, shift: np.ndarray
               ) -> list[discs.Tube]:
    """The main tube and those whose middle hangs on it: veins and the right heart say nothing about its blood."""
    labels, _ = ndimage.label(bright)
    main = np.unique(labels[core & bright])

    def hangs(tube: discs.Tube) -> bool:
        index = np.rint((tube.discs.centre - shift) / spacing).astype(int)
        index = np.clip(index, 0, np.array(bright.shape) - 1)
        return float(np.mean(np.isin(labels[tuple(index.T)], main) & bright[tuple(index.T)])) > 0.5

    return [tubes[0], *(t for t in tubes[1:] if hangs(t))]


def _front(candidate: np.ndarray, core: np.ndarray, start: np.ndarray, known: np.ndarray, spacing: np.ndarray,
           control: wavefront.LeakControl) -> wavefront.Growth:
    """One run of the front through `candidate`, what is bright enough for the lumen nearby.

    core: well inside the tubes; start: out to their rim, of which only what hangs on the core is taken.
    """
    labels, _ = ndimage.label(candidate)
    size = np.bincount(labels[core & candidate])
    size[0] = 0
    candidate = labels == int(np.argmax(size))
    start = _hanging(candidate & start, candidate & core)
    return wavefront.grow(candidate, start, known, spacing, control)


def _bright(smooth: np.ndarray, level: np.ndarray, kind: Kind) -> np.ndarray:
    """Where the image is above `level`, by more than its noise or together with its neighbours."""
    above = smooth > level
    if kind.firm == 0:
        return above
    firm = smooth > level + kind.firm * edges.noise_of(smooth)
    return above & (firm | (ndimage.gaussian_filter(smooth, 1.1) > level))


def _hanging(region: np.ndarray, core: np.ndarray) -> np.ndarray:
    """What of `region` hangs on the core by more than a thin bridge (another vessel may touch)."""
    thick = ndimage.binary_erosion(region, border_value=1) | core
    pieces, _ = ndimage.label(thick)
    return ndimage.binary_dilation(np.isin(pieces, np.unique(pieces[core])), iterations=2, mask=region) & region


def _own(smooth: np.ndarray, mask: np.ndarray, spacing: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The lumen's intensity from the vessel itself near it, as before elsewhere."""
    depth = np.clip(ndimage.distance_transform_edt(mask, spacing), 0, 4.0) ** 3
    sigma = 6.0 / spacing
    total = ndimage.gaussian_filter(depth, sigma, truncate=2.5)
    mean = ndimage.gaussian_filter(depth * smooth, sigma, truncate=2.5) / np.maximum(total, 1e-12)
    share = total / (total + 0.02)
    return share * mean + (1 - share) * before


def _in_tubes(shape: tuple[int, ...], spacing: np.ndarray, shift: np.ndarray, tubes: list[discs.Tube]) -> np.ndarray:
    """Where the discs of tubes are, as balls a little larger than they."""
    if not tubes:
        return np.zeros(shape, bool)
    _, _, radius, away = _nearest(shape, spacing, shift, discs.join([t.discs for t in tubes]))
    return away < 1.25 * radius + 1.0


def _nearest(shape: tuple[int, ...], spacing: np.ndarray, shift: np.ndarray, found: discs.Discs
             ) -> tuple[np.ndarray, ...]:
    """Lumen and surrounding intensity, radius and distance of the nearest discs, on the whole grid (coarse inside).

    In single precision: on a large scan these fields are what takes most memory.
    """
    stride = np.maximum(np.round(3.0 / spacing), 1).astype(int)
    axes = [np.arange(0, n + s - 1, s) for n, s in zip(shape, stride, strict=True)]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), -1) * spacing + shift
    distance, index = cKDTree(found.centre).query(nodes, k=min(4, len(found)))
    weight = 1 / (distance + 3.0) ** 2
    weight /= weight.sum(-1, keepdims=True)
    lumen, around = (np.sum(weight * v[index], -1) for v in (found.lumen, found.around))
    fields = [lumen, around, found.radius[index[..., 0]], distance[..., 0]]
    return tuple(_between(f.astype(np.float32), stride, shape) for f in fields)


def _between(nodes: np.ndarray, stride: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Trilinear interpolation of values at every `stride`-th voxel, the first at voxel 0, one axis after the other."""
    for axis, (step, length) in enumerate(zip(stride, shape, strict=True)):
        place = np.arange(length) / step
        low = np.minimum(place.astype(int), max(nodes.shape[axis] - 2, 0))
        high = np.minimum(low + 1, nodes.shape[axis] - 1)
        part = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        lower = nodes.take(low, axis)
        nodes = lower + part * (nodes.take(high, axis) - lower)
    return nodes
