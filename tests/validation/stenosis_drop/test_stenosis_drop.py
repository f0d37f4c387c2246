"""Pressure drop across a round stenosis: the 3D solver beside the 0D network's formula; see README.md."""

from dataclasses import dataclass

import numpy as np
import pytest
from vessel_trees import lesion, straight

from solvers.flow import circuit, navier_stokes, network
from solvers.flow.navier_stokes import Caps, Flow, Fluid, Stepping
from solvers.flow.windkessel import Windkessel
from solvers.geometry import dolfinx_mesh
from tests import axisymmetric
from tests.axisymmetric import INLET, OUTLET, WALL, Section

pytestmark = pytest.mark.verify
D0 = 6e-3
BLOOD = Fluid(1060.0, 0.0035)
BEFORE, BEHIND = 2.0, 6.0
"""Pressure stations, in vessel diameters from the throat."""


@dataclass(frozen=True)
class Stenosis:
    """A cosine along z with the throat at 0: vessel's and throat's diameter and length, m."""

    vessel: float
    throat: float
    length: float

    def radius(self, z: np.ndarray) -> np.ndarray:
        depth = 0.5 * (self.vessel - self.throat)
        return 0.5 * self.vessel - depth * np.where(np.abs(z) < self.length / 2,
                                                    0.5 + 0.5 * np.cos(2 * np.pi * z / self.length), 0.0)


@dataclass(frozen=True)
class Grid:
    """Stations' distances (in vessel diameters) in the vessel before and in the throat, 3 and 12 behind; section."""

    before: float
    throat: float
    behind: float
    end: float
    section: Section


GRID = Grid(0.4, 0.08, 0.14, 0.6, Section(3, 1, 0.25))


@dataclass(frozen=True)
class Found:
    """Drop between the stations, mean and standard deviation over the last third of the steps, Pa; cells."""

    drop: float
    spread: float
    cells: int


def narrowed(percent: float) -> Stenosis:
    return Stenosis(D0, D0 * (1 - percent / 100), 2 * D0)


def rate(reynolds: float, fluid: Fluid = BLOOD, vessel: float = D0) -> float:
    """Flow, m^3/s, at a Reynolds number of the vessel."""
    return reynolds * np.pi * vessel * fluid.viscosity / (4 * fluid.density)


def in_3d(shape: Stenosis, flow: float, grid: Grid, passages: float, dt: float, fluid: Fluid = BLOOD) -> Found:
    """March for `passages` of the mean flow from throat to outlet station; dt in vessel diameters over mean speed."""
    d = shape.vessel
    speed = flow / (np.pi / 4 * d**2)
    half = 0.5 * shape.length / d
    z = d * axisymmetric.graded([-3.0, -half, 0.0, 3.0, 6.0, 12.0],
                                [grid.before, 2 * grid.throat, grid.throat, grid.behind, 2 * grid.behind, grid.end])
    solver = Flow(dolfinx_mesh.load(*axisymmetric.tube(z, shape.radius, grid.section)),
                  Caps(WALL, INLET, {OUTLET: Windkessel(0.0, 1.0, 0.0)}), fluid,
                  Stepping(dt=dt * d / speed))
    stations = [z[np.abs(z - d * place).argmin()] for place in (-BEFORE, BEHIND)]
    disc = [np.flatnonzero(np.abs(solver.points[:, 2] - place) < 1e-9) for place in stations]
    inflow = solver.inflow(flow)
    n = round(passages * BEHIND / dt)
    state = navier_stokes.ramped(solver, inflow, solver.rest(0.0, flow), max(20, n // 10))
    drops = []
    for _ in range(n):
        state, _ = solver.advance(state, inflow)
        drops.append(state.p[disc[0]].mean() - state.p[disc[1]].mean())
    slope = 128 * fluid.viscosity * flow / (np.pi * d**4)  # from the nearest station to the wanted place
    off = slope * (BEFORE * d + stations[0] + BEHIND * d - stations[1])
    last = np.array(drops[-n // 3:]) + off
    return Found(float(last.mean()), float(last.std()), len(solver.tets))


def in_0d(shape: Stenosis, flow: float, fluid: Fluid = BLOOD) -> float:
    """Drop between the same stations in the network, Pa."""
    d, half = shape.vessel * 1e3, 0.5e3 * shape.length
    tree = straight(lambda s: 1e3 * shape.radius((s - BEFORE * d) * 1e-3), (BEFORE + BEHIND) * d, d / 60)
    made = network.build(tree, fluid, [lesion(tree, 0, BEFORE * d - half, BEFORE * d + half, d)])
    pressure, _ = circuit.steady(made.circuit, flow)
    return float(pressure[made.circuit.inlet] - next(pressure[n] for n in made.leaves.values()))


@pytest.mark.parametrize("percent, reynolds, passages, dt", [(30, 300, 1.2, 0.05), (30, 600, 1.2, 0.05),
                                                             (50, 300, 1.2, 0.05), (70, 300, 0.7, 0.025)])
def test_the_formula_beside_3d(percent, reynolds, passages, dt):
    """NOT within 10 %: the formula gives more than 3D in all four, by less than 80 %; never less than a pipe does."""
    shape, flow = narrowed(percent), rate(reynolds)
    found = in_3d(shape, flow, GRID, passages, dt)
    pipe = 128 * BLOOD.viscosity * flow * (BEFORE + BEHIND) / (np.pi * D0**3)
    assert found.drop > 1.2 * pipe
    assert 1.0 < in_0d(shape, flow) / found.drop < 1.8
