"""Velocity profiles on an inlet, against the equations that they solve."""

import numpy as np
import pytest
from pytest import approx
from scipy.spatial import Delaunay

from solvers.flow import inlet

RADIUS, NU, PERIOD = 0.009, 3.3e-6, 0.85


def disc(n=24, width=1.0, height=1.0):
    """Points of rings in a plane, triangles, and which points lie on the rim; an ellipse of half axes in metres."""
    rings = [np.zeros((1, 2))] + [k / n * np.column_stack([np.cos(a), np.sin(a)]) for k in range(1, n + 1)
                                  for a in [np.arange(6 * k) * 2 * np.pi / (6 * k)]]
    flat = np.vstack(rings)
    points = np.column_stack([flat * [width, height], np.zeros(len(flat))])
    tilt = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    rim = np.flatnonzero(np.linalg.norm(flat, axis=1) > 1 - 1e-9)
    return flat, points @ tilt.T, Delaunay(flat).simplices, rim


@pytest.mark.parametrize("axes", [(0.01, 0.01), (0.02, 0.008)])
def test_developed_flow_in_an_ellipse_is_a_paraboloid(axes):
    flat, points, faces, rim = disc(24, *axes)
    shape = inlet.profile(points, faces, rim)
    assert shape == approx(1 - (flat**2).sum(axis=1), abs=0.01)
    assert shape[rim] == approx(0) and shape.max() == 1


def pulse(n=400):
    phase = 2 * np.pi * np.arange(n) / n
    return 2e-5 * (1 + 2 * np.cos(phase) + 0.7 * np.sin(3 * phase))


def speeds(r, flow=None):
    return inlet.womersley(1 - r**2, pulse() if flow is None else flow, PERIOD, RADIUS, NU)


def test_a_pulsatile_profile_carries_the_flow():
    r = np.linspace(0, 1, 2001)
    carried = np.trapezoid(speeds(r) * 2 * np.pi * r * RADIUS**2, r, axis=1)
    assert carried == approx(pulse(), abs=1e-4 * pulse().max())
    assert np.abs(speeds(np.array([1.0]))).max() < 1e-9  # nothing slips at the wall


def test_a_pulsatile_profile_obeys_the_momentum_equation():
    """du/dt - nu laplace(u) is the pressure's gradient over density: alike everywhere in the tube."""
    r = np.linspace(0, 1, 801)[1:]
    u = speeds(r)
    n = len(u)
    rate = np.fft.irfft(2j * np.pi * np.arange(n // 2 + 1)[:, None] / PERIOD * np.fft.rfft(u, axis=0), n, axis=0)
    slope = np.gradient(u, r, axis=1)
    viscous = NU / RADIUS**2 * np.gradient(r * slope, r, axis=1) / r
    driving = (rate - viscous)[:, 10:-10]
    assert np.ptp(driving, axis=1).max() < 5e-3 * np.abs(rate).max()


def test_a_slow_pulse_is_a_parabola_and_a_fast_one_is_flat():
    r = np.linspace(0, 1, 201)
    still = inlet.womersley(1 - r**2, np.full(20, 2e-5), PERIOD, RADIUS, NU)
    parabola = 2 * 2e-5 / (np.pi * RADIUS**2) * (1 - r**2)
    assert still[3] == approx(parabola, abs=1e-12)
    slow = inlet.womersley(1 - r**2, pulse(), 1e4, RADIUS, NU)
    assert slow == approx(np.outer(pulse() / 2e-5, parabola), abs=2e-3 * slow.max())
    fast = inlet.womersley(1 - r**2, 2e-5 * np.cos(2 * np.pi * np.arange(20) / 20), 0.01, RADIUS, NU)
    assert np.ptp(fast[0, :150]) < 0.02 * fast[0, 0]
