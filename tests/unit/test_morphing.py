"""Meshes that follow their boundary: tubes whose widening is known."""

import numpy as np
import pytest

from solvers.errors import DidNotConverge
from solvers.geometry import morphing, tetrahedra
from solvers.geometry.morphing import Morphing, Motion
from solvers.geometry.surface import Surface
from tests.tubes import WALL, cylinder, tube

LENGTH, RADIUS = 40.0, 4.0


@pytest.fixture(scope="module")
def vessel() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points, cells, all points of the boundary as flags, those of the wall as flags."""
    points, tets, triangles, tags = tube(8, 20, LENGTH, RADIUS)
    tets = np.where((tetrahedra.volumes(points, tets) > 0)[:, None], tets, tets[:, [0, 2, 1, 3]])
    n = np.arange(len(points))
    return points, tets, np.isin(n, triangles), np.isin(n, triangles[tags == WALL])


def bump(points: np.ndarray, on_wall: np.ndarray, factor: float) -> np.ndarray:
    """The wall widened by `factor` in the middle, by nothing beyond a quarter of the length from there."""
    share = np.clip(1 - np.abs(points[:, 2] - LENGTH / 2) / (LENGTH / 4), 0, 1)
    return points * [1, 1, 0] * (share * (factor - 1) * on_wall)[:, None]


def test_a_uniform_change_of_the_boundary_is_that_of_every_point(vessel) -> None:
    points, tets, on_boundary, _ = vessel
    strain = np.array([[0.5, 0.1, 0.0], [0.0, 0.4, 0.2], [0.1, 0.0, -0.2]])
    shift = points @ strain + [1.0, 2.0, 3.0]
    got = morphing.solve(points, tets, Motion(on_boundary, shift * on_boundary[:, None], 50.0), Morphing(least=0.0))
    np.testing.assert_allclose(got.points, points + shift, atol=1e-9)
    assert got.moved.all()


def test_a_widening_keeps_cells_good_and_what_is_far_still(vessel) -> None:
    points, tets, on_boundary, on_wall = vessel
    shift = bump(points, on_wall, 2.5)
    got = morphing.solve(points, tets, Motion(on_boundary, shift, 6.0))
    going = (shift != 0).any(axis=1)
    np.testing.assert_allclose(got.points[going], (points + shift)[going], atol=1e-12)
    far = np.abs(points[:, 2] - LENGTH / 2) > LENGTH / 4 + 6.0
    assert far.sum() > 100
    np.testing.assert_array_equal(got.points[far], points[far])
    assert not got.moved[far].any()
    assert tetrahedra.volumes(got.points, tets).min() > 0
    assert got.flattest == pytest.approx(tetrahedra.scaled_jacobians(got.points, tets).min(), rel=1e-6)
    inside = tets[~on_boundary[tets].all(axis=1)]
    before, after = (tetrahedra.scaled_jacobians(p, inside).min() for p in (points, got.points))
    assert after > 0.6 * before
    middle = np.flatnonzero((np.abs(points[:, 2] - LENGTH / 2) < 1e-9) & (np.hypot(*points[:, :2].T) < RADIUS / 2))
    grown = np.hypot(*got.points[middle, :2].T) / np.hypot(*points[middle, :2].T).clip(1e-9)
    assert grown[grown > 0.5].min() > 1.5  # the middle goes along with its wall


def test_no_motion_moves_nothing(vessel) -> None:
    points, tets, on_boundary, _ = vessel
    got = morphing.solve(points, tets, Motion(on_boundary, np.zeros_like(points), 50.0))
    assert not got.moved.any()
    np.testing.assert_array_equal(got.points, points)


def test_a_wall_drawn_through_the_other_one_is_refused(vessel) -> None:
    points, tets, on_boundary, on_wall = vessel
    with pytest.raises(DidNotConverge) as told:
        morphing.solve(points, tets, Motion(on_boundary, bump(points, on_wall, -0.5), 6.0))
    assert told.value.code == "cells_turn_over"


def test_places_near_a_surface_go_with_it_and_rest_where_it_rests() -> None:
    points, faces = cylinder(40, 40, RADIUS, LENGTH)
    before = Surface(points, faces)
    turned = points[:, 2] > LENGTH / 2
    after = before.but(points=points * np.where(turned, 1.25, 1.0)[:, None] ** [1, 1, 0])
    places = points * [0.97, 0.97, 1.0]
    got = morphing.carried(places, before, after)
    assert np.abs(got[~turned]).max() == 0.0
    np.testing.assert_allclose(got[turned], (after.points - points)[turned], atol=0.03)
