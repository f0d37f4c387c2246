"""The wall of a vessel as a solid: built outward from the lumen's surface, in curved quadratic tetrahedra.

Each triangle of the lumen grows into prisms along smoothed normals; each prism
is cut into three tetrahedra by the order of its points' numbers, so that
neighbours are cut alike. Edges bow as the surface does between the normals at
their ends (a circle is met to fourth order): a faceted wall would bend at every
edge under pressure. Where walls would meet or fold, as in the crotch of two
branches, the wall is thinned until every tetrahedron is sound; where that is not
enough, as at a crumpled triangle, the lumen's points are drawn to their
neighbours' middle.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from solvers.errors import DidNotConverge
from solvers.geometry.tetrahedra import cut_prisms

INNER, OUTER, CUT = 1, 2, 10
"""Facet tags: lumen side, outside, and the cut ends, one each from CUT on."""

EDGES = np.array([[2, 3], [1, 3], [1, 2], [0, 3], [0, 2], [0, 1]])
"""Edges of a tetrahedron in the order of the quadratic element's last six nodes."""

_CREASE = 0.1, 0.4
"""Cosines between normals at an edge's ends: it is straight below the first, and bows in full above the second."""
_ROUNDS, _LEAST = 40, 0.5
"""Trials at a sound wall; part of the thickness below which a point is moved rather than its wall thinned further."""
_GAP = 0.9
"""An outer point closer to another place of the lumen than this part of its thickness has met another wall."""


@dataclass(frozen=True)
class Solid:
    """A wall in quadratic tetrahedra.

    points (n, 3) m, the corners first; cells (c, 10), four corners then the edge
    nodes in the order of `EDGES`; facets (f, 3) corners of boundary triangles with
    tags (f,); thickness (v,) m and lumen (v, 3) for each point of the lumen's
    surface; triangles (t, 3) of it; n_corners; thinned: part of the lumen's points
    whose wall was made thinner than asked; mended: m, the farthest that one of them was drawn from its place; ends:
    outward normals (k, 3) of the cuts.
    """

    points: np.ndarray
    cells: np.ndarray
    facets: np.ndarray
    tags: np.ndarray
    thickness: np.ndarray
    triangles: np.ndarray
    n_corners: int
    thinned: float
    ends: np.ndarray
    mended: float = 0.0

    @property
    def lumen(self) -> np.ndarray:
        return self.points[: len(self.thickness)]

    @property
    def triangle_of_cell(self) -> np.ndarray:
        """The triangle of the lumen that each cell grew from, (c,)."""
        return np.arange(len(self.cells)) // 3 % len(self.triangles)


def build(points: np.ndarray, triangles: np.ndarray, thickness: np.ndarray, n_layers: int = 1) -> Solid:
    """A wall of `thickness` (v,) m on the surface `points` (v, 3) m, `triangles` (t, 3) with outward normals.

    Raises DidNotConverge when the wall folds even where it is thin and its points are moved.
    """
    loops = boundary_loops(triangles)
    free = ~np.isin(np.arange(len(points)), np.concatenate(loops) if loops else [])
    average = _averaging(len(points), triangles)
    given, wanted = points, thickness
    for _ in range(_ROUNDS):
        normals, ends = _square_to_cuts(points, vertex_normals(points, triangles), loops)
        growth = _smoothed_growth(points, triangles, normals, loops, ends)
        solid = _solid(points, triangles, normals, growth, thickness, n_layers, loops, ends)
        folded = _folded(solid)
        bad = folded | _meeting(solid, growth, triangles)
        if not bad.any():
            moved = np.linalg.norm(points - given, axis=1).max()
            return replace(solid, thinned=float(np.mean(thickness < 0.99 * wanted)), mended=float(moved))
        crumpled = folded & free & (thickness < _LEAST * wanted)
        points = np.where(crumpled[:, None], average @ points, points)
        thickness = _thinner(np.where(crumpled, wanted, thickness), bad & ~crumpled, triangles)
    raise DidNotConverge("wall_folds", f"the wall of the vessel folds at {int(bad.sum())} points",
                         "a wall without folds", "Smooth the surface, or use a finer wall mesh.")


def smooth(points: np.ndarray, triangles: np.ndarray, values: np.ndarray, rounds: int = 8) -> np.ndarray:
    """Values (v,) averaged over neighbours along the surface: no step from branch to branch."""
    average = _averaging(len(points), triangles)
    for _ in range(rounds):
        values = average @ values
    return values


def helices(solid: Solid, tangents: np.ndarray, angle: float) -> np.ndarray:
    """Two families of fibres (2, c, 1, 3), `angle` (rad) to either side of the circumference.

    tangents (t, 3): direction of the vessel at each triangle of the lumen.
    """
    a, b, c = (solid.lumen[solid.triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    along = tangents - np.einsum("ti,ti->t", tangents, normal)[:, None] * normal
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-300)
    around = np.cross(normal, along)
    families = np.stack([np.cos(angle) * around + sign * np.sin(angle) * along for sign in (1, -1)])
    return families[:, solid.triangle_of_cell, None]


def away_from_ends(solid: Solid) -> np.ndarray:
    """Triangles of the lumen (t,) bool that lie more than one diameter of the end from each cut end."""
    middle = solid.lumen[solid.triangles].mean(axis=1)
    far = np.ones(len(middle), bool)
    for loop in boundary_loops(solid.triangles):
        rim = solid.lumen[loop]
        diameter = 2 * np.linalg.norm(rim - rim.mean(axis=0), axis=1).mean()
        far &= cKDTree(rim).query(middle)[0] > diameter
    return far


def trimmed(triangles: np.ndarray) -> np.ndarray:
    """An open surface without teeth along its rims: no triangle with two free edges, each rim a simple loop."""
    while True:
        free, owner = _free_edges(triangles)
        teeth = np.bincount(owner, minlength=len(triangles)) > 1
        starts, counts = np.unique(free[:, 0], return_counts=True)
        teeth |= np.isin(triangles, starts[counts > 1]).any(axis=1)
        if not teeth.any():
            return triangles
        triangles = triangles[~teeth]


# The surface


def vertex_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals (v, 3), each triangle's weighted by its angle at the point."""
    corners = points[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    face /= np.linalg.norm(face, axis=1, keepdims=True)
    total = np.zeros_like(points)
    for i in range(3):
        one, two = corners[:, (i + 1) % 3] - corners[:, i], corners[:, (i + 2) % 3] - corners[:, i]
        cosine = np.einsum("ti,ti->t", one, two) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
        np.add.at(total, triangles[:, i], np.arccos(np.clip(cosine, -1, 1))[:, None] * face)
    return total / np.linalg.norm(total, axis=1, keepdims=True)


def boundary_loops(triangles: np.ndarray) -> list[np.ndarray]:
    """Points of each open end of a surface, in order, the loop with the lowest number first."""
    onward = {int(a): int(b) for a, b in _free_edges(triangles)[0]}
    loops = []
    while onward:
        start = min(onward)
        loop, here = [start], onward.pop(start)
        while here != start:
            loop.append(here)
            here = onward.pop(here)
        loops.append(np.array(loop))
    return loops


def _free_edges(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges (e, 2) of one triangle only, in its sense of turning, and the triangle of each (e,)."""
    edges = np.vstack([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    _, first, counts = np.unique(np.sort(edges, axis=1), axis=0, return_index=True, return_counts=True)
    return edges[first[counts == 1]], first[counts == 1] % len(triangles)


def _square_to_cuts(points: np.ndarray, normals: np.ndarray, loops: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Normals of the surface, those on a cut end turned into its plane; and the planes' outward normals (k, 3)."""
    normals, ends = normals.copy(), []
    centre_of_all = points.mean(axis=0)
    for loop in loops:
        ring = points[loop] - points[loop].mean(axis=0)
        axis = np.linalg.svd(ring, full_matrices=False)[2][2]
        inward = _inside(points, points[loop].mean(axis=0), axis, np.linalg.norm(ring, axis=1).max(), centre_of_all)
        axis = -axis if axis @ inward > 0 else axis
        flat = normals[loop] - np.outer(normals[loop] @ axis, axis)
        normals[loop] = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        ends.append(axis)
    return normals, np.reshape(ends, (-1, 3))


def _inside(points: np.ndarray, centre: np.ndarray, axis: np.ndarray, radius: float, middle: np.ndarray) -> np.ndarray:
    """Direction from an end towards the vessel."""
    near = points[np.linalg.norm(points - centre, axis=1) < 2.5 * radius]
    towards = near.mean(axis=0) - centre
    return towards if abs(towards @ axis) > 0.05 * radius else middle - centre


def _averaging(n: int, triangles: np.ndarray) -> sparse.csr_matrix:
    """Mean over a point and its neighbours, half each, as a sparse matrix."""
    pairs = np.vstack([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    graph = sparse.csr_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    graph = ((graph + graph.T) > 0).astype(float)
    mean = sparse.diags(1 / np.maximum(np.asarray(graph.sum(axis=1)).ravel(), 1)) @ graph
    return (0.5 * sparse.identity(n) + 0.5 * mean).tocsr()


def _smoothed_growth(points: np.ndarray, triangles: np.ndarray, normals: np.ndarray, loops: list[np.ndarray],
                     ends: np.ndarray) -> np.ndarray:
    """Directions (v, 3) in which the wall grows: the normals, smoothed so that they cross later in a crotch."""
    average, growth = _averaging(len(points), triangles), normals
    for _ in range(3):
        growth = average @ growth
        growth /= np.linalg.norm(growth, axis=1, keepdims=True)
        for loop, axis in zip(loops, ends, strict=True):
            growth[loop] -= np.outer(growth[loop] @ axis, axis)
            growth[loop] /= np.linalg.norm(growth[loop], axis=1, keepdims=True)
    return growth


# The solid


def _solid(points: np.ndarray, triangles: np.ndarray, normals: np.ndarray, growth: np.ndarray, thickness: np.ndarray,
           n_layers: int, loops: list[np.ndarray], ends: np.ndarray) -> Solid:
    n = len(points)
    levels = np.linspace(0, 1, n_layers + 1)
    offset = growth * thickness[:, None]
    corners = np.vstack([points + s * offset for s in levels])
    tets = np.vstack([cut_prisms(triangles + k * n, triangles + (k + 1) * n) for k in range(n_layers)])
    mids, edge_of = _edge_nodes(points, triangles, normals, offset)
    cells, nodes = _quadratic(tets, corners, mids, edge_of, n, levels)
    facets, tags = _facets(triangles, loops, n, n_layers)
    return Solid(np.vstack([corners, nodes]), cells, facets, tags, thickness, triangles, len(corners), 0.0, ends)


def _edge_nodes(points: np.ndarray, triangles: np.ndarray, normals: np.ndarray, offset: np.ndarray) -> tuple[
        tuple[np.ndarray, np.ndarray], dict[tuple[int, int], int]]:
    """Middle nodes of the surface's edges on the lumen and the offsets there, and edge (low, high) to its number."""
    edges = np.unique(np.sort(np.vstack([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1),
                      axis=0)
    i, j = edges.T
    d = points[j] - points[i]
    bow = (np.einsum("ei,ei->e", d, normals[j])[:, None] * normals[j]
           - np.einsum("ei,ei->e", d, normals[i])[:, None] * normals[i]) / 8
    alike = np.einsum("ei,ei->e", normals[i], normals[j])
    bow *= np.interp(alike, _CREASE, (0.0, 1.0))[:, None]
    longest = 0.2 * np.linalg.norm(d, axis=1, keepdims=True)
    size = np.linalg.norm(bow, axis=1, keepdims=True)
    bow *= np.minimum(1, longest / np.maximum(size, 1e-300))
    length = (np.linalg.norm(offset[i], axis=1) + np.linalg.norm(offset[j], axis=1)) / 2
    middle = offset[i] + offset[j]
    middle *= (length / np.linalg.norm(middle, axis=1))[:, None]
    number = {(int(p), int(q)): k for k, (p, q) in enumerate(edges)}
    return ((points[i] + points[j]) / 2 + bow, middle), number


def _quadratic(tets: np.ndarray, corners: np.ndarray, mids: tuple[np.ndarray, np.ndarray],
               edge_of: dict[tuple[int, int], int], n: int, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells with ten nodes, and the nodes after the corners.

    A tetrahedron's edge runs within a level, up a side, or across both: its
    middle is that of the map (place on the lumen, height).
    """
    pairs = np.sort(tets[:, EDGES], axis=2).reshape(-1, 2)
    unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
    low, high = unique.T
    height = (levels[low // n] + levels[high // n]) / 2
    p, q = low % n, high % n
    upright = p == q
    index = np.array([0 if up else edge_of[min(a, b), max(a, b)] for up, a, b in
                      zip(upright, p.tolist(), q.tolist(), strict=True)])
    nodes = mids[0][index] + height[:, None] * mids[1][index]
    nodes[upright] = (corners[low[upright]] + corners[high[upright]]) / 2
    cells = np.hstack([tets, len(corners) + inverse.reshape(-1, 6)])
    return cells, nodes


def _facets(triangles: np.ndarray, loops: list[np.ndarray], n: int, n_layers: int) -> tuple[np.ndarray, np.ndarray]:
    """Boundary triangles of the solid with their tags."""
    faces, tags = [triangles, triangles + n * n_layers], [np.full(len(triangles), t) for t in (INNER, OUTER)]
    for number, loop in enumerate(loops):
        i, j = np.minimum(loop, np.roll(loop, -1)), np.maximum(loop, np.roll(loop, -1))
        for k in range(n_layers):
            low, up = k * n, (k + 1) * n
            quads = np.vstack([np.stack([i + low, j + low, j + up], 1), np.stack([i + low, i + up, j + up], 1)])
            faces.append(quads)
            tags.append(np.full(len(quads), CUT + number))
    return np.vstack(faces), np.concatenate(tags)


# Soundness


def least_jacobians(solid: Solid) -> np.ndarray:
    """Least over the ten nodes of det(dx/dxi), over the flat tetrahedron's, (c,); 1 for a straight cell."""
    x = solid.points[solid.cells]
    flat = np.linalg.det(x[:, 1:4] - x[:, :1])
    least = np.full(len(x), np.inf)
    for node in _NODES:
        jacobian = np.einsum("ka,cki->cai", _gradients(node), x)
        least = np.minimum(least, np.linalg.det(jacobian))
    return least / np.abs(flat)


_CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
_NODES = np.vstack([_CORNERS, _CORNERS[EDGES].mean(axis=1)])


def _gradients(at: np.ndarray) -> np.ndarray:
    """Gradients (10, 3) of the quadratic shape functions at a point of the reference tetrahedron."""
    weight = np.r_[1 - at.sum(), at]
    slope = np.vstack([-np.ones(3), np.eye(3)])
    corner = (4 * weight - 1)[:, None] * slope
    i, j = EDGES.T
    return np.vstack([corner, 4 * (weight[i][:, None] * slope[j] + weight[j][:, None] * slope[i])])


def _folded(solid: Solid) -> np.ndarray:
    """Points of the lumen (v,) bool around which a cell is folded."""
    n = len(solid.thickness)
    bad = np.zeros(n, bool)
    bad[np.unique(solid.cells[least_jacobians(solid) < 0.1, :4] % n)] = True
    return bad


def _meeting(solid: Solid, growth: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Points of the lumen (v,) bool whose wall reaches another place of the vessel."""
    n = len(solid.thickness)
    lumen = np.vstack([solid.points[:n], solid.points[triangles].mean(axis=1)])
    outside = solid.points[:n] + growth * solid.thickness[:, None]
    distance, _ = cKDTree(lumen).query(outside)
    return distance < _GAP * solid.thickness


def _thinner(thickness: np.ndarray, bad: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Three quarters of the thickness at bad points, fading over their neighbours."""
    factor = np.where(bad, 0.75, 1.0)
    average = _averaging(len(thickness), triangles)
    return thickness * np.minimum(factor, average @ (average @ factor))

