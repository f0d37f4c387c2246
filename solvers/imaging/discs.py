"""Round bright discs in the slices of an image, chained into tubes."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

_ANGLES = np.arange(16) * np.pi / 8


@dataclass(frozen=True)
class Search:
    """What counts as a disc. Lengths in mm; `flatness` is short over long axis.

    fill: area over that of the ellipse with the same second moments (1 when solid).
    evenness: largest standard deviation inside, in parts of the contrast.
    brightest: a disc brighter than this is bone or metal.
    shell: bone has a rim brighter than its inside by more than this part of the contrast.
    contrast: least difference to the surroundings; ratio: least quotient to them.
    """

    thresholds: tuple[float, ...]
    smallest: float = 2.5
    largest: float = 20.0
    flatness: float = 0.45
    fill: float = 0.85
    evenness: float = 0.25
    brightest: float = np.inf
    shell: float = 0.15
    contrast: float = 0.0
    ratio: float = 0.0


@dataclass(frozen=True)
class Discs:
    """Discs as parallel arrays: centre (n, 3) mm, radius mm, lumen and surrounding intensity, noise, axis."""

    centre: np.ndarray
    radius: np.ndarray
    lumen: np.ndarray
    around: np.ndarray
    noise: np.ndarray
    axis: np.ndarray
    doubt: np.ndarray

    def __len__(self) -> int:
        return len(self.radius)

    def take(self, index: np.ndarray | np.intp) -> "Discs":
        return replace(self, **{name: value[index] for name, value in vars(self).items()})


@dataclass(frozen=True)
class Tube:
    """Discs that follow each other; length in mm along the axis they were found on."""

    discs: Discs
    length: float

    @property
    def lumen(self) -> float:
        return float(np.median(self.discs.lumen))

    @property
    def contrast(self) -> float:
        return float(np.median(self.discs.lumen - self.discs.around))

    @property
    def radius(self) -> float:
        return float(np.median(self.discs.radius))


def find(values: np.ndarray, spacing: np.ndarray, search: Search) -> Discs:
    """All discs along the three axes of `values` (i, j, k), with `spacing` (3,) in mm."""
    found = [_at_level(values, spacing, axis, level, search) for axis in range(3) for level in search.thresholds]
    return _distinct(join(found))


def chain(discs: Discs, step: float, sideways: float = 1.0) -> list[Tube]:
    """Tubes of discs in neighbouring slices (`step` mm apart), the longest first."""
    tubes = [t for axis in range(3) for t in _along(discs.take(discs.axis == axis), axis, step, sideways)]
    return sorted(tubes, key=lambda t: -t.length)


def bridged(tubes: list[Tube], values: np.ndarray, spacing: np.ndarray) -> list[Tube]:
    """Tubes with those joined that go on in each other behind a few slices that are not round (a branch leaves there).

    Their facing ends are of one size and brightness, no farther apart than two of their diameters, and the lumen
    between them is as bright. The longest first.
    """
    pairs = [(i, j) for i, a in enumerate(tubes) for j, b in enumerate(tubes) if _goes_on(a, b, values, spacing)]
    i, j = np.array(pairs, int).reshape(-1, 2).T
    n = len(tubes)
    _, group = connected_components(coo_matrix((np.ones(len(i)), (i, j)), shape=(n, n)), directed=False)
    together = [[tubes[m] for m in np.flatnonzero(group == g)] for g in np.unique(group)]
    return sorted((_joined(parts) for parts in together), key=lambda t: -t.length)


def _goes_on(first: Tube, second: Tube, values: np.ndarray, spacing: np.ndarray) -> bool:
    """Whether `second` begins, along their common axis, where `first` ends."""
    axis = int(first.discs.axis[0])
    if axis != second.discs.axis[0]:
        return False
    here = first.discs.take(first.discs.centre[:, axis].argmax())
    there = second.discs.take(second.discs.centre[:, axis].argmin())
    way, small = there.centre - here.centre, min(here.radius, there.radius)
    ahead, lateral = way[axis], np.linalg.norm(np.delete(way, axis))
    contrast = min(here.lumen - here.around, there.lumen - there.around)
    near = 0 < ahead < 4 * small and lateral < 0.5 * small + 0.3 * ahead
    alike = max(here.radius, there.radius) < 1.3 * small and abs(here.lumen - there.lumen) < 0.25 * contrast
    if not (near and alike):
        return False
    points = here.centre + np.linspace(0, 1, 12)[:, None] * way
    between = ndimage.map_coordinates(values, (points / spacing).T, order=1, mode="nearest")
    return bool(between.min() > min(here.lumen, there.lumen) - 0.3 * contrast)


def _joined(parts: list[Tube]) -> Tube:
    if len(parts) == 1:
        return parts[0]
    discs = join([t.discs for t in parts])
    axis = int(discs.axis[0])
    step = min(t.length - float(np.ptp(t.discs.centre[:, axis])) for t in parts)
    return Tube(discs, float(np.ptp(discs.centre[:, axis])) + step)


def _at_level(values: np.ndarray, spacing: np.ndarray, axis: int, level: float, search: Search) -> Discs:
    """Connected regions above `level` in the slices of one axis that are round, even and isolated."""
    flat = [a for a in range(3) if a != axis]
    structure = np.zeros((3, 3, 3), bool)
    structure[tuple(slice(None) if a != axis else 1 for a in range(3))] = ndimage.generate_binary_structure(2, 1)
    labels, count = ndimage.label(values > level, structure)
    where = np.nonzero(labels)
    label = labels[where] - 1
    pixel = spacing[flat[0]] * spacing[flat[1]]
    area = np.bincount(label, minlength=count) * pixel
    keep = (area > np.pi * search.smallest**2) & (area < np.pi * search.largest**2)
    use = keep[label]
    label = label[use]
    where = tuple(w[use] for w in where)
    size = np.maximum(np.bincount(label, minlength=count), 1)

    def mean(x: np.ndarray) -> np.ndarray:
        return np.bincount(label, x, minlength=count) / size

    u, v = (where[a] * spacing[a] for a in flat)
    mu, mv = mean(u), mean(v)
    uu = mean((u - mu[label]) ** 2) + spacing[flat[0]] ** 2 / 12
    vv = mean((v - mv[label]) ** 2) + spacing[flat[1]] ** 2 / 12
    uv = mean((u - mu[label]) * (v - mv[label]))
    half, root = (uu + vv) / 2, np.sqrt(((uu - vv) / 2) ** 2 + uv**2)
    long, short = half + root, np.maximum(half - root, 1e-9)
    fill = area / (4 * np.pi * np.sqrt(long * short))
    keep &= (np.sqrt(short / long) > search.flatness) & (fill > search.fill)
    chosen = np.nonzero(keep)[0]
    centre = np.empty((len(chosen), 3))
    centre[:, axis] = mean(where[axis] * spacing[axis])[chosen]
    centre[:, flat[0]], centre[:, flat[1]] = mu[chosen], mv[chosen]
    axes = np.stack([uu, vv, uv], -1)[chosen]
    return _measured(values, spacing, axis, level, search, centre, axes)


def _measured(values: np.ndarray, spacing: np.ndarray, axis: int, level: float, search: Search,
              centre: np.ndarray, moments: np.ndarray) -> Discs:
    """Intensity inside and around each disc (an ellipse); those with too little contrast are left out."""
    flat = [a for a in range(3) if a != axis]
    shape = _ellipse(moments)
    inside = _samples(values, spacing, centre, flat, shape, np.array([0.0, 0.25, 0.5, 0.65]))
    around = _samples(values, spacing, centre, flat, shape, np.array([1.0]), beyond=(2.5, 4.0))
    lumen, noise, outside = inside.mean(1), inside.std(1), np.median(around, 1)
    contrast = lumen - outside
    place = (level - outside) / np.maximum(contrast, 1e-9)
    good = (contrast > search.contrast) & (lumen > search.ratio * outside) & (lumen < search.brightest)
    rim = _samples(values, spacing, centre, flat, shape, np.array([0.8, 0.9, 1.0, 1.15]))
    shell = np.median(rim.reshape(len(centre), 4, len(_ANGLES)), axis=2).max(axis=1, initial=-np.inf)
    good &= shell < lumen + search.shell * contrast
    good &= (noise < search.evenness * contrast) & (place > 0.25) & (place < 0.8)
    radius = np.sqrt(np.abs(np.linalg.det(shape))) if len(shape) else np.zeros(0)
    every = Discs(centre, radius, lumen, outside, noise, np.full(len(radius), axis), np.abs(place - 0.5))
    return every.take(good)


def _ellipse(moments: np.ndarray) -> np.ndarray:
    """(n, 2, 2) matrices that take the unit circle to the discs' outlines."""
    matrix = np.empty((len(moments), 2, 2))
    matrix[:, 0, 0], matrix[:, 1, 1] = moments[:, 0], moments[:, 1]
    matrix[:, 0, 1] = matrix[:, 1, 0] = moments[:, 2]
    value, vector = np.linalg.eigh(matrix)
    return vector * (2 * np.sqrt(np.maximum(value, 1e-9)))[:, None, :] @ np.swapaxes(vector, 1, 2)


def _samples(values: np.ndarray, spacing: np.ndarray, centre: np.ndarray, flat: list[int], shape: np.ndarray,
             rings: np.ndarray, beyond: tuple[float, ...] = (0.0,)) -> np.ndarray:
    """Intensities on rings of a disc: `rings` in parts of its outline, `beyond` in mm outside of it."""
    circle = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], -1)
    outline = np.einsum("nab,cb->nca", shape, circle)
    unit = outline / np.maximum(np.linalg.norm(outline, axis=-1, keepdims=True), 1e-9)
    offsets = np.concatenate([r * outline + b * unit for r in rings for b in beyond], 1)
    points = np.repeat(centre[:, None, :], offsets.shape[1], 1)
    points[..., flat] += offsets
    index = np.moveaxis(points / spacing, -1, 0)
    return ndimage.map_coordinates(values, index, order=1, mode="nearest")


def join(parts: list[Discs]) -> Discs:
    names = vars(parts[0])
    return Discs(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


def _distinct(discs: Discs) -> Discs:
    """One disc per place and axis: of several levels the one nearest to half way."""
    order = np.argsort(discs.doubt, kind="stable")
    discs = discs.take(order)
    if not len(discs):
        return discs
    tree = cKDTree(np.c_[discs.centre, discs.axis * 1e4])
    keep = np.ones(len(discs), bool)
    slices = np.round(discs.centre[np.arange(len(discs)), discs.axis], 3)
    near = tree.query_ball_point(tree.data, 0.5 * discs.radius, return_sorted=True)
    for i, others in enumerate(near):
        if keep[i]:
            later = [o for o in others if o > i and slices[o] == slices[i]]
            keep[later] = False
    return discs.take(keep)


def _along(discs: Discs, axis: int, step: float, sideways: float) -> list[Tube]:
    """Connected groups of discs of one axis."""
    if len(discs) < 2:
        return []
    side = [a for a in range(3) if a != axis]
    pairs = cKDTree(discs.centre).query_pairs(2 * step * (1 + sideways) + 6.0, output_type="ndarray")
    i, j = pairs.T
    ahead = np.abs(discs.centre[i, axis] - discs.centre[j, axis]) / step
    lateral = np.linalg.norm(discs.centre[i][:, side] - discs.centre[j][:, side], axis=1)
    small, large = np.minimum(discs.radius[i], discs.radius[j]), np.maximum(discs.radius[i], discs.radius[j])
    contrast = np.minimum(discs.lumen[i] - discs.around[i], discs.lumen[j] - discs.around[j])
    ok = (ahead > 0.5) & (ahead < 2.5) & (lateral < 0.4 * small + sideways * ahead * step) & (large < 1.4 * small)
    ok &= np.abs(discs.lumen[i] - discs.lumen[j]) < 0.25 * contrast
    n = len(discs)
    graph = coo_matrix((np.ones(ok.sum()), (i[ok], j[ok])), shape=(n, n))
    _, group = connected_components(graph, directed=False)
    members = [np.nonzero(group == g)[0] for g in np.nonzero(np.bincount(group) > 2)[0]]
    return [Tube(discs.take(m), float(np.ptp(discs.centre[m, axis]) + step)) for m in members]
