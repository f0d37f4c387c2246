"""Body, lung and bone on CT."""

import numpy as np

from pipeline.segment.result import Lumen
from solvers.geometry.volume import Volume
from solvers.imaging import regions


def masks(volume: Volume, lumen: Lumen) -> dict[str, np.ndarray]:
    """Name to mask; a structure that is not there has no entry."""
    body = regions.body(volume.values, volume.spacing)
    brightest = regions.DENSE if lumen.intensity is None else max(regions.DENSE, 1.15 * lumen.intensity)
    found = {"body": body, "lung": regions.lung(volume.values, body, volume.spacing),
             "skeleton": regions.skeleton(volume.values, body, lumen.field < 2.0, volume.spacing, brightest)}
    return {name: mask for name, mask in found.items() if mask.any()}
