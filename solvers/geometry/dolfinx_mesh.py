"""Tetrahedra with tagged boundary triangles into DOLFINx, and fields back in the order they came in."""

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


def load(points: np.ndarray, tets: np.ndarray, triangles: np.ndarray, tags: np.ndarray, comm: Any = None) -> Domain:
    """points (n, 3) in m, tets (c, 4), boundary triangles (t, 3) with a tag each (t,).

    Rank 0 gives the arrays, the others may give empty ones of the same width.
    """
    comm = comm or MPI.COMM_WORLD
    element = basix.ufl.element("Lagrange", "tetrahedron", 1, shape=(3,), dtype=np.float64)
    grid = mesh.create_mesh(comm, np.ascontiguousarray(tets, np.int64), ufl.Mesh(element),
                            np.ascontiguousarray(points, np.float64))
    grid.topology.create_connectivity(2, 0)
    grid.topology.create_connectivity(2, 3)
    entities, values = dolfinx.io.distribute_entity_data(grid, 2, np.ascontiguousarray(triangles, np.int64),
                                                         np.ascontiguousarray(tags, np.int32))
    adjacency = dolfinx.graph.adjacencylist(entities)
    facets = mesh.meshtags_from_entities(grid, 2, adjacency, values.astype(np.int32))
    return Domain(grid, facets, np.asarray(grid.geometry.input_global_indices))
