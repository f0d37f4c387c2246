"""Structured tetrahedra in tubes of revolution along z, graded towards the wall, with a sudden expansion or without.

A cross-section is a point with rings of triangles around it: 6, 12, 18, ...
points on the rings of the core, as many as on the core's last one on those
beyond. It is swept along the stations; each prism becomes three tetrahedra, cut
by the order of the points in the section, the other way round in every second
slice, so that neighbours share their diagonals and no sense of rotation is
preferred. All rings are widened so that the polygon has the circle's area.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.tubes import INLET, OUTLET, WALL

__all__ = ["INLET", "OUTLET", "WALL", "Section", "expansion", "graded", "tube"]

Mesh = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Points (n, 3), tets (c, 4), boundary triangles (t, 3) and their tags."""


@dataclass(frozen=True)
class Section:
    """core: rings of the core; rim: layers between it and the wall; share: of the radius, that the rim takes; growth:
    of the layers' thickness, away from the wall."""

    core: int = 3
    rim: int = 2
    share: float = 0.25
    growth: float = 1.5

    @property
    def around(self) -> int:
        """Points on the wall's circle."""
        return 6 * self.core

    @property
    def radii(self) -> np.ndarray:
        """Of the rings, the last 1."""
        core = np.arange(1, self.core + 1) / self.core
        if not self.rim:
            return core
        layers = self.growth ** np.arange(self.rim)[::-1]
        return np.r_[(1 - self.share) * core, 1 - self.share + self.share * np.cumsum(layers) / layers.sum()]


def graded(places: Sequence[float], sizes: Sequence[float]) -> np.ndarray:
    """Stations from the first place to the last, about `sizes` apart there and in between by interpolation; every
    place is a station."""
    found = [np.asarray(places[:1], float)]
    for a, b in zip(places[:-1], places[1:], strict=True):
        s = np.linspace(a, b, 2001)
        count = np.r_[0.0, np.cumsum(np.diff(s) / np.interp(0.5 * (s[1:] + s[:-1]), places, sizes))]
        n = max(1, round(count[-1]))
        found.append(np.interp(np.linspace(0, count[-1], n + 1)[1:], count, s))
    return np.concatenate(found)


def tube(z: np.ndarray, radius: Callable[[np.ndarray], np.ndarray] | float, section: Section = Section()) -> Mesh:
    """Stations z (k,), m; radius: m, a number or a function of z."""
    r = np.asarray(radius(z) if callable(radius) else np.full_like(z, radius))
    return _swept(r[:, None] * section.radii, section, z, 0, section.core + section.rim)


def expansion(before: np.ndarray, radius: Callable[[np.ndarray], np.ndarray] | float, after: np.ndarray,
              wide: float, section: Section = Section(), beyond: Sequence[float] = (0.25, 0.5, 0.75),
              spread: Callable[[np.ndarray], np.ndarray] | None = None) -> Mesh:
    """A tube that widens suddenly; the ring of the step belongs to the wall.

    before, after: stations (k,), m, the step the last of one and the first of
    the other. radius: m, before the step, a number or a function of z; wide: m,
    behind it. beyond: where rings lie in the annulus, as parts of its width,
    the wall's left out. spread: radius (function of z) behind the step of the
    ring that was the wall before; the same all along when left out.
    """
    r = np.asarray(radius(before) if callable(radius) else np.full_like(before, radius))
    inner = np.full_like(after, r[-1]) if spread is None else np.asarray(spread(after))
    part = np.r_[np.asarray(beyond, float), 1.0]
    narrow = np.hstack([r[:-1, None] * section.radii, np.full((len(r) - 1, len(part)), np.nan)])
    broad = np.hstack([inner[:, None] * section.radii, inner[:, None] + (wide - inner)[:, None] * part])
    return _swept(np.vstack([narrow, broad]), section, np.r_[before[:-1], after], len(before) - 1,
                  section.core + section.rim)


def _swept(rings: np.ndarray, section: Section, z: np.ndarray, step: int, inside: int) -> Mesh:
    """rings: radii (stations, rings), m; slices before `step` have the first `inside` rings only."""
    counts = np.minimum(6 * np.arange(1, rings.shape[1] + 1), section.around)
    around = section.around
    angle = np.concatenate([[0.0], *(2 * np.pi * np.arange(n) / n for n in counts)])
    wider = np.sqrt(2 * np.pi / around / np.sin(2 * np.pi / around))
    r = np.hstack([np.zeros((len(z), 1)), np.repeat(rings, counts, axis=1)]) * wider
    points = np.stack([r * np.cos(angle), r * np.sin(angle), np.broadcast_to(z[:, None], r.shape)], -1)
    triangles = _triangles(counts)
    few = triangles[(triangles <= counts[:inside].sum()).all(axis=1)]
    tets = np.vstack([_prisms(few if k < step else triangles, k, r.shape[1]) for k in range(len(z) - 1)])
    return _finished(points.reshape(-1, 3), tets, float(z[0]), float(z[-1]))


def _triangles(counts: np.ndarray) -> np.ndarray:
    """Triangles (t, 3) between the centre, point 0, and rings of so many points each."""
    first = np.r_[0, 1, 1 + np.cumsum(counts)]
    parts = [np.stack([np.zeros(counts[0], int), 1 + np.arange(counts[0]), 1 + (np.arange(counts[0]) + 1) % counts[0]],
                      1)]
    for k in range(1, len(counts)):
        a, b, n, m = first[k], first[k + 1], counts[k - 1], counts[k]
        out = np.arange(m)
        inner = out - out * 6 // m if m > n else out  # of each outer edge: the inner point that sees it
        parts.append(np.stack([a + inner % n, b + out, b + (out + 1) % m], 1))
        gap = np.flatnonzero(np.arange(m) % (m // 6) != m // 6 - 1) if m > n else out  # outer edges not at a spoke
        parts.append(np.stack([a + inner[gap] % n, b + (gap + 1) % m, a + (inner[gap] + 1) % n], 1))
    return np.vstack(parts)


def _prisms(triangles: np.ndarray, k: int, n: int) -> np.ndarray:
    """The tetrahedra of slice k above the triangles, n points to a station."""
    low = np.sort(triangles, axis=1)[:, :: -1 if k % 2 else 1] + k * n
    a, b, c = low.T
    return np.vstack([np.stack(t, 1) for t in ((a, b, c, c + n), (a, b, b + n, c + n), (a, a + n, b + n, c + n))])


def _finished(points: np.ndarray, tets: np.ndarray, start: float, end: float) -> Mesh:
    """Without the points of no cell; cells turned to positive volume; the boundary found and tagged."""
    used, tets = np.unique(tets, return_inverse=True)
    points, tets = points[used], tets.reshape(-1, 4)
    a, b, c, d = (points[tets[:, i]] for i in range(4))
    turned = np.einsum("ck,ck->c", np.cross(b - a, c - a), d - a) < 0
    tets[turned] = tets[turned][:, [1, 0, 2, 3]]
    faces = np.sort(tets[:, [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]].reshape(-1, 3), axis=1)
    unique, counts = np.unique(faces, axis=0, return_counts=True)
    border = unique[counts == 1]
    z, near = points[border][:, :, 2], 1e-9 * (end - start)
    tags = np.full(len(border), WALL)
    tags[(z < start + near).all(axis=1)] = INLET
    tags[(z > end - near).all(axis=1)] = OUTLET
    return points, tets, border, tags
