"""A mesh that follows its boundary: some points are moved, some are held, the others find their place between them.

A uniform widening of a tube is harmonic, so each component of the displacement
solves Laplace's equation on the tetrahedra, in steps that are halved where a
cell would turn over. What is not near to a moved point stays exactly where it is.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import splu

from solvers.errors import DidNotConverge
from solvers.geometry.lumen_wall import pulled_back
from solvers.geometry.surface import Surface
from solvers.geometry.tetrahedra import eased, scaled_jacobians, volumes


@dataclass(frozen=True)
class Motion:
    """Which points are told where to go, (n,), and how far, (n, 3); reach: how far beyond those that move others may,
    along the mesh's edges, in the points' unit."""

    told: np.ndarray
    shift: np.ndarray
    reach: float


@dataclass(frozen=True)
class Morphing:
    """steps: at first; most_halvings: of a step in which a cell would turn over; least: moved cells flatter than this
    (scaled Jacobian) are eased."""

    steps: int = 4
    most_halvings: int = 5
    least: float = 0.1


@dataclass(frozen=True)
class Morphed:
    """points (n, 3); moved (n,): which of them are elsewhere than before; n_steps: in how many steps; flattest: the
    least scaled Jacobian of the cells that moved, 1 where none did."""

    points: np.ndarray
    moved: np.ndarray
    n_steps: int
    flattest: float


def carried(points: np.ndarray, before: Surface, after: Surface) -> np.ndarray:
    """How far (n, 3) the places on `before` that are nearest to `points` (n, 3) have moved in `after`, which has the
    same triangles; exactly 0 where these have not moved."""
    here = Surface(np.asarray(points, float), np.zeros((0, 3), int))
    return pulled_back(here, before, after).points - pulled_back(here, before, before).points


def solve(points: np.ndarray, tets: np.ndarray, motion: Motion, numerics: Morphing = Morphing()) -> Morphed:
    """Points (n, 3) of the tetrahedra (m, 4) after the motion. DidNotConverge where cells turn over all the same."""
    going = motion.told & (motion.shift != 0).any(axis=1)
    free = _near(points, tets, going, motion.reach) & ~motion.told
    near = np.isin(tets, np.flatnonzero(going | free)).any(axis=1)
    if not near.any():
        return Morphed(points, np.zeros(len(points), bool), 0, 1.0)
    cells, now = tets[near], points.copy()
    done, step, n_steps = 0.0, 1 / numerics.steps, 0
    while done < 1:
        trial = _step(now, cells, going, free, motion.shift * min(step, 1 - done))
        if (volumes(trial, cells) > 0).all():
            now, done, n_steps = trial, done + step, n_steps + 1
            continue
        step /= 2
        if step * numerics.steps < 0.5 ** numerics.most_halvings:
            raise DidNotConverge("cells_turn_over", f"cells turn over after {100 * done:.0f} % of the motion",
                                 "a motion that the cells can follow")
    now[going] = (points + motion.shift)[going]
    now = eased(now, cells, free, numerics.least)
    return Morphed(now, (now != points).any(axis=1), n_steps, float(scaled_jacobians(now, cells).min()))


def _near(points: np.ndarray, tets: np.ndarray, going: np.ndarray, reach: float) -> np.ndarray:
    """Which points (n,) are within `reach` of one that goes, along edges."""
    if not going.any():
        return going
    a, b = (tets[:, [i for i, _ in _PAIRS]].ravel(), tets[:, [j for _, j in _PAIRS]].ravel())
    n = len(points)
    keys = np.unique(np.minimum(a, b).astype(np.int64) * n + np.maximum(a, b))
    a, b = keys // n, keys % n
    graph = sparse.csr_matrix((np.linalg.norm(points[a] - points[b], axis=1), (a, b)), shape=(n, n))
    away = csgraph.dijkstra(graph, directed=False, indices=np.flatnonzero(going), min_only=True, limit=reach)
    return np.isfinite(away)


_PAIRS = [(i, j) for i in range(4) for j in range(i + 1, 4)]


def _step(points: np.ndarray, cells: np.ndarray, going: np.ndarray, free: np.ndarray, shift: np.ndarray
          ) -> np.ndarray:
    """The points after those that go went by `shift` and the free ones followed."""
    moved = points.copy()
    moved[going] += shift[going]
    if free.any():
        stiff = _laplacian(points, cells)[free]
        moved[free] += splu(stiff[:, free].tocsc()).solve(-(stiff[:, going] @ shift[going]))
    return moved


def _laplacian(points: np.ndarray, cells: np.ndarray) -> sparse.csr_matrix:
    """The stiffness of linear functions on the cells, (n, n)."""
    corners = points[cells]
    slopes = np.linalg.inv(corners[:, 1:] - corners[:, :1]).transpose(0, 2, 1)
    slopes = np.concatenate([-slopes.sum(axis=1, keepdims=True), slopes], axis=1)
    local = np.einsum("cid,cjd,c->cij", slopes, slopes, volumes(points, cells))
    rows, columns = np.repeat(cells, 4, axis=1).ravel(), np.tile(cells, 4).ravel()
    return sparse.csr_matrix((local.ravel(), (rows, columns)), shape=(len(points),) * 2)
