"""Flow around a cylinder in a channel, the DFG benchmark in a plane: drag, lift and frequency; see README.md."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import channel  # noqa: E402
from channel import INLET, OUTLET, RADIUS, WALL, Force, Grid  # noqa: E402

from solvers.flow import navier_stokes  # noqa: E402
from solvers.flow.navier_stokes import Caps, Flow, Fluid, State, Stepping  # noqa: E402
from solvers.flow.windkessel import Windkessel  # noqa: E402
from solvers.geometry import dolfinx_mesh  # noqa: E402

WATER = Fluid(density=1.0, viscosity=1e-3)
DRAG, LIFT, DROP = 5.57953523384, 0.010618948146, 0.11752016697
"""Of 2D-1: coefficients, and the pressure (Pa) in front of the cylinder less that behind it."""
STROUHAL = 0.30184
"""Of 2D-2."""
MOST_DRAG, MOST_LIFT, WHEN = 2.950921575, 0.47795, 5.693125
"""Of 2D-3: coefficients, and the time of the largest lift, s."""


@dataclass(frozen=True)
class Curves:
    """Of a run: time (n,) s, coefficients of drag and lift (n,), the last state."""

    time: np.ndarray
    drag: np.ndarray
    lift: np.ndarray
    last: State


def problem(dt: float, tolerance: float, fluid: Fluid = WATER) -> Flow:
    """Without what acts on motion too fine for the mesh: here it is fine enough."""
    stepping = Stepping(dt, tolerance, subgrid=0.0, penalty=0.0)
    return Flow(dolfinx_mesh.load(*channel.channel(Grid())), Caps(WALL, INLET, {OUTLET: Windkessel(0.0, 0.0, 0.0)}),
                fluid, stepping)


def run(flow: Flow, state: State, peak, n: int) -> Curves:
    """n steps; peak: time (s) to the largest speed at the inlet (m/s), whose own largest makes the coefficients."""
    force, unit, rows = Force(flow), channel.inflow(flow, 1.0), []
    for _ in range(n):
        before = state
        state, _ = flow.advance(before, peak(before.time + flow.stepping.dt) * unit)
        rows.append((state.time, *force(state, before)))
    time, *forces = np.array(rows).T
    scale = 0.5 * flow.fluid.density * (2 / 3 * max(map(peak, time))) ** 2 * 2 * RADIUS
    return Curves(time, *np.array(forces) / scale, state)


def highest(time: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Time and value (k, 2) of each maximum, by the parabola through its three samples."""
    i = 1 + np.flatnonzero((values[1:-1] >= values[:-2]) & (values[1:-1] > values[2:]))
    low, mid, high = values[i - 1], values[i], values[i + 1]
    off = 0.5 * (low - high) / (low - 2 * mid + high)
    return np.stack([time[i] + off * (time[1] - time[0]), mid - 0.25 * (low - high) * off], 1)


def test_steady_drag_and_lift():
    """2D-1."""
    flow = problem(0.05, 1e-8)
    start = navier_stokes.ramped(flow, channel.inflow(flow, 0.3), flow.rest(0.0, 0.0), 40)
    end = run(flow, start, lambda _t: 0.3, 220)
    front, back = (np.linalg.norm(flow.points[:, :2] - channel.CENTRE - [x, 0], axis=1).argmin()
                   for x in (-RADIUS, RADIUS))
    assert end.drag[-1] == pytest.approx(DRAG, rel=2e-4)
    assert end.lift[-1] == pytest.approx(LIFT, rel=0.01)
    assert end.last.p[front] - end.last.p[back] == pytest.approx(DROP, rel=5e-4)


@pytest.mark.verify
def test_shedding_under_steady_inflow(shared):
    """2D-2: five seconds with steps of 5 ms, until each vortex is like the one before; then two to be read."""
    drag, lift = np.loadtxt(shared / "references/dfg_cylinder/featflow_2d2_bdforces_q2_lv6_dt4.txt")[:, [3, 4]].T
    early, fine = problem(0.005, 1e-6), problem(0.0025, 1e-6)
    start = navier_stokes.ramped(early, channel.inflow(early, 1.5), early.rest(0.0, 0.0))
    grown = run(early, start, lambda _t: 1.5, 1000).last
    found = run(fine, grown, lambda _t: 1.5, 800)
    late = found.time > found.time[-1] - 1.0
    beats, pulls = highest(found.time[late], found.lift[late]), highest(found.time[late], found.drag[late])
    strouhal = 2 * RADIUS * (len(beats) - 1) / np.ptp(beats[:, 0])
    assert pulls[:, 1].max() == pytest.approx(drag.max(), rel=3e-3)
    assert strouhal == pytest.approx(STROUHAL, rel=3e-3)
    assert beats[:, 1].max() == pytest.approx(lift.max(), rel=0.02)


@pytest.mark.verify
def test_inflow_that_rises_and_falls():
    """2D-3."""
    flow = problem(0.0025, 1e-6)
    found = run(flow, flow.rest(0.0, 0.0), lambda t: 1.5 * np.sin(np.pi * t / 8), 3200)
    late = found.time > 1.0
    when, most = max(highest(found.time[late], found.lift[late]), key=lambda row: row[1])
    assert found.drag[late].max() == pytest.approx(MOST_DRAG, rel=2.5e-3)
    assert most == pytest.approx(MOST_LIFT, rel=0.03)
    assert when == pytest.approx(WHEN, abs=0.03)
