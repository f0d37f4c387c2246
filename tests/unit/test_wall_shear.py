"""Indices of a beat's wall shear against closed forms."""

import numpy as np
from pytest import approx

from solvers.flow.wall_shear import WallSlope, change, indices

N = 720
PHASE = 2 * np.pi * np.arange(N) / N


def beat(along, across):
    """A beat of shear at one place, by coordinates in the wall's plane."""
    return [np.array([[a, b]], np.float32) for a, b in np.broadcast(along, across)]


def test_steady_shear():
    found = indices(beat(np.full(N, 1.2), 1.6))
    assert (found.tawss[0], found.rrt[0], found.peak[0]) == (approx(2.0), approx(0.5), approx(2.0))
    assert (found.osi[0], found.ecap[0], found.transverse[0]) == (approx(0, abs=1e-7),) * 2 + (approx(0, abs=1e-6),)


def test_shear_that_turns_evenly_in_the_plane():
    """No mean: OSI one half, no residence time that is finite; across any direction 2 / pi of its size."""
    found = indices(beat(3 * np.cos(PHASE), 3 * np.sin(PHASE)))
    assert (found.tawss[0], found.osi[0], found.ecap[0]) == (approx(3.0), approx(0.5), approx(1 / 6))
    assert found.transverse[0] == approx(3 * 2 / np.pi, rel=1e-4)
    assert not found.rrt[0] < 1e5


def test_a_mean_with_a_swing_across_it():
    """tau = (m, a sin): transverse 2 a / pi, the mean vector's size m, turned with the axes."""
    m, a, turn = 2.0, 1.5, 0.7
    along, across = np.full(N, m), a * np.sin(PHASE)
    c, s = np.cos(turn), np.sin(turn)
    mean = np.sqrt(m**2 + a**2 * np.sin(PHASE) ** 2).mean()
    for found in (indices(beat(along, across)), indices(beat(c * along - s * across, s * along + c * across))):
        assert found.transverse[0] == approx(2 * a / np.pi, rel=1e-4)
        assert found.rrt[0] == approx(1 / m)
        assert found.tawss[0] == approx(mean)
        assert found.osi[0] == approx((1 - m / mean) / 2)
        assert found.ecap[0] == approx((1 - m / mean) / 2 / mean)
        assert found.peak[0] == approx(np.hypot(m, a))


def test_shear_that_goes_to_and_fro_on_a_line():
    """A reversing flow of one direction has OSI but nothing across."""
    found = indices(beat(1 + 2 * np.cos(PHASE), 0.0))
    assert found.osi[0] > 0.1 and found.transverse[0] == 0
    assert found.rrt[0] * (1 - 2 * found.osi[0]) * found.tawss[0] == approx(1)


def test_no_shear_has_no_residence_time():
    found = indices(beat(np.zeros(N), 0.0))
    assert found.tawss[0] == found.osi[0] == found.transverse[0] == 0
    assert np.isnan(found.rrt[0]) and np.isnan(found.ecap[0])


def test_coordinates_in_the_walls_plane_keep_lengths_and_angles():
    rng = np.random.default_rng(3)
    normals = rng.normal(size=(50, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    wall = WallSlope(np.arange(10, 60), normals, np.ones(50), None, 70)
    a, b = (np.zeros((70, 3)) for _ in range(2))
    for field in (a, b):
        drawn = rng.normal(size=(50, 3))
        field[wall.vertices] = drawn - normals * (drawn * normals).sum(axis=1, keepdims=True)
    p, q = wall.in_plane(a), wall.in_plane(b)
    np.testing.assert_allclose((p * q).sum(axis=1), (a * b).sum(axis=1)[10:60], atol=1e-12)
    np.testing.assert_allclose(p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0],
                               (normals * np.cross(a[10:60], b[10:60])).sum(axis=1), atol=1e-12)


def test_change_from_beat_to_beat():
    """Of size or of direction, whichever changed more; places count by their area."""
    first, larger, turned = (indices([np.array([x, [0.0, 4.0]])] * 4).means for x in ([3.0, 0], [3.3, 0], [0, 3.0]))
    even, first_only = np.ones(2), np.array([1.0, 0.0])
    assert change(first, first, even) == 0
    assert change(first, larger, even) == approx(0.3 / np.hypot(3.3, 4))
    assert change(first, larger, first_only) == approx(0.3 / 3.3)
    assert change(first, turned, first_only) == approx(np.sqrt(2))
