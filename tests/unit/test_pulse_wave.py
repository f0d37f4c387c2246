"""Waves in elastic vessels, against linear theory, laws of conservation and the network in numbers."""

from dataclasses import dataclass

import numpy as np
import pytest
from pytest import approx
from vessel_trees import aorta_with_lesion, branch, fork, straight

from solvers.errors import BadInput, DidNotConverge
from solvers.flow import circuit, network, pulse_wave
from solvers.flow.lesion_flow import Loss
from solvers.flow.pulse import Pulse
from solvers.flow.pulse_wave import Network, Numerics, ReflectionFree, Vessel
from solvers.flow.pulse_wave_tree import PulseWaveVelocity, curves, from_tree, olufsen1999, results
from solvers.flow.windkessel import Windkessel
from solvers.geometry.centrelines import Tree


@dataclass(frozen=True)
class Blood:
    density: float = 1060.0
    viscosity: float = 0.004


RHO = 1060.0
BED = Windkessel(2e7, 1.5e8, 8e-9, 500.0)
AORTA = Vessel("aorta", "in", "out", 0.2, (0.012, 0.009), 4e4, pressure=1e4)
SPEED = np.sqrt(2 / 3 * 4e4 / RHO)


def bell(period=1.0, mean=0.0, height=1e-4, width=0.04, at=0.2, n=256):
    t = np.arange(n) * period / n
    return Pulse(period, mean + height * np.exp(-(((t - at) / width) ** 2)))


def one(vessel=AORTA, bed=BED, fluid=Blood(), **more):
    return Network((vessel,), vessel.start, {vessel.end: bed}, fluid, **more)


def parted(vessel, *names):
    """The same vessel as several in a row."""
    n, r = len(names), np.linspace(*np.broadcast_to(vessel.radius, 2), len(names) + 1)
    nodes = [vessel.start, *names[1:], vessel.end]
    return tuple(vessel.but(name=names[k], start=nodes[k], end=nodes[k + 1], length=vessel.length / n,
                            radius=(r[k], r[k + 1])) for k in range(n))


def linear_wave(vessel, pulse, x, times, friction):
    """Flow of a small wave that only goes forward: k^2 (1 + i w wall/stiffness) c^2 = w^2 - i w friction."""
    modes = np.fft.rfft(pulse.flow) / len(pulse.flow)
    w = 2 * np.pi * np.arange(len(modes)) / pulse.period
    c = np.sqrt(2 / 3 * vessel.stiffness / RHO)
    k = np.sqrt((w**2 - 1j * w * friction) / (c**2 * (1 + 1j * w * vessel.wall_viscosity / vessel.stiffness)))
    k = np.where(k.imag > 0, -k, k)
    waves = modes * np.exp(-1j * k * x)
    return waves[0].real + 2 * (waves[1:-1] * np.exp(1j * np.outer(times, w[1:-1]))).sum(axis=1).real


@pytest.mark.parametrize(("viscosity", "wall"), [(0.0, 0.0), (0.02, 0.0), (0.0, 300.0), (0.02, 300.0)])
def test_a_small_wave_obeys_linear_theory_with_friction_and_a_viscous_wall(viscosity, wall):
    tube = Vessel("tube", "in", "out", 12.0, 0.01, 4e4, wall)  # so long that little comes back from its end
    pulse = bell(period=1.6, height=1e-9)
    found = pulse_wave.solve(one(tube, ReflectionFree(), Blood(viscosity=viscosity)), pulse,
                             Numerics(cell=0.04, samples=100))
    friction = 8 * np.pi * viscosity / (RHO * np.pi * 0.01**2)
    for x in (1.0, 2.0):
        exact, flow = linear_wave(tube, pulse, x, found.times, friction), found.at("tube", x / tube.length).flow
        assert flow == approx(exact, abs=4e-3 * exact.max())
        assert flow.max() == approx(exact.max(), rel=2e-3)
    if viscosity or wall:
        assert exact.max() < 0.9e-9  # and it did fade


def test_viscous_walls_lower_high_frequencies_most():
    pulse = bell(mean=5e-5, width=0.03)
    stiff, damped = (pulse_wave.solve(one(AORTA.but(wall_viscosity=w)), pulse) for w in (0.0, 400.0))
    ratio = np.abs(np.fft.rfft(damped.at("aorta", 0.9).pressure) / np.fft.rfft(stiff.at("aorta", 0.9).pressure))
    assert ratio[0] == approx(1, abs=2e-3)
    assert ratio[2] > 0.95
    assert ratio[8] < 0.85
    assert ratio[12] < 0.7


@pytest.mark.parametrize("wall", [0.0, 400.0])
def test_a_vessel_in_parts_is_the_same_vessel(wall):
    whole, parts = AORTA.but(wall_viscosity=wall), parted(AORTA.but(wall_viscosity=wall), "a", "b", "c", "d")
    pulse = bell(mean=5e-5)
    one_piece = pulse_wave.solve(one(whole), pulse).at("aorta", 0.5)
    pieces = pulse_wave.solve(one(whole).but(vessels=parts), pulse).at("b", 1.0)
    assert pieces.pressure == approx(one_piece.pressure, abs=2e-3 * np.ptp(one_piece.pressure))
    assert pieces.flow == approx(one_piece.flow, abs=2e-3 * one_piece.flow.max())


def test_the_direction_of_a_vessel_is_only_a_sign():
    pulse = bell(mean=5e-5)
    forward = pulse_wave.solve(one(), pulse)
    turned = AORTA.but(start="out", end="in", radius=AORTA.radius[::-1])
    backward = pulse_wave.solve(one().but(vessels=(turned,)), pulse)
    assert backward.at("aorta", 0.25).flow == approx(-forward.at("aorta", 0.75).flow, rel=1e-9)
    assert backward.out("out").flow == approx(forward.out("out").flow, rel=1e-9)
    assert backward.into().flow == approx(pulse.at(200), rel=1e-6)


def test_third_order():
    pulse = bell(mean=5e-5)
    found = [pulse_wave.solve(one(bed=Windkessel(2e7, 1e8, 1e-9)), pulse, Numerics(cell=0.1, split=k, tolerance=1e-8))
             for k in (2, 4, 8)]
    for what in ("pressure", "flow"):
        curve = [getattr(w.at("aorta", 0.5), what) for w in found]
        errors = [np.sqrt(np.mean((a - b) ** 2)) for a, b in zip(curve[:-1], curve[1:], strict=True)]
        assert np.log2(errors[0] / errors[1]) > 2.7


def test_blood_at_rest_in_a_tapering_vessel_stays_at_rest():
    rough = 0.01 * (1 + 0.3 * np.sin(np.arange(30)))
    still = one(AORTA.but(radius=rough, stiffness=4e4 * rough / 0.01), Windkessel(2e7, 1e8, 1e-9, 1.3e4))
    found = pulse_wave.solve(still, Pulse(1.0, np.zeros(16)))
    assert np.abs(found.flow).max() < 1e-11 * SPEED * np.pi * 0.01**2
    assert found.pressure == approx(1.3e4, rel=1e-11)
    assert np.ptp(found.area) > 1e-4


def test_volume_is_kept_to_rounding_and_the_beat_repeats():
    found = pulse_wave.solve(forked(), bell(mean=5e-5))
    assert found.evidence.volume_error < 1e-12
    assert found.evidence.imbalance < 1e-12
    assert found.evidence.change < 1e-3
    assert found.evidence.courant <= 0.6
    again = pulse_wave.solve(forked(), bell(mean=5e-5), Numerics(tolerance=1e-7))
    assert again.out("left").flow.mean() + again.out("right").flow.mean() == approx(again.inflow.mean(), rel=1e-4)


def forked(length=0.2, left=ReflectionFree(0.0), right=BED, **more):
    limbs = (Vessel("left", "fork", "left", length, 0.007, 6e4, pressure=1e4),
             Vessel("right", "fork", "right", length, (0.006, 0.004), 6e4, pressure=1e4))
    trunk = AORTA.but(end="fork", length=length)
    beds = {"left": BED if isinstance(left, ReflectionFree) else left, "right": right}
    return Network((trunk, *limbs), "in", beds, Blood(), **more)


def test_flow_and_total_pressure_pass_a_fork():
    found = pulse_wave.solve(forked(), bell(mean=5e-5))
    meet = [found.at("aorta", 1.0), found.at("left", 0.0), found.at("right", 0.0)]
    total = [c.pressure + RHO / 2 * (c.flow / c.area) ** 2 for c in meet]
    assert total[1] == approx(total[0], rel=1e-9)
    assert total[2] == approx(total[0], rel=1e-9)
    assert meet[1].flow + meet[2].flow == approx(meet[0].flow, rel=1e-9)
    assert np.abs(meet[0].pressure - meet[2].pressure).max() > 10.0  # static pressures differ


def test_a_small_wave_is_reflected_at_a_fork_by_admittances():
    trunk = Vessel("trunk", "in", "fork", 4.0, 0.01, 4e4)
    limbs = tuple(Vessel(n, "fork", n, 4.0, r, 6e4) for n, r in (("a", 0.008), ("b", 0.005)))
    made = Network((trunk, *limbs), "in", {"a": ReflectionFree(), "b": ReflectionFree()}, Blood(viscosity=0.0))
    found = pulse_wave.solve(made, bell(period=1.45, height=1e-9, at=0.15), Numerics(cell=0.04))
    y = [np.pi * v.radius**2 / np.sqrt(2 / 3 * v.stiffness / RHO) / RHO for v in made.vessels]
    wave = found.at("trunk", 0.75).pressure
    going, back = (np.abs(found.times - 0.15 - x / SPEED) < 0.1 for x in (3.0, 5.0))
    assert wave[back].max() / wave[going].max() == approx((y[0] - y[1] - y[2]) / sum(y), abs=0.005)
    assert found.at("b", 0.25).pressure.max() / wave[going].max() == approx(2 * y[0] / sum(y), abs=0.015)


def test_a_small_wave_leaves_and_a_closed_end_sends_it_back():
    tube = Vessel("tube", "in", "out", 2.0, 0.01, 4e4)
    pulse, fine = bell(period=1.0, height=1e-9, at=0.15), Numerics(cell=0.05)
    late = np.arange(200) / 200 > 0.15 + 2.4 / SPEED
    left = pulse_wave.solve(one(tube, ReflectionFree(), Blood(viscosity=0.0)), pulse, fine).at("tube").pressure
    assert np.abs(left[late]).max() < 2e-3 * left.max()
    back = pulse_wave.solve(one(tube, Windkessel(1e13, 0.0, 0.0), Blood(viscosity=0.0)), pulse,
                            Numerics(cell=0.05, tolerance=10.0)).at("tube").pressure
    assert np.ptp(back[late]) > 0.5 * np.ptp(left)


def test_unlike_vessels_side_by_side_share_a_steady_flow_by_resistance():
    wide, narrow = (Vessel(n, "a", "b", 0.1, r, 4e5) for n, r in (("wide", 0.004), ("narrow", 0.003)))
    ends = Vessel("first", "in", "a", 0.05, 0.006, 4e5), Vessel("last", "b", "out", 0.05, 0.006, 4e5)
    loop = Network((ends[0], wide, narrow, ends[1]), "in", {"out": Windkessel(1e8, 0, 0)}, Blood())
    found = pulse_wave.solve(loop, Pulse(0.5, np.full(16, 1e-5)), Numerics(tolerance=1e-4))
    assert found.evidence.imbalance < 1e-12
    split = found.at("wide").flow.mean() / found.at("narrow").flow.mean()
    kept = [(8 * np.pi * 0.004 * 0.1 / found.at(n).area.mean() ** 2) for n in ("wide", "narrow")]
    assert split == approx(kept[1] / kept[0], rel=5e-3)
    same = loop.but(vessels=(ends[0], wide, wide.but(name="narrow"), ends[1]))
    halves = pulse_wave.solve(same, bell(period=0.5, mean=1e-5, height=2e-5))
    assert halves.at("wide").flow == approx(halves.at("narrow").flow, rel=1e-9)


def test_a_stenosis_takes_its_loss_from_total_pressure_at_every_moment():
    law = Loss(2e7, 3e12)
    vessels = parted(AORTA, "a", "b")
    made = one().but(vessels=vessels, losses={"b": law})
    found = pulse_wave.solve(made, bell(mean=5e-5))
    before, behind = found.at("a", 1.0), found.at("b", 0.0)
    assert behind.flow == approx(before.flow, rel=1e-12)
    drop = before.pressure - behind.pressure + RHO / 2 * ((before.flow / before.area) ** 2
                                                          - (behind.flow / behind.area) ** 2)
    assert drop == approx(law.linear * before.flow + law.quadratic * np.abs(before.flow) * before.flow, rel=1e-6)
    assert drop.max() > 5e3
    free = pulse_wave.solve(made.but(losses={}), bell(mean=5e-5))
    assert found.into().pressure.max() > free.into().pressure.max() + 2e3


def test_friction_is_that_of_the_velocity_profile():
    tube = Vessel("tube", "in", "out", 0.4, 0.003, 1e6)
    for order, factor in ((2.0, 8), (9.0, 22)):
        found = pulse_wave.solve(one(tube, Windkessel(1e8, 0, 0), profile=order), Pulse(0.5, np.full(16, 1e-5)),
                                 Numerics(tolerance=1e-6))
        first, last = found.at("tube", 0.0), found.at("tube", 1.0)
        area = found.area.mean()
        exact = factor * np.pi * 0.004 * 1e-5 * 0.4 / area**2
        assert (first.pressure - last.pressure).mean() == approx(exact, rel=5e-3)


def test_a_short_stiff_vessel_is_the_network_in_numbers():
    tube = Vessel("tube", "in", "out", 0.03, 0.006, 4e6)
    made = one(tube, Windkessel(1e8, 1.4e9, 7e-10, 500.0))
    pulse = bell(period=0.8, mean=1e-5, height=5e-5, width=0.07)
    found = pulse_wave.solve(made, pulse, Numerics(tolerance=1e-4))
    known = circuit.solve(pulse_wave.in_numbers(made), pulse, circuit.Numerics(steps=400))
    for mine, theirs in ((found.into().pressure, known.at("in")), (found.out("out").pressure, known.at("out"))):
        assert mine == approx(theirs[::2], abs=0.01 * np.ptp(theirs))
    assert found.out("out").flow == approx(known.out("out")[::2], abs=0.01 * np.ptp(pulse.flow))


def test_along_a_tapering_vessel_the_pulse_grows_and_its_mean_falls():
    found = pulse_wave.solve(one(AORTA.but(length=0.4, radius=(0.012, 0.006))), bell(mean=5e-5, width=0.08))
    along = found.along("aorta")
    swing = along.systolic - along.diastolic
    assert along.distance[[0, -1]] == approx([0.0, 0.4])
    assert swing[-1] > swing[0]
    assert (along.diastolic < along.mean).all() and (along.mean < along.systolic).all()
    total = along.mean + RHO / 2 * ((found.flow / found.area)**2).mean(axis=0)
    assert total[-1] < total[0]
    assert along.flow == approx(found.inflow.mean(), rel=2e-3)


BAD = {
    "bad_vessel": [one(AORTA.but(stiffness=-1.0)), one(AORTA.but(radius=(0.01, np.nan))), one(AORTA.but(length=0.0)),
                   one(AORTA.but(wall_viscosity=-1.0)), one(AORTA.but(pressure=np.inf))],
    "bad_fluid": [one(fluid=Blood(density=0.0)), one(fluid=Blood(viscosity=-1.0)), one(profile=0.0)],
    "loose_node": [one().but(vessels=(AORTA, AORTA.but(name="b", start="x", end="c")), outlets={"c": BED, "out": BED}),
                   forked().but(outlets={"left": BED})],
    "bad_end": [forked().but(outlets={"left": BED, "right": BED, "fork": BED}), forked().but(inlet="fork")],
    "no_outlets": [one().but(outlets={})],
    "no_vessels": [one().but(vessels=())],
    "name_used_twice": [one().but(vessels=(AORTA, AORTA))],
    "bad_loss": [forked(losses={"fork": Loss(1e7, 0.0)})],
    "bad_outlet_or_loss": [one(bed=Windkessel(-1.0, 1e8, 1e-9)), one(bed=ReflectionFree(np.nan))],
}


@pytest.mark.parametrize(("code", "made"), [(c, m) for c, many in BAD.items() for m in many])
def test_what_cannot_be_is_refused(code, made):
    with pytest.raises(BadInput) as error:
        pulse_wave.solve(made, bell())
    assert error.value.code == code


def test_numerics_that_cannot_be_are_refused():
    for bad in (Numerics(cell=0.0), Numerics(courant=0.9), Numerics(samples=2), Numerics(most_cycles=1)):
        with pytest.raises(BadInput, match="cell"):
            pulse_wave.solve(one(), bell(), bad)
    with pytest.raises(BadInput) as error:
        pulse_wave.solve(one(), bell(mean=5e-5)).at("leg")
    assert error.value.code == "unknown_vessel"


def test_a_flow_that_does_not_settle_or_collapses_is_told():
    with pytest.raises(DidNotConverge) as error:
        pulse_wave.solve(one(), bell(mean=5e-5), Numerics(most_cycles=2, tolerance=1e-12))
    assert error.value.code == "not_periodic"
    with pytest.raises(DidNotConverge) as error:
        pulse_wave.solve(one(), bell(height=-3e-3))
    assert error.value.code in ("vessel_collapsed", "flow_too_fast", "newton_failed")


# From centrelines


BEDS = {i: Windkessel(1e8, 1.4e9, 7e-10, 500.0) for i in range(12)}


def heart(mean=2e-5):
    return bell(period=0.8, mean=0.4 * mean, height=3.2 * mean, width=0.08)


def test_a_traced_tree_keeps_its_areas_at_the_pressure_of_the_image():
    traced = from_tree(fork(), Blood(), olufsen1999, {1: BEDS[1], 2: BEDS[2]}, pressure=12e3)
    assert [x.branch for x in traced.stretches] == [0, 1, 2]
    trunk = traced.network.vessels[0]
    assert trunk.radius == approx(0.006) and trunk.length == approx(0.05) and trunk.pressure == 12e3
    assert trunk.stiffness == approx(2e6 * np.exp(-2253 * 0.006) + 8.65e4)
    found = pulse_wave.solve(traced.network, heart())
    p, area = found.into().pressure, found.into().area
    at = np.abs(p - 12e3).argmin()
    assert area[at] == approx(np.pi * 0.006**2, rel=0.02)


def test_a_pulse_wave_velocity_sets_the_speed():
    assert np.sqrt(2 / 3 * PulseWaveVelocity(7.0, RHO)(np.array([0.003, 0.01])) / RHO) == approx(7.0)


def test_an_aorta_with_a_lesion_agrees_with_the_network_in_numbers():
    tree, (lesion,) = aorta_with_lesion()
    beds = {i: BEDS[0] for i in tree.leaves}
    traced = from_tree(tree, Blood(), PulseWaveVelocity(20.0, RHO), beds, (lesion,), pressure=12e3)
    found = pulse_wave.solve(traced.network, heart(3e-5))
    known = network.build(tree, Blood(), (lesion,), outlets=beds)
    beat = circuit.solve(known.circuit, heart(3e-5))
    mine, theirs = curves(traced, found), network.curves(known, beat)
    assert mine.keys() == theirs.keys()
    for name, (p, q) in mine.items():
        assert p.mean() == approx(theirs[name][0].mean(), rel=0.01)
        assert q.mean() == approx(theirs[name][1].mean(), rel=0.02)
    a, b = results(traced, found), network.results(known, beat)
    for measure, rel in (("pressure_drop", 0.15), ("distal_to_proximal_ratio", 0.01), ("velocity", 0.05)):
        for statistic, value in b["lesions"]["L1"][measure].items():
            assert a["lesions"]["L1"][measure][statistic] == approx(value, rel=rel)
    assert a["regions"].keys() == b["regions"].keys()
    for name, region in b["regions"].items():
        assert a["regions"][name]["pressure"]["mean"] == approx(region["pressure"]["mean"], rel=0.02)
        assert a["regions"][name].keys() >= region.keys()
    free = from_tree(tree, Blood(), PulseWaveVelocity(20.0, RHO), beds, pressure=12e3)
    drop = results(traced, found)["lesions"]["L1"]["pressure_drop"]["mean"]
    assert free.network.losses == {} and drop > 1.0


def test_branches_that_leave_close_together_leave_together():
    trunk = straight(5.0).branches[0]
    sides = [branch([[0, 0, -z], [10 * x, 0, -z], [30 * x, 0, -z]], 2.0, 0, n)
             for z, x, n in ((40.0, 1, "renal_artery_left"), (40.8, -1, "renal_artery_right"))]
    end = branch([[0, 0, -100.0], [0, 0, -120], [0, 0, -140]], 4.0, 0, "iliac_artery_left")
    traced = from_tree(Tree((trunk, *sides, end)), Blood(), olufsen1999, {i: BEDS[i] for i in (1, 2, 3)}, pressure=12e3)
    assert len(traced.network.vessels) == 5
    assert min(v.length for v in traced.network.vessels) > 1.9e-3
    assert pulse_wave.solve(traced.network, heart()).evidence.imbalance < 1e-12


def test_outlets_must_be_the_leaves():
    with pytest.raises(BadInput) as error:
        from_tree(fork(), Blood(), olufsen1999, {1: BED}, pressure=12e3)
    assert error.value.code == "outlets_differ"
