"""mesh.vtu and boundaries.json: how the lumen's tetrahedra travel between stages."""

from pathlib import Path
from typing import Any

import numpy as np
import pyvista

from pipeline import formats
from solvers.errors import BadInput
from solvers.geometry.lumen_mesh import Boundary, LumenMesh

FOLLOWED = "moved from the baseline's mesh"
"""Begins the method of a treated vessel's mesh that has the untreated one's cells."""
_TRIANGLE, _TETRAHEDRON = int(pyvista.CellType.TRIANGLE), int(pyvista.CellType.TETRA)


def write_lumen_mesh(mesh_path: Path, boundaries_path: Path, mesh: LumenMesh, quality: dict[str, Any]) -> None:
    """Tetrahedra first, then boundary triangles, in one grid; `quality` goes into the second file."""
    n, t = len(mesh.tets), len(mesh.triangles)
    filled = [np.insert(mesh.tets, 0, 4, axis=1).ravel(), np.insert(mesh.triangles, 0, 3, axis=1).ravel()]
    cells = np.concatenate(filled)
    kinds = np.r_[np.full(n, _TETRAHEDRON, np.uint8), np.full(t, _TRIANGLE, np.uint8)]
    grid = pyvista.UnstructuredGrid(cells, kinds, mesh.points)
    grid.cell_data["region"] = np.r_[mesh.region, np.zeros(t, int)].astype(np.int32)
    grid.cell_data["boundary"] = np.r_[np.zeros(n, int), mesh.tags].astype(np.int32)
    formats.write_mesh(mesh_path, grid, "m")
    formats.write_json(boundaries_path, {"unit": "m", "boundaries": list(mesh.boundaries), "quality": quality})


def read_lumen_mesh(mesh_path: Path, boundaries_path: Path) -> LumenMesh:
    """The mesh in metres; refused when the two files do not belong together."""
    grid = formats.read_mesh(mesh_path, "m")
    boundaries = tuple(_boundary(item) for item in formats.read_json(boundaries_path)["boundaries"])
    cells = grid.cells_dict
    if _TETRAHEDRON not in cells or _TRIANGLE not in cells or not {"region", "boundary"} <= set(grid.cell_data.keys()):
        raise BadInput("not_a_lumen_mesh", f"{mesh_path.name} lacks tagged triangles or tetrahedra",
                       "tetrahedra with `region` and triangles with `boundary`", "Give the mesh that the stage made.")
    tags = np.asarray(grid.cell_data["boundary"])[grid.celltypes == _TRIANGLE]
    told, found = {b.tag for b in boundaries}, set(np.unique(tags).tolist())
    if told != found:
        raise BadInput("boundaries_differ", f"{boundaries_path.name} names the tags {sorted(told)}, "
                       f"{mesh_path.name} has {sorted(found)}", "the same tags", "Give both files of one mesh.")
    return LumenMesh(np.asarray(grid.points, float), np.asarray(cells[_TETRAHEDRON], np.int64),
                     np.asarray(cells[_TRIANGLE], np.int64), tags.astype(np.int32),
                     np.asarray(grid.cell_data["region"])[grid.celltypes == _TETRAHEDRON].astype(np.int32), boundaries)


def read_quality(boundaries_path: Path) -> dict[str, Any]:
    """Figures of the mesh: n_tets, angles, volume (m^3) and so on."""
    return dict(formats.read_json(boundaries_path)["quality"])


def follows(boundaries_path: Path) -> bool:
    """Whether the mesh has the cells of the baseline's, their points moved."""
    return str(read_quality(boundaries_path).get("method", "")).startswith(FOLLOWED)


def _boundary(item: dict[str, Any]) -> Boundary:
    return Boundary(**(item | {"centre": tuple(item["centre"]), "normal": tuple(item["normal"])}))
