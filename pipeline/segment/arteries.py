"""The automatic way: tubes, heart left out, front, half-maximum edge, second lumen (see solvers.imaging)."""

from dataclasses import dataclass

import numpy as np

from pipeline.segment.result import Lumen
from solvers.geometry.volume import Volume
from solvers.imaging import vessels
from solvers.imaging.edges import HalfMaximum
from solvers.imaging.wavefront import LeakControl

WALL = 45.0
"""Wall of an artery without contrast medium, HU: as muscle."""


@dataclass(frozen=True)
class Limits:
    """Lengths in mm: least length and radius of the main tube, least diameter and length of a branch."""

    tube_length: float = 40.0
    tube_radius: float = 4.5
    branch_diameter: float = 3.0
    branch_length: float = 6.0


def lumen(volume: Volume, is_ct: bool, limits: Limits) -> Lumen:
    """The lumen of the large arteries; BadInput `no_contrast_vessel` when none is seen."""
    demands = vessels.Demands(length=limits.tube_length, radius=limits.tube_radius)
    control = LeakControl(thinnest=np.pi / 4 * limits.branch_diameter**2, shortest=limits.branch_length)
    edge_settings = HalfMaximum(limit=3 * float(volume.spacing.max()), calcium=0.45 if is_ct else np.inf,
                                wall=WALL if is_ct else -np.inf)
    found = vessels.solve(volume.values, volume.spacing, is_ct, demands, control, edge_settings)

    def whole(part: np.ndarray, outside: float) -> np.ndarray:
        full = np.full(volume.values.shape, outside, bool if part.dtype == bool else np.float32)
        full[found.window] = part
        return full

    edge = found.edge
    field, deviation = whole(edge.field, edge_settings.limit), whole(edge.deviation, float(np.median(edge.deviation)))
    return Lumen("automatic", field, deviation, whole(edge.calcium, False), edge_settings.limit, 0.9, found.lumen,
                 edge.blur, edge.noise, len(found.tubes), found.growth.n_branches, found.growth.n_leaks,
                 whole(found.aorta.whole, False), whole(found.aorta.false_lumen, False),
                 found.aorta.state if is_ct else "", found.valve)
