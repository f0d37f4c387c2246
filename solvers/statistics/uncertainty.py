"""The interval of a computed number, from the things that could have been otherwise.

Two sources are known for a result on a segmented vessel: where the edge lies
(the contours one standard deviation inside and outside) and how fine the mesh
is (the same problem on a coarser mesh). Each gives a `Spread`, a half-width to
either side at one standard deviation; sources are independent and their
half-widths add in quadrature, side by side. A difference of two results shares
its edge (common mode), so its spread is taken from the differences themselves,
never from the two intervals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from solvers.errors import BadInput

ONE_SIGMA = 0.683
MESH_SAFETY = 1.5
LEAST_REFINEMENT = 1.1


@dataclass(frozen=True)
class Spread:
    """Half-widths >= 0 below and above a value, at one standard deviation, from one source."""

    below: float
    above: float
    source: str


@dataclass(frozen=True)
class Interval:
    """low <= value <= high at confidence `level`; `sources` are those that were propagated."""

    low: float
    high: float
    level: float
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Contours:
    """One quantity of a cheap model on the nominal edge and one standard deviation inside and outside of it."""

    nominal: float
    inner: float
    outer: float

    def minus(self, other: "Contours") -> "Contours":
        """The quantity's difference, edge by edge: what both share cancels."""
        return Contours(self.nominal - other.nominal, self.inner - other.inner, self.outer - other.outer)


def on_full_model(value: float, cheap: Contours, scale: Literal["ratio", "difference"] = "ratio") -> Contours:
    """`value` of the full model on the three edges, moved as the cheap model moves.

    ratio: value * inner/nominal and value * outer/nominal, for quantities that
    scale (a pressure drop, a shear). Where a sign differs or a value is zero a
    ratio means nothing, and the difference is used. difference: value +
    (inner - nominal), value + (outer - nominal), for quantities near a bound.
    """
    three = (cheap.nominal, cheap.inner, cheap.outer)
    alike = all(x > 0 for x in three) or all(x < 0 for x in three)
    if scale == "ratio" and alike:
        return Contours(value, value * cheap.inner / cheap.nominal, value * cheap.outer / cheap.nominal)
    return Contours(value, value + cheap.inner - cheap.nominal, value + cheap.outer - cheap.nominal)


def edge_spread(full: Contours) -> Spread:
    """Spread about the nominal edge: as far as the other two edges reach to either side."""
    low, high = min(full.inner, full.outer), max(full.inner, full.outer)
    return Spread(max(0.0, full.nominal - low), max(0.0, high - full.nominal), "segmentation")


def mesh_spread(fine: float, coarse: float, refinement: float, order: float) -> Spread:
    """Spread of `fine` by its mesh: 1.5 |fine - coarse| / (refinement^order - 1), both sides.

    refinement: edge length of the coarse over the fine mesh, > 1. order: the
    formal one of the quantity (2 for pressure, 1 for a gradient at the wall
    with linear velocities). Two meshes alone call for a safety factor of 3 at
    95 % (Roache's grid convergence index), so 1.5 at one standard deviation.
    Raises BadInput `meshes_too_alike` below a refinement of 1.1.
    Source: Roache 1994, doi:10.1115/1.2910291.
    """
    if not refinement >= LEAST_REFINEMENT:
        raise BadInput("meshes_too_alike", f"the coarse mesh is {refinement:.2f} times the fine one",
                       f"at least {LEAST_REFINEMENT}", "Make the coarse mesh coarser.")
    half = MESH_SAFETY * abs(fine - coarse) / (refinement**order - 1.0)
    return Spread(half, half, "mesh")


def combine(value: float, spreads: Sequence[Spread], level: float = ONE_SIGMA,
            bounds: tuple[float, float] = (-math.inf, math.inf)) -> Interval | None:
    """The interval at `level` from independent spreads; None when there are none.

    Half-widths add in quadrature on each side. Other levels than one standard
    deviation scale them as a normal distribution would. bounds: what the
    quantity cannot leave (an index in 0 to 0.5).
    """
    if not spreads:
        return None
    widths = NormalDist().inv_cdf(0.5 + 0.5 * level) / NormalDist().inv_cdf(0.5 + 0.5 * ONE_SIGMA)
    below = widths * math.hypot(*(s.below for s in spreads))
    above = widths * math.hypot(*(s.above for s in spreads))
    low, high = max(bounds[0], value - below), min(bounds[1], value + above)
    return Interval(min(low, value), max(high, value), level, tuple(s.source for s in spreads))


def difference_spread(edges: tuple[Contours, Contours]) -> Spread:
    """Spread by the edge of a difference, second minus first, from both on the three edges.

    They share the edge, so it is that of their difference edge by edge: an error that moves both alike cancels.
    """
    return edge_spread(edges[1].minus(edges[0]))


def independent(first: Spread, second: Spread) -> Spread:
    """Spread of the difference of two values that err independently: larger half-widths in quadrature."""
    half = math.hypot(max(first.below, first.above), max(second.below, second.above))
    return Spread(half, half, first.source)


def is_resolved(interval: Interval) -> bool:
    """Whether a difference stands clear of zero at the interval's level."""
    return interval.low > 0.0 or interval.high < 0.0
