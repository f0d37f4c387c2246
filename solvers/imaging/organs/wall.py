"""The wall of the trunk: where subcutaneous fat ends and where the room of the organs begins, ray by ray.

In each slice rays run from a point before the spine. From outside inwards a ray meets skin, subcutaneous fat, the
fascia of the muscles, and ribs, pelvis or spine. Between ribs the inner surface is that of its neighbours; where no
bone is near, a wall of usual thickness is assumed.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from solvers.imaging.organs.bones import Bones
from solvers.imaging.organs.scan import FAT, Scan

RAYS = 180
STEP = 1.0
"""Of a sample along a ray, mm."""
SKIN = 4.0
"""Thickness of what counts as skin, mm."""
WALL = 13.0
"""Of the abdominal wall without ribs, mm: three flat muscles or one rectus."""
DEEPEST = 60.0
"""A bone farther behind the fascia than that, mm, does not bound the room, unless it is the spine."""


@dataclass(frozen=True)
class Wall:
    """fascia: what lies within the fascia of the trunk's muscles; room: within ribs and muscles (boolean)."""

    fascia: np.ndarray
    room: np.ndarray


def find(scan: Scan, bones: Bones) -> Wall:
    centre = _centres(scan, bones)
    body, fat, bone = (_rays(scan, m, centre) for m in (scan.body, _fat(scan), bones.mask))
    skin = _last(body) - SKIN
    fascia = _fascia(body, fat, skin)
    inner = _inner(scan, bone, fascia)
    return Wall(_filled(scan, centre, fascia) & scan.body, _filled(scan, centre, inner) & scan.body & ~bones.mask)


def _fat(scan: Scan) -> np.ndarray:
    return (scan.smooth > FAT[0]) & (scan.smooth < FAT[1])


def _centres(scan: Scan, bones: Bones) -> np.ndarray:
    """(slices, 2) mm: half way between the spine and the front of the body, else the body's middle."""
    where = np.argwhere(scan.body.any(1).T)
    assert len(where)
    found = np.zeros((scan.body.shape[2], 2))
    for k in range(len(found)):
        x, y = np.nonzero(scan.body[..., k])
        if not len(x):
            found[k] = np.nan
            continue
        found[k] = x.mean(), y.mean()
        if bones.spine is not None:
            sx, sy = bones.spine[k]
            front = y[np.abs(x - sx) < 3].min() if np.any(np.abs(x - sx) < 3) else y.min()
            found[k] = sx, sy - 0.35 * (sy - front)
    found *= scan.spacing[:2]
    good = ~np.isnan(found[:, 0])
    for axis in range(2):
        found[:, axis] = np.interp(np.arange(len(found)), np.nonzero(good)[0], found[good, axis])
    return ndimage.gaussian_filter1d(found, 10.0 / scan.spacing[2], axis=0, mode="nearest")


def _angles() -> np.ndarray:
    return np.arange(RAYS) * 2 * np.pi / RAYS


def _rays(scan: Scan, mask: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(slices, rays, samples): the mask along each ray, outwards."""
    reach = float(np.hypot(*(np.array(mask.shape[:2]) * scan.spacing[:2])))
    r = np.arange(0, reach, STEP)
    a = _angles()[:, None]
    x = (centre[:, 0, None, None] + r * np.cos(a)) / scan.spacing[0]
    y = (centre[:, 1, None, None] + r * np.sin(a)) / scan.spacing[1]
    i, j = np.rint(x).astype(int), np.rint(y).astype(int)
    outside = (i < 0) | (j < 0) | (i >= mask.shape[0]) | (j >= mask.shape[1])
    i, j = np.clip(i, 0, mask.shape[0] - 1), np.clip(j, 0, mask.shape[1] - 1)
    found = mask[i, j, np.arange(mask.shape[2])[:, None, None]]
    found[outside] = False
    return np.asarray(found)


def _last(along: np.ndarray) -> np.ndarray:
    """Distance of the outermost sample that is set, mm."""
    n = along.shape[-1]
    return np.where(along.any(-1), n - 1 - np.argmax(along[..., ::-1], -1), 0) * STEP


def _fascia(body: np.ndarray, fat: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """The outermost place within the skin where 6 mm are not fat; smooth over neighbours."""
    r = np.arange(body.shape[-1]) * STEP
    firm = body & ~fat & (r < skin[..., None])
    firm = ndimage.binary_opening(firm, np.ones((1, 1, int(6 / STEP))))
    outer = ndimage.median_filter(_last(firm), (1, 7), mode="wrap")
    wide = RAYS // 28 * 2 + 1
    return np.minimum(ndimage.grey_closing(outer, (1, wide), mode="wrap"), skin)


def _inner(scan: Scan, bone: np.ndarray, fascia: np.ndarray) -> np.ndarray:
    """Radius of the room: the inner side of the outermost bone on the ray, spread over the gaps between bones."""
    r = np.arange(bone.shape[-1]) * STEP
    near = bone & (r > fascia[..., None] - DEEPEST) & (r <= fascia[..., None] + 5)
    outer = _last(near)
    gap = near[..., ::-1] | (r[::-1] > outer[..., None])
    inner = np.where(near.any(-1), bone.shape[-1] - np.argmin(gap, -1), 0) * STEP
    seen = near.any(-1)
    depth = np.where(seen, fascia - inner, 0.0)
    spread = (6.0 / max(scan.spacing[2], 0.1), RAYS / 60)
    known = ndimage.gaussian_filter(seen.astype(float), spread, mode=("nearest", "wrap"))
    mean = ndimage.gaussian_filter(depth, spread, mode=("nearest", "wrap"))
    deep = (mean + 0.05 * WALL) / (known + 0.05)
    return np.maximum(fascia - np.maximum(np.where(seen, depth, deep), 4.0), 0.0)


def _filled(scan: Scan, centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The voxels nearer to the centre than the radius in their direction."""
    x, y = (np.arange(n) * s for n, s in zip(scan.body.shape[:2], scan.spacing[:2], strict=True))
    found = np.zeros(scan.body.shape, bool)
    for k, (cx, cy) in enumerate(centre):
        dx, dy = np.meshgrid(x - cx, y - cy, indexing="ij")
        angle = (np.arctan2(dy, dx) % (2 * np.pi)) * RAYS / (2 * np.pi)
        limit = np.interp(angle, np.arange(RAYS + 1), np.append(radius[k], radius[k, 0]))
        found[..., k] = np.hypot(dx, dy) < limit
    return found
