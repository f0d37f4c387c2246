"""Tetrahedra or triangles with tagged faces into DOLFINx, and fields back in the order they came in."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.fenics import MPI, basix, dolfinx, mesh, ufl


@dataclass(frozen=True)
class Domain:
    """A DOLFINx mesh (m), its facet tags, and for each vertex of the mesh its index in the arrays given."""

    mesh: Any
    facets: Any
    original: np.ndarray


def load(points: np.ndarray, cells: np.ndarray, faces: np.ndarray, tags: np.ndarray, comm: Any = None) -> Domain:
    """points (n, 3) in m, tetrahedra (c, 4) or triangles (c, 3), boundary faces (t, m - 1) with a tag each (t,).

    Rank 0 gives the arrays, the others may give empty ones of the same width.
    """
    comm = comm or MPI.COMM_WORLD
    shape = "triangle" if cells.shape[1] == 3 else "tetrahedron"
    element = basix.ufl.element("Lagrange", shape, 1, shape=(3,), dtype=np.float64)
    grid = mesh.create_mesh(comm, np.ascontiguousarray(cells, np.int64), ufl.Mesh(element),
                            np.ascontiguousarray(points, np.float64))
    dim = grid.topology.dim
    grid.topology.create_connectivity(dim - 1, 0)
    grid.topology.create_connectivity(dim - 1, dim)
    entities, values = dolfinx.io.distribute_entity_data(grid, dim - 1, np.ascontiguousarray(faces, np.int64),
                                                         np.ascontiguousarray(tags, np.int32))
    adjacency = dolfinx.graph.adjacencylist(entities)
    facets = mesh.meshtags_from_entities(grid, dim - 1, adjacency, values.astype(np.int32))
    return Domain(grid, facets, np.asarray(grid.geometry.input_global_indices))
