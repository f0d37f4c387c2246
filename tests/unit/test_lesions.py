"""Lesions on profiles whose narrowing is known; healthy shapes have none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.geometry import lesions
from solvers.geometry.centrelines import Branch, Tree

S = np.arange(0, 80.01, 0.75)


def branch(diameter, name="iliac_artery_left", spread=0.3):
    d = np.broadcast_to(diameter, S.shape)
    points = np.column_stack([np.zeros_like(S), np.zeros_like(S), -S])
    areas = [np.pi / 4 * (d + e) ** 2 for e in (0, -spread, spread)]
    return Branch(points, d / 2, *areas, name=name)


def found(*diameters):
    return lesions.solve(Tree(tuple(branch(d).but(parent=i - 1) for i, d in enumerate(diameters))))


def dip(at, percent, length):
    x = np.clip(np.abs(S - at) / (length / 2), 0, 1)
    return 1 - percent / 100 * 0.5 * (1 + np.cos(np.pi * x))


TAPER = 10 - 0.04 * S


@given(st.floats(35, 85), st.floats(25, 55), st.floats(8, 24), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_a_narrowing_is_measured(percent, at, length, seed):
    noise = 1 + 0.01 * np.random.default_rng(seed).standard_normal(len(S))
    [lesion] = found(TAPER * dip(at, percent, length) * noise)
    assert lesion.percent_diameter_stenosis == pytest.approx(percent, abs=4)
    assert lesion.minimal_diameter == pytest.approx((10 - 0.04 * at) * (1 - percent / 100), abs=0.3)
    assert lesion.abscissa == pytest.approx(at, abs=2.0)
    assert lesion.start < lesion.abscissa < lesion.end and 0.3 * length < lesion.length < 1.2 * length
    assert lesion.minimal_area_low < lesion.minimal_area < lesion.minimal_area_high


ANEURYSM = 10 * (1 + 1.5 * np.exp(-(((S - 40) / 10) ** 2)))
HEALTHY = {
    "straight": np.full_like(S, 8.0),
    "taper": 12 - 0.08 * S,
    "step of a junction": np.where(S < 40, 10.0, 6.0),
    "smooth step": 8 - 2 * np.tanh((S - 40) / 6),
    "aneurysm": ANEURYSM,
    "narrow start": 8 - 4 * np.exp(-S / 5),
    "narrow end": 8 - 4 * np.exp(-(S[-1] - S) / 5),
    "mild": 8 * dip(40, 20, 14),
    "aneurysm before a taper": 10 + 10 * np.exp(-(((S - 25) / 9) ** 2)) - 0.03 * S,
    "nearly no section": np.where(S < 76, np.nan, 8.0),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_none_on_healthy_shapes(name):
    noise = 1 + 0.02 * np.random.default_rng(5).standard_normal(len(S))
    assert found(HEALTHY[name]) == [] and found(HEALTHY[name] * noise) == []


def test_several_lesions_are_ordered_by_severity():
    a, b = found(TAPER * dip(20, 45, 12) * dip(55, 70, 12), np.full_like(S, 6.0))
    assert (a.id, b.id) == ("L1", "L2") and a.abscissa > b.abscissa
    assert a.percent_diameter_stenosis == pytest.approx(70, abs=3)
    assert b.percent_diameter_stenosis == pytest.approx(45, abs=3)
    assert a.branch == b.branch == 0 and a.branch_name == "iliac_artery_left"


def test_a_lesion_beside_an_aneurysm_is_measured_against_normal_lumen():
    [lesion] = found((10 + 9 * np.exp(-(((S - 20) / 6) ** 2))) * dip(58, 55, 12))
    assert lesion.percent_diameter_stenosis == pytest.approx(55, abs=5)


def test_missing_sections_do_not_hide_a_lesion():
    d = TAPER * dip(40, 60, 14)
    d[(S < 8) | (S > 74) | ((S > 20) & (S < 24))] = np.nan
    assert found(d)[0].percent_diameter_stenosis == pytest.approx(60, abs=4)
