"""Steady flow through a narrowed vessel of revolution: what pressure it costs, from the shape alone.

The reduced Navier-Stokes equations: pressure is one number to a section and
diffusion along the vessel is left out, so that velocity profiles are marched
downstream. Entry, the boundary layer that the narrowing thins, separation, the
jet and the pressure that comes back behind it follow from the shape, without a
coefficient. Where blood runs back its own inertia along the vessel is left out
(Reyhner and Fluegge-Lotz), or the march would not be stable. Profiles live on
rings of s = (r / R)^2, on which Poiseuille's parabola is a straight line and
exact. Walls steeper than the theory carries are taken as far as it does.

Sources: Lagree & Lorthois 2005, doi:10.1016/j.ijengsci.2004.09.003; Reyhner & Fluegge-Lotz 1968,
doi:10.1016/0020-7462(68)90017-4.
"""

from dataclasses import dataclass
from typing import Protocol

import numba
import numpy as np
from scipy.optimize import nnls

from solvers.errors import DidNotConverge

SOURCES = ["Lagree & Lorthois 2005 (reduced Navier-Stokes in a stenosis), doi:10.1016/j.ijengsci.2004.09.003"]

REYNOLDS = (250.0, 500.0, 1000.0, 2000.0)
"""Of the throat, at which a loss is fitted: from an artery at rest to where a pipe's flow is no longer laminar."""


class Fluid(Protocol):
    """Density kg/m^3, viscosity Pa s."""

    @property
    def density(self) -> float: ...
    @property
    def viscosity(self) -> float: ...


@dataclass(frozen=True)
class Loss:
    """Of a stenosis: dp = linear q + quadratic |q| q; Pa s/m^3 and Pa s^2/m^6."""

    linear: float
    quadratic: float


@dataclass(frozen=True)
class March:
    """rings in a section, closer to each other at the wall by `growth`; step in local diameters; steepest wall, dR/dz;
    tolerance of Newton's method, of the largest velocity, and its most iterations in a step."""

    rings: int = 100
    growth: float = 1.0
    step: float = 0.03
    steepest: float = 1.0
    tolerance: float = 1e-6
    iterations: int = 30


@dataclass(frozen=True)
class Passage:
    """Along a vessel at stations z (n,), m: pressure (n,), Pa, 0 at the first; velocity (n, rings + 1), m/s, on
    s (rings + 1,), squares of the radius as part of the wall's."""

    z: np.ndarray
    pressure: np.ndarray
    velocity: np.ndarray
    s: np.ndarray

    @property
    def backward(self) -> np.ndarray:
        """Whether blood runs back anywhere in a section, (n,)."""
        return (self.velocity < 0).any(axis=1)

    @property
    def drop(self) -> float:
        """Pa, from the first station to the last."""
        return float(-self.pressure[-1])


def march(z: np.ndarray, radius: np.ndarray, flow: float, fluid: Fluid, numerics: March = March(), *,
          flat: bool = False) -> Passage:
    """From the first place to the last, radius (n,) at places z (n,), m; flow m^3/s, above zero.

    Enters with Poiseuille's profile, or a flat one. Raises DidNotConverge `lesion_flow`.
    """
    at, r = _stations(z, radius, numerics)
    s = (np.tanh(numerics.growth * np.linspace(0, 1, numerics.rings + 1)) / np.tanh(numerics.growth)) ** 2
    first = np.r_[np.ones(numerics.rings), 0.0] if flat else 1 - s
    first *= flow / (np.pi * r[0] ** 2 * np.trapezoid(first, s))
    u, p, stuck = _march(at, np.pi * r**2, s, first, flow, fluid.viscosity / fluid.density, numerics.tolerance,
                         numerics.iterations)
    if stuck:
        raise DidNotConverge("lesion_flow", f"the flow through a narrowing stopped {1e3 * (at[stuck] - at[0]):.1f} mm "
                             f"behind its start, where the lumen is {2e3 * r[stuck]:.2f} mm wide",
                             f"a step's change below {numerics.tolerance:.0e}", "Smooth the lumen there.")
    return Passage(at, fluid.density * p, u, s)


def loss(z: np.ndarray, radius: np.ndarray, fluid: Fluid, numerics: March = March()) -> Loss:
    """Of static pressure from the first place to the last: fitted to marches at REYNOLDS, each with the same weight.

    Where the jet of a fast one is too thin for the rings, the slower ones decide. Raises DidNotConverge `lesion_flow`
    when fewer than two are left.
    """
    flows = np.array(REYNOLDS) * np.pi / 2 * radius.min() * fluid.viscosity / fluid.density
    drops = _drops(z, radius, flows, fluid, numerics)
    unit, flows = flows[0], flows[:len(drops)]
    (linear, quadratic), _ = nnls(np.stack([flows / unit, (flows / unit) ** 2], 1) * (drops[0] / drops)[:, None],
                                  np.full(len(flows), drops[0]))
    return Loss(float(linear / unit), float(quadratic / unit**2))


def _drops(z: np.ndarray, radius: np.ndarray, flows: np.ndarray, fluid: Fluid, numerics: March) -> np.ndarray:
    """At the flows, slowest first, as far as they converge, Pa."""
    found: list[float] = []
    for flow in flows:
        try:
            found.append(march(z, radius, flow, fluid, numerics).drop)
        except DidNotConverge:
            if len(found) < 2:
                raise
            break
    return np.array(found)


def _stations(z: np.ndarray, radius: np.ndarray, numerics: March) -> tuple[np.ndarray, np.ndarray]:
    """Where profiles are found, a part of the local diameter apart, and the radius there."""
    fine = np.linspace(z[0], z[-1], max(2, int(np.ceil((z[-1] - z[0]) / (0.25 * numerics.step * radius.min()))) + 1))
    r = _no_steeper(fine, np.interp(fine, z, radius), numerics.steepest)
    count = np.r_[0.0, np.cumsum(np.diff(fine) / (numerics.step * (r[1:] + r[:-1])))]
    at = np.interp(np.linspace(0, count[-1], max(3, round(count[-1]) + 1)), count, fine)
    return at, np.interp(at, fine, r)


def _no_steeper(z: np.ndarray, radius: np.ndarray, steepest: float) -> np.ndarray:
    """The widest lumen inside the given one whose wall is nowhere steeper."""
    rise = steepest * z
    behind = rise + np.minimum.accumulate(radius - rise)
    return np.minimum(behind, np.minimum.accumulate((radius + rise)[::-1])[::-1] - rise)


# The march. At s blood has the velocity u, and inside s flows f; s moves with the wall, through which nothing passes:
# A u u_z - f_z u_s = -A p_z / rho + 4 pi nu (s u_s)_s,  f_s = A u,  u(1) = 0,  f(1) = q.


@numba.njit(cache=True, error_model="numpy")
def _march(z, area, s, first, flow, nu, tolerance, iterations):  # type: ignore[no-untyped-def]
    """Velocity (stations, rings + 1), pressure by density, and the station that failed (0: none)."""
    n, m = len(z), len(s)
    u, f, p = np.zeros((n, m)), np.zeros((n, m)), np.zeros(n)
    u[0] = first
    _carried(f[0], u[0], area[0], s)
    slope = -8 * np.pi * nu * flow / area[0] ** 2
    for k in range(1, n):
        now, one, two = _backward(z, k)
        old_u, old_f = one * u[k - 1] + two * u[k - 2], one * f[k - 1] + two * f[k - 2]
        u[k] = u[k - 1] * area[k - 1] / area[k]
        for _ in range(iterations):
            _carried(f[k], u[k], area[k], s)
            change, more = _newton(u[k], f[k], now, old_u, old_f, area[k], slope, s, nu, flow)
            u[k] += change
            slope += more
            if np.abs(change).max() < tolerance * np.abs(u[k]).max():
                break
        else:
            return u, p, k
        _carried(f[k], u[k], area[k], s)
        p[k] = p[k - 1] + slope * (z[k] - z[k - 1])
    return u, p, 0


@numba.njit(cache=True)
def _backward(z, k):  # type: ignore[no-untyped-def]
    """Weights of this, the last and the last but one station in d/dz: second order, but for the first step."""
    h = z[k] - z[k - 1]
    if k == 1:
        return 1 / h, -1 / h, 0.0
    g = z[k - 1] - z[k - 2]
    return 1 / h + 1 / (h + g), -(1 / h + 1 / g), h / (g * (h + g))


@numba.njit(cache=True)
def _carried(f, u, area, s):  # type: ignore[no-untyped-def]
    """The flow inside each ring, into f."""
    for j in range(1, len(s)):
        f[j] = f[j - 1] + 0.5 * area * (s[j] - s[j - 1]) * (u[j] + u[j - 1])


@numba.njit(cache=True, error_model="numpy")
def _newton(u, f, now, old_u, old_f, area, slope, s, nu, flow):  # type: ignore[no-untyped-def]
    """Changes of velocity (rings + 1,) and of the pressure's slope by density.

    From the axis outwards du_j = b + g dslope - c du_{j+1}, df_j = e + k dslope - w du_{j+1}; no slip closes it.
    """
    n = len(s) - 1
    b, g, c = np.zeros(n), np.zeros(n), np.zeros(n)
    e, k, w = 0.0, 0.0, 0.0
    for j in range(n):
        u_z, f_z = now * u[j] + old_u[j], now * f[j] + old_f[j]
        along = area if u[j] > 0 else 0.0
        across = 1 / (s[j + 1] - s[j - 1]) if j else 0.0
        inner = _shear(s, j - 1, nu) / _width(s, j) if j else 0.0
        outer = _shear(s, j, nu) / _width(s, j)
        u_s = across * (u[j + 1] - u[j - 1])
        rest = along * u[j] * u_z - f_z * u_s + area * slope - outer * (u[j + 1] - u[j])
        own, carried = along * (u_z + now * u[j]) + inner + outer, -now * u_s
        after, before, half = -f_z * across - outer, 0.0, 0.0
        if j:
            rest += inner * (u[j] - u[j - 1])
            before = f_z * across - inner
            half = 0.5 * area * (s[j] - s[j - 1])
            e, k, w = e + half * b[j - 1], k + half * g[j - 1], w + half * c[j - 1]
        pivot = own + carried * (half - w) - (before * c[j - 1] if j else 0.0)
        b[j] = (-rest - carried * e - (before * b[j - 1] if j else 0.0)) / pivot
        g[j] = (-area - carried * k - (before * g[j - 1] if j else 0.0)) / pivot
        c[j] = after / pivot
        e, k, w = e + (half - w) * b[j], k + (half - w) * g[j], (half - w) * c[j]
    half = 0.5 * area * (s[n] - s[n - 1])
    more = (flow - f[n] - e - half * b[n - 1]) / (k + half * g[n - 1])
    change = np.zeros(n + 1)
    for j in range(n - 1, -1, -1):
        change[j] = b[j] + g[j] * more - c[j] * change[j + 1]
    return change, more


@numba.njit(cache=True)
def _shear(s, j, nu):  # type: ignore[no-untyped-def]
    """Viscous force between rings j and j + 1 for a unit difference of velocity, per length and density."""
    return 2 * np.pi * nu * (s[j] + s[j + 1]) / (s[j + 1] - s[j])


@numba.njit(cache=True)
def _width(s, j):  # type: ignore[no-untyped-def]
    """Of ring j's own part of s: half way to its neighbours."""
    return 0.5 * (s[j + 1] - s[j - 1]) if j else 0.5 * s[1]
