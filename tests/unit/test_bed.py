"""What follows an outlet: a circuit stepped by itself, and behind a tube in 3D."""

from dataclasses import replace

import numpy as np
import pytest
from pytest import approx

from solvers.errors import BadInput
from solvers.flow import circuit, pulsatile
from solvers.flow.bed import CircuitBed, Coronary
from solvers.flow.circuit import Circuit, Numerics, Segment
from solvers.flow.navier_stokes import Caps, Flow, Fluid, Stepping
from solvers.flow.pulse import Pulse
from solvers.flow.windkessel import Windkessel
from solvers.geometry import dolfinx_mesh
from tests import tubes

PERIOD = 0.8
PHASE = 2 * np.pi * np.arange(40) / 40
WAVE = Pulse(PERIOD, 1e-6 * (1 + 0.8 * np.sin(PHASE) + 0.3 * np.sin(2 * PHASE)))
MUSCLE = Pulse(PERIOD, 6e3 * np.clip(np.sin(PHASE), 0, None) ** 2)
HEART = Coronary(1.5e9, 4e9, 1.5e9, 2e-12, 5e-11, MUSCLE, venous=600.0)
LEG = Circuit((Segment("a", "b", 1e9, quadratic=4e14, inertance=1e7), Segment("b", "c", 2e9)), "a",
              {"c": Windkessel(1e9, 5e9, 1e-10, 500.0)}, {"b": 5e-12})


def driven(bed, pulse, n, cycles):
    """Pressure over the last of some cycles (n,) while the flow is given; each step as the 3D solver makes it."""
    flow, dt = pulse.at(n), pulse.period / n
    stored, pressures = bed.at_rest(8e3), []
    for k in range(cycles * n):
        before, after = flow[k % n], flow[(k + 1) % n]
        base, slope = bed.affine(stored, before, dt)
        pressures.append(base + slope * after)
        stored = bed.stored(stored, before, after, dt)
    return np.array(pressures[-n:])


@pytest.mark.parametrize("made", [LEG, HEART.circuit], ids=["leg", "coronary"])
def test_a_bed_alone_does_what_its_circuit_does(made):
    n = 400
    exact = np.roll(circuit.solve(made, WAVE, Numerics(steps=n)).at(made.inlet), -1)
    found = driven(CircuitBed(made), WAVE, n, 10)
    assert np.abs(found - exact).max() < 2e-3 * np.ptp(exact)


def test_steps_of_changing_length_keep_the_order():
    """A coronary bed under a flow that is known at every time, with steps that double and halve."""
    bed = CircuitBed(replace(HEART, muscle=Pulse(PERIOD, 3e3 * (1 - np.cos(PHASE)))).circuit)
    exact, errors = circuit.solve(bed.circuit, WAVE, Numerics(steps=6400)).at("outlet"), []
    for n in (100, 200):
        stored, time, off = bed.at_rest(8e3), 0.0, []
        for k in range(8 * n):
            dt = (0.5, 0.5, 1.0, 2.0)[k % 4] * PERIOD / n
            before, after = WAVE.moment(time), WAVE.moment(time + dt)
            base, slope = bed.affine(stored, before, dt)
            stored, time = bed.stored(stored, before, after, dt), time + dt
            off.append(base + slope * after - exact[round(6400 * time / PERIOD) % 6400])
        errors.append(np.sqrt(np.mean(np.square(off[-n:]))))
    assert np.log2(errors[0] / errors[1]) == approx(2, abs=0.2)


def test_a_squeezed_bed_takes_its_blood_as_the_muscle_slackens():
    """Under a steady pressure at its inlet; what squeezing keeps out comes in afterwards."""
    made = HEART.circuit
    bed, n = CircuitBed(made), 400
    stored, flow, taken = bed.at_rest(8e3), 0.0, []
    for _ in range(8 * n):
        base, slope = bed.affine(stored, flow, PERIOD / n)
        after = (12e3 - base) / slope
        stored, flow = bed.stored(stored, flow, after, PERIOD / n), after
        taken.append(flow)
    beat = np.array(taken[-n:])
    tightening, slackening = beat[:n // 4].mean(), beat[n // 4:n // 2].mean()
    assert slackening > 1.2 * tightening
    resistance = HEART.arterial + HEART.small + HEART.veins
    assert beat.mean() == approx((12e3 - HEART.venous) / resistance, rel=1e-3)


def test_only_what_stores_is_squeezed_in_the_beat_of_the_inflow():
    with pytest.raises(BadInput, match="stores nothing"):
        circuit.check(LEG.but(squeezed={"a": MUSCLE}))
    with pytest.raises(BadInput, match="one period"):
        circuit.solve(HEART.circuit, Pulse(0.7, WAVE.flow))


def test_a_coronary_bed_behind_a_tube(tmp_path):
    """3D and 0D show the same pressure at the outlet; a run goes on from a file as if it had not stopped."""
    n, bed = 80, CircuitBed(HEART.circuit)
    held = Flow(dolfinx_mesh.load(*tubes.tube(4, 8, 0.02, 1.5e-3)), Caps(tubes.WALL, tubes.INLET, {tubes.OUTLET: bed}),
                Fluid(), Stepping(dt=PERIOD / n))
    kept = []
    found = pulsatile.solve(held, WAVE, held.rest(0.0, 8e3), np.zeros((0, held.n)), pulsatile.Cycles(3, 3, snapshots=1),
                            lambda progress: (progress.write(tmp_path / "p.npz"), kept.append(progress.n_cycles)))
    exact = np.roll(circuit.solve(HEART.circuit, WAVE, Numerics(steps=4 * n)).at("outlet")[::4], -1)
    assert np.abs(found.pressure[tubes.OUTLET] - exact).max() < 0.02 * np.ptp(exact)
    assert kept == [1, 2]
    again = pulsatile.solve(held, WAVE, pulsatile.Progress.read(tmp_path / "p.npz"), np.zeros((0, held.n)),
                            pulsatile.Cycles(3, 3, snapshots=1))
    assert np.array_equal(again.pressure_mean, found.pressure_mean)
