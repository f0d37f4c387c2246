"""Flows in straight tubes that are known exactly: steady, pulsatile, and before a Windkessel."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import special

from solvers.flow import circuit, navier_stokes, pulsatile
from solvers.flow.circuit import Circuit, Numerics, Segment
from solvers.flow.navier_stokes import Caps, Flow, Fluid, State, Stepping
from solvers.flow.pulse import Pulse
from solvers.flow.windkessel import Windkessel
from solvers.geometry import dolfinx_mesh
from solvers.units import MMHG
from tests import axisymmetric
from tests.axisymmetric import INLET, OUTLET, WALL, Section

RADIUS = 4e-3
AREA = np.pi * RADIUS**2
BLOOD = Fluid(1060.0, 0.0035)
OPEN = Windkessel(0.0, 1.0, 0.0)


def tube(section: Section, length: float, n_along: int, dt: float, bed: Windkessel = OPEN) -> Flow:
    mesh = axisymmetric.tube(np.linspace(0, length, n_along + 1), RADIUS, section)
    return Flow(dolfinx_mesh.load(*mesh), Caps(WALL, INLET, {OUTLET: bed}), BLOOD, Stepping(dt=dt))


def rate(reynolds: float) -> float:
    """Flow, m^3/s."""
    return reynolds * np.pi * RADIUS * BLOOD.viscosity / (2 * BLOOD.density)


def test_the_meshes_hold_what_a_body_of_revolution_holds():
    """Volume of a tube and of a sudden expansion, areas of the caps; positive cells, closed boundary."""
    z = np.linspace(0, 1, 5)
    for mesh, volume, end in (
            (axisymmetric.tube(z, 0.5, Section(3, 2)), np.pi / 4, np.pi / 4),
            (axisymmetric.expansion(z - 1, 0.5, z, 1.5, Section(3, 2), spread=lambda z: 0.5 + 0.4 * z), 2.5 * np.pi,
             2.25 * np.pi)):
        points, tets, triangles, tags = mesh
        a, b, c, d = (points[tets[:, i]] for i in range(4))
        volumes = np.einsum("ck,ck->c", np.cross(b - a, c - a), d - a) / 6
        assert volumes.min() > 0
        assert volumes.sum() == pytest.approx(volume, rel=1e-9)
        a, b, c = (points[triangles[:, i]] for i in range(3))
        areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
        assert areas[tags == INLET].sum() == pytest.approx(np.pi / 4, rel=1e-9)
        assert areas[tags == OUTLET].sum() == pytest.approx(end, rel=1e-9)
        sides = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        assert (np.unique(sides, axis=0, return_counts=True)[1] == 2).all()


# Steady


@pytest.mark.parametrize("reynolds", [100, 1000])
def test_poiseuille(reynolds):
    """Drop from cap to cap within 0.5 %, mean wall shear within 2 %, on less than an eighth of 100,000 cells."""
    length, flow = 0.024, rate(reynolds)
    held = tube(Section(4, 1, 0.2), length, 16, 2e-3)
    assert len(held.tets) < 12_500
    state = navier_stokes.steady(held, held.inflow(flow), held.rest(0.0, flow))
    drop = held.mean_pressure(state.p, INLET) - held.mean_pressure(state.p, OUTLET)
    assert drop == pytest.approx(8 * BLOOD.viscosity * flow * length / (np.pi * RADIUS**4), rel=0.005)
    z = held.points[held.wall_vertices, 2]
    inside = held.wall_vertices[(z > 0.1 * length) & (z < 0.9 * length)]
    shear = np.linalg.norm(held.traction(state)[inside], axis=1)
    assert shear.mean() == pytest.approx(4 * BLOOD.viscosity * flow / (np.pi * RADIUS**3), rel=0.02)


# Pulsatile


@dataclass(frozen=True)
class Wave:
    """One harmonic with factors exp(i omega t): velocity (m/s) at radii r by flow q (m^3/s), and -dp/dz."""

    alpha: float

    @property
    def period(self) -> float:
        return 2 * np.pi * RADIUS**2 * BLOOD.density / BLOOD.viscosity / self.alpha**2

    @property
    def share(self) -> complex:
        z = self.alpha * 1j**1.5
        return 1 - 2 * special.jv(1, z) / (z * special.jv(0, z))

    def velocity(self, r: np.ndarray, q: float) -> np.ndarray:
        z = self.alpha * 1j**1.5
        return q / AREA * (1 - special.jv(0, z * r / RADIUS) / special.jv(0, z)) / self.share

    def slope(self, q: float) -> complex:
        return 2j * np.pi / self.period * BLOOD.density * q / AREA / self.share


@dataclass(frozen=True)
class Seen:
    """Largest and root mean square error of the velocity's amplitude over the middle section (relative to the largest
    and to the root mean square amplitude), largest error of its phase where it is above a third of the largest, and of
    the pressure's slope: relative amplitude, phase; degrees."""

    most: float
    rms: float
    phase: float
    slope: float
    slope_phase: float


def _begun(held: Flow, wave: Wave, flow: float, steady: float) -> State:
    """The exact flow at time 0, for what a start from rest leaves behind fades over many cycles."""
    turn = np.exp(-2j * np.pi * held.stepping.dt / wave.period)
    r = np.minimum(np.hypot(*held.nodes.points[:, :2].T), RADIUS)
    mean = 2 * steady * flow / AREA * (1 - (r / RADIUS) ** 2)
    u, before = (np.stack([0 * r, 0 * r, mean + (wave.velocity(r, flow) * t).real], 1) for t in (1, turn))
    poiseuille = 8 * BLOOD.viscosity * steady * flow / (np.pi * RADIUS**4)
    to_go = held.points[:, 2].max() - held.points[:, 2]
    p, was, still = (to_go * (poiseuille + (wave.slope(flow) * t).real) for t in (1, turn, turn**2))
    scale = held.stepping.dt / (1.5 * BLOOD.density)
    return replace(held.rest(0.0, 0.0), u=u, u_before=before, p=p, potential=scale * (p - was),
                   potential_before=scale * (was - still))


def pulsating(alpha: float, n: int, section: Section, reynolds: float, steady: float, length: float, n_along: int,
              cycles: int, kept: int = 20) -> Seen:
    """Flow of amplitude `reynolds` about a mean of so many times the amplitude, n steps a cycle."""
    wave, flow = Wave(alpha), rate(reynolds)
    held = tube(section, length, n_along, wave.period / n)
    pulse = Pulse(wave.period, flow * (steady + np.cos(2 * np.pi * np.arange(200) / 200)))
    ends = np.array([[0, 0, 0.3 * length], [0, 0, 0.7 * length]])
    probes = pulsatile.sampling(held, ends, np.array([[0, 0, 1.0]] * 2), np.full(2, RADIUS))
    found = pulsatile.solve(held, pulse, _begun(held, wave, flow, steady), probes,
                            pulsatile.Cycles(cycles, cycles, 1e-3, snapshots=kept))
    at = np.linspace(0, n, kept, endpoint=False).astype(int)
    u = np.array([field[:, 2] for _, field, _ in found.snapshots])
    mode = 2 * np.exp(-2j * np.pi * (at + 1) / n) @ u / kept
    r = np.hypot(*held.points[:, :2].T)
    middle = (np.abs(held.points[:, 2] - length / 2) < 0.21 * length) & (r < RADIUS)
    exact, mode = wave.velocity(r[middle], flow), mode[middle]
    top = np.abs(exact).max()
    large = np.abs(exact) > top / 3
    drop = found.probes[:, 0] - found.probes[:, 1]
    slope = 2 * (drop * np.exp(-2j * np.pi * np.arange(1, n + 1) / n)).mean() / (0.4 * length) / wave.slope(flow)
    return Seen(float(np.abs(mode - exact).max() / top),
                float(np.sqrt((np.abs(mode - exact) ** 2).mean() / (np.abs(exact) ** 2).mean())),
                float(np.abs(np.angle(mode[large] / exact[large], deg=True)).max()),
                float(np.abs(slope) - 1), float(np.angle(slope, deg=True)))


@pytest.mark.parametrize("alpha, section, n_along", [(3, Section(5, 1, 0.2), 3), (8, Section(6, 2, 0.3), 3),
                                                     (15, Section(8, 4, 0.35, 1.4), 2)])
def test_womersley(alpha, section, n_along):
    """Slow flow to and fro, 100 steps a cycle: velocity and slope within 1 %, phase within 1 degree."""
    seen = pulsating(alpha, 100, section, reynolds=1, steady=0.0, length=0.008, n_along=n_along, cycles=2)
    assert seen.rms < 0.01
    assert seen.phase < 1
    assert abs(seen.slope) < 0.01
    assert abs(seen.slope_phase) < 1


@pytest.mark.parametrize("n", [100, pytest.param(400, marks=pytest.mark.verify)])
def test_womersley_in_a_stream(n):
    """At a Reynolds number of 300 and half of that to and fro, cells passed in a part of a step."""
    seen = pulsating(8, n, Section(4, 2, 0.3), reynolds=150, steady=2.0, length=0.02, n_along=8, cycles=2)
    print(f"n = {n}: {seen}")
    assert seen.rms < 0.01
    assert seen.phase < 1
    assert abs(seen.slope) < 0.01


# Windkessel


def test_a_windkessel_behind_the_tube():
    """Pressure at the outlet as the 0D circuit has it, at the inlet with the tube's exact impedance before it."""
    n = 100
    length, period = 0.03, 0.8
    bed = Windkessel(2e7, 2e8, 4e-9)
    held = tube(Section(3, 1, 0.25), length, 8, period / n, bed)
    phase = 2 * np.pi * np.arange(40) / 40
    pulse = Pulse(period, 1e-5 * (1 + 0.8 * np.sin(phase) + 0.3 * np.sin(2 * phase)))
    exact = circuit.solve(Circuit((Segment("in", "out", 0.0),), "in", {"out": bed}), pulse, Numerics(steps=4 * n))
    start = replace(held.rest(0.0, bed.distal * pulse.mean), stored={OUTLET: float(exact.stored[0, 0])})
    found = pulsatile.solve(held, pulse, start, np.zeros((0, held.n)), pulsatile.Cycles(2, 3, 1e-4, snapshots=2))
    outlet = np.roll(exact.at("out")[::4], -1)
    modes = np.fft.rfft(pulse.at(n)) / n
    modes[0] *= 8 * BLOOD.viscosity * length / (np.pi * RADIUS**4)
    modes[1:3] *= [Wave(RADIUS * np.sqrt(2 * np.pi * k / period * BLOOD.density / BLOOD.viscosity)).slope(1.0) * length
                   for k in (1, 2)]
    modes[3:] = 0
    inlet = outlet + np.roll(np.fft.irfft(modes * n, n), -1)
    for tag, wanted in ((OUTLET, outlet), (INLET, inlet)):
        off = np.sqrt(np.mean((found.pressure[tag] - wanted) ** 2)) / MMHG
        print(f"cap {tag}: {off:.4f} mmHg")
        assert off < 0.05
