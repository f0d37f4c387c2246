"""Dilated beds of the legs on the 0D network; each expectation is solved by hand."""

import numpy as np
import pytest
from pytest import approx
from scipy.optimize import brentq

from pipeline.simulate_flow import outside, state
from solvers.errors import BadInput
from solvers.flow import circuit, hyperaemia, network, outlets
from solvers.flow.navier_stokes import Fluid
from solvers.flow.outlets import Rest
from solvers.flow.pulse import Pulse
from solvers.library import physiology
from solvers.units import MMHG
from tests.unit.vessel_trees import aorta, aorta_with_lesion, lesion, straight

BLOOD = Fluid()
COARSE = circuit.Numerics(steps=150)
MAN = Rest(60, "male", 125 * MMHG, 75 * MMHG)
LEG = Rest(60, "male", 125 * MMHG, 75 * MMHG, inlet_flow=5e-6)


def at_rest(tree, lesions=(), person=LEG):
    def build(beds):
        return network.build(tree, BLOOD, lesions, outlets=beds)

    targets = outlets.targets(tree, lesions, person)
    return build, outlets.tune(build, targets, tuning=outlets.Tuning(numerics=COARSE)), outlets.pulse(targets)


def narrowed(percent):
    name = "external_iliac_artery_left"
    tube = straight(lambda s: 4.0 * (1 - percent / 100 * np.exp(-(((s - 40) / 6) ** 2))), name=name)
    return tube, [lesion(tube, 0, 28.0, 52.0, 8.0)]


@pytest.fixture(scope="module")
def leg():
    tube, lesions = narrowed(55.0)
    return tube, lesions, *at_rest(tube, lesions)


def test_the_ratio_is_that_of_maximal_flow(leg):
    """Steady flow: pressure at the inlet as at rest = loss of tube and stenosis + dilated bed + venous pressure."""
    tube, lesions, build, rest, wave = leg
    still = Pulse(wave.period, np.full(60, wave.mean))
    found = hyperaemia.dilate(build, rest, still, 3.0, COARSE)
    bed, mean = rest.outlets[0], rest.achieved.mean
    wide = ((mean - bed.venous) / rest.targets.flows[0] - bed.proximal) / 3
    parts = found.network.circuit.segments
    linear, quadratic = sum(s.resistance for s in parts), sum(s.quadratic for s in parts)
    q = brentq(lambda q: bed.venous + (linear + bed.proximal + wide) * q + quadratic * q**2 - mean, 0, 1e-3)
    assert found.flows[0] == approx(q, rel=2e-3) and q > 1.3 * rest.achieved.flows[0]
    ratio = network.results(found.network, found.periodic)["lesions"]["L1"]["distal_to_proximal_ratio"]["mean"]
    behind = network.stations(tube, lesions[0]).distal_abscissa
    after = sum(s.resistance for s, x in zip(parts, found.network.stretches, strict=True) if x.start >= behind - 1e-6)
    assert ratio == approx((bed.venous + (after + bed.proximal + wide) * q) / mean, rel=2e-3)


def test_pressure_stays_and_the_ratio_falls(leg):
    _, _, build, rest, wave = leg
    found = hyperaemia.dilate(build, rest, wave, numerics=COARSE)
    assert found.factor == physiology.number("hyperaemia", "limb").value == 2.0
    inlet = found.periodic.at(found.network.circuit.inlet)
    assert inlet.mean() == approx(rest.achieved.mean, abs=hyperaemia.TOLERANCE)
    assert found.pulse.mean == approx(sum(found.flows.values()), rel=1e-4)
    ratios = [network.results(n, p)["lesions"]["L1"]["distal_to_proximal_ratio"]["mean"]
              for n, p in ((build(rest.outlets), rest.periodic), (found.network, found.periodic))]
    assert ratios[1] < ratios[0] - 0.01


def test_a_free_leg_takes_what_its_bed_lets_through():
    tube = straight(4.0, name="external_iliac_artery_left")
    build, rest, wave = at_rest(tube)
    found = hyperaemia.dilate(build, rest, wave, 2.0, COARSE)
    bed = rest.outlets[0]
    gain = (bed.proximal + bed.distal) / (bed.proximal + bed.distal / 2)
    assert found.flows[0] / rest.achieved.flows[0] == approx(gain, rel=0.01)


def test_a_bed_that_had_widened_has_less_to_give():
    """The dilated bed is the same whatever lies before it (but for its proximal part, which does not dilate, and which
    tuning sets); so behind a stenosis the flow rises less."""
    gains, dilated, resting = [], [], []
    for percent in (20.0, 64.0):
        tube, lesions = narrowed(percent)
        build, rest, wave = at_rest(tube, lesions)
        found = hyperaemia.dilate(build, rest, wave, 2.0, COARSE)
        gains.append(found.flows[0] / rest.achieved.flows[0])
        scale = rest.targets.flows[0] / (rest.achieved.mean - 4 * MMHG)
        resting.append(rest.outlets[0].resistance * scale)
        dilated.append((2 * found.outlets[0].distal + found.outlets[0].proximal) * scale)
    assert gains[1] < 0.9 * gains[0] < 1.95 * 0.9
    assert dilated == approx([1.0, 1.0], rel=1e-6) and resting[1] < 0.95 * resting[0]


def test_organs_stay_at_rest_and_what_the_ratio_is_called():
    tree, lesions = aorta_with_lesion(60.0)
    made = [outside.tuned(tree, lesions, BLOOD, MAN, (), s) for s in ("rest", "hyperaemia")]
    kidneys = [i for i, n in made[0].feeds.items() if "renal" in n]
    assert kidneys and all(made[0].beds[i] == made[1].beds[i] for i in kidneys)
    assert all(made[1].flows[i] > 1.5 * made[0].flows[i] for i in made[1].dilated)
    assert made[1].pulse.mean > made[0].pulse.mean and any("Hyperaemia" in x for x in made[1].assumed)
    names = [state.ratio_of(tree, m, lesions[0]) for m in made]
    assert names == ["distal_to_proximal_ratio", "peripheral_ffr"]
    above = lesion(tree, tree.root, 5.0, 15.0, 20.0)  # the kidneys lie behind it too
    assert state.ratio_of(tree, made[1], above) == "hyperaemic_ratio"
    assert state.ratio_of(tree, made[0], above) == "distal_to_proximal_ratio"


def test_a_vessel_without_a_leg_is_refused():
    tube = straight(3.0, name="renal_artery_left")
    build, rest, wave = at_rest(tube)
    with pytest.raises(BadInput) as caught:
        hyperaemia.dilate(build, rest, wave)
    assert caught.value.code == "no_leg"
    assert not any(n.startswith("limb") for n in outlets.targets(aorta(), (), MAN).beds.values() if "renal" in n)
