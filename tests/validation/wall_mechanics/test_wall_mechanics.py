"""The wall's mechanics against exact solutions and published numbers (see README)."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest import approx
from scipy.optimize import brentq, fsolve

from solvers.geometry import wall_solid
from solvers.geometry.wall_solid import EDGES, Solid
from solvers.library import artery_wall
from solvers.materials.law import Law
from solvers.materials.neo_hookean import NeoHookean
from solvers.mechanics import cycle, equilibrium, prestress
from solvers.mechanics.body import Body, End, Loads
from solvers.mechanics.cycle import Pressures
from solvers.units import MMHG
from tests.tubes import cylinder

MU, INNER_RADIUS, OUTER_RADIUS = 1e5, 1e-3, 1.5e-3
PLANE = {"axial": 1e12, "crosswise": 1e3}
"""Ends that keep their plane, held crosswise only against drifting."""
BLOOD = 1060.0


# Bodies


def tube(n_around: int, n_along: int, length: float, thickness: float, inner: float = INNER_RADIUS,
         n_layers: int = 2) -> Solid:
    points, triangles = cylinder(n_around, n_along, inner, length)
    return wall_solid.build(points, triangles, np.full(len(points), thickness), n_layers)


def body(solid: Solid, law: Law, bulk: float) -> Body:
    return Body(solid.points, solid.cells, solid.facets, solid.tags, law, bulk)


def ends(solid: Solid, **stiffness: float) -> dict[int, End]:
    return {wall_solid.CUT + k: End((float(n[0]), float(n[1]), float(n[2])), **stiffness)
            for k, n in enumerate(solid.ends)}


def radius_of(points: NDArray[np.float64], solid: Solid) -> float:
    """Mean distance of the lumen's points from the axis."""
    return float(np.hypot(*points[: len(solid.lumen), :2].T).mean())


def block(side: float) -> Body:
    """A cube in six quadratic tetrahedra; x = 0 has the tag 10, x = side the tag 1, the others 2; no law yet."""
    corners = side * np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    tets = np.array([[0, a, b, 7] for a, b in ((4, 6), (6, 2), (2, 3), (3, 1), (1, 5), (5, 4))])
    pairs, inverse = np.unique(np.sort(tets[:, EDGES], axis=2).reshape(-1, 2), axis=0, return_inverse=True)
    cells = np.hstack([tets, 8 + inverse.reshape(-1, 6)])
    faces = np.sort(tets[:, [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]].reshape(-1, 3), axis=1)
    unique, counts = np.unique(faces, axis=0, return_counts=True)
    facets = unique[counts == 1]
    x = corners[facets][:, :, 0]
    tags = np.where((x == 0).all(axis=1), 10, np.where((x == side).all(axis=1), 1, 2))
    return Body(np.vstack([corners, corners[pairs].mean(axis=1)]), cells, facets, tags, NeoHookean(MU), 1e6 * MU)


# A thick cylinder that keeps its length, of an incompressible neo-Hookean solid


def pressure_at(a: float, A: float = INNER_RADIUS, B: float = OUTER_RADIUS) -> float:
    """Pressure that widens the inner radius from A to a: the integral of (sigma_tt - sigma_rr) / r through the wall."""
    grown = a**2 - A**2
    b = np.sqrt(B**2 + grown)
    return float(MU * (np.log(B / A) - np.log(b / a) - grown / 2 * (1 / b**2 - 1 / a**2)))


def radius_at(pressure: float, A: float = INNER_RADIUS, B: float = OUTER_RADIUS) -> float:
    return float(brentq(lambda a: pressure_at(a, A, B) - pressure, A, 2 * A))


def error_of_radius(n_around: int, pressure: float, bulk: float = 1e4 * MU, thickness: float = 0.5e-3) -> float:
    """Relative to how far the inner radius moves."""
    solid = tube(n_around, 2, 2 * np.pi * INNER_RADIUS / n_around * 2, thickness)
    found = equilibrium.solve(body(solid, NeoHookean(MU), bulk), Loads(pressure, ends(solid, **PLANE)))
    exact = radius_at(pressure, B=INNER_RADIUS + thickness)
    return abs(radius_of(solid.points + found.displacement, solid) - exact) / (exact - INNER_RADIUS)


def test_thick_cylinder_converges_to_the_exact_radius() -> None:
    coarse, fine = (error_of_radius(n, 9e3) for n in (8, 16))
    print(f"error of the inner radius's movement: {coarse:.1e}, {fine:.1e}")
    assert fine < 2e-3
    assert np.log2(coarse / fine) > 2


def test_thick_cylinder_meets_the_table(shared: Path) -> None:
    table = np.genfromtxt(shared / "references" / "analytic" / "neohookean_thick_cylinder.csv", delimiter=",",
                          names=True)
    row = table[(table["lambda_z"] == 1.0) & (np.abs(table["a_mm"] - 1.1) < 1e-9)][0]
    solid = tube(16, 2, 0.4e-3, 0.5e-3)
    found = equilibrium.solve(body(solid, NeoHookean(1e3 * row["mu_kPa"]), 1e9),
                              Loads(1e3 * row["P_inner_kPa"], ends(solid, **PLANE)))
    moved = solid.points + found.displacement
    assert 1e3 * radius_of(moved, solid) == approx(row["a_mm"], rel=2e-4)
    outside = moved[len(solid.lumen) * 2: solid.n_corners]
    assert 1e3 * np.hypot(*outside[:, :2].T).mean() == approx(row["b_mm"], rel=1.5e-3)  # corners only
    hoop = found.stresses.max_principal / 1e3
    assert row["sig_tt_outer_kPa"] < np.percentile(hoop, 5) < np.percentile(hoop, 95) < row["sig_tt_inner_kPa"]


def test_the_inverse_of_the_thick_cylinder_is_the_one_it_came_from() -> None:
    a = 1.1 * INNER_RADIUS
    b = np.sqrt(OUTER_RADIUS**2 + a**2 - INNER_RADIUS**2)
    solid = tube(16, 2, 0.4e-3, b - a, inner=a)
    zero = prestress.unloaded(body(solid, NeoHookean(MU), 1e4 * MU), Loads(pressure_at(a), ends(solid, **PLANE)))
    assert radius_of(zero.body.points, solid) == approx(INNER_RADIUS, rel=2e-4)


@pytest.mark.parametrize("ratio", [1e2, 1e4, 1e6])
def test_a_thin_nearly_incompressible_wall_does_not_lock(ratio: float) -> None:
    """A tenth of the radius, ten cells around: linear tetrahedra would hardly move."""
    thickness = 0.1 * INNER_RADIUS
    pressure = pressure_at(1.1 * INNER_RADIUS, B=INNER_RADIUS + thickness)
    allowed = 0.01 + 2 / ratio
    assert error_of_radius(10, pressure, bulk=ratio * MU, thickness=thickness) < allowed


# The image and back


@pytest.fixture(scope="module")
def narrowed() -> Solid:
    """A bent tube of 4 mm with a narrowing on one side."""
    points, triangles = cylinder(10, 16, 4e-3, 0.03)
    z = points[:, 2]
    points[:, :2] *= (1 - 0.35 * np.exp(-(((z - 0.015) / 4e-3) ** 2)) * (points[:, 0] > 0))[:, None]
    points[:, 0] += 3e-3 * (1 - np.cos(2 * np.pi * z / 0.03))
    return wall_solid.build(points, triangles, np.full(len(points), 0.8e-3))


@pytest.mark.parametrize("name", ["delfino1997", "raghavan2000"])
def test_loading_the_zero_pressure_shape_returns_the_image(narrowed: Solid, name: str) -> None:
    loads = Loads(93 * MMHG, ends(narrowed))
    zero = prestress.unloaded(body(narrowed, artery_wall.law(name).what, 1e8), loads)
    assert np.linalg.norm(zero.displacement, axis=1).max() > 1e-4
    back = equilibrium.solve(zero.body, loads)
    missed = np.linalg.norm(zero.body.points + back.displacement - narrowed.points, axis=1).max()
    print(f"{name}: missed by {1e6 * missed:.1e} um")
    assert missed < 1e-6


def test_the_prestressed_wall_returns_to_the_image_from_systole(narrowed: Solid) -> None:
    found = cycle.solve(body(narrowed, artery_wall.law("delfino1997").what, 1e8), ends(narrowed),
                        Pressures(93 * MMHG, 75 * MMHG, 125 * MMHG), comes_back=True)
    assert np.linalg.norm(found.displacement, axis=1).max() > 5e-5
    assert found.round_trip is not None and found.round_trip < 1e-6


def test_both_ways_to_the_stress_agree() -> None:
    solid = tube(12, 8, 0.02, 0.8e-3, inner=4e-3, n_layers=1)
    wall = body(solid, artery_wall.law("delfino1997").what, 1e8)
    pressures = Pressures(93 * MMHG, 75 * MMHG, 125 * MMHG)
    one, two = (cycle.solve(wall, ends(solid), pressures, way) for way in ("prestress", "inverse"))

    def mean(found: cycle.Cycle) -> float:
        return float(np.average(found.systole.stresses.max_principal, weights=found.systole.stresses.volume))

    assert mean(one) == approx(mean(two), rel=0.03)
    pulse, zero = (tuple(radius_of(solid.points + field, solid) for field in fields)
                   for fields in ((one.displacement, two.displacement), (one.zero, two.zero)))
    assert pulse[0] - 4e-3 == approx(pulse[1] - 4e-3, rel=0.03)
    assert zero[0] == approx(zero[1], rel=0.02)


# Laws in uniaxial stretch


def energy(name: str, stretch_1: float, stretch_2: float) -> float:
    """Energy of the published laws, written anew, J/m^3; fibres lie in the plane of the first two directions."""
    s1, s2 = stretch_1**2, stretch_2**2
    I1 = s1 + s2 + 1 / (s1 * s2)
    if name == "delfino1997":
        return 44.2e3 / 16.7 * (np.exp(16.7 / 2 * (I1 - 3)) - 1)
    if name == "raghavan2000":
        return 174e3 * (I1 - 3) + 1881e3 * (I1 - 3) ** 2
    angle, kappa = np.radians(49.98), 0.226
    E = kappa * I1 + (1 - 3 * kappa) * (s1 * np.cos(angle) ** 2 + s2 * np.sin(angle) ** 2) - 1
    return 7.64e3 / 2 * (I1 - 3) + 2 * 996.6e3 / (2 * 524.6) * (np.exp(524.6 * max(E, 0.0) ** 2) - 1)


def stresses(name: str, l1: float, l2: float) -> tuple[float, float]:
    """Cauchy stresses along the first two directions, Pa; none along the third."""
    h = 1e-6
    return (l1 * (energy(name, l1 + h, l2) - energy(name, l1 - h, l2)) / (2 * h),
            l2 * (energy(name, l1, l2 + h) - energy(name, l1, l2 - h)) / (2 * h))


@pytest.mark.parametrize(("name", "stretch"), [("delfino1997", 1.2), ("raghavan2000", 1.15), ("gasser2006", 1.1)])
def test_laws_in_uniaxial_stretch(name: str, stretch: float) -> None:
    side = 1e-3
    across = float(fsolve(lambda l2: stresses(name, stretch, float(l2[0]))[1], [stretch**-0.5])[0])
    tension = stresses(name, stretch, across)[0]
    law, cube = artery_wall.law(name).what, block(side)
    families = np.zeros((0, 0, 1, 3))
    if name == "gasser2006":
        angle = law.angle  # type: ignore[attr-defined]
        families = np.array([np.broadcast_to([np.cos(angle), sign * np.sin(angle), 0.0], (6, 1, 3))
                             for sign in (1, -1)])
    made = Body(cube.points, cube.cells, cube.facets, cube.tags, law, 1e10, families)
    pull = Loads(-tension, {10: End((-1.0, 0.0, 0.0), axial=1e13, crosswise=1e2)})
    found = equilibrium.solve(made, pull)
    length, width, height = np.ptp(made.points + found.displacement, axis=0) / side
    assert length == approx(stretch, rel=2e-4)
    assert width == approx(across, rel=2e-4)
    assert height == approx(1 / (stretch * across), rel=2e-4)
    assert found.stresses.max_principal == approx(tension, rel=1e-3)


def test_no_load_no_stress() -> None:
    found = equilibrium.solve(block(1e-3), Loads(0.0, {10: End((-1.0, 0.0, 0.0))}))
    assert np.abs(found.stresses.cauchy).max() < 1e-6


# What does not depend on the frame, and what people measure


def test_turning_the_patient_turns_the_answer() -> None:
    solid = tube(8, 6, 0.02, 0.8e-3, inner=4e-3, n_layers=1)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    wall = body(solid, artery_wall.law("delfino1997").what, 1e8)
    turned = Body(solid.points @ turn.T, solid.cells, solid.facets, solid.tags, wall.law, wall.bulk)
    held = ends(solid)
    held_turned = {tag: End(tuple((turn @ np.array(end.normal)).tolist())) for tag, end in held.items()}
    one, two = (prestress.stretched(b, Loads(93 * MMHG, e)) for b, e in ((wall, held), (turned, held_turned)))
    assert two.stresses.max_principal == approx(one.stresses.max_principal, rel=1e-4)


def test_an_aorta_widens_as_pulse_waves_tell() -> None:
    """Bramwell & Hill: the wave velocity of the model's aorta lies between the 10th percentile of people of 50 to 59
    and the 90th of those of 60 to 69 years."""
    inner = 8.5e-3
    thickness = float(artery_wall.thickness("blanco2015").what.of(np.array(inner)))
    solid = tube(12, 6, 0.03, thickness, inner=inner, n_layers=1)
    low, high = 78 * MMHG, 118 * MMHG
    found = cycle.solve(body(solid, artery_wall.law("delfino1997").what, 1e8), ends(solid),
                        Pressures(93 * MMHG, low, high))
    middle = np.abs(solid.lumen[:, 2] - 0.015) < 0.006
    moved = np.hypot(*(solid.lumen + found.displacement[: len(solid.lumen)])[middle, :2].T).mean() - inner
    velocity = np.sqrt((high - low) / (2 * BLOOD * moved / inner))
    print(f"pulse wave velocity {velocity:.1f} m/s")
    assert 6.3 < velocity < 13.1
