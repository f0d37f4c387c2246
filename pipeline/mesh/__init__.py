"""From the lumen's surface to tetrahedra in metres, with layers at the wall and straight ends, ready for flow.

The ends are cut square to the centreline, the wall is meshed by MMG in sizes
that follow the local radius, each end gets a straight extension to a circle,
layers of thin cells grow inward where they are asked for, Netgen fills the rest
and MMG makes its cells regular. Where the mesh does not pass its gates, `build`
tries again with a somewhat higher density, then in another way; where none
does, that is an error. Given the mesh of the same vessel before it was treated,
that one is moved to the treated surface by `follow`, so that nothing changes
away from the device; only where that gives no good mesh it is made anew.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline import formats
from pipeline.lumen_mesh import read_lumen_mesh, read_quality, write_lumen_mesh
from pipeline.mesh import build as building
from pipeline.mesh import follow as following
from pipeline.mesh.child import Limits
from pipeline.mesh.follow import Leader
from pipeline.stage import Config, Files, Report
from solvers.errors import BadInput
from solvers.geometry import lumen_wall, tetrahedra
from solvers.geometry.centrelines import Tree
from solvers.geometry.layers import Layering
from solvers.geometry.lumen_wall import Extending
from solvers.geometry.surface import Surface
from solvers.geometry.tetrahedra import Quality
from solvers.units import Time

VERSION = 1
SOURCES = ["Schoeberl 1997 (Netgen), doi:10.1007/s007910050004",
           "Dapogny, Dobrzynski & Frey 2014 (MMG), doi:10.1016/j.jcp.2014.01.005",
           "Knupp et al. 2006 (scaled Jacobian), SAND2007-1751"]


class MeshConfig(Config):
    cells_across: float = 3.1
    """Cells over the diameter of the healthy lumen; 2.7 times as many where it is narrowed."""
    max_tets: int = 200_000
    """Where the mesh would have more tetrahedra, there are fewer cells across."""
    wall_layers: int = 0
    """At most: fewer where they do not fit, or max_tets would leave too few cells across. Each of them adds about as
    many cells as the mesh without layers has."""
    layer_growth: float = 1.5
    layer_share: float = 0.25
    """Thickness of all layers relative to the local radius; less where there is room for fewer layers only."""
    extension_diameters: float = 2.0
    """Length of the straight pieces at outlets; a quarter more at the inlet."""
    method: Literal["netgen", "netgen_advancing"] = "netgen"
    """Netgen starting by Delaunay's way, or by the advancing front alone. The other one is the second way."""
    volume_tolerance: float = 0.01
    least_scaled_jacobian: float = 0.05
    """Of cells in the core; those in layers are meant to be flat and may have a hundredth."""
    time_limit: Time = "60 s"
    """CPU time of one call of a mesher."""
    memory_limit_gb: float = 4.0


class MeshInputs(Files):
    """The vessel; and for a treated one, the vessel before with its mesh, all three or none."""

    surface: Path
    centrelines: Path
    untreated_surface: Path | None = None
    untreated_mesh: Path | None = None
    untreated_boundaries: Path | None = None


class MeshOutputs(Files):
    mesh: Path = Path("mesh.vtu")
    boundaries: Path = Path("boundaries.json")


class MeshReport(Report):
    method: str
    cells_across: float
    n_tets: int
    n_points: int
    wall_layers: int
    thinned_layers_fraction: float
    n_outlets: int
    shortest_extension_diameters: float
    min_dihedral_deg: float
    min_scaled_jacobian: float
    mean_scaled_jacobian: float
    self_intersections: int
    volume_ml: float
    volume_change: float


def mesh(inputs: MeshInputs, config: MeshConfig, outputs: MeshOutputs) -> MeshReport:
    surface, tree, plan = _read(inputs.surface), formats.read_tree(inputs.centrelines), _plan(config)
    made, why = _followed(inputs, surface, tree, plan)
    if made is None:
        made = building.build(lumen_wall.open_ends(surface, tree), tree, plan)
        made = replace(made, method=f"{made.method}; meshed anew: {why}") if why else made
    shapes = tetrahedra.quality(made.mesh.points, made.mesh.tets)
    volume = float(tetrahedra.volumes(made.mesh.points, made.mesh.tets).sum())
    write_lumen_mesh(outputs.mesh, outputs.boundaries, made.mesh, asdict(shapes) | {
        "n_points": len(made.mesh.points), "self_intersections": made.crossings, "wall_layers": made.n_layers,
        "thinned_layers_fraction": made.thinned, "method": made.method, "cells_across": made.across,
        "volume": volume, "volume_change": made.change, "shortest_extension_diameters": made.shortest})
    return _report(made, shapes, volume)


def _followed(inputs: MeshInputs, surface: Surface, tree: Tree, plan: building.Plan
              ) -> tuple[building.Made | None, str]:
    """The untreated vessel's mesh moved to the surface; or why not, which is nothing where there is none."""
    if inputs.untreated_mesh is None or inputs.untreated_boundaries is None or inputs.untreated_surface is None:
        return None, ""
    leader = Leader(read_lumen_mesh(inputs.untreated_mesh, inputs.untreated_boundaries),
                    read_quality(inputs.untreated_boundaries), _read(inputs.untreated_surface))
    return following.follow(leader, surface, tree, plan)


def _plan(config: MeshConfig) -> building.Plan:
    if config.cells_across <= 0 or config.max_tets <= 0:
        raise BadInput("bad_density", "the mesh has no cells", "mesh.cells_across and mesh.max_tets above 0")
    layering = Layering(config.wall_layers, config.layer_growth, config.layer_share) if config.wall_layers else None
    extending = Extending(1.25 * config.extension_diameters, config.extension_diameters)
    ways = sorted(("netgen", "netgen_advancing"), key=lambda way: way != config.method)
    return building.Plan(config.cells_across, config.max_tets, layering, extending,
                         Limits(float(config.time_limit), config.memory_limit_gb),
                         building.Gates(config.least_scaled_jacobian, most_change=config.volume_tolerance), tuple(ways))


def _read(path: Path) -> Surface:
    found = formats.read_mesh(path, "mm")
    surface = Surface(np.asarray(found.points, float), found.regular_faces.astype(np.int64))
    if not surface.is_closed:
        raise BadInput("surface_not_closed", f"{path.name} has edges without two triangles", "a closed surface",
                       "Close the ends of the surface (flat caps) first.")
    return surface if surface.volume > 0 else surface.but(triangles=surface.triangles[:, ::-1])


def _report(made: building.Made, shapes: Quality, volume: float) -> MeshReport:
    return MeshReport(
        method=made.method, cells_across=round(made.across, 3), n_tets=shapes.n_tets,
        n_points=len(made.mesh.points), wall_layers=made.n_layers,
        thinned_layers_fraction=round(made.thinned, 4), n_outlets=len(made.mesh.outlets),
        shortest_extension_diameters=round(made.shortest, 2), min_dihedral_deg=round(shapes.min_dihedral_deg, 2),
        min_scaled_jacobian=round(shapes.min_scaled_jacobian, 4),
        mean_scaled_jacobian=round(shapes.mean_scaled_jacobian, 4), self_intersections=made.crossings,
        volume_ml=round(volume * 1e6, 3), volume_change=round(made.change, 5))
