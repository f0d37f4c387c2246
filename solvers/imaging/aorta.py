"""The aorta's trunk in a tree of arteries, and a second lumen beside it (a dissection).

The trunk is followed as fronts run through the lumen; across it, circles are sought that hold the lumen and are bounded
by what is no aorta (fat, lung, bone, other bright vessels), smooth along the trunk. Where such a circle is fuller than
the lumen, and what fills it is blood with some contrast medium over a long stretch, that is a false lumen.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from solvers.imaging import wavefront
from solvers.imaging.heart import Heart, block_mean, coarse, fine


@dataclass(frozen=True)
class Second:
    """When a second lumen is believed. Lengths mm, intensities HU (CT only).

    fat: below this is no vessel. dimmest: blood with a little contrast medium is brighter (muscle and clot are not).
    brightest: other vessels and bone are brighter, in parts of the lumen. least_part: part of the aorta's section that
    it fills where it is thicker than `thinnest`; shortest: over this length; enhanced: least part of it that is
    brighter than `dimmest` over the length `shortest_enhanced`. largest: radius of the widest aorta; farthest: its
    middle lies this far from the lumen's. One circle every `spacing`, the smoothest row out of so many `candidates`
    (`stiffness`: what a jump of a mm costs, squared, in parts of a circle that fits). finest: no finer grid.
    """

    fat: float = 0.0
    dimmest: float = 95.0
    brightest: float = 0.9
    least_part: float = 0.15
    shortest: float = 30.0
    enhanced: float = 0.35
    shortest_enhanced: float = 20.0
    largest: float = 34.0
    farthest: float = 18.0
    thinnest: float = 4.0
    spacing: float = 3.0
    grid: float = 1.5
    finest: float = 1.2
    candidates: int = 60
    stiffness: float = 0.02


@dataclass(frozen=True)
class Aorta:
    """Masks (i, j, k): trunk with all its lumens; the false lumen. state: `none`, `contrast` or `no contrast`.

    line (n, 3) mm and radius (n,) mm: the middle and size of the whole aorta.
    """

    whole: np.ndarray
    false_lumen: np.ndarray
    state: str
    line: np.ndarray
    radius: np.ndarray


def solve(values: np.ndarray, lumen: np.ndarray, spacing: np.ndarray, start: np.ndarray, heart: Heart,
          is_ct: bool, second: Second = Second()) -> Aorta:
    """The trunk of `lumen` (boolean, i j k) from `start` (3,) mm, and in CT its second lumen."""
    stride = np.maximum(np.floor(second.finest / spacing), 1).astype(int)
    if (stride > 1).any():
        return _on_coarser(values, lumen, spacing, start, heart, is_ct, second, stride)
    line, radius = trunk(lumen, spacing, start, heart.centre is not None, second.grid)
    nothing = np.zeros(lumen.shape, bool)
    if len(line) < 4 or not is_ct:
        return Aorta(_near(lumen, line, 1.3 * radius + 2.0, spacing) & lumen, nothing, "none", line, radius)
    smooth = ndimage.gaussian_filter(values, 0.8 / spacing)
    classes = _classes(smooth, lumen, spacing, heart.mask, second)
    circles = _circles(classes, line, spacing, second)
    return _filled(lumen, classes, circles, spacing, second)


def _on_coarser(values: np.ndarray, lumen: np.ndarray, spacing: np.ndarray, start: np.ndarray, heart: Heart,
                is_ct: bool, second: Second, stride: np.ndarray) -> Aorta:
    """The same on blocks of `stride` voxels; the lumen's own edge stays fine."""
    mean = block_mean(values, stride)
    shift = (stride - 1) / 2 * spacing
    rough = replace(heart, mask=coarse(heart.mask, stride), trunk=coarse(heart.trunk, stride))
    found = solve(mean, coarse(lumen, stride), spacing * stride, start - shift, rough, is_ct, second)
    whole, false_lumen = (fine(m, stride, lumen.shape) for m in (found.whole, found.false_lumen))
    whole |= ndimage.binary_dilation(whole, iterations=int(stride.max())) & lumen
    return replace(found, whole=whole, false_lumen=false_lumen & ~lumen, line=found.line + shift)


def trunk(lumen: np.ndarray, spacing: np.ndarray, start: np.ndarray, is_end: bool, grid: float
          ) -> tuple[np.ndarray, np.ndarray]:
    """Middle (n, 3) mm and area-equivalent radius (n,) mm of the way through `lumen` with the widest sections.

    It begins at `start` when that is an end of the trunk, else at the other end of the way from there.
    """
    stride = np.maximum(np.round(grid / spacing), 1).astype(int)
    step = spacing * stride
    mask = _largest(coarse(lumen, stride), np.ones((3, 3, 3)))
    if not mask.any():
        return np.zeros((0, 3)), np.zeros(0)
    places = np.argwhere(mask)
    first = places[np.argmin(np.linalg.norm(places * step - start, axis=1))]
    way = _widest_way(mask, step, first)
    if not is_end:
        first = places[np.argmin(np.linalg.norm(places * step - way[0][-1], axis=1))]
        way = _widest_way(mask, step, first)
    points, area = way
    return points + (stride - 1) / 2 * spacing, np.sqrt(area / np.pi)


def _widest_way(mask: np.ndarray, step: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of fronts (every 2 mm) and their areas from `first` on, at each fork the way that stays wider.

    It ends where the vessel does, or at a fork in two long ones alike that have less than half the area.
    """
    seed = np.zeros(mask.shape, bool)
    seed[tuple(first)] = True
    index, away = wavefront.distances(mask, seed, step, np.inf)
    near = np.isfinite(away)
    index, away = index[near], away[near]
    front, size, parent, level = wavefront.fronts(mask.shape, index, away, 2.0)
    area = size * float(np.prod(step)) / 2.0
    leaves = np.bincount(front, wavefront.on_border(mask.shape, index), minlength=len(area)) > 0
    ahead, length = _ahead(area, parent, leaves), _length(parent, level)
    children: list[list[int]] = [[] for _ in area]
    for f in np.flatnonzero(parent >= 0):
        children[parent[f]].append(int(f))
    chain, forks = [int(np.flatnonzero(level == 0)[0])], []
    while children[chain[-1]]:
        following = sorted(children[chain[-1]], key=lambda f: -ahead[f])
        alike = [f for f in following[1:] if ahead[f] > 0.25 * ahead[following[0]] and length[f] >= 20]
        forks += [len(chain)] if alike else []
        chain.append(following[0])
    widths = area[chain]
    ends = [n for n in forks if 10 < n < len(chain) - 5
            and np.median(widths[n + 2:n + 12]) < 0.45 * np.median(widths[n - 10:n])]
    chain = chain[:ends[0]] if ends else chain
    where = np.stack(np.unravel_index(index, mask.shape), -1) * step
    centre = np.stack([np.bincount(front, where[:, a], minlength=len(area)) for a in range(3)], -1) / size[:, None]
    return centre[chain], area[chain]


def _length(parent: np.ndarray, level: np.ndarray) -> np.ndarray:
    """How many fronts follow each one on the longest way."""
    last = level.copy()
    for f in np.argsort(-level, kind="stable"):
        if parent[f] >= 0:
            last[parent[f]] = max(last[parent[f]], last[f])
    return last - level


def _ahead(area: np.ndarray, parent: np.ndarray, leaves: np.ndarray, count: int = 30) -> np.ndarray:
    """Sum of squared areas over the next `count` fronts on the best way.

    What leaves the image goes on as it is there, or (the last front is cut) just before.
    """
    gain = np.minimum(area, 1500.0) ** 2
    child = np.flatnonzero(parent >= 0)
    is_end = np.bincount(parent[child], minlength=len(area)) == 0
    total = gain.copy()
    on = np.where(parent >= 0, np.maximum(gain, gain[parent]), gain)
    for n in range(1, count):
        best = np.where(is_end & leaves, n * on, 0.0)
        np.maximum.at(best, parent[child], total[child])
        total = gain + best
    return total


def _near(lumen: np.ndarray, line: np.ndarray, radius: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Voxels of `lumen` within `radius` of the line's points."""
    found = np.zeros(lumen.shape, bool)
    if len(line):
        places = np.argwhere(lumen)
        away, n = cKDTree(line).query(places * spacing)
        found[tuple(places[away < radius[n]].T)] = True
    return found


LUMEN, INSIDE, OUTSIDE, DIM = 1, 2, 3, 4
"""Classes: the lumen; blood with some contrast medium; what cannot be aorta; soft tissue or clot."""


def _classes(smooth: np.ndarray, lumen: np.ndarray, spacing: np.ndarray, heart: np.ndarray, second: Second
             ) -> np.ndarray:
    level = float(np.median(smooth[lumen]))
    rim = ndimage.distance_transform_edt(~lumen, spacing) < 3.0
    bright = (smooth > second.brightest * level) & ~rim
    labels, count = ndimage.label(bright)
    ml = np.bincount(labels.ravel(), minlength=count + 1) * float(np.prod(spacing)) / 1000
    bright &= (ml > 0.5)[labels]
    bone = ndimage.binary_closing(bright, iterations=max(int(round(4.0 / float(spacing.max()))), 1)) & ~rim
    axis = int(np.argmax(spacing)) if spacing.max() > 1.05 * spacing.min() else 2
    for n in range(bone.shape[axis]):
        place = tuple(n if a == axis else slice(None) for a in range(3))
        bone[place] = ndimage.binary_fill_holes(bone[place])
    chamber = heart & ~lumen
    if heart.any():
        chamber = ndimage.binary_dilation(chamber, iterations=int(round(3.0 / float(spacing.min())))) & ~rim
    classes = np.full(lumen.shape, DIM, np.uint8)
    classes[smooth > second.dimmest] = INSIDE
    classes[(smooth < second.fat) | bone & ~lumen | chamber] = OUTSIDE
    classes[lumen] = LUMEN
    return classes


@dataclass(frozen=True)
class _Circles:
    """One circle across the trunk per station: its middle (n, 3), direction (n, 3), radius (n,) mm."""

    centre: np.ndarray
    along: np.ndarray
    radius: np.ndarray


def _circles(classes: np.ndarray, line: np.ndarray, spacing: np.ndarray, second: Second) -> _Circles:
    points, along = _stations(line, second.spacing)
    u = np.cross(along, np.eye(3)[np.argmin(np.abs(along), axis=1)])
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    w = np.cross(along, u)
    radii = np.arange(1.5, second.largest + 0.1, 1.5)
    angles = np.arange(24) * np.pi / 12
    polar = radii[:, None, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
    g = np.arange(-second.farthest, second.farthest + 0.1, 2.0)
    offsets = np.stack(np.meshgrid(g, g, indexing="ij"), -1).reshape(-1, 2)
    offsets = offsets[np.linalg.norm(offsets, axis=1) <= second.farthest]
    half = second.farthest + second.largest + 1.5
    pixels = np.arange(-half, half + 0.1, 1.5)
    flat = np.rint((offsets[:, None, None, :] + polar + half) / 1.5).astype(np.int16)
    best = []
    for p, a, b in zip(points, u, w, strict=True):
        plane = p + pixels[:, None, None] * a + pixels[None, :, None] * b
        index = np.rint(plane / spacing).astype(int)
        known = np.all((index >= 0) & (index < classes.shape), axis=-1)
        index = np.clip(index, 0, np.array(classes.shape) - 1)
        section = np.where(known, classes[tuple(np.moveaxis(index, -1, 0))], 0)
        score = _scores(section, flat, radii)
        top = np.argsort(-score, axis=None, kind="stable")[:second.candidates]
        at, size = np.unravel_index(top, score.shape)
        best.append((score[at, size], p + offsets[at, :1] * a + offsets[at, 1:] * b, radii[size]))
    chosen = _smoothest(best, along, second.stiffness)
    centre = np.array([c[1][n] for c, n in zip(best, chosen, strict=True)])
    radius = np.array([c[2][n] for c, n in zip(best, chosen, strict=True)])
    centre, radius = (ndimage.gaussian_filter1d(v, 1.5, axis=0, mode="nearest") for v in (centre, radius))
    return _Circles(centre, along, radius)


def _stations(line: np.ndarray, apart: float) -> tuple[np.ndarray, np.ndarray]:
    smooth = ndimage.gaussian_filter1d(line, 4.0, axis=0, mode="nearest")
    smooth = np.vstack([line[:1], smooth, line[-1:]])
    s = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(smooth, axis=0), axis=1))]
    keep = np.r_[True, np.diff(s) > 1e-6]
    s, smooth = s[keep], smooth[keep]
    at = np.linspace(0, s[-1], max(int(s[-1] / apart), 2) + 1)
    points = np.stack([np.interp(at, s, smooth[:, a]) for a in range(3)], -1)
    along = ndimage.gaussian_filter1d(np.gradient(points, axis=0), 2.0, axis=0, mode="nearest")
    return points, along / np.linalg.norm(along, axis=1, keepdims=True)


def _scores(section: np.ndarray, flat: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """How well circles (centre, radius) fit: bounded by what is outside, holding the lumen and nothing foreign."""
    middle = section.shape[0] // 2
    labels, _ = ndimage.label(section == LUMEN)
    reach = np.hypot(*np.meshgrid(*[np.arange(n) - middle for n in section.shape], indexing="ij"))
    nearest = labels.ravel()[int(np.argmin(np.where(labels > 0, reach, np.inf)))]
    own = (labels == nearest) & (labels > 0)
    if not own.any():
        return np.zeros((len(flat), len(radii)))
    section = np.where((section == LUMEN) & ~own, OUTSIDE, section)
    seen = section[flat[..., 0], flat[..., 1]]
    mine = own[flat[..., 0], flat[..., 1]]
    weight = radii[None, :]
    area = np.cumsum(weight * np.ones_like(seen[..., 0], float), axis=1)
    holds = np.cumsum(weight * mine.mean(-1), axis=1) * 2 * np.pi * 1.5 / (own.sum() * 1.5**2)
    foreign = np.cumsum(weight * (seen == OUTSIDE).mean(-1), axis=1) / area
    soft = np.cumsum(weight * (seen == DIM).mean(-1), axis=1) / area
    outside = np.where(seen == OUTSIDE, 1.0, np.where(seen == DIM, 0.7, 0.0))
    beyond = np.concatenate([outside[:, 1:], np.zeros_like(outside[:, :1])], axis=1)
    past = np.concatenate([outside[:, 2:], np.zeros_like(outside[:, :2])], axis=1)
    edge = (np.maximum(beyond, past) * np.isin(seen, (LUMEN, INSIDE, DIM))).mean(-1)
    return edge + 2.0 * np.minimum(holds, 1.0) - 4.0 * foreign - 0.4 * soft


def _smoothest(best: list[tuple[np.ndarray, np.ndarray, np.ndarray]], along: np.ndarray, stiffness: float
               ) -> list[int]:
    """The candidate of each station so that the sum of scores less the jumps is greatest (dynamic programming)."""
    total, back = best[0][0], []
    for n in range(1, len(best)):
        move = best[n][1][None] - best[n - 1][1][:, None]
        move = move - (move @ along[n])[..., None] * along[n]
        jump = np.sum(move**2, -1) + (best[n][2][None] - best[n - 1][2][:, None]) ** 2
        options = total[:, None] - stiffness * jump
        back.append(options.argmax(0))
        total = options.max(0) + best[n][0]
    chosen = [int(total.argmax())]
    for choice in back[::-1]:
        chosen.append(int(choice[chosen[-1]]))
    return chosen[::-1]


def _filled(lumen: np.ndarray, classes: np.ndarray, circles: _Circles, spacing: np.ndarray,
            second: Second) -> Aorta:
    """The trunk inside the circles, with the second lumen where one is believed."""
    box, station, away, ahead = _places(lumen.shape, circles, spacing, second)
    room = circles.radius[station]
    ends = ((station == 0) & (ahead < -1.5)) | ((station == len(circles.radius) - 1) & (ahead > 1.5))
    inside = (away < room + 2.0) & ~ends
    own = lumen[box] & (away < 1.1 * room + 2.0) & ~ends
    extra = inside & ((classes[box] == INSIDE) | (classes[box] == DIM) & (away < room))
    apart = ndimage.distance_transform_edt(~lumen[box], spacing) > 1.5
    thick = _opened(extra & apart, spacing, second.thinnest / 2)
    n = len(circles.radius)
    section = np.bincount(station[inside], minlength=n)
    amount = np.bincount(station[thick], minlength=n)
    part = amount / np.maximum(section, 1)
    share = np.bincount(station[thick & (classes[box] == INSIDE)], minlength=n) / np.maximum(amount, 1)
    part, share = (ndimage.gaussian_filter1d(v, 1.5, mode="nearest") for v in (part, share))
    runs, count = ndimage.label(part > second.least_part)
    believed, state = np.zeros(n, bool), "none"
    for r in range(1, count + 1):
        here = runs == r
        if here.sum() * second.spacing < second.shortest:
            continue
        if np.sum(here & (share > second.enhanced)) * second.spacing >= second.shortest_enhanced:
            believed |= here
            state = "contrast"
        elif state == "none":
            state = "no contrast"
    whole = np.zeros(lumen.shape, bool)
    false_lumen = whole.copy()
    flap = ndimage.distance_transform_edt(~thick, spacing) < 3.0
    more = (thick | extra & flap) & believed[station]
    both = _largest(_opened(more | own, spacing, second.thinnest / 2) | own)
    whole[box] = both
    false_lumen[box] = _opened(both & ~lumen[box] & believed[station], spacing, second.thinnest / 2)
    return Aorta(whole, false_lumen, state, circles.centre, circles.radius)


def _opened(mask: np.ndarray, spacing: np.ndarray, radius: float) -> np.ndarray:
    """The part of `mask` that balls of `radius` mm fill."""
    half = float(np.cbrt(np.prod(spacing))) / 2
    inner = ndimage.distance_transform_edt(mask, spacing) > radius
    return mask & (ndimage.distance_transform_edt(~inner, spacing) <= radius + half)


def _places(shape: tuple[int, ...], circles: _Circles, spacing: np.ndarray, second: Second
            ) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Per voxel of a box round the circles: nearest station, distance to the line, and way past the station."""
    margin = float(circles.radius.max()) + 4.0
    low = np.maximum(np.floor((circles.centre.min(0) - margin) / spacing), 0).astype(int)
    high = np.minimum(np.ceil((circles.centre.max(0) + margin) / spacing) + 1, shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(*[np.arange(a, b) * h for a, b, h in zip(low, high, spacing, strict=True)],
                                indexing="ij"), -1)
    distance, station = cKDTree(circles.centre).query(grid, distance_upper_bound=margin)
    missing = ~np.isfinite(distance)
    station = np.where(missing, 0, station)
    ahead = np.einsum("...a,...a->...", grid - circles.centre[station], circles.along[station])
    away = np.where(missing, np.inf, np.sqrt(np.maximum(np.where(missing, 0, distance) ** 2 - ahead**2, 0)))
    return box, station, away, ahead


def _largest(mask: np.ndarray, structure: np.ndarray | None = None) -> np.ndarray:
    labels, count = ndimage.label(mask, structure)
    if count < 2:
        return mask
    size = np.bincount(labels.ravel())
    size[0] = 0
    return labels == int(np.argmax(size))
