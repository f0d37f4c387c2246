"""A body, its supports and its loads; and the finite elements on it."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from solvers.fenics import MPI, basix, fem, mesh, ufl
from solvers.materials.law import Law


@dataclass(frozen=True)
class Prestretch:
    """How far a shape is already deformed.

    F (c, q, 3, 3): deformation gradients to this shape at the points of integration,
    each from its own rest (they need not fit together); potential (n, 3) m: what the
    springs are already displaced by.
    """

    F: np.ndarray
    potential: np.ndarray


@dataclass(frozen=True)
class Body:
    """A shape and what it is made of.

    points (n, 3) m; cells (c, 10) quadratic tetrahedra, edge nodes in the order of
    `wall_solid.EDGES`; facets (f, 3) corners of boundary triangles with tags (f,);
    bulk: Pa; fibres (families, c, q, 3): unit directions in this shape at the
    points of integration, or one for the whole cell (q = 1); prestretch: None when this shape is at rest.
    """

    points: np.ndarray
    cells: np.ndarray
    facets: np.ndarray
    tags: np.ndarray
    law: Law
    bulk: float
    fibres: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 1, 3)))
    prestretch: Prestretch | None = None

    def moved(self, displacement: np.ndarray, fibres: np.ndarray | None = None) -> "Body":
        """The body with its points moved by (n, 3) m."""
        return replace(self, points=self.points + displacement, fibres=self.fibres if fibres is None else fibres)


@dataclass(frozen=True)
class End:
    """A cut end held by springs: axial along its normal (3,), crosswise in its plane, Pa/m.

    Stiff along the vessel, so that it keeps its length, and soft across, so that the
    rim can widen; the soft spring only stops the body from drifting.
    """

    normal: tuple[float, float, float]
    axial: float = 1e10
    crosswise: float = 1e6


@dataclass(frozen=True)
class State:
    """A shape of a body: displacement (n, 3) m from its own points; pressure (n,) Pa at the corners: the field that
    keeps the volume; load: the blood's pressure under which it rests, Pa."""

    displacement: np.ndarray
    pressure: np.ndarray
    load: float


@dataclass(frozen=True)
class Loads:
    """Pressure (Pa) on the facets `inner`; ends by their tags; tether: stiffness (Pa/m) of the tissue on the facets
    `outer`, which keeps them from sliding along themselves, not from moving outward: a vessel may widen, not wander."""

    pressure: float
    ends: dict[int, End]
    tether: float = 0.0
    inner: int = 1
    outer: int = 2


class Elements:
    """The finite elements on a body under loads: mesh, spaces, measures, and numbers back in the body's order.

    The measure of facets knows three tags whatever the loads are, so that bodies of any number of ends share their
    compiled forms.
    """

    DEGREE = 3  # of quadrature in cells; facets get one more
    INNER, OUTER, HELD = 1, 2, 3

    def __init__(self, body: Body, loads: Loads) -> None:
        element = basix.ufl.element("Lagrange", "tetrahedron", 2, shape=(3,), dtype=np.float64)
        self.mesh = mesh.create_mesh(MPI.COMM_SELF, np.ascontiguousarray(body.cells, np.int64), ufl.Mesh(element),
                                     np.ascontiguousarray(body.points, np.float64))
        self.body, self.loads = body, loads
        u = basix.ufl.element("Lagrange", "tetrahedron", 2, shape=(3,))
        p = basix.ufl.element("Lagrange", "tetrahedron", 1)
        self.space = fem.functionspace(self.mesh, basix.ufl.mixed_element([u, p]))
        self.dx = ufl.Measure("dx", self.mesh, metadata={"quadrature_degree": self.DEGREE})
        exterior, self._given_tags = self._exterior()
        self.ds = ufl.Measure("ds", self.mesh, subdomain_data=self._facet_tags(exterior),
                              metadata={"quadrature_degree": self.DEGREE + 1})

    def _exterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Facets of the boundary and the body's tags on them, told by their corners."""
        grid = self.mesh
        grid.topology.create_connectivity(2, 3)
        exterior = mesh.exterior_facet_indices(grid.topology)
        nodes = mesh.entities_to_geometry(grid, 2, exterior)[:, :3]
        original = np.asarray(grid.geometry.input_global_indices)[nodes]
        known = {tuple(sorted(f)): t for f, t in zip(self.body.facets.tolist(), self.body.tags.tolist(), strict=True)}
        return exterior, np.array([known[tuple(sorted(f))] for f in original.tolist()], np.int32)

    def _facet_tags(self, exterior: np.ndarray) -> Any:
        values = np.zeros(len(exterior), np.int32)
        values[self._given_tags == self.loads.inner] = self.INNER
        values[self._given_tags == self.loads.outer] = self.OUTER
        values[np.isin(self._given_tags, list(self.loads.ends))] = self.HELD
        self._exterior_facets = exterior
        return mesh.meshtags(self.mesh, 2, exterior, values)

    @cached_property
    def springs(self) -> Any:
        """Stiffness (3, 3) of the ends' springs, Pa/m, on the cells behind them."""
        space = fem.functionspace(self.mesh, ("DG", 0, (3, 3)))
        self.mesh.topology.create_connectivity(2, 3)
        cell_of = self.mesh.topology.connectivity(2, 3)
        made = fem.Function(space)
        stiffness = made.x.array.reshape(-1, 3, 3)
        for tag, end in self.loads.ends.items():
            n = np.asarray(end.normal)
            here = self._exterior_facets[self._given_tags == tag]
            cells = np.array([cell_of.links(facet)[0] for facet in here], int)
            stiffness[space.dofmap.list[cells, 0]] = (
                end.crosswise * np.eye(3) + (end.axial - end.crosswise) * np.outer(n, n))
        return made

    @cached_property
    def u_space(self) -> tuple[Any, np.ndarray]:
        """The displacement's space alone, and its place in the mixed one."""
        return self.space.sub(0).collapse()

    @cached_property
    def _node_of(self) -> np.ndarray:
        """For each block of the displacement's space, the body's point."""
        V = self.u_space[0]
        geometry = self.mesh.geometry
        node = np.empty(V.dofmap.index_map.size_local, np.int64)
        node[V.dofmap.list.ravel()] = np.asarray(geometry.input_global_indices)[geometry.dofmaps[0].ravel()]
        return node

    @cached_property
    def _pressure_at(self) -> tuple[np.ndarray, np.ndarray]:
        """The pressure field's place in the mixed space, and for each of its numbers the body's corner."""
        space, place = self.space.sub(1).collapse()
        corner = np.empty(space.dofmap.index_map.size_local, np.int64)
        geometry = self.mesh.geometry
        known = np.asarray(geometry.input_global_indices)
        corner[space.dofmap.list.ravel()] = known[geometry.dofmaps[0][:, :4].ravel()]
        return np.asarray(place), corner

    def state(self, w: Any, load: float) -> State:
        """A mixed function's numbers in the body's order."""
        moved, pressure = np.empty_like(self.body.points), np.zeros(len(self.body.points))
        moved[self._node_of] = w.x.array[self.u_space[1]].reshape(-1, 3)
        place, corner = self._pressure_at
        pressure[corner] = w.x.array[place]
        return State(moved, pressure, load)

    def put(self, w: Any, state: State) -> None:
        """Give a mixed function the numbers of a state of the same cells."""
        place, corner = self._pressure_at
        w.x.array[self.u_space[1]] = state.displacement[self._node_of].ravel()
        w.x.array[place] = state.pressure[corner]

    def nodal(self, field: Any) -> np.ndarray:
        """A quadratic vector field (n, 3) at the body's points."""
        values = np.empty_like(self.body.points)
        values[self._node_of] = field.x.array.reshape(-1, 3)
        return values

    def vector(self, values: np.ndarray) -> Any:
        """(n, 3) at the body's points as a quadratic vector field."""
        made = fem.Function(self.u_space[0])
        made.x.array[:] = values[self._node_of].ravel()
        return made

    @cached_property
    def prestretch(self) -> Any:
        """Deformation gradient from rest to the body's shape."""
        given = self.body.prestretch
        return ufl.Identity(3) if given is None else self._at_quadrature(given.F)

    @cached_property
    def held(self) -> Any:
        """What the springs are displaced by in the body's shape."""
        given = self.body.prestretch
        return ufl.as_vector((0.0, 0.0, 0.0)) if given is None else self.vector(given.potential)

    @cached_property
    def fibres(self) -> list[Any]:
        """Directions of the fibres at rest, as vector fields known at the points of integration."""
        here = [self._at_quadrature(family) for family in self.body.fibres]
        if self.body.prestretch is None:
            return here
        back = [ufl.inv(self.prestretch) * m for m in here]
        return [a / ufl.sqrt(ufl.inner(a, a)) for a in back]

    def _at_quadrature(self, values: np.ndarray) -> Any:
        """(c, q, ...) in the body's order as a field; q = 1: the same all over a cell."""
        shape = values.shape[2:]
        space = fem.functionspace(self.mesh, basix.ufl.quadrature_element("tetrahedron", value_shape=shape,
                                                                          degree=self.DEGREE))
        n_points = len(basix.make_quadrature(basix.CellType.tetrahedron, self.DEGREE)[1])
        order = np.asarray(self.mesh.topology.original_cell_index)
        made, size = fem.Function(space), int(np.prod(shape))
        at_points = np.broadcast_to(values[order], (len(order), n_points, *shape))
        made.x.array.reshape(-1, size)[space.dofmap.list.ravel()] = at_points.reshape(-1, size)
        return made

    def in_cell_order(self, values: np.ndarray) -> np.ndarray:
        """Values by the mesh's cells in the body's order."""
        out = np.empty_like(values)
        out[np.asarray(self.mesh.topology.original_cell_index)] = values
        return out
