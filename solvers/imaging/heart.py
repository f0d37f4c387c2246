"""Where the aorta opens into the heart: the valve's plane and the chambers beyond it."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from solvers.imaging import wavefront


@dataclass(frozen=True)
class Opening:
    """When a vessel is thought to open into a chamber. Lengths in mm.

    The inscribed radius of a front (one every `step`) is compared with the largest from `nearest` to `farthest` behind
    it, and must exceed it by the factor `widening`; the valve is the first place in the last `neck` that is about as
    narrow (by the factor `tight`) as the narrowest there, which is below the part `narrow` of the radius before: an
    aneurysm has no neck.
    thick: fronts run where the inscribed radius is above this part of the main tube's, and above `thinnest`; what
    hangs on it by more than the part `free` is trunk.
    smallest_ml: less room that wide is a bulge of the vessel. grid: chambers are sought on a grid about that coarse.
    """

    grid: float = 2.0
    step: float = 3.0
    nearest: float = 25.0
    farthest: float = 80.0
    neck: float = 50.0
    widening: float = 1.25
    narrow: float = 0.85
    tight: float = 1.1
    thick: float = 0.2
    free: float = 0.6
    thinnest: float = 3.0
    smallest_ml: float = 5.0


@dataclass(frozen=True)
class Heart:
    """What lies beyond the aortic valve (boolean, i j k): chambers, with the vessels that open into them.

    centre (mm), normal (into the heart) and radius (mm, inscribed) of the valve; vessel: the largest inscribed
    radius before it, mm. None when the vessel opens nowhere. trunk: what hangs on the main tube by nothing narrow and
    does not lie beyond the valve (boolean, i j k).
    """

    mask: np.ndarray
    trunk: np.ndarray
    centre: np.ndarray | None = None
    normal: np.ndarray | None = None
    radius: float | None = None
    vessel: float | None = None


def solve(bright: np.ndarray, core: np.ndarray, radius: float, spacing: np.ndarray,
          opening: Opening = Opening()) -> Heart:
    """The heart behind the aortic valve.

    bright: where blood with contrast medium is; core: well inside the main tube, of `radius` mm; boolean (i, j, k).
    Vessel and chamber are parted at the narrowest place between them: the watershed of the inscribed radius, and a
    plane at the valve.
    """
    nothing = Heart(*np.zeros((2, *bright.shape), bool))
    stride = np.maximum(np.round(opening.grid / spacing), 1).astype(int)
    step = spacing * stride
    rough = coarse(bright, stride)
    depth = ndimage.distance_transform_edt(np.pad(rough, 1, mode="edge"), step)[1:-1, 1:-1, 1:-1]
    thick = depth >= max(opening.thick * radius, opening.thinnest)
    start = thick & coarse(core, stride)
    if not start.any():
        return nothing
    index, away = wavefront.distances(thick, start, step, np.inf)
    near = np.isfinite(away)
    index, away = index[near], away[near]
    front, _, parent, level = wavefront.fronts(thick.shape, index, away, opening.step)
    widest = np.asarray(ndimage.maximum(depth.ravel()[index], front, np.arange(len(parent))))
    necks, rooms = _necks(widest, parent, level * opening.step, opening)
    if not necks:
        return nothing
    beyond = _below(necks, parent, level)
    marker = np.zeros(thick.shape, np.int32)
    marker.ravel()[index] = np.where(rooms[front], 2, np.where(beyond[front] | np.isin(front, necks), 0, 1))
    if float(np.sum(marker == 2) * np.prod(step)) < 1000 * opening.smallest_ml:
        return nothing
    parts = watershed(-depth, marker, mask=rough)
    neck = max(necks, key=lambda n: float(widest[n]))
    centre, normal = _plane(neck, front, index, parent, thick.shape, step)
    size = float(widest[neck])
    place = np.stack(np.meshgrid(*[np.arange(n) * h for n, h in zip(rough.shape, step, strict=True)], indexing="ij"),
                     -1) - centre
    ahead, reach = place @ normal, np.linalg.norm(place, axis=-1)
    parts[(parts == 1) & (ahead > 0) & (reach < 2.5 * size)] = 2
    mask = fine(parts == 2, stride, bright.shape)
    rest = bright & ~mask & ~fine(parts == 1, stride, bright.shape)
    mask |= rest & fine(ndimage.binary_dilation(parts == 2), stride, bright.shape)
    free = _least(widest, parent, level) >= opening.free * radius
    trunk = np.zeros(thick.shape, bool)
    trunk.ravel()[index] = free[front]
    trunk = fine(ndimage.binary_dilation(trunk & (parts == 1), iterations=2, mask=parts == 1), stride, bright.shape)
    return Heart(mask & bright, trunk & bright & ~mask, centre + (stride - 1) / 2 * spacing, normal, size,
                 float(depth[parts == 1].max()))


def fine(part: np.ndarray, stride: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`part` of the coarse grid on the fine one."""
    found = np.zeros(shape, bool)
    big = part.repeat(stride[0], 0).repeat(stride[1], 1).repeat(stride[2], 2)
    found[tuple(slice(0, n) for n in big.shape)] = big
    return found


def block_mean(values: np.ndarray, stride: np.ndarray) -> np.ndarray:
    """Means of blocks of `stride` voxels; what does not fill a block is left out."""
    shape = np.array(values.shape) // stride
    cut = values[tuple(slice(0, n) for n in shape * stride)]
    blocks = [v for n, s in zip(shape, stride, strict=True) for v in (int(n), int(s))]
    return np.asarray(cut.reshape(blocks).mean((1, 3, 5)))


def coarse(mask: np.ndarray, stride: np.ndarray) -> np.ndarray:
    """Blocks of `stride` voxels of which more than half are set."""
    return block_mean(mask, stride) > 0.5


def _necks(widest: np.ndarray, parent: np.ndarray, away: np.ndarray, opening: Opening
           ) -> tuple[list[int], np.ndarray]:
    """The narrow fronts before those that open; which fronts are as wide as a chamber behind them."""
    found: set[int] = set()
    past, rooms = (np.zeros(len(parent), bool) for _ in range(2))
    wide = np.zeros(len(parent))
    for f in np.argsort(away, kind="stable"):
        behind = _behind(int(f), parent, away, opening.farthest)
        if behind and past[behind[0]]:
            past[f], wide[f] = True, wide[behind[0]]
            rooms[f] = widest[f] > wide[f]
            continue
        usual = [widest[b] for b in behind if away[f] - away[b] >= opening.nearest]
        if not usual or widest[f] <= opening.widening * max(usual):
            continue
        near = [b for b in behind if away[f] - away[b] <= opening.neck]
        least = min(widest[b] for b in near)
        neck = max(b for b in range(len(near)) if widest[near[b]] <= opening.tight * least)
        if widest[near[neck]] > opening.narrow * max([widest[b] for b in behind[neck + 1:]], default=0.0):
            continue
        past[f] = rooms[f] = True
        wide[f] = opening.widening * max(usual)
        found.add(near[neck])
    return sorted(found), rooms


def _behind(front: int, parent: np.ndarray, away: np.ndarray, farthest: float) -> list[int]:
    found, here = [], int(parent[front])
    while here >= 0 and away[front] - away[here] <= farthest:
        found.append(here)
        here = int(parent[here])
    return found


def _below(roots: list[int], parent: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Fronts that come from those of `roots`, these left out."""
    below = np.zeros(len(parent), bool)
    for f in np.argsort(level, kind="stable"):
        if parent[f] >= 0:
            below[f] = below[parent[f]] or int(parent[f]) in roots
    return below


def _least(widest: np.ndarray, parent: np.ndarray, level: np.ndarray) -> np.ndarray:
    """The narrowest place between the start and each front."""
    least = widest.copy()
    for f in np.argsort(level, kind="stable"):
        if parent[f] >= 0:
            least[f] = min(least[f], least[parent[f]])
    return least


def _plane(neck: int, front: np.ndarray, index: np.ndarray, parent: np.ndarray, shape: tuple[int, ...],
           step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre of a front, and the direction through it, from the fronts before it."""
    def centre(n: int) -> np.ndarray:
        return np.mean(np.unravel_index(index[front == n], shape), axis=1) * step

    chain = [neck, *_behind(neck, parent, np.zeros(len(parent)), 1.0)[:4]]
    way = centre(neck) - centre(chain[-1])
    return centre(neck), way / max(float(np.linalg.norm(way)), 1e-9)
