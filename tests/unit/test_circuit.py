"""Flow in a network of numbers, against solutions on paper."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import approx

from solvers.errors import BadInput, DidNotConverge
from solvers.flow import circuit
from solvers.flow.circuit import Circuit, Numerics, Segment
from solvers.flow.pulse import Pulse
from solvers.flow.windkessel import Windkessel

BED = Windkessel(proximal=1e8, distal=1.4e9, compliance=7e-10, venous=500.0)
PIPE = Segment("in", "out", resistance=3e7, inertance=2e6)
PERIOD = 0.8


def one_pipe(segment=PIPE, bed=BED, **more):
    return Circuit((segment,), "in", {"out": bed}, **more)


def wave(*harmonics, mean=2e-5, n=60):
    """mean (1 + sum a_k cos(2 pi k t / T))."""
    phase = 2 * np.pi * np.arange(n) / n
    return Pulse(PERIOD, mean * (1 + sum(a * np.cos(k * phase) for k, a in enumerate(harmonics, start=1))))


def impedance_wave(pulse, impedance, times):
    """Pressure over an impedance(frequency) for a periodic flow, harmonic by harmonic."""
    modes = np.fft.rfft(pulse.flow) / len(pulse.flow)
    pressure = np.full(len(times), (modes[0] * impedance(0.0)).real)
    for k in range(1, len(modes) - 1):
        pressure += 2 * (modes[k] * impedance(k / pulse.period) * np.exp(2j * np.pi * k * times / pulse.period)).real
    return pressure


def pipe_impedance(frequency):
    return PIPE.resistance + 2j * np.pi * frequency * PIPE.inertance + BED.impedance(frequency)


def test_pressure_over_a_windkessel_is_its_impedance_times_the_flow():
    pulse = wave(0.9, 0.5, -0.3)
    found = circuit.solve(one_pipe(), pulse)
    exact = BED.venous + impedance_wave(pulse, pipe_impedance, found.times)
    assert found.at("in") == approx(exact, abs=2e-3 * np.ptp(exact))


def test_second_order_in_time():
    pulse = wave(0.9, 0.5)
    errors = []
    for steps in (60, 120, 240):
        found = circuit.solve(one_pipe(), pulse, Numerics(steps=steps))
        exact = BED.venous + impedance_wave(pulse, pipe_impedance, found.times)
        errors.append(np.abs(found.at("in") - exact).max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders == approx(2, abs=0.15)


def test_pressure_falls_exponentially_while_no_blood_comes():
    t = np.arange(450) / 450
    systole = np.where(t < 0.35, np.sin(np.pi * t / 0.35) ** 2, 0.0)
    found = circuit.solve(one_pipe(Segment("in", "out", 0.0)), Pulse(PERIOD, 6e-5 * systole))
    quiet = (found.times > 0.45 * PERIOD) & (found.times < 0.98 * PERIOD)
    above = found.at("in")[quiet] - BED.venous
    exact = above[0] * np.exp(-(found.times[quiet] - found.times[quiet][0]) / (BED.distal * BED.compliance))
    assert above == approx(exact, rel=2e-4)
    assert above[-1] < 0.8 * above[0]  # it did fall


def test_windkessel_alone_discharges_exactly():
    tau = BED.distal * BED.compliance
    assert BED.stored(9000.0, 0.0, 0.0, tau) == approx(BED.venous + 8500.0 * np.exp(-1))
    assert BED.stored(9000.0, 2e-5, 2e-5, 50 * tau) == approx(BED.venous + BED.distal * 2e-5, rel=1e-3)


def test_windkessel_alone_follows_a_ramp_exactly():
    before, after, dt = 1e-5, 4e-5, 0.3
    halves = BED.stored(BED.stored(9000.0, before, 2.5e-5, dt / 2), 2.5e-5, after, dt / 2)
    whole = BED.stored(9000.0, before, after, dt)
    assert whole == approx(halves, rel=1e-12)
    t = np.linspace(0, dt, 20001)
    weight = np.exp((t - dt) / BED.distal / BED.compliance) / BED.compliance
    driven = np.trapezoid(weight * (before + (after - before) * t / dt + BED.venous / BED.distal), t)
    assert whole == approx(9000.0 * np.exp(-dt / BED.distal / BED.compliance) + driven, rel=1e-8)
    base, slope = BED.affine(9000.0, before, dt)
    assert base + slope * after == approx(whole + BED.proximal * after)


def test_windkessel_without_storage_is_its_resistance():
    stiff = Windkessel(1e8, 1e9, 0.0, 500.0)
    assert stiff.stored(9000.0, 1e-5, 2e-5, 0.01) == approx(500.0 + 1e9 * 2e-5)


def test_impedance_is_the_resistance_at_rest_and_the_proximal_one_at_speed():
    assert BED.impedance(0.0) == approx(BED.resistance) == approx(BED.proximal + BED.distal)
    assert abs(BED.impedance(1e4)) == approx(BED.proximal, rel=1e-3)


def test_without_storage_every_moment_obeys_the_law_also_backwards():
    pulse = wave(1.8)  # flows backward for part of the beat
    segment = Segment("in", "out", 2e7, quadratic=4e12)
    found = circuit.solve(one_pipe(segment, Windkessel(0.0, 1e8, 0.0, 300.0)), pulse)
    q = found.inflow
    assert q.min() < 0
    assert found.at("in") == approx(300.0 + 1.2e8 * q + 4e12 * np.abs(q) * q, rel=1e-9, abs=1e-6)


def test_steady_flow_divides_by_resistance_with_quadratic_losses():
    parts = (Segment("in", "a", 1e7), Segment("a", "b", 2e7, quadratic=5e12), Segment("a", "c", 4e7))
    made = Circuit(parts, "in", {"b": Windkessel(0, 1e8, 1e-9), "c": Windkessel(0, 1e8, 1e-9)})
    pressure, flow = circuit.steady(made, 3e-5)
    assert flow[1] + flow[2] == approx(3e-5, rel=1e-12)
    assert pressure["a"] - pressure["b"] == approx(2e7 * flow[1] + 5e12 * flow[1] ** 2)
    assert pressure["a"] == approx(1.2e8 * flow[1] + 5e12 * flow[1] ** 2) == approx(1.4e8 * flow[2])


def branching(quadratic=3e12):
    """A fork with storage at its node and unlike beds."""
    parts = (Segment("in", "a", 1e7, inertance=1e6), Segment("a", "b", 2e7, quadratic, 2e6),
             Segment("a", "c", 4e7, 0.0, 3e6))
    return Circuit(parts, "in", {"b": BED, "c": Windkessel(2e8, 3e9, 3e-10, 500.0)}, {"a": 2e-11})


def test_what_flows_in_flows_out_or_is_stored():
    pulse = wave(0.9, 0.5)
    found = circuit.solve(branching(), pulse)
    assert found.evidence.imbalance < 1e-9
    assert found.outflow.sum(axis=1).mean() == approx(pulse.mean, rel=1e-6)
    stored = 2e-11 * np.gradient(found.at("a"), found.times)
    rest = found.inflow - found.outflow.sum(axis=1) - stored
    assert np.abs(rest[2:-2]).max() < 0.01 * np.abs(stored).max()


def test_mean_pressure_and_stored_pressure_follow_the_mean_flow():
    found = circuit.solve(branching(), wave(0.9, 0.5))
    for bed in ("b", "c"):
        w, q = found.circuit.outlets[bed], found.out(bed).mean()
        assert found.at(bed).mean() == approx(w.venous + w.resistance * q, rel=1e-6)
        assert found.stored_at_start(bed) == approx(found.at(bed)[0] - w.proximal * found.out(bed)[0], rel=1e-9)


def test_the_cycle_repeats():
    found = circuit.solve(branching(), wave(0.9, 0.5))
    assert found.evidence.is_periodic
    step = np.abs(np.diff(found.at("in"))).max()
    assert abs(found.at("in")[0] - found.at("in")[-1]) < step  # no seam where it closes


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 49))
def test_a_later_beat_gives_a_later_answer(shift):
    pulse, numerics = wave(0.9, 0.5, n=50), Numerics(steps=100)
    first = circuit.solve(branching(), pulse, numerics)
    late = circuit.solve(branching(), Pulse(PERIOD, np.roll(pulse.flow, shift)), numerics)
    assert late.at("in") == approx(np.roll(first.at("in"), 2 * shift), rel=1e-6)


@settings(max_examples=8, deadline=None)
@given(st.floats(0.1, 10.0))
def test_without_quadratic_losses_pressure_is_proportional_to_flow(factor):
    pulse, numerics = wave(0.9, n=50), Numerics(steps=100)
    one = circuit.solve(branching(0.0), pulse, numerics).at("in") - 500.0
    more = circuit.solve(branching(0.0), Pulse(PERIOD, factor * pulse.flow), numerics).at("in") - 500.0
    assert more == approx(factor * one, rel=1e-5)


def test_a_slow_discharge_is_found_without_waiting_for_it():
    slow = Windkessel(1e8, 1.4e9, 3e-8, 500.0)  # 42 s, fifty beats
    found = circuit.solve(one_pipe(bed=slow), wave(0.9))
    assert found.evidence.n_cycles <= 3
    assert found.at("in").mean() == approx(500.0 + (1.5e9 + 3e7) * 2e-5, rel=1e-6)


@pytest.mark.parametrize(("code", "bad"), [
    ("bad_circuit", one_pipe(bed=Windkessel(1e8, 1e9, -1e-10))),
    ("bad_circuit", one_pipe(Segment("in", "out", -1.0))),
    ("bad_circuit", one_pipe(Segment("in", "out", float("nan")))),
    ("bad_circuit", one_pipe(bed=Windkessel(1e8, 1e9, 1e-10, float("inf")))),
    ("bad_circuit", one_pipe(compliances={"out": -1e-12})),
    ("no_outlets", Circuit((PIPE,), "in", {})),
    ("loose_node", Circuit((PIPE, Segment("x", "y", 1e8)), "in", {"out": BED})),
    ("circuit_undetermined", Circuit((Segment("in", "out", 0.0), Segment("in", "out", 0.0)), "in", {"out": BED})),
])
def test_a_circuit_that_makes_no_sense_is_refused(code, bad):
    with pytest.raises(BadInput) as caught:
        circuit.solve(bad, wave(0.9))
    assert caught.value.code == code


def test_cycles_that_do_not_repeat_are_not_returned():
    with pytest.raises(DidNotConverge) as caught:
        circuit.solve(branching(3e13), wave(1.9), Numerics(most_cycles=1, relaxations=1))
    assert caught.value.code == "not_periodic"


def test_the_start_hardly_matters():
    pulse = wave(1.9)
    good, poor = (circuit.solve(branching(3e13), pulse, Numerics(steps=150, relaxations=k)) for k in (300, 1))
    assert good.evidence.n_cycles < poor.evidence.n_cycles
    assert good.at("in") == approx(poor.at("in"), rel=1e-6)


# The inflow


def test_a_beat_passes_through_its_values():
    for n in (12, 13):
        flow = np.sin(2 * np.pi * np.arange(n) / n) ** 3
        pulse = Pulse(1.0, flow + 0.1 * np.cos(np.pi * np.arange(n)))  # with the highest frequency it can hold
        assert pulse.at(4 * n)[::4] == approx(pulse.flow, abs=1e-12)
        assert pulse.at(n) == approx(pulse.flow, abs=1e-12)
        assert pulse.at(7).mean() == approx(pulse.mean)


@pytest.mark.parametrize(("code", "period", "flow"), [
    ("waveform_jumps", 1.0, np.r_[np.zeros(10), np.ones(10)]),
    ("waveform_jumps", 1.0, np.linspace(0, 1, 20)),  # does not end as it began
    ("bad_waveform", 1.0, np.array([1.0, np.nan, 1.0])),
    ("bad_waveform", 0.0, np.ones(10)),
    ("bad_waveform", 1.0, np.array([])),
])
def test_a_beat_that_makes_no_sense_is_refused(code, period, flow):
    with pytest.raises(BadInput) as caught:
        Pulse(period, flow)
    assert caught.value.code == code


def test_a_steady_inflow_is_a_beat_too():
    found = circuit.solve(one_pipe(), Pulse(1.0, np.full(10, 2e-5)))
    assert found.at("in") == approx(500.0 + 1.53e9 * 2e-5, rel=1e-7)
