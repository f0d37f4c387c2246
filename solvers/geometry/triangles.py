"""Better triangles: flat ones of a surface's mesh are turned into rounder ones, by other diagonals and small moves."""

import numpy as np
from scipy import sparse

from solvers.geometry.surface import Surface

ROUND = 0.45
"""Triangles below this shape are worked on; see `shapes`."""
FOLD = np.cos(np.radians(50))
"""Two triangles that meet at a sharper angle than this keep their common edge."""


def shapes(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """4 sqrt(3) area over the sum of the squared edges, 1 for the regular triangle, (m,)."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    total = sum(((p - q) ** 2).sum(axis=1) for p, q in ((a, b), (b, c), (c, a)))
    return 4 * np.sqrt(3) * area / np.maximum(total, 1e-300)


def rounded(mesh: Surface, sweeps: int = 4) -> Surface:
    """`mesh` with diagonals flipped and points moved within the surface where triangles are flat; rims stay."""
    for _ in range(sweeps):
        if shapes(mesh.points, mesh.triangles).min() >= ROUND:
            break
        mesh = _moved(_flipped(mesh))
    return mesh


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
    if gain <= 0.02 or _cosine(points, old) < FOLD or _cosine(points, new) < FOLD:
        return None
    return gain, other, new[0], new[1]


def _cosine(points: np.ndarray, pair: np.ndarray) -> float:
    """Cosine of the angle between the normals of two triangles."""
    one, two = Surface(points, pair).normals
    return float(one @ two / max(np.linalg.norm(one) * np.linalg.norm(two), 1e-300))


def _moved(mesh: Surface) -> Surface:
    """Points of flat triangles move towards the middle of their neighbours, where that makes the flattest rounder."""
    edges, uses = mesh.edges
    n = len(mesh.points)
    graph = sparse.csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    graph = graph + graph.T
    middle = (graph @ mesh.points) / np.asarray(graph.sum(axis=1)).clip(1)
    free = np.zeros(n, bool)
    free[mesh.triangles[shapes(mesh.points, mesh.triangles) < ROUND]] = True
    free[edges[uses == 1]] = False
    normal = np.zeros((n, 3))
    np.add.at(normal, mesh.triangles.ravel(), np.repeat(mesh.normals, 3, axis=0))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-300)
    step = middle - mesh.points
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
            if shapes(trial, near).min() > before:
                points = trial
                break
    return mesh.but(points=points)
