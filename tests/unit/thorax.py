"""A contrast CT angiogram of a chest made of cones: the aorta with its open valve, the heart, vessels that touch."""

from dataclasses import dataclass

import numpy as np
from angiograms import PSF, chain
from scipy import ndimage

WALL = 1.3
"""Thickness of a vessel's wall, mm; 60 HU. Where two touch there are two."""
FLAP = 1.5


@dataclass(frozen=True)
class Thorax:
    """values (HU) and spacing (mm); masks: the aorta's trunk with all lumens, the true lumen, the false one (or none).

    valve: centre of the annulus, mm.
    """

    values: np.ndarray
    spacing: np.ndarray
    aorta: np.ndarray
    true_lumen: np.ndarray
    false_lumen: np.ndarray
    valve: np.ndarray


def make(seed: int = 1, false_contrast: float | None = None, noise: float = 20.0,
         shape: tuple[int, int, int] = (94, 94, 100)) -> Thorax:
    """x to the left, y to the back, z to the head; sizes, places, contrast and noise differ with the seed.

    false_contrast: the descending aorta is dissected, and its false lumen has this part of the true one's contrast
    (0: clot of 45 HU).
    """
    rng = np.random.default_rng(seed)
    spacing, fine = np.array([1.6, 1.6, 2.0]), 2
    h = spacing / fine
    axes = [((np.arange(n * fine) + 0.5) * s - sp / 2).astype(np.float32)
            for n, s, sp in zip(shape, h, spacing, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    size, blood = rng.uniform(0.94, 1.06), rng.uniform(330, 450)

    def tube(points: list[tuple[float, float, float]], radii: list[float], shake: float = 1.0) -> np.ndarray:
        places = np.array(points, float)
        places[1:-1] += rng.uniform(-shake, shake, places[1:-1].shape)
        return chain(grid, places, np.array(radii) * size)

    valve = np.array([64.0, 52.0, 88.0])
    root = tube([(62, 50, 112), tuple(valve)], [14.0, 11.0], 0)  # type: ignore[list-item]
    for angle in np.arange(3) * 2 * np.pi / 3:
        side = np.array([7 * np.cos(angle), 7 * np.sin(angle), 0])
        root = np.minimum(root, tube([tuple(valve + side + (0, 0, 7)), tuple(valve + side + (0, 0, 14))], [9, 9], 0))
    upper = tube([(88, 98, 148), (86, 92, 162), (75, 72, 172), (63, 54, 162), (60, 48, 138), (62, 50, 112)],
                 [12.5, 12.5, 13.0, 14.0, 15.0, 14.0])
    down = np.array([(88, 98, -30), (88, 98, 50), (88, 98, 148)], float)
    wide = 12.5 if false_contrast is None else 15.5
    descending = chain(grid, down, np.array([wide - 0.5, wide, 12.5]) * size)
    trunk = np.minimum(np.minimum(root, upper), descending)
    trunk[:, :, axes[2] < valve[2]] = descending[:, :, axes[2] < valve[2]]
    branches = [tube([(65, 58, 168), (56, 54, 190), (50, 56, 240)], [6.0, 5.8, 5.6]),
                tube([(74, 70, 172), (77, 66, 192), (78, 64, 240)], [4.0, 3.8, 3.6]),
                tube([(82, 86, 168), (92, 84, 190), (98, 82, 240)], [5.0, 4.8, 4.6])]
    opening = rng.uniform(7.5, 10.5)
    ventricle = np.minimum(tube([(66, 55, 78), (72, 56, 62), (86, 42, 44), (100, 28, 26)], [10.5, 18, 23, 12]),
                           tube([tuple(valve + (-0.3, -0.5, 3)), (66, 55, 78)], [opening, 10.0], 0))
    atrium = np.minimum(tube([(64, 75, 74), (48, 79, 74)], [15.5, 17]), tube([(64, 76, 74), (74, 58, 60)], [10, 10]))
    atrium = np.minimum(atrium, tube([(50, 80, 76), (15, 88, 84)], [6, 5]))
    right = np.minimum(tube([(38, 50, 72), (34, 40, 50)], [20, 18]), tube([(45, 24, 44), (66, 14, 36)], [16, 12]))
    pulmonary = tube([(48, 22, 92), (78, 27, 116), (92, 58, 136), (112, 76, 140)], [11.5, 11.5, 11, 8])
    cava = tube([(37, 46, 92), (37, 50, 150), (40, 50, 240)], [8.0, 8.0, 7.0])
    hu = np.full(grid.shape[1:], -850.0, np.float32)
    hu[np.hypot((grid[0] - 72) / 42, (grid[1] - 60) / 60) < 1] = -90
    heart = np.minimum(np.minimum(ventricle - 9, atrium - 2.5), right - 3)
    hu[heart < 0] = 90
    spine = np.hypot(grid[0] - 70, grid[1] - 124) - 16
    hu[spine < 0] = 190
    hu[np.abs(spine) < 1.2] = 550
    hu[pulmonary < WALL] = hu[cava < WALL] = 60
    hu[right < 0], hu[pulmonary < 0], hu[cava < 0] = 0.8 * blood, 1.05 * blood, 2.2 * blood
    hu[atrium < 0] = 1.02 * blood
    hu[trunk < 2 * WALL] = 60
    for branch in branches:
        hu[branch < WALL] = 60
    hu[ventricle < 0] = blood
    for branch in branches:
        hu[branch < 0] = blood
    hu[trunk < 0] = blood
    part = np.zeros(trunk.shape, bool)
    flap = part
    if false_contrast is not None:
        across = (grid[0] - 88) * np.cos(0.6) + (grid[1] - 98) * np.sin(0.6) + 0.35 * wide
        low = (descending < 0) & (grid[2] < 146) & (grid[1] > 75)
        part, flap = low & (across > FLAP), low & (across > 0) & (across <= FLAP)
        hu[part], hu[flap] = max(45.0, false_contrast * blood), 60
    values = ndimage.gaussian_filter(hu, PSF / h)
    blocks = [v for n in shape for v in (n, fine)]
    values = values.reshape(blocks).mean((1, 3, 5)) + rng.normal(0, noise, shape)

    def mask(inside: np.ndarray) -> np.ndarray:
        return inside.reshape(blocks).mean((1, 3, 5)) > 0.5

    whole = trunk < 0
    return Thorax(values.astype(np.float32), spacing, mask(whole), mask(whole & ~part & ~flap), mask(part), valve)
