"""Loops over cells and rows, compiled: convection, explicit forces, products, a solver for three components.

All three velocity components share one scalar matrix in CSR form, whose values
are written in place. Threads work on blocks of cells that share no node, then
one of them on the cells between the blocks; sums over rows are taken over fixed
pieces. So the digits do not depend on the number of threads.
"""

from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from solvers.flow.cells import Cells, Pattern

BATCH = 32
"""Cells whose matrices are made at once: they stay in the cache of one core."""

PIECES = 16
"""Of the rows, each summed by itself."""


class Carried(NamedTuple):
    """Of each cell, for a wind w: along (c, m): mean w . grad(coordinate), 1/s; drift (c, m): what of it a potential
    takes off, 1/s; speed (c,): mean |w|, m/s; tau (c,): time of motion too fine for the cell, s; extra (c,): viscosity
    beyond the constant one; penalty (c,): of the divergence; both m^2/s."""

    along: np.ndarray
    drift: np.ndarray
    speed: np.ndarray
    tau: np.ndarray
    extra: np.ndarray
    penalty: np.ndarray


@numba.njit(cache=True)
def positions(nodes: np.ndarray, indptr: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Place of each cell's entry (a, b) in the CSR values, (c, k * k) for nodes (c, k)."""
    k = nodes.shape[1]
    found = np.empty((len(nodes), k * k), np.int32)
    for c in range(len(nodes)):
        for a in range(k):
            row = nodes[c, a]
            for b in range(k):
                low, high = indptr[row], indptr[row + 1]
                while low < high:
                    middle = (low + high) // 2
                    if indices[middle] < nodes[c, b]:
                        low = middle + 1
                    else:
                        high = middle
                found[c, a * k + b] = low
    return found


@numba.njit(cache=True, parallel=True)
def streams(cells: Cells, mean: np.ndarray, wind: np.ndarray, potential: np.ndarray) -> tuple[
        np.ndarray, np.ndarray, np.ndarray]:
    """Of each cell, for w = wind - grad(potential), wind (n, 3) m/s and a linear potential (vertices,) m^2/s:
    along (c, m), drift (c, m) and speed (c,) as `Carried` says."""
    n, m, k = cells.grads.shape[0], cells.grads.shape[1], cells.nodes.shape[1]
    along, drift, speed = np.empty((n, m)), np.empty((n, m)), np.empty(n)
    for c in prange(n):
        w, g = np.zeros(3), np.zeros(3)
        for i in range(m):
            for j in range(3):
                g[j] += potential[cells.nodes[c, i]] * cells.grads[c, i, j]
        for a in range(k):
            for j in range(3):
                w[j] += mean[a] * wind[cells.nodes[c, a], j]
        w -= g
        speed[c] = np.sqrt(w[0] ** 2 + w[1] ** 2 + w[2] ** 2)
        for i in range(m):
            along[c, i] = w[0] * cells.grads[c, i, 0] + w[1] * cells.grads[c, i, 1] + w[2] * cells.grads[c, i, 2]
            drift[c, i] = g[0] * cells.grads[c, i, 0] + g[1] * cells.grads[c, i, 1] + g[2] * cells.grads[c, i, 2]
    return along, drift, speed


@numba.njit(cache=True, parallel=True)
def strain_rates(cells: Cells, u: np.ndarray) -> np.ndarray:
    """Shear rate sqrt(2 D:D) of each cell's mean velocity gradient, 1/s, (c,)."""
    n, m = cells.grads.shape[0], cells.grads.shape[1]
    rate = np.empty(n)
    for c in prange(n):
        mean = np.zeros((3, 3))
        for corner in range(m):
            mean += _gradient(cells, c, corner, u) / m
        total = 0.0
        for j in range(3):
            for k in range(3):
                total += 0.5 * (mean[j, k] + mean[k, j]) ** 2
        rate[c] = np.sqrt(total)
    return rate


@numba.njit(cache=True, parallel=True)
def squared_strain(cells: Cells, u: np.ndarray) -> np.ndarray:
    """Integral over each cell of 2 D:D, exact for the quadratic u (n, 3), m^3/s^2, (c,)."""
    n, m = cells.grads.shape[0], cells.grads.shape[1]
    out = np.empty(n)
    for c in prange(n):
        total, squares = np.zeros((3, 3)), 0.0
        for corner in range(m):
            gradient = _gradient(cells, c, corner, u)
            total += gradient
            squares += _strained(gradient)
        out[c] = cells.volumes[c] / (m * (m + 1)) * (squares + _strained(total))
    return out


@numba.njit(cache=True, inline="always")
def _strained(gradient: np.ndarray) -> float:
    """2 D:D of a gradient (3, 3)."""
    total = 0.0
    for j in range(3):
        for k in range(3):
            total += 0.5 * (gradient[j, k] + gradient[k, j]) ** 2
    return total


@numba.njit(cache=True, inline="always")
def _gradient(cells: Cells, c: int, corner: int, u: np.ndarray) -> np.ndarray:
    """d u_k / d x_j of the quadratic u (n, 3) at a corner of a cell, (3, 3) by j, k.

    By coordinate i it is 3 u_corner where i is the corner, else 4 u_(corner, i) - u_i.
    """
    out = np.zeros((3, 3))
    for i in range(cells.grads.shape[1]):
        for k in range(3):
            if i == corner:
                t = 3 * u[cells.nodes[c, corner], k]
            else:
                t = 4 * u[cells.nodes[c, cells.between[i, corner]], k] - u[cells.nodes[c, i], k]
            for j in range(3):
                out[j, k] += cells.grads[c, i, j] * t
    return out


@numba.njit(cache=True, inline="always")
def _add_weak(out: np.ndarray, cells: Cells, c: int, corner: int, flux: np.ndarray) -> None:
    """Add flux : grad v at a corner for each shape function v; flux (3, 3) by j (of the gradient), k."""
    for i in range(cells.grads.shape[1]):
        for k in range(3):
            push = 0.0
            for j in range(3):
                push += cells.grads[c, i, j] * flux[j, k]
            if i == corner:
                out[cells.nodes[c, corner], k] += 3 * push
            else:
                out[cells.nodes[c, cells.between[i, corner]], k] += 4 * push
                out[cells.nodes[c, i], k] -= push


class Tables(NamedTuple):
    """Of an element with m corners and k nodes: rows of cell matrices, the pairs of nodes a < b, then the diagonal.

    skew (m k, pairs): convection, of wind node and coordinate; even (m (m + 1) / 2, pairs + k): stiffness, of
    coordinates i <= j; first, second (pairs,): a and b.
    """

    skew: np.ndarray
    even: np.ndarray
    first: np.ndarray
    second: np.ndarray


@numba.njit(cache=True, parallel=True)
def add_convection(values: np.ndarray, place: np.ndarray, cells: Cells, tables: Tables, wind: np.ndarray,
                   carried: Carried) -> None:
    """Add skew (w.grad u, v) + (tau w.grad u, w.grad v) + extra (grad u, grad v) to CSR `values`.

    place: `positions`; wind (n, 3). A product with the tables for a few cells, then a scatter. Not by BLAS, whose own
    threads would get in the way of these.
    """
    for block in prange(len(cells.bounds) - 1):
        _add_cells(values, place, cells, tables, wind, carried, cells.bounds[block], cells.bounds[block + 1])
    _add_cells(values, place, cells, tables, wind, carried, cells.bounds[-1], len(cells.order))


@numba.njit(cache=True)
def _add_cells(values: np.ndarray, place: np.ndarray, cells: Cells, tables: Tables, wind: np.ndarray,
               carried: Carried, first: int, last: int) -> None:
    k, pairs = cells.nodes.shape[1], len(tables.first)
    moved, spread = np.zeros((BATCH, len(tables.skew))), np.zeros((BATCH, len(tables.even)))
    odd, even = np.empty((BATCH, pairs)), np.empty((BATCH, pairs + k))
    for start in range(first, last, BATCH):
        some = cells.order[start:min(start + BATCH, last)]
        for row in range(len(some)):
            _factors(moved[row], spread[row], cells, some[row], wind, carried)
        _product(moved, tables.skew, odd)
        _product(spread, tables.even, even)
        for row in range(len(some)):
            c = some[row]
            for pair in range(pairs):
                a, b = tables.first[pair], tables.second[pair]
                values[place[c, k * a + b]] += even[row, pair] + odd[row, pair]
                values[place[c, k * b + a]] += even[row, pair] - odd[row, pair]
            for a in range(k):
                values[place[c, (k + 1) * a]] += even[row, pairs + a]


@numba.njit(cache=True, fastmath=True)
def _product(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
    """out = left @ right, four rows at a time."""
    out[:] = 0.0
    for row in range(0, BATCH, 4):
        for i in range(right.shape[0]):
            p, q, r, s = left[row, i], left[row + 1, i], left[row + 2, i], left[row + 3, i]
            for j in range(right.shape[1]):
                t = right[i, j]
                out[row, j] += p * t
                out[row + 1, j] += q * t
                out[row + 2, j] += r * t
                out[row + 3, j] += s * t


@numba.njit(cache=True)
def _factors(moved: np.ndarray, spread: np.ndarray, cells: Cells, c: int, wind: np.ndarray, carried: Carried) -> None:
    """What multiplies the tables: volume (wind(node) . grad(coordinate) - drift), and the factors of the stiffness."""
    m, grads = cells.grads.shape[1], cells.grads[c]
    for a in range(cells.nodes.shape[1]):
        node = cells.nodes[c, a]
        for i in range(m):
            moved[m * a + i] = cells.volumes[c] * (wind[node, 0] * grads[i, 0] + wind[node, 1] * grads[i, 1]
                                                   + wind[node, 2] * grads[i, 2] - carried.drift[c, i])
    place = 0
    for i in range(m):
        for j in range(i, m):
            dots = grads[i, 0] * grads[j, 0] + grads[i, 1] * grads[j, 1] + grads[i, 2] * grads[j, 2]
            spread[place] = cells.volumes[c] * (
                carried.tau[c] * carried.along[c, i] * carried.along[c, j] + carried.extra[c] * dots)
            place += 1


@numba.njit(cache=True, parallel=True)
def add_resolved_moments(out: np.ndarray, cells: Cells, carried: Carried, u: np.ndarray) -> None:
    """Add (w . grad u, L) to `out` (vertices, 3) for each linear function L."""
    for block in prange(len(cells.bounds) - 1):
        _add_moments(out, cells, carried, u, cells.bounds[block], cells.bounds[block + 1])
    _add_moments(out, cells, carried, u, cells.bounds[-1], len(cells.order))


@numba.njit(cache=True)
def _add_moments(out: np.ndarray, cells: Cells, carried: Carried, u: np.ndarray, first: int, last: int) -> None:
    m = cells.grads.shape[1]
    rate, total = np.empty((m, 3)), np.empty(3)
    for index in range(first, last):
        c = cells.order[index]
        total[:] = 0.0
        for corner in range(m):
            for k in range(3):
                rate[corner, k] = 0.0
                for i in range(m):
                    t = 3 * u[cells.nodes[c, corner], k] if i == corner else (
                        4 * u[cells.nodes[c, cells.between[i, corner]], k] - u[cells.nodes[c, i], k])
                    rate[corner, k] += carried.along[c, i] * t
                total[k] += rate[corner, k]
        for corner in range(m):
            for k in range(3):
                out[cells.nodes[c, corner], k] += cells.volumes[c] / (m * (m + 1)) * (rate[corner, k] + total[k])


@numba.njit(cache=True, parallel=True)
def add_explicit(out: np.ndarray, cells: Cells, mean: np.ndarray, carried: Carried, u: np.ndarray, smooth: np.ndarray,
                 p: np.ndarray) -> None:
    """Add to `out` (n, 3), for velocities u (n, 3) and linear smooth (vertices, 3) and p (vertices,):

    (tau smooth, w . grad v), - extra ((grad u)^T, grad v), - (grad p, v): a viscosity that varies acts on the
    symmetric gradient.
    """
    for block in prange(len(cells.bounds) - 1):
        _add_forces(out, cells, mean, carried, u, smooth, p, cells.bounds[block], cells.bounds[block + 1])
    _add_forces(out, cells, mean, carried, u, smooth, p, cells.bounds[-1], len(cells.order))


@numba.njit(cache=True)
def _add_forces(out: np.ndarray, cells: Cells, mean: np.ndarray, carried: Carried, u: np.ndarray, smooth: np.ndarray,
                p: np.ndarray, first: int, last: int) -> None:
    m, k = cells.grads.shape[1], cells.nodes.shape[1]
    field, total, at, sum_at = np.empty((m, 3, 3)), np.empty((3, 3)), np.empty((m, 3)), np.empty(3)
    flux, slope = np.empty((3, 3)), np.empty(3)
    thins = carried.extra.any()
    for index in range(first, last):
        c = cells.order[index]
        for i in range(3):
            sum_at[i] = slope[i] = 0.0
            for j in range(3):
                total[i, j] = 0.0
        for corner in range(m):
            for i in range(3):
                at[corner, i] = carried.tau[c] * smooth[cells.nodes[c, corner], i]
                sum_at[i] += at[corner, i]
                slope[i] += p[cells.nodes[c, corner]] * cells.grads[c, corner, i]
            if thins:
                gradient = _gradient(cells, c, corner, u)
                for i in range(3):
                    for j in range(3):
                        field[corner, i, j] = -carried.extra[c] * gradient[j, i]
                        total[i, j] += field[corner, i, j]
        weight = cells.volumes[c] / (m * (m + 1))
        for corner in range(m):
            if thins:
                for i in range(3):
                    for j in range(3):
                        flux[i, j] = weight * (field[corner, i, j] + total[i, j])
                _add_weak(out, cells, c, corner, flux)
            for i in range(m):
                for j in range(3):
                    push = weight * carried.along[c, i] * (at[corner, j] + sum_at[j])
                    if i == corner:
                        out[cells.nodes[c, corner], j] += 3 * push
                    else:
                        out[cells.nodes[c, cells.between[i, corner]], j] += 4 * push
                        out[cells.nodes[c, i], j] -= push
        for a in range(k):
            for j in range(3):
                out[cells.nodes[c, a], j] -= cells.volumes[c] * mean[a] * slope[j]


@numba.njit(cache=True, parallel=True)
def add_penalty(out: np.ndarray, cells: Cells, penalty: np.ndarray, u: np.ndarray) -> None:
    """Add (penalty div u, div v) to `out` (n, 3) for u (n, 3) and penalty (c,)."""
    for block in prange(len(cells.bounds) - 1):
        _add_penalty(out, cells, penalty, u, cells.bounds[block], cells.bounds[block + 1])
    _add_penalty(out, cells, penalty, u, cells.bounds[-1], len(cells.order))


@numba.njit(cache=True)
def _add_penalty(out: np.ndarray, cells: Cells, penalty: np.ndarray, u: np.ndarray, first: int, last: int) -> None:
    """The divergence is linear in a cell. At a corner its part by coordinate i is grad i . (3 u) where i is the
    corner, else grad i . (4 u_edge - u_i)."""
    m = cells.grads.shape[1]
    own, divergence = np.empty(m), np.empty(m)
    for index in range(first, last):
        c = cells.order[index]
        nodes, grads = cells.nodes[c], cells.grads[c]
        trace = 0.0
        for i in range(m):
            own[i] = grads[i, 0] * u[nodes[i], 0] + grads[i, 1] * u[nodes[i], 1] + grads[i, 2] * u[nodes[i], 2]
            trace += own[i]
        for i in range(m):
            divergence[i] = 4 * own[i] - trace
        for i in range(m):
            for j in range(i + 1, m):
                a = nodes[cells.between[i, j]]
                divergence[j] += 4 * (grads[i, 0] * u[a, 0] + grads[i, 1] * u[a, 1] + grads[i, 2] * u[a, 2])
                divergence[i] += 4 * (grads[j, 0] * u[a, 0] + grads[j, 1] * u[a, 1] + grads[j, 2] * u[a, 2])
        weight, total = penalty[c] * cells.volumes[c] / (m * (m + 1)), divergence.sum()
        for i in range(m):
            divergence[i] = weight * (divergence[i] + total)
        total = divergence.sum()
        for i in range(m):
            for k in range(3):
                out[nodes[i], k] += (4 * divergence[i] - total) * grads[i, k]
        for i in range(m):
            for j in range(i + 1, m):
                a = nodes[cells.between[i, j]]
                for k in range(3):
                    out[a, k] += 4 * (divergence[j] * grads[i, k] + divergence[i] * grads[j, k])


@numba.njit(cache=True, parallel=True)
def passages(cells: Cells, u: np.ndarray) -> np.ndarray:
    """How often each cell is passed by the fastest of its velocities u (n, 3) m/s, 1/s, (c,)."""
    rates = np.empty(len(cells.size))
    for c in prange(len(rates)):
        fastest = 0.0
        for a in range(cells.nodes.shape[1]):
            i = cells.nodes[c, a]
            square = u[i, 0] ** 2 + u[i, 1] ** 2 + u[i, 2] ** 2
            if not square <= fastest:  # not a number counts as fast
                fastest = square
        rates[c] = np.sqrt(fastest) / cells.size[c]
    return rates


@numba.njit(cache=True)
def scatter(values: np.ndarray, place: np.ndarray, local: np.ndarray) -> None:
    """Add matrices of cells or faces, both (c, k * k), to CSR `values`."""
    for c in range(len(place)):
        for j in range(place.shape[1]):
            values[place[c, j]] += local[c, j]


@numba.njit(cache=True, parallel=True)
def against_gradient(cells: Cells, mean: np.ndarray, u: np.ndarray, n: int) -> np.ndarray:
    """(u, grad q) for each linear function q and u (nodes, 3): (n,)."""
    out = np.zeros(n)
    for block in prange(len(cells.bounds) - 1):
        _against(out, cells, mean, u, cells.bounds[block], cells.bounds[block + 1])
    _against(out, cells, mean, u, cells.bounds[-1], len(cells.order))
    return out


@numba.njit(cache=True)
def _against(out: np.ndarray, cells: Cells, mean: np.ndarray, u: np.ndarray, first: int, last: int) -> None:
    w = np.empty(3)
    for index in range(first, last):
        c = cells.order[index]
        w[:] = 0.0
        for a in range(cells.nodes.shape[1]):
            for k in range(3):
                w[k] += mean[a] * u[cells.nodes[c, a], k]
        for i in range(cells.grads.shape[1]):
            out[cells.nodes[c, i]] += cells.volumes[c] * (
                w[0] * cells.grads[c, i, 0] + w[1] * cells.grads[c, i, 1] + w[2] * cells.grads[c, i, 2])


@numba.njit(cache=True, parallel=True)
def multiply(matrix: Pattern, values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A x for three right-hand sides at once, (n, 3)."""
    out = np.empty_like(x)
    for piece in prange(PIECES):
        first, last = len(x) * piece // PIECES, len(x) * (piece + 1) // PIECES
        for i in range(first, last):
            out[i, 0], out[i, 1], out[i, 2] = _row(matrix, values, x, i)
    return out


@numba.njit(cache=True, inline="always")
def _row(matrix: Pattern, values: np.ndarray, x: np.ndarray, i: int) -> tuple[float, float, float]:
    a = b = c = 0.0
    for j in range(matrix.indptr[i], matrix.indptr[i + 1]):
        v, column = values[j], matrix.indices[j]
        a += v * x[column, 0]
        b += v * x[column, 1]
        c += v * x[column, 2]
    return a, b, c


class Momentum(NamedTuple):
    """The matrix of the three components, `values` on `pattern` for each of them and the penalty that joins them, but
    for the rows of `fixed` (n,) nodes, and the diagonal (n,) that preconditions it."""

    pattern: Pattern
    values: np.ndarray
    cells: Cells
    penalty: np.ndarray
    fixed: np.ndarray
    diagonal: np.ndarray


@numba.njit(cache=True)
def apply(matrix: Momentum, x: np.ndarray, out: np.ndarray) -> None:
    """out = A x for x (n, 3)."""
    out[:] = 0.0
    if matrix.penalty.any():
        add_penalty(out, matrix.cells, matrix.penalty, x)
    _add_rows(out, matrix.pattern, matrix.values, x)
    for i in np.flatnonzero(matrix.fixed):
        for k in range(3):
            out[i, k] = matrix.diagonal[i] * x[i, k]


@numba.njit(cache=True, parallel=True)
def _add_rows(out: np.ndarray, pattern: Pattern, values: np.ndarray, x: np.ndarray) -> None:
    n = len(x)
    for piece in prange(PIECES):
        for i in range(n * piece // PIECES, n * (piece + 1) // PIECES):
            row = _row(pattern, values, x, i)
            for k in range(3):
                out[i, k] += row[k]


@numba.njit(cache=True, parallel=True)
def _turn(p: np.ndarray, y: np.ndarray, r: np.ndarray, v: np.ndarray, diagonal: np.ndarray, beta: float,
          omega: float) -> None:
    """p = r + beta (p - omega v), y = p / diagonal."""
    for i in prange(len(p)):
        for k in range(3):
            p[i, k] = r[i, k] + beta * (p[i, k] - omega * v[i, k])
            y[i, k] = p[i, k] / diagonal[i]


@numba.njit(cache=True, parallel=True)
def _walk(x: np.ndarray, r: np.ndarray, y: np.ndarray, v: np.ndarray, share: float) -> None:
    """x = x + share y, r = r - share v."""
    for i in prange(len(x)):
        for k in range(3):
            x[i, k] += share * y[i, k]
            r[i, k] -= share * v[i, k]


@numba.njit(cache=True, parallel=True)
def _dots(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of the products of two fields (n, 3), piece by piece."""
    n, sums = len(a), np.zeros(PIECES)
    for piece in prange(PIECES):
        for i in range(n * piece // PIECES, n * (piece + 1) // PIECES):
            sums[piece] += a[i, 0] * b[i, 0] + a[i, 1] * b[i, 1] + a[i, 2] * b[i, 2]
    total = 0.0
    for piece in range(PIECES):  # sums.sum() is spread over threads, in an order of their number
        total += sums[piece]
    return total


class Goal(NamedTuple):
    """tolerance relative to the right-hand side; least and most iterations.

    The least are always made: an extrapolated guess that is good enough at every step drifts away.
    """

    tolerance: float
    least: int
    most: int


@numba.njit(cache=True)
def bicgstab(matrix: Momentum, b: np.ndarray, x: np.ndarray, goal: Goal) -> int:
    """Solve A x = b for b, x (n, 3), Jacobi preconditioned, in place; iterations, -1 if not done.

    Source: van der Vorst 1992, doi:10.1137/0913035.
    """
    p, v, y, t = np.zeros_like(b), np.zeros_like(b), np.zeros_like(b), np.empty_like(b)
    apply(matrix, x, t)
    r = b - t
    shadow, weights = r.copy(), np.reshape(matrix.diagonal, (len(b), 1))
    target = goal.tolerance * np.sqrt(_dots(b, b)) + 1e-300
    square = _dots(r, r)
    fresh, rho, alpha, omega = square, 1.0, 1.0, 1.0
    for iteration in range(goal.most + 1):
        if iteration >= goal.least and np.sqrt(square) <= target or square == 0.0:
            return iteration
        if rho == 0.0 or omega == 0.0 or not np.isfinite(square):
            return -1
        _turn(p, y, r, v, matrix.diagonal, fresh / rho * alpha / omega, omega)
        rho = fresh
        apply(matrix, y, v)
        below = _dots(shadow, v)
        alpha = rho / below if below != 0.0 else 0.0
        _walk(x, r, y, v, alpha)
        y = r / weights
        apply(matrix, y, t)
        below = _dots(t, t)
        omega = _dots(t, r) / below if below != 0.0 else 0.0
        _walk(x, r, y, t, omega)
        square, fresh = _dots(r, r), _dots(shadow, r)
    return -1
