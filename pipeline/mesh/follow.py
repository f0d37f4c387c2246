"""A treated vessel's mesh from the untreated one's: the wall moves as the surface did, the cells inside go along.

Away from the device no point moves at all, so that flow there changes by the
device alone and not by other cells. What was moved passes the same gates as
what is meshed anew.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.lumen_mesh import FOLLOWED
from pipeline.mesh.build import EASED, Made, Plan, fault
from solvers.errors import DidNotConverge
from solvers.geometry import capping, lumen_wall, morphing, sizing, tetrahedra
from solvers.geometry.centrelines import Tree
from solvers.geometry.intersections import crossing_triangles
from solvers.geometry.lumen_mesh import EXTENSION, VESSEL, WALL, Boundary, LumenMesh
from solvers.geometry.morphing import Morphing, Motion
from solvers.geometry.surface import Surface

DENSE = 0.8
"""Least cells across the moved vessel, relative to those asked for, at nine of ten places of its wall."""
REACH = 2.0
"""How far beyond the moved wall cells give way, in radii of the vessel there."""

TOLD = {"wall_layers", "cells_across", "thinned_layers_fraction", "method", "volume_change",
        "shortest_extension_diameters"}
"""What the mesh stage tells of a mesh that a person's own file may lack."""


@dataclass(frozen=True)
class Leader:
    """The untreated vessel: its mesh, what the mesh stage told of it, and the surface, mm, that it was made from."""

    mesh: LumenMesh
    told: dict[str, Any]
    surface: Surface


def follow(leader: Leader, surface: Surface, tree: Tree, plan: Plan) -> tuple[Made | None, str]:
    """The leader's mesh moved to the treated `surface`, or why that cannot be used."""
    if missing := TOLD - set(leader.told):
        return None, f"of the untreated vessel's mesh is not told: {', '.join(sorted(missing))}"
    if not np.array_equal(leader.surface.triangles, surface.triangles):
        return None, "the surface has other triangles than the untreated one"
    before = leader.mesh.points * 1000
    shift = _shift(leader, before, surface)
    going = (shift != 0).any(axis=1)
    held = _points_of(leader.mesh, EXTENSION)
    if going[held & _points_of(leader.mesh, VESSEL)].any():
        return None, "the device reaches an end of the vessel"
    shift[held] = 0.0
    going &= ~held
    radius = sizing.locate(before[going], tree).radius.max() if going.any() else 0.0
    on_boundary = np.isin(np.arange(len(before)), leader.mesh.triangles)
    least = 0.0 if leader.told["wall_layers"] else EASED * plan.gates.least_jacobian  # layers are meant to be flat
    try:
        morphed = morphing.solve(before, leader.mesh.tets, Motion(on_boundary | held, shift, REACH * radius),
                                 Morphing(least=least))
    except DidNotConverge as error:
        return None, str(error)
    mesh = _moved(leader.mesh, morphed.points, morphed.moved)
    made = _made(leader, mesh, surface, plan)
    why = _misfit(leader, made, surface, plan) or _sparse(made, going, tree, plan) or fault(made, plan.gates)
    return (None, why) if why else (made, "")


def _points_of(mesh: LumenMesh, region: int) -> np.ndarray:
    """Which points (n,) are corners of cells of a region."""
    return np.isin(np.arange(len(mesh.points)), mesh.tets[mesh.region == region])


def _shift(leader: Leader, points: np.ndarray, surface: Surface) -> np.ndarray:
    """How far each point of the wall goes, (n, 3), mm: with the surface, and as much further out of it as flat
    triangles need there to enclose the same volume; exactly 0 where the surface did not move."""
    shift = np.zeros_like(points)
    on_wall, numbers = np.unique(leader.mesh.triangles_of(WALL), return_inverse=True)
    wall = Surface(points[on_wall], numbers.reshape(-1, 3))
    carried = morphing.carried(wall.points, leader.surface, surface)
    going = (carried != 0).any(axis=1)
    if not going.any():
        return shift
    ends = tuple(_end(b) for b in leader.mesh.boundaries if b.role != "wall")
    moved = wall.but(points=wall.points + carried)
    further = (lumen_wall.fitted(moved, surface, ends).points - moved.points
               - lumen_wall.fitted(wall, leader.surface, ends).points + wall.points)
    shift[on_wall[going]] = (carried + further)[going]
    return shift


def _end(cap: Boundary) -> capping.End:
    """The plane in which a cap lies, mm."""
    return capping.End(cap.branch, cap.role, cap.name, 1000 * np.array(cap.centre), np.array(cap.normal),
                       1000 * cap.radius, 0.0)


def _moved(mesh: LumenMesh, points: np.ndarray, moved: np.ndarray) -> LumenMesh:
    """The mesh with its moved points, from mm, and what is told of its wall; the ends stay."""
    after = np.where(moved[:, None], points / 1000, mesh.points)
    wall = Surface(after, mesh.triangles_of(WALL))
    area = np.linalg.norm(wall.normals, axis=1) / 2
    centre = (after[wall.triangles].mean(axis=1) * area[:, None]).sum(axis=0) / area.sum()
    own = replace(mesh.wall, centre=tuple(centre.tolist()), area=float(area.sum())) if moved.any() else mesh.wall
    return replace(mesh, points=after, boundaries=tuple(own if b.role == "wall" else b for b in mesh.boundaries))


def _made(leader: Leader, mesh: LumenMesh, surface: Surface, plan: Plan) -> Made:
    told = leader.told
    change = told["volume_change"] + _excess(leader, mesh, surface) / surface.volume
    crossings = int(crossing_triangles(Surface(1000 * mesh.points, mesh.triangles_of(WALL))).sum())
    return Made(mesh, told["wall_layers"], told["cells_across"], told["thinned_layers_fraction"],
                f"{FOLLOWED} ({told['method']})", crossings, change,
                told["shortest_extension_diameters"])


def _excess(leader: Leader, mesh: LumenMesh, surface: Surface) -> float:
    """By how much more than the surface the mesh has grown, mm^3."""
    grown = [float(tetrahedra.volumes(1000 * m.points, m.tets).sum()) for m in (leader.mesh, mesh)]
    return grown[1] - grown[0] - (surface.volume - leader.surface.volume)


def _misfit(leader: Leader, made: Made, surface: Surface, plan: Plan) -> str:
    """Why the moved wall is not that of the treated vessel, or nothing."""
    if made.crossings:
        return f"{made.crossings} triangles of the wall cut others"
    moved = (made.mesh.points != leader.mesh.points).any(axis=1)[made.mesh.tets].any(axis=1)
    within = float(tetrahedra.volumes(1000 * made.mesh.points, made.mesh.tets[moved]).sum())
    off = _excess(leader, made.mesh, surface)
    if abs(off) > plan.gates.most_change * within + 1e-6:
        return f"the treated stretch has {off:.1f} mm^3 too much" if off > 0 else \
            f"the treated stretch lacks {-off:.1f} mm^3"
    return ""


def _sparse(made: Made, going: np.ndarray, tree: Tree, plan: Plan) -> str:
    """Why the moved stretch has too few cells, or nothing."""
    faces = made.mesh.triangles_of(WALL)
    faces = faces[going[faces].any(axis=1)]
    if len(faces) == 0:
        return ""
    across = float(np.percentile(sizing.across(1000 * made.mesh.points, faces, tree), 10))
    wanted = DENSE * min(plan.across, made.across)
    return f"only {across:.1f} cells across the treated stretch" if across < wanted else ""
