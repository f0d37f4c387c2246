"""The closed circulation where the answer is known on paper, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import approx

from solvers.errors import BadInput, DidNotConverge
from solvers.flow import baroreflex, closed_loop, heart, heart_kernels
from solvers.flow.closed_loop import Chamber, Cosine, Flap, Loop, Orifice, Pipe, TwoHill, Vessel, Waves, run
from solvers.flow.heart import Numerics, adult, solve
from solvers.library import circulation as library
from solvers.pharmacology import body_model
from solvers.units import MMHG

STILL = Chamber("still", Cosine(0.0, 0.1), 1e-9, 0.0, linear=1.0)
"""A chamber that is joined to nothing: a loop has one at least."""


def pair(link, ca=1.0, cb=1.0, chamber=STILL):
    return Loop((chamber,), (Vessel("a", ca), Vessel("b", cb)), (link,))


def observed_order(errors):
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


# Elements


def test_two_vessels_even_out_at_fourth_order():
    loop, exact = pair(Pipe("pipe", "a", "b", 2.0), 1.0, 3.0), 0.25 + 0.75 * np.exp(-1.0 / (2.0 * 0.75))
    errors = [abs(run(loop, 1.0, 1, {"a": 1.0}, steps=n).volume("a")[-1] - exact) for n in (4, 8, 16)]
    assert observed_order(errors)[-1] == approx(4, abs=0.3)


def test_a_flap_with_inertia_shuts_after_half_a_swing():
    """Without resistance all that one vessel holds over the other goes across, once."""
    loop, omega = pair(Flap("flap", "a", "b", 0.0, inertance=0.5)), 2.0
    errors = []
    for n in (10, 20, 40, 80):
        course = run(loop, 5.0, 1, {"a": 1.0}, steps=n)
        errors.append(abs(course.volume("a")[-1]) + abs(course.volume("b")[-1] - 1))
        assert course.flow("flap")[-1] == 0
    before = course.times < np.pi / omega
    assert course.flow("flap")[before] == approx(np.sin(2 * course.times[before]), abs=1e-4)
    assert observed_order(errors)[-1] > 3.5


def test_an_orifice_obeys_bernoulli():
    loop = Loop((STILL,), (Vessel("a", 1e3), Vessel("b", 1e3)), (Orifice("o", "a", "b", 1e-4, 0.01, leak=2e-5),))
    for start, drop, area in (("a", 4e3, 1e-4), ("b", -4e3, 2e-5)):
        flow = run(loop, 1.0, 1, {start: 4e6}, steps=2000).flow("o")[-1]
        assert flow == approx(np.sign(drop) * area * np.sqrt(2 * abs(drop) / 1060), rel=1e-3)


def test_a_flap_by_resistance_lets_little_back():
    loop = pair(Flap("flap", "a", "b", 1.0, shut=100.0), 1e6, 1e6)
    assert run(loop, 1.0, 1, {"a": 1e6}).flow("flap")[-1] == approx(1.0, rel=1e-5)
    assert run(loop, 1.0, 1, {"b": 1e6}).flow("flap")[-1] == approx(-0.01, rel=1e-5)


def test_activations():
    n = 4000
    chambers = (Chamber("hill", TwoHill(0.2, 0.2, 0.35, 1.9, 21.9), 1.0, 0.0),
                Chamber("cosine", Cosine(0.9, 0.3), 1.0, 0.0),
                Chamber("waves", Waves((0.5, 0.5), (0.0, 0.0)), 1.0, 0.0))
    course = run(Loop(chambers, (), ()), 1.0, 1, {c.name: 1.0 for c in chambers}, steps=n)
    hill, cosine, waves = (course.pressure(c.name) for c in chambers)
    assert hill.max() == approx(1, abs=1e-5)
    t = 0.3  # s after its start
    up, down = (t / 0.2) ** 1.9, (t / 0.35) ** 21.9
    scale = hill[n // 2] / (up / (1 + up) / (1 + down))
    t = 0.15
    up, down = (t / 0.2) ** 1.9, (t / 0.35) ** 21.9
    assert hill[int(0.35 * n)] == approx(scale * up / (1 + up) / (1 + down), rel=1e-9)
    assert cosine[int(0.05 * n)] == approx(1, abs=1e-6)  # half of it is over when the beat begins
    assert cosine[int(0.5 * n)] == 0
    assert waves == approx(0.5 + 0.5 * np.cos(2 * np.pi * course.times), abs=1e-12)


def test_a_chamber_stiffens_along_its_passive_curve():
    chamber = Chamber("c", Cosine(0.0, 1.0), 5.0, 1.0, linear=0.5, scale=2.0, steepness=0.7, outer=0.25)
    course = run(Loop((chamber,), (), ()), 1.0, 1, {"c": 3.0}, steps=100)
    assert course.pressure("c")[0] == approx(0.25 + 0.5 * 2 + 2 * (np.exp(1.4) - 1))
    assert course.pressure("c")[50] == approx(0.25 + 5.5 * 2)


def test_vessels_in_the_wall_are_squeezed():
    chamber = Chamber("c", Cosine(0.0, 1.0), 8.0, 0.0)
    loop = Loop((chamber,), (Vessel("v", 2.0, 1.0, squeezer="c", squeeze=0.5),), ())
    course = run(loop, 1.0, 1, {"c": 1.0, "v": 4.0}, steps=10)
    assert course.pressure("v") == approx(1.5 + 0.5 * course.pressure("c"))


def test_too_long_a_step_is_told():
    with pytest.raises(DidNotConverge) as caught:
        run(pair(Pipe("pipe", "a", "b", 1e-4)), 1.0, 400, {"a": 1.0}, steps=10)
    assert caught.value.code == "not_finite"


# The reflex


def test_the_nerves_at_their_ends_and_at_rest():
    reflex = adult().reflex
    row, n = reflex.row(), reflex.nerves
    middle = (n.afferent_least + n.afferent_most) / 2
    rate = n.sympathetic_end + (n.sympathetic_silent - n.sympathetic_end) * np.exp(-n.sympathetic_steepness * middle)
    drive, vagal = heart_kernels.firing(reflex.set_point, row)
    assert drive == approx(np.log(rate - n.sympathetic_threshold + 1))
    assert n.vagal_least < vagal < n.vagal_most
    low, high = (heart_kernels.firing(reflex.set_point + x * 40 * MMHG, row) for x in (-1, 1))
    assert low[0] > drive > high[0]
    assert low[1] < vagal < high[1]


def test_a_reflex_at_its_set_point_does_nothing():
    person = adult()
    mean = solve(heart.without_reflex(person)).pressure("aorta")[1]
    beat = solve(person.but(reflex=person.reflex.but(set_point=mean)))
    assert beat.effects.period == approx(0, abs=1e-5)
    assert beat.effects.contractility == approx(1, abs=1e-5)
    assert beat.effects.resistance["kidney"] == approx(1, abs=1e-5)


# The whole


@pytest.fixture(scope="module")
def rest():
    return solve(adult())


def outcome(beat):
    """Numbers that between them feel every elastance and resistance."""
    found = {"output": beat.cardiac_output * 60e3, "systolic": beat.systolic / MMHG, "diastolic": beat.diastolic / MMHG,
             "lungs": beat.pressure("lung_arteries")[1] / MMHG,
             "aorta": (beat.pressure("aorta")[1] - beat.mean) / MMHG}
    for name in ("left_ventricle", "right_ventricle", "left_atrium", "right_atrium"):
        found |= {name: beat.end_systolic_volume(name) * 1e6, f"{name} full": beat.end_diastolic_volume(name) * 1e6}
    found |= {f"{bed}_bed": beat.pressure(f"{bed}_bed")[1] / MMHG for bed in heart.BEDS}
    return found | {bed: flow * 60e6 for bed, flow in beat.bed_flows().items()}


CAME_OUT = {
    "aorta": 3.6198,
    "output": 5.6556, "systolic": 117.6, "diastolic": 72.727, "lungs": 14.337, "left_ventricle": 56.556,
    "left_ventricle full": 136.24, "right_ventricle": 57.741, "right_ventricle full": 137.42,
    "left_atrium": 32.138, "left_atrium full": 77.259, "right_atrium": 23.432, "right_atrium full": 63.05,
    "brain_bed": 6.7537, "splanchnic_bed": 6.7542, "kidney_bed": 6.7546, "muscle_bed": 6.7546, "skin_bed": 6.7546,
    "other_bed": 6.7546, "brain": 678.55, "splanchnic": 1442.2, "kidney": 1074.7, "muscle": 961.6, "skin": 282.82,
    "other": 989.88, "heart": 225.84,
}
"""Not measurements: the numbers of this version, so that no parameter changes unseen. L/min, mmHg, mL, mL/min."""
NUDGED = ("left_ventricle", "right_ventricle", "left_atrium", "right_atrium", "lungs", "cava", *heart.BEDS,
          "aorta_arteries", "coronary_left", "kidney_veins", "splanchnic_veins")


def test_what_came_out(rest):
    assert outcome(rest) == approx(CAME_OUT, rel=1e-3)


@pytest.mark.parametrize("name", NUDGED)
def test_two_per_cent_are_felt(name):
    person = adult()
    element = person.loop.of(name)
    number = "active" if isinstance(element, Chamber) else "resistance"
    beat = solve(person.having(replace(element, **{number: 1.02 * getattr(element, number)})))
    assert outcome(beat) != approx(CAME_OUT, rel=1e-3)


def test_flows_meet_at_every_store(rest):
    """Over a beat that repeats, each store gains what it loses; and each pipe obeys its law in the mean."""
    sums = dict.fromkeys(rest.circulation.loop.stores, 0.0)
    for link, mean in zip(rest.circulation.loop.ordered(), rest.of_flows[:, 0], strict=True):
        sums[link.start] -= mean
        sums[link.end] += mean
    assert max(abs(x) for x in sums.values()) < 1e-6 * rest.cardiac_output
    kidney = rest.circulation.loop.of("kidney").resistance * rest.effects.resistance["kidney"]
    drop = rest.pressure("arteries")[1] - rest.pressure("kidney_bed")[1]
    assert rest.bed_flows()["kidney"] == approx(drop / kidney, rel=1e-6)


def test_work_is_the_area_of_the_loop(rest):
    p, v = rest.course.pressure("left_ventricle"), rest.course.volume("left_ventricle")
    turned = 0.5 * np.sum(v * np.roll(p, -1) - np.roll(v, -1) * p)
    assert rest.stroke_work() == approx(abs(turned), rel=1e-3)
    assert 0.8 < rest.stroke_work() / (rest.mean * rest.stroke_volume()) < 1.3


def test_the_body_model_takes_the_flows(rest):
    body = rest.perfused_body()
    assert body.cardiac_output == approx(rest.cardiac_output, rel=1e-6)
    assert body.liver_flow == approx(rest.bed_flows()["splanchnic"])
    drug = body_model.Disposition(dict.fromkeys({o.tissue for o in body.organs} | {"lung"}, 1.0), 1.0, 1e-5, 1e-6, 1e-3,
                                  1.0, 1e-3)
    assert np.abs(body_model.System(body, drug).matrix.sum(axis=0)).max() < 1e-12


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(["male", "female"]), st.floats(50, 110))
def test_pressures_do_not_depend_on_size(sex, weight):
    reference, other = solve(heart.without_reflex(adult(sex))), solve(heart.without_reflex(adult(sex, weight)))
    assert other.cardiac_output / reference.cardiac_output == approx(
        other.circulation.body.cardiac_output / reference.circulation.body.cardiac_output, rel=1e-3)
    assert other.systolic == approx(reference.systolic, rel=3e-3)  # orifices grow with the stroke, their lengths do not
    assert other.ejection_fraction() == approx(reference.ejection_fraction(), rel=3e-3)


def test_old_arteries_pulse_more():
    young, old = solve(adult("male", age=30)), solve(adult("male", age=75))
    assert old.systolic - old.diastolic > 1.2 * (young.systolic - young.diastolic)
    assert old.cardiac_output < young.cardiac_output


def test_rest_is_the_least_exercise(rest):
    assert solve(heart.exercising(adult(), 0.0)).cardiac_output == approx(rest.cardiac_output, rel=1e-6)


def test_one_sick_number_does_not_stop_the_others(rest):
    good = adult()
    people = [good, good.having(replace(good.loop.of("aorta"), compliance=-1.0)),
              good.having(replace(good.loop.of("kidney"), resistance=1e-3)), good]
    found = heart.population(people)
    assert found.is_done.tolist() == [True, False, False, True]
    assert found.people[1].code == "bad_circulation"
    assert found.people[2].code == "not_finite"
    outputs = found.values(lambda b: b.cardiac_output)
    assert np.isnan(outputs[1:3]).all()
    assert outputs[0] == outputs[3] == rest.cardiac_output
    assert found.n_beats == 2 * rest.evidence.n_beats


def test_not_periodic_is_told():
    with pytest.raises(DidNotConverge) as caught:
        solve(adult(), Numerics(most_beats=5))
    assert caught.value.code == "not_periodic"
    assert np.isfinite(caught.value.state).all()


@pytest.mark.parametrize("element, changes, code", [
    ("aorta", {"compliance": -1e-9}, "bad_circulation"), ("aorta", {"compliance": np.nan}, "bad_circulation"),
    ("kidney", {"resistance": -1.0}, "bad_circulation"), ("kidney", {"resistance": 0.0}, "bad_circulation"),
    ("kidney", {"end": "nowhere"}, "bad_circulation"), ("kidney", {"quadratic": 1.0}, "bad_circulation"),
    ("aortic", {"area": 0.0}, "valve_without_orifice"),
    ("aortic", {"area": 0.0, "leak": 1e-5}, "valve_without_orifice"),
    ("aortic", {"leak": -1e-5}, "bad_circulation"), ("mitral", {"length": 0.0}, "bad_circulation"),
    ("left_ventricle", {"active": -1.0}, "bad_circulation"), ("left_ventricle", {"active": 0.0}, "bad_circulation"),
    ("left_ventricle", {"activation": TwoHill(0.0, 0.0, 0.1, 1.0, 9.0)}, "bad_circulation"),
    ("coronary_left_wall", {"squeezer": "aorta"}, "bad_circulation")])
def test_nonsense_is_refused(element, changes, code):
    person = adult()
    with pytest.raises(BadInput) as caught:
        solve(person.having(replace(person.loop.of(element), **changes)))
    assert caught.value.code == code


def test_more_nonsense_is_refused():
    person = adult()
    for wrong, code in (
            (lambda: solve(person.but(period=0.0)), "bad_circulation"),
            (lambda: solve(person.but(blood_volume=-1.0)), "bad_circulation"),
            (lambda: solve(heart.after_loss(person, 0.9)), "too_little_blood"),
            (lambda: heart.after_loss(person, 1.0), "bad_loss"),
            (lambda: heart.exercising(person, 1.2), "bad_exercise"),
            (lambda: heart.with_valve(person, "kidney", area=1e-4), "no_valve"),
            (lambda: heart.with_valve(person, "kidnay", area=1e-4), "no_element"),
            (lambda: heart.with_regurgitation(person, "mitral", 0.99), "bad_fraction"),
            (lambda: solve(person.but(reflex=person.reflex.but(gain=-1.0))), "bad_reflex"),
            (lambda: solve(person.but(reflex=person.reflex.but(sensor="nowhere"))), "bad_reflex"),
            (lambda: adult("male", weight=7.0), "weight_out_of_range"),
            (lambda: closed_loop.check(pair(Pipe("a", "a", "b", 1.0))), "bad_circulation")):
        with pytest.raises(BadInput) as caught:
            wrong()
        assert caught.value.code == code


def test_the_library_is_checked():
    assert library.number("left_ventricle", "active") == approx(2.95e6 * MMHG)
    assert library.sources()
    for row in ({"value": 1.0, "unit": "1", "source": "x"},
                {"value": 1.0, "unit": "pint", "source": "x", "basis": "read"},
                {"value": float("nan"), "unit": "1", "source": "x", "basis": "read"}):
        with pytest.raises(BadInput):
            library.check({"group": {"name": row}})


def test_every_source_is_told():
    assert set(baroreflex.SOURCES) | set(closed_loop.SOURCES) < set(heart.SOURCES)
