"""A state of flow taken from one mesh to another of the same, or nearly the same, vessel.

Velocity and pressure are read off the old mesh at the new one's nodes; a node
outside takes the nearest cell's value at its edge, one on the wall is at rest.
What that leaves of divergence goes into new potentials, as at the end of any
step, so that the next step's wind is free of it. The values are an initial
guess: a flow that repeats itself forgets them.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from solvers.flow import cells, taylor_hood
from solvers.flow.navier_stokes import Flow, State


def taken_over(state: State, nodes: taylor_hood.Nodes, flow: Flow, tags: Mapping[int, int]) -> State:
    """`state`, of a flow with these nodes, on the mesh of `flow`; tags: each outlet's tag there to that here."""
    corners = nodes.cells[:, :flow.element.corners]
    holds, places = cells.located(nodes.points, corners, flow.nodes.points)
    shapes = taylor_hood.values(places)
    u, before = (_still(flow, np.einsum("ca,cak->ck", shapes, x[nodes.cells[holds]]))
                 for x in (state.u, state.u_before))
    linear = corners[holds[:flow.n]]
    return replace(state, u=u, u_before=before, p=(places[:flow.n] * state.p[linear]).sum(axis=1),
                   potential=flow.potential(u), potential_before=flow.potential(before),
                   stored=_renamed(state.stored, tags), pressure=_renamed(state.pressure, tags),
                   flow=_renamed(state.flow, tags))


def _still(flow: Flow, u: np.ndarray) -> np.ndarray:
    u[np.unique(flow.faces[flow.caps.wall])] = 0.0
    return u


def _renamed[V](values: Mapping[int, V], tags: Mapping[int, int]) -> dict[int, V]:
    return {tags[t]: v for t, v in values.items()}
