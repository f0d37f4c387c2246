"""The 3D side: the vessel's discrete problem, its beat, where it is read, its fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyvista

from pipeline import formats
from pipeline.simulate_flow.outside import Outside
from pipeline.simulate_flow.state import BEHIND
from pipeline.stage import checkpoints, tell
from solvers.fenics import fem
from solvers.flow import navier_stokes, pulsatile, taylor_hood, transfer
from solvers.flow.circuit import Periodic
from solvers.flow.navier_stokes import Caps, Flow, Fluid, State, Stepping
from solvers.flow.network import Network, Results, stations
from solvers.flow.progress import Progress, Start
from solvers.flow.pulsatile import Cycles, Pulsatile
from solvers.geometry import dolfinx_mesh
from solvers.geometry.centrelines import Branch, Lesion, Tree
from solvers.geometry.dolfinx_mesh import Domain
from solvers.geometry.lumen_mesh import EXTENSION, LumenMesh
from solvers.geometry.sizing import locate

MM = 1e-3
MOST_CFL = 40.0
"""Of a step, in the worst cell: a guard, which the sample's beat, at most 17, does not meet. At 7 there the drop of a
stenosis is 2 % above that at 1.7, far less than what the mesh leaves open."""
INLET = "inlet"
"""Name of the probe where the vessel begins, behind the flow extension."""


@dataclass(frozen=True)
class Vessel:
    """A mesh (m), the tree and lesions it was made for (mm), the blood, and what lies beyond the ends."""

    mesh: LumenMesh
    tree: Tree
    lesions: tuple[Lesion, ...]
    fluid: Fluid
    around: Outside


@dataclass(frozen=True)
class Zero:
    """The 0D network on one contour, its beat and the numbers read off."""

    network: Network
    periodic: Periodic
    numbers: Results


@dataclass(frozen=True)
class Place:
    """Where pressure is read: a disc across the lumen; centre, normal and radius in m."""

    name: str
    centre: np.ndarray
    normal: np.ndarray
    radius: float


@dataclass(frozen=True)
class Solved:
    """The last beat of the 3D model. Fields are in the order of the mesh's points; probes by name (t,) Pa.

    pullbacks: lesion to places along its branch, mm behind its end (k,), and mean pressure over the beat there, Pa
    (k,).
    """

    cycle: Pulsatile
    places: tuple[Place, ...]
    pullbacks: Mapping[str, tuple[np.ndarray, np.ndarray]]
    original: np.ndarray
    time_step: float
    n_nodes: int

    def probe(self, name: str) -> np.ndarray:
        """Pressure over the beat at a place, Pa."""
        return self.cycle.probes[:, [p.name for p in self.places].index(name)]

    def on_mesh(self, field: np.ndarray) -> np.ndarray:
        """A field of the solver in the order of the mesh's points."""
        out = np.empty_like(field)
        out[self.original] = field
        return out

    @cached_property
    def pressures(self) -> dict[str, float]:
        """Systolic, mean and diastolic pressure where the vessel begins, Pa."""
        p = self.probe(INLET)
        return {"systolic": float(p.max()), "mean": float(p.mean()), "diastolic": float(p.min())}


@dataclass(frozen=True)
class Earlier:
    """A place in a flow through this vessel or one much like it, and its mesh."""

    start: Start
    mesh: LumenMesh


def solve(case: Vessel, zero: Zero, time_step: float, cycles: Cycles, before: Earlier | None = None) -> Solved:
    """The 3D flow until it repeats, from an earlier one or else from the 0D state at the beat's beginning;
    continues where a killed run stopped."""
    pulse, mesh = case.around.pulse, case.mesh
    n = int(np.ceil(pulse.period / time_step))
    domain = _domain(mesh)
    caps = Caps(mesh.wall.tag, mesh.inlet.tag, {b.tag: case.around.beds[b.branch] for b in mesh.outlets})
    flow = Flow(domain, caps, case.fluid, Stepping(dt=pulse.period / n, most_cfl=MOST_CFL))
    where = places(case)
    weights = _weights(flow, where)
    kept = checkpoints() / "progress.npz"
    start = Progress.read(kept) if kept.is_file() else _start(flow, case, zero, n, before)

    def offer(progress: Progress) -> None:
        progress.write(kept)
        changed = f", changed by {progress.change:.1%}, the wall's shear by {progress.wall_change:.1%}" \
            if np.isfinite(progress.change) else ""
        tell(f"  simulate_flow: beat {progress.n_cycles} done{changed}")

    found = pulsatile.solve(flow, pulse, start, weights, cycles, offer)
    pulled = {x.id: _pulled(flow, case, x, found.pressure_mean) for x in case.lesions}
    return Solved(found, where, pulled, flow.original, flow.stepping.dt, len(flow.nodes.points))


def _weights(flow: Flow, where: Sequence[Place]) -> np.ndarray:
    return pulsatile.sampling(flow, np.array([p.centre for p in where]), np.array([p.normal for p in where]),
                              np.array([p.radius for p in where]))


def _pulled(flow: Flow, case: Vessel, lesion: Lesion, pressure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A field (n,) read every millimetre from the lesion's start to 20 mm behind it, or where its branch ends."""
    branch = case.tree.branches[lesion.branch]
    end = max(min(lesion.end + BEHIND[1], float(_measured(branch)[-1])), lesion.abscissa)
    along = np.linspace(lesion.start, end, max(2, int(np.ceil(end - lesion.start)) + 1))
    return along - lesion.end, _weights(flow, [_place("", branch, float(s)) for s in along]) @ pressure


def _start(flow: Flow, case: Vessel, zero: Zero, n: int, before: Earlier | None) -> Start:
    """What the wall's shear still changed by in an earlier flow is taken over too: it need not be shown again."""
    if before is None:
        return Start(_ramped(flow, case, zero, n))
    return replace(before.start, state=_resumed(flow, case.mesh, before))


def _ramped(flow: Flow, case: Vessel, zero: Zero, n: int) -> State:
    """Blood brought to the velocity of the beat's beginning, what the outlets store as in the network."""
    leaves, periodic = zero.network.leaves, zero.periodic
    stored = {b.tag: periodic.stored_at_start(leaves[b.branch]) for b in case.mesh.outlets}
    rest = flow.rest(0.0, float(periodic.at(zero.network.circuit.inlet)[0]), stored)
    return navier_stokes.ramped(flow, pulsatile.inlet_velocities(flow, case.around.pulse, n)(0), rest)


def _resumed(flow: Flow, mesh: LumenMesh, before: Earlier) -> State:
    """The earlier flow's state: as it is where the cells are the same, else read off its mesh at this one's nodes."""
    if np.array_equal(mesh.tets, before.mesh.tets):
        return before.start.state
    here = {b.branch: b.tag for b in mesh.outlets}
    space = fem.functionspace(_domain(before.mesh).mesh, ("Lagrange", 1))
    nodes = taylor_hood.nodes(space.tabulate_dof_coordinates(), np.ascontiguousarray(space.dofmap.list, np.int32))
    return transfer.taken_over(before.start.state, nodes, flow, {b.tag: here[b.branch] for b in before.mesh.outlets})


def _domain(mesh: LumenMesh) -> Domain:
    return dolfinx_mesh.load(mesh.points, mesh.tets, mesh.triangles, mesh.tags)


def places(case: Vessel) -> tuple[Place, ...]:
    """Where the vessel begins, where each of its leaves ends, and the stations of every lesion."""
    root = case.tree.branches[case.tree.root]
    found = [_place(INLET, root, float(_measured(root)[0]))]
    found += [_place(end_of(i), case.tree.branches[i], float(_measured(case.tree.branches[i])[-1]))
              for i in case.tree.leaves]
    for lesion in case.lesions:
        at, branch = stations(case.tree, lesion), case.tree.branches[lesion.branch]
        found += [_place(f"{lesion.id}_proximal", branch, at.proximal_abscissa),
                  _place(f"{lesion.id}_distal", branch, at.distal_abscissa)]
    return tuple(found)


def end_of(leaf: int) -> str:
    """Name of the probe where a leaf ends, before the flow extension."""
    return f"end_{leaf}"


def _measured(branch: Branch) -> np.ndarray:
    """Abscissae where a branch has a cross-section, or all where it has none."""
    known = np.isfinite(branch.area)
    return branch.abscissa[known] if known.any() else branch.abscissa


def _place(name: str, branch: Branch, abscissa: float) -> Place:
    s = branch.abscissa
    centre = np.array([np.interp(abscissa, s, x) for x in branch.points.T])
    normal = np.array([np.interp(abscissa, s, x) for x in branch.tangent.T])
    return Place(name, MM * centre, normal / np.linalg.norm(normal),
                 MM * float(np.interp(abscissa, s, branch.radius)))


def wall_triangles(mesh: LumenMesh) -> np.ndarray:
    """Wall triangles (t, 3) of the vessel itself, its flow extensions left out."""
    extension = np.zeros(len(mesh.points), bool)
    extension[mesh.tets[mesh.region == EXTENSION]] = True
    inside = np.zeros(len(mesh.points), bool)
    inside[mesh.tets[mesh.region != EXTENSION]] = True
    triangles = mesh.triangles_of(mesh.wall.tag)
    return triangles[inside[triangles].all(axis=1) & ~(extension & ~inside)[triangles].any(axis=1)]


def sites(case: Vessel, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Branch (n,) and place along it, mm (n,), of points (n, 3) in m."""
    station = locate(points / MM, case.tree)
    return station.branch, station.abscissa


# Fields


def write_fields(cycle: Path, wall: Path, case: Vessel, found: Solved) -> None:
    """The wall with its means over the beat, and the beat as snapshots."""
    formats.write_mesh(wall, _wall(case, found), "m")
    names = []
    for k, (time, u, p) in enumerate(found.cycle.snapshots):
        name = f"{cycle.stem}_{k:02d}.vtu"
        formats.write_mesh(cycle.with_name(name), _snapshot(case.mesh, found.on_mesh(u), found.on_mesh(p)), "m")
        names.append((time, name))
    _write_collection(cycle, names)


def _wall(case: Vessel, found: Solved) -> Any:
    triangles = wall_triangles(case.mesh)
    used, numbers = np.unique(triangles, return_inverse=True)
    surface: Any = pyvista.PolyData(case.mesh.points[used], np.insert(numbers.reshape(-1, 3), 0, 3, axis=1).ravel())
    for name in ("pressure_mean", "pressure_peak", "tawss", "osi", "rrt", "ecap", "transverse_wss", "wss_peak"):
        surface.point_data[name] = found.on_mesh(getattr(found.cycle, name))[used]
    return surface


def _snapshot(mesh: LumenMesh, u: np.ndarray, p: np.ndarray) -> Any:
    grid = pyvista.UnstructuredGrid({pyvista.CellType.TETRA: mesh.tets}, mesh.points)
    grid.point_data["velocity"], grid.point_data["pressure"] = u, p
    grid.cell_data["region"] = mesh.region
    return grid


def _write_collection(path: Path, items: Sequence[tuple[float, str]]) -> None:
    """A ParaView collection; times in s."""
    lines = [f'    <DataSet timestep="{time:.6g}" file="{name}"/>' for time, name in items]
    path.write_text("\n".join(['<?xml version="1.0"?>', '<VTKFile type="Collection" version="0.1">', "  <Collection>",
                               *lines, "  </Collection>", "</VTKFile>", ""]))
