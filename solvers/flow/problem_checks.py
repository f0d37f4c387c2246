"""What a 3D flow problem must fulfil before it is solved; each fault is told by its own code."""

from collections.abc import Mapping

import numpy as np

from solvers.errors import BadInput
from solvers.flow.bed import Bed

LARGEST = 10.0
"""m, of a vessel: a longer one was given in other units."""

FLATTEST = 1e-9
"""Volume of a cell relative to its longest edge to the power of its dimension."""


def mesh(points: np.ndarray, corners: np.ndarray, volumes: np.ndarray, faces: Mapping[int, np.ndarray]) -> None:
    """points (n, 3) m; corners (c, m); volumes (c,); tagged faces by tag, each (t, m - 1).

    Raises BadInput `mixed_units`, `flat_cell`, `inverted_cell`, `unmarked_boundary`.
    """
    extent = float(np.ptp(points, axis=0).max())
    if extent > LARGEST:
        raise BadInput("mixed_units", f"the mesh is {extent:.3g} m long", f"metres, at most {LARGEST:.0f} m",
                       "Divide the points by 1000 if they are in millimetres.")
    sides = points[corners] - points[np.roll(corners, 1, axis=1)]
    flat = volumes / np.linalg.norm(sides, axis=2).max(axis=1) ** (corners.shape[1] - 1)
    if flat.min() < FLATTEST:
        raise BadInput("flat_cell", f"cell {int(flat.argmin())} has no volume, "
                       f"{int((flat < FLATTEST).sum())} cells in all", "cells with a volume", "Mesh the lumen again.")
    keys, owner, opposite = _sides(corners, len(points))
    _check_orientation(points, corners, keys, owner, opposite)
    _check_border(keys, faces, len(points))


def outlets(beds: Mapping[int, Bed]) -> None:
    """Raises BadInput `bad_outlet` for a bed with numbers that make no sense."""
    for tag, bed in beds.items():
        try:
            bed.check()
        except BadInput as error:
            raise BadInput("bad_outlet", f"the outlet with tag {tag}: {error.happened}", error.wanted,
                           "Look at what the outlets were tuned to.") from error


def _sides(corners: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A key for each side of each cell, sorted; the cell it is of, and the corner that is not on it."""
    m = corners.shape[1]
    others = np.array([[j for j in range(m) if j != i] for i in range(m)])
    keys = _keys(corners[:, others].reshape(-1, m - 1), n)
    order = np.argsort(keys, kind="stable")
    return keys[order], order // m, corners.ravel()[order]


def _keys(faces: np.ndarray, n: int) -> np.ndarray:
    key = np.zeros(len(faces), np.int64)
    for column in np.sort(faces, axis=1).astype(np.int64).T:
        key = key * n + column
    return key


def _check_orientation(points: np.ndarray, corners: np.ndarray, keys: np.ndarray, owner: np.ndarray,
                       opposite: np.ndarray) -> None:
    """Two cells that share a side lie on its two sides."""
    first = np.flatnonzero(keys[1:] == keys[:-1])
    m = corners.shape[1]
    on = corners[owner[first]]
    shared = on[on != opposite[first, None]].reshape(len(first), m - 1)
    base = points[shared[:, 0]]
    edge = points[shared[:, 1]] - base
    normal = edge[:, [1, 0, 2]] * [1.0, -1.0, 0.0] if m == 3 else np.cross(edge, points[shared[:, -1]] - base)
    here, there = ((normal * (points[opposite[k]] - base)).sum(axis=1) for k in (first, first + 1))
    wrong = np.flatnonzero(here * there >= 0)
    if len(wrong):
        one, other = owner[first[wrong[0]]], owner[first[wrong[0]] + 1]
        raise BadInput("inverted_cell", f"cells {one} and {other} lie on the same side of the face they share, "
                       f"{len(wrong)} pairs in all", "cells side by side",
                       "Mesh the lumen again.")


def _check_border(keys: np.ndarray, faces: Mapping[int, np.ndarray], n: int) -> None:
    unique, counts = np.unique(keys, return_counts=True)
    marked = np.concatenate([_keys(f, n) for f in faces.values()])
    bare = np.setdiff1d(unique[counts == 1], marked)
    if len(bare):
        raise BadInput("unmarked_boundary", f"{len(bare)} of {int((counts == 1).sum())} faces of the border are not "
                       "wall, inlet or outlet", "a tag on each", "Tag every cap: one without a tag leaks.")
