"""Better triangles: flat ones of a surface's mesh are turned into rounder ones, by other diagonals and small moves."""

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from solvers.geometry.intersections import crossing_triangles
from solvers.geometry.surface import Surface

ROUND = 0.45
"""Triangles below this shape are worked on; see `shapes`."""
STUB = 0.3
"""A rim's edge that is shorter than this over the rim's mean edge is drawn together."""
FOLD = np.cos(np.radians(50))
"""Two triangles that meet at a sharper angle than this keep their common edge."""


def shapes(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """4 sqrt(3) area over the sum of the squared edges, 1 for the regular triangle, (m,)."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    total = sum(((p - q) ** 2).sum(axis=1) for p, q in ((a, b), (b, c), (c, a)))
    return 4 * np.sqrt(3) * area / np.maximum(total, 1e-300)


def rounded(mesh: Surface, sweeps: int = 4) -> Surface:
    """`mesh` without folds, points of three triangles and stubs in its rims; with diagonals flipped and points moved
    within the surface where triangles are flat. Rims stay otherwise."""
    mesh = _unfolded(_without_threes(_without_stubs(mesh)))
    for _ in range(sweeps):
        if shapes(mesh.points, mesh.triangles).min() >= ROUND:
            break
        mesh = _moved(_flipped(mesh))
    return mesh


def _without_stubs(mesh: Surface) -> Surface:
    """The two points of a rim's very short edge become one: where a surface was cut, a mesher takes its jags for
    corners to be kept, and an extension would draw the stub out into a strip of needles."""
    while True:
        goes = np.arange(len(mesh.points))
        sides, edges = mesh.edges[0], _rim_edges(mesh)
        for a, b in edges[_are_stubs(mesh.points, edges)].tolist():
            around = [np.setdiff1d(sides[(sides == v).any(axis=1)], v) for v in (a, b)]
            if len(np.intersect1d(*around)) == 1 and goes[a] == a and goes[b] == b:
                goes[b] = a
        if (goes == np.arange(len(goes))).all():
            return mesh
        left = goes[mesh.triangles]
        kept = (left[:, 0] != left[:, 1]) & (left[:, 1] != left[:, 2]) & (left[:, 2] != left[:, 0])
        mesh = Surface(mesh.points, left[kept]).compact()


def _rim_edges(mesh: Surface) -> np.ndarray:
    return mesh.edges[0][mesh.edges[1] == 1]


def _are_stubs(points: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Which edges (k, 2) of rims are shorter than `STUB` of the mean edge of their own rim, (k,)."""
    n = len(points)
    graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    rim = csgraph.connected_components(graph, directed=False)[1][edges[:, 0]]
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    total, count = np.bincount(rim, length), np.bincount(rim)
    return length < STUB * (total / count.clip(1))[rim]


def _without_threes(mesh: Surface) -> Surface:
    """Three triangles around a point become one."""
    count = np.bincount(mesh.triangles.ravel(), minlength=len(mesh.points))
    count[_rim_edges(mesh)] = 0
    gone, new = np.zeros(len(mesh.triangles), bool), []
    for v in np.flatnonzero(count == 3):
        rows = np.flatnonzero((mesh.triangles == v).any(axis=1))
        if gone[rows].any():
            continue
        after = {}
        for t in mesh.triangles[rows].tolist():
            i = t.index(v)
            after[t[(i + 1) % 3]] = t[(i + 2) % 3]
        first = min(after)
        gone[rows] = True
        new.append([first, after[first], after[after[first]]])
    return Surface(mesh.points, np.vstack([mesh.triangles[~gone], *new])).compact() if new else mesh


def _unfolded(mesh: Surface, sweeps: int = 10) -> Surface:
    """Where a triangle faces away from the surface around it, its points move to the middle of their neighbours."""
    average, rim = _averages(mesh), np.unique(_rim_edges(mesh))
    for _ in range(sweeps):
        normal = _point_normals(mesh)
        facing = np.einsum("ti,tki->tk", mesh.normals, normal[mesh.triangles]).min(axis=1)
        folded = facing < 0.2 * np.linalg.norm(mesh.normals, axis=1)
        moving = np.setdiff1d(mesh.triangles[folded], rim)
        if moving.size == 0:
            break
        points = mesh.points.copy()
        points[moving] = (average @ mesh.points)[moving]
        mesh = mesh.but(points=points)
    return mesh


def untangled(mesh: Surface, sweeps: int = 12) -> Surface:
    """Where triangles cut others, their points and the ones around move towards the middle of their neighbours."""
    average, rim = _averages(mesh), np.unique(_rim_edges(mesh))
    tangled = np.zeros(len(mesh.points), bool)
    for _ in range(sweeps):
        crossing = crossing_triangles(mesh)
        if not crossing.any():
            break
        tangled[mesh.triangles[crossing]] = True
        moving = (average @ tangled.astype(float) > 0) | tangled
        moving[rim] = False
        points = mesh.points.copy()
        points[moving] = (0.5 * points + 0.5 * (average @ points))[moving]
        mesh = mesh.but(points=points)
    return mesh


def _averages(mesh: Surface) -> sparse.csr_matrix:
    """The mean of each point's neighbours."""
    edges, n = mesh.edges[0], len(mesh.points)
    graph = sparse.csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    graph = graph + graph.T
    return (sparse.diags(1 / np.asarray(graph.sum(axis=1)).ravel().clip(1)) @ graph).tocsr()


def _point_normals(mesh: Surface) -> np.ndarray:
    """Unit normals at points, weighted by area."""
    normal = np.zeros_like(mesh.points)
    np.add.at(normal, mesh.triangles.ravel(), np.repeat(mesh.normals, 3, axis=0))
    return normal / np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-300)


def _flipped(mesh: Surface) -> Surface:
    """Each edge of a flat triangle is exchanged for the other diagonal where both triangles get rounder."""
    points, triangles = mesh.points, mesh.triangles.copy()
    flat = shapes(points, triangles)
    sides = {(int(t[i]), int(t[(i + 1) % 3])): n for n, t in enumerate(triangles) for i in range(3)}
    done: set[int] = set()
    for n in np.flatnonzero(flat < ROUND)[np.argsort(flat[flat < ROUND], kind="stable")].tolist():
        options = [_exchange(points, triangles, sides, n, i, done) for i in range(3)]
        best = max((o for o in options if o is not None), key=lambda o: o[0], default=None)
        if best is None:
            continue
        _, other, one, two = best
        triangles[n], triangles[other] = one, two
        done |= {n, other, *(sides.get((b, a), -1) for t in (one, two) for a, b in zip(t, np.roll(t, -1), strict=True))}
        for row in (n, other):
            sides |= {(int(triangles[row][i]), int(triangles[row][(i + 1) % 3])): row for i in range(3)}
    return mesh.but(triangles=triangles)


def _exchange(points: np.ndarray, triangles: np.ndarray, sides: dict[tuple[int, int], int], n: int, i: int,
              done: set[int]) -> tuple[float, int, np.ndarray, np.ndarray] | None:
    """The gain in shape, the neighbour over side i, and the two triangles with the other diagonal, if it is better."""
    a, b, c = (int(triangles[n][(i + k) % 3]) for k in range(3))
    other = sides.get((b, a), -1)
    if other < 0 or n in done or other in done:
        return None
    d = int(next(v for v in triangles[other] if v not in (a, b)))
    if (c, d) in sides or (d, c) in sides:
        return None
    old, new = np.array([[a, b, c], [b, a, d]]), np.array([[c, a, d], [d, b, c]])
    gain = float(shapes(points, new).min() - shapes(points, old).min())
    if gain <= 0.02 or min(_cosine(points, old), _cosine(points, new), _cosine(points, np.array([old[0], new[0]])),
                           _cosine(points, np.array([old[1], new[1]]))) < FOLD:
        return None
    return gain, other, new[0], new[1]


def _cosine(points: np.ndarray, pair: np.ndarray) -> float:
    """Cosine of the angle between the normals of two triangles."""
    one, two = Surface(points, pair).normals
    return float(one @ two / max(np.linalg.norm(one) * np.linalg.norm(two), 1e-300))


def _keep_facing(before: np.ndarray, after: np.ndarray, triangles: np.ndarray) -> bool:
    """No triangle turns by more than `FOLD` when its points move."""
    one, two = Surface(before, triangles).normals, Surface(after, triangles).normals
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return bool((np.einsum("ij,ij->i", one, two) >= FOLD * lengths).all())


def _moved(mesh: Surface) -> Surface:
    """Points of flat triangles move towards the middle of their neighbours, where that makes the flattest rounder."""
    n = len(mesh.points)
    free = np.zeros(n, bool)
    free[mesh.triangles[shapes(mesh.points, mesh.triangles) < ROUND]] = True
    free[_rim_edges(mesh)] = False
    normal = _point_normals(mesh)
    step = _averages(mesh) @ mesh.points - mesh.points
    step -= np.einsum("ij,ij->i", step, normal)[:, None] * normal
    around = sparse.csr_matrix((np.ones(mesh.triangles.size), (mesh.triangles.ravel(), np.arange(
        len(mesh.triangles)).repeat(3))), shape=(n, len(mesh.triangles)))
    points = mesh.points.copy()
    for v in np.flatnonzero(free):
        near = mesh.triangles[around[v].indices]
        before = shapes(points, near).min()
        for share in (0.6, 0.3):
            trial = points.copy()
            trial[v] += share * step[v]
            if shapes(trial, near).min() > before and _keep_facing(points, trial, near):
                points = trial
                break
    return mesh.but(points=points)
