"""The problem that all solvers are given: blood set in motion in a rigid tube with a stenosis; what is compared."""

from dataclasses import dataclass

import numpy as np

RADIUS, LENGTH, END = 0.01, 0.1, 0.1
"""Of the tube, m; duration, s."""
THROAT, EXTENT, LEFT = 0.04, 0.04, 0.4
"""Of the stenosis: centre and length, m; what it leaves of the area."""
DENSITY, VISCOSITY, PEAK = 1060.0, 0.004, 88.9e-6
"""kg/m^3, Pa s; flow at its peak, m^3/s."""
SEEN_EVERY = 0.02
"""Between the times at which velocities are compared, s."""


def radius(z: np.ndarray) -> np.ndarray:
    """Of the tube at stations z, m: a cosine that leaves `LEFT` of the area."""
    depth = RADIUS * (1 - np.sqrt(LEFT))
    inside = np.abs(z - THROAT) < EXTENT / 2
    return RADIUS - depth * np.where(inside, 0.5 + 0.5 * np.cos(2 * np.pi * (z - THROAT) / EXTENT), 0.0)


def inflow(t: float) -> float:
    """m^3/s."""
    return float(PEAK * np.sin(np.pi * t / 0.2) ** 2)


def stations(h: float) -> np.ndarray:
    """Along the tube, m: h apart in the throat, twice that in the straight parts."""
    places, sizes = np.array([0.0, 0.02, 0.04, 0.06, LENGTH]), h * np.array([2.0, 1.4, 1.0, 1.4, 2.0])
    z = np.linspace(0, LENGTH, 5001)
    count = np.r_[0.0, np.cumsum(np.diff(z) / np.interp(0.5 * (z[1:] + z[:-1]), places, sizes))]
    return np.interp(np.linspace(0, count[-1], round(count[-1]) + 1), count, z)


def points() -> np.ndarray:
    """200 places (200, 3), m, where velocities are compared: spread evenly over the volume within 0.95 of the radius,
    half a radius off both ends."""
    chance = np.random.default_rng(1).random((200, 3))
    z = RADIUS / 2 + (LENGTH - RADIUS) * chance[:, 0]
    r, angle = 0.95 * radius(z) * np.sqrt(chance[:, 1]), 2 * np.pi * chance[:, 2]
    return np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=1)


@dataclass(frozen=True)
class Seen:
    """What a run shows: time (n,) s and drop of pressure (n,) Pa after each step; velocity (5, 200, 3) m/s."""

    time: np.ndarray
    drop: np.ndarray
    velocity: np.ndarray


def difference(run: Seen, fine: Seen) -> tuple[float, float]:
    """RMS of the drop over the run by its maximum, and of the velocity by its peak."""
    drop = np.interp(run.time, fine.time, fine.drop)
    return (float(np.sqrt(np.mean((run.drop - drop) ** 2)) / np.abs(fine.drop).max()),
            float(np.sqrt(np.mean(((run.velocity - fine.velocity) ** 2).sum(axis=-1)))
                  / np.linalg.norm(fine.velocity, axis=-1).max()))


def mean(one: Seen, other: Seen) -> Seen:
    """Of two fine runs, at the times of the first."""
    return Seen(one.time, (one.drop + np.interp(one.time, other.time, other.drop)) / 2,
                (one.velocity + other.velocity) / 2)
