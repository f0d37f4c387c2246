"""The same problem on tetrahedra of our own, in a process of its own: `python -m benchmarks.ours SETTING FILE`.

The processor's time is taken from the mesh's arrays to the last step. Before it a
coarse tube is solved, so that compiled code is loaded.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks import stenosis
from benchmarks.setting import Setting
from benchmarks.stenosis import Seen
from solvers.flow.navier_stokes import Caps, Flow, Fluid, Stepping
from solvers.flow.windkessel import Windkessel
from solvers.geometry import dolfinx_mesh
from tests import axisymmetric
from tests.axisymmetric import INLET, OUTLET, WALL, Section
from tests.probes import places


def solve(setting: Setting) -> tuple[Seen, dict[str, float]]:
    """What the run shows, and its size and cost."""
    section = Section(setting.core, setting.rim, setting.share, setting.growth)
    mesh = axisymmetric.tube(stenosis.stations(setting.h), stenosis.radius, section)
    begin = time.process_time(), time.perf_counter()
    stepping = Stepping(stenosis.END / setting.steps, tolerance=setting.tolerance)
    flow = Flow(dolfinx_mesh.load(*mesh), Caps(WALL, INLET, {OUTLET: Windkessel(0.0, 0.0, 0.0)}),
                Fluid(stenosis.DENSITY, stenosis.VISCOSITY), stepping)
    at, state = places(flow, stenosis.points()), flow.rest(0.0, 0.0)
    every = round(stenosis.SEEN_EVERY / stepping.dt)
    times, drops, speeds = [], [], []
    for k in range(1, setting.steps + 1):
        state, step = flow.advance(state, flow.inflow(stenosis.inflow(k * stepping.dt)))
        times.append(state.time)
        drops.append(step.pressure[INLET] - step.pressure[OUTLET])
        if k % every == 0:
            speeds.append(at(state.u))
    spent = time.process_time() - begin[0], time.perf_counter() - begin[1]
    return Seen(np.array(times), np.array(drops), np.array(speeds)), {
        "cells": len(flow.tets), "cpu": spent[0], "wall": spent[1]}


def main() -> None:
    setting, file = Setting(**json.loads(sys.argv[1])), Path(sys.argv[2])
    solve(Setting(2, 0, 0.006, 5))
    seen, cost = solve(setting)
    np.savez(file, cost=json.dumps(cost), **asdict(seen))


if __name__ == "__main__":
    main()
