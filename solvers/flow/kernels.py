"""Loops over cells and rows, compiled: gradients, places in a sparse matrix, products, a solver for three components.

All three velocity components share one scalar matrix in CSR form, whose values
are written in place.
"""

import numba
import numpy as np


@numba.njit(cache=True)
def positions(cells: np.ndarray, indptr: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Place of each cell's entry (a, b) in the CSR values, (c, k, k) for cells (c, k)."""
    k = cells.shape[1]
    found = np.empty((len(cells), k, k), np.int32)
    for c in range(len(cells)):
        for a in range(k):
            row = cells[c, a]
            for b in range(k):
                low, high = indptr[row], indptr[row + 1]
                while low < high:
                    middle = (low + high) // 2
                    if indices[middle] < cells[c, b]:
                        low = middle + 1
                    else:
                        high = middle
                found[c, a, b] = low
    return found


@numba.njit(cache=True)
def gradients(points: np.ndarray, tets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of the barycentric coordinates (c, 4, 3), 1/m, and volumes (c,), m^3."""
    grads = np.empty((len(tets), 4, 3))
    volumes = np.empty(len(tets))
    for c in range(len(tets)):
        j = np.empty((3, 3))
        for a in range(3):
            for k in range(3):
                j[a, k] = points[tets[c, a + 1], k] - points[tets[c, 0], k]
        inverse = np.linalg.inv(j)
        volumes[c] = abs(np.linalg.det(j)) / 6
        for k in range(3):
            total = 0.0
            for a in range(3):
                grads[c, a + 1, k] = inverse[k, a]
                total += inverse[k, a]
            grads[c, 0, k] = -total
    return grads, volumes


@numba.njit(cache=True)
def streams(cells: np.ndarray, grads: np.ndarray, mean: np.ndarray, size: np.ndarray, nu: float, strength: float,
            wind: np.ndarray, potential: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each cell, for the wind w = wind - grad(potential) with a linear potential (vertices,):

    mean w . grad(coordinate) (c, 4), 1/s; grad(potential) . grad(coordinate) (c, 4), 1/s; mean |w| (c,), m/s; and
    the subgrid's time strength / (2 |w| / h + 4 nu / h^2) (c,), s, that of motion too fine for the cell.
    """
    n = len(cells)
    along, drift, speed, tau = np.empty((n, 4)), np.empty((n, 4)), np.empty(n), np.empty(n)
    w, g = np.empty(3), np.empty(3)
    for c in range(n):
        for k in range(3):
            g[k] = 0.0
            for i in range(4):
                g[k] += potential[cells[c, i]] * grads[c, i, k]
            w[k] = -g[k]
            for a in range(cells.shape[1]):
                w[k] += mean[a] * wind[cells[c, a], k]
        h = size[c]
        speed[c] = np.sqrt(w[0] ** 2 + w[1] ** 2 + w[2] ** 2)
        tau[c] = strength / (2 * speed[c] / h + 4 * nu / h**2)
        for i in range(4):
            along[c, i] = w[0] * grads[c, i, 0] + w[1] * grads[c, i, 1] + w[2] * grads[c, i, 2]
            drift[c, i] = g[0] * grads[c, i, 0] + g[1] * grads[c, i, 1] + g[2] * grads[c, i, 2]
    return along, drift, speed, tau


@numba.njit(cache=True)
def transport(cells: np.ndarray, grads: np.ndarray, volumes: np.ndarray, wind: np.ndarray, drift: np.ndarray,
              along: np.ndarray, tau: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """Factors of the convection and stiffness tensors for each cell, (c, 40 + 16).

    Convection: volume * (wind(node) . grad(coordinate) - drift). Stiffness:
    volume * (tau * along_i * along_j + penalty * grad i . grad j).
    """
    out = np.empty((len(cells), 56))
    for c in range(len(cells)):
        for a in range(10):
            node = cells[c, a]
            for i in range(4):
                out[c, 4 * a + i] = volumes[c] * (wind[node, 0] * grads[c, i, 0] + wind[node, 1] * grads[c, i, 1]
                                                  + wind[node, 2] * grads[c, i, 2] - drift[c, i])
        for i in range(4):
            for j in range(4):
                dots = grads[c, i, 0] * grads[c, j, 0] + grads[c, i, 1] * grads[c, j, 1] + grads[c, i, 2] * grads[
                    c, j, 2]
                out[c, 40 + 4 * i + j] = volumes[c] * (tau[c] * along[c, i] * along[c, j] + penalty[c] * dots)
    return out


@numba.njit(cache=True)
def add_divergence_penalty(out: np.ndarray, cells: np.ndarray, grads: np.ndarray, volumes: np.ndarray,
                           penalty: np.ndarray, between: np.ndarray, u: np.ndarray) -> None:
    """Add penalty [(grad u, grad v) - (div u, div v)] to `out` (n, 3); between (4, 4): the node on the edge i-j.

    Both are linear in a cell, so that their products integrate by the corners'
    mass matrix (1 + delta) / 20. At corner m the derivative of u by coordinate i
    is 3 u_m for i = m, else 4 u_im - u_i.
    """
    field, total, push = np.empty((4, 3, 3)), np.empty((3, 3)), np.empty(3)
    for c in range(len(cells)):
        field[:] = 0.0
        total[:] = 0.0
        for m in range(4):
            for i in range(4):
                for k in range(3):
                    t = 3 * u[cells[c, m], k] if i == m else 4 * u[cells[c, between[i, m]], k] - u[cells[c, i], k]
                    for j in range(3):
                        field[m, j, k] += grads[c, i, j] * t
            trace = field[m, 0, 0] + field[m, 1, 1] + field[m, 2, 2]
            for k in range(3):
                field[m, k, k] -= trace
                for j in range(3):
                    total[j, k] += field[m, j, k]
        weight = penalty[c] * volumes[c] / 20
        for m in range(4):
            for i in range(4):
                for k in range(3):
                    push[k] = 0.0
                    for j in range(3):
                        push[k] += weight * grads[c, i, j] * (field[m, j, k] + total[j, k])
                    if i == m:
                        out[cells[c, m], k] += 3 * push[k]
                    else:
                        out[cells[c, between[i, m]], k] += 4 * push[k]
                        out[cells[c, i], k] -= push[k]


@numba.njit(cache=True)
def add_moments(out: np.ndarray, cells: np.ndarray, volumes: np.ndarray, along: np.ndarray, slope: np.ndarray,
                u: np.ndarray) -> None:
    """Add (w . grad u, L) to `out` (vertices, 3) for each linear function L; slope (4, 4, 10): means of L d(shape)."""
    for c in range(len(cells)):
        for m in range(4):
            for a in range(10):
                weight = 0.0
                for i in range(4):
                    weight += along[c, i] * slope[m, i, a]
                weight *= volumes[c]
                for k in range(3):
                    out[cells[c, m], k] += weight * u[cells[c, a], k]


@numba.njit(cache=True)
def add_recovered(out: np.ndarray, cells: np.ndarray, volumes: np.ndarray, along: np.ndarray, tau: np.ndarray,
                  slope: np.ndarray, field: np.ndarray) -> None:
    """Add (tau field, w . grad v) to `out` (n, 3) for a linear field (vertices, 3)."""
    for c in range(len(cells)):
        for a in range(10):
            for m in range(4):
                weight = 0.0
                for i in range(4):
                    weight += along[c, i] * slope[m, i, a]
                weight *= volumes[c] * tau[c]
                for k in range(3):
                    out[cells[c, a], k] += weight * field[cells[c, m], k]


@numba.njit(cache=True)
def scatter(values: np.ndarray, place: np.ndarray, local: np.ndarray) -> None:
    """Add the cells' matrices, both (c, k * k), to CSR `values`."""
    for c in range(len(place)):
        for j in range(place.shape[1]):
            values[place[c, j]] += local[c, j]


@numba.njit(cache=True)
def add_pressure_force(out: np.ndarray, cells: np.ndarray, grads: np.ndarray, volumes: np.ndarray, mean: np.ndarray,
                       p: np.ndarray) -> None:
    """Subtract (grad p, v) from `out` (n, 3): p linear on the cells' first four nodes."""
    for c in range(len(cells)):
        for k in range(3):
            slope = 0.0
            for a in range(4):
                slope += p[cells[c, a]] * grads[c, a, k]
            for a in range(cells.shape[1]):
                out[cells[c, a], k] -= volumes[c] * mean[a] * slope


@numba.njit(cache=True)
def against_gradient(out: np.ndarray, cells: np.ndarray, grads: np.ndarray, volumes: np.ndarray, mean: np.ndarray,
                     u: np.ndarray) -> None:
    """Add (u, grad q) to `out` (vertices,) for u (n, 3)."""
    for c in range(len(cells)):
        m = np.zeros(3)
        for a in range(cells.shape[1]):
            for k in range(3):
                m[k] += mean[a] * u[cells[c, a], k]
        for a in range(4):
            out[cells[c, a]] += volumes[c] * (m[0] * grads[c, a, 0] + m[1] * grads[c, a, 1] + m[2] * grads[c, a, 2])


@numba.njit(cache=True)
def multiply(out: np.ndarray, indptr: np.ndarray, indices: np.ndarray, values: np.ndarray, x: np.ndarray) -> None:
    """out = A x for three right-hand sides at once, (n, 3)."""
    for i in range(len(indptr) - 1):
        a = b = c = 0.0
        for j in range(indptr[i], indptr[i + 1]):
            v, col = values[j], indices[j]
            a += v * x[col, 0]
            b += v * x[col, 1]
            c += v * x[col, 2]
        out[i, 0], out[i, 1], out[i, 2] = a, b, c


@numba.njit(cache=True)
def fix_rows(values: np.ndarray, indptr: np.ndarray, indices: np.ndarray, rows: np.ndarray) -> None:
    """Make each of `rows` the row of the identity."""
    for row in rows:
        for j in range(indptr[row], indptr[row + 1]):
            values[j] = 1.0 if indices[j] == row else 0.0


@numba.njit(cache=True)
def _dots(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """Scalar product of each of the three columns."""
    x = y = z = 0.0
    for i in range(len(a)):
        x += a[i, 0] * b[i, 0]
        y += a[i, 1] * b[i, 1]
        z += a[i, 2] * b[i, 2]
    out[0], out[1], out[2] = x, y, z


@numba.njit(cache=True)
def _ratio(above: np.ndarray, below: np.ndarray, out: np.ndarray) -> None:
    for k in range(3):
        out[k] = above[k] / below[k] if below[k] != 0.0 else 0.0


@numba.njit(cache=True)
def bicgstab(indptr: np.ndarray, indices: np.ndarray, values: np.ndarray, diagonal: np.ndarray, b: np.ndarray,
             x: np.ndarray, tolerance: float, least: int, most: int) -> int:
    """Solve A x = b for three right-hand sides (n, 3), Jacobi preconditioned, in place; iterations, -1 if not done.

    least: iterations that are always made, for an extrapolated guess that is good enough at every step drifts away.

    Source: van der Vorst 1992, doi:10.1137/0913035.
    """
    n = len(b)
    r = np.empty_like(b)
    multiply(r, indptr, indices, values, x)
    target = 0.0
    for i in range(n):
        for k in range(3):
            r[i, k] = b[i, k] - r[i, k]
            target += b[i, k] ** 2
    target = tolerance * np.sqrt(target) + 1e-300
    shadow, p, v = r.copy(), np.zeros_like(b), np.zeros_like(b)
    t, y = np.empty_like(b), np.empty_like(b)
    rho, fresh, beta = np.ones(3), np.ones(3), np.zeros(3)
    alpha, omega, some, other = np.ones(3), np.ones(3), np.zeros(3), np.zeros(3)
    for iteration in range(most + 1):
        _dots(r, r, some)
        if iteration >= least and np.sqrt(some.sum()) <= target or some.sum() == 0.0:
            return iteration
        _dots(shadow, r, fresh)
        for k in range(3):
            beta[k] = fresh[k] / rho[k] * alpha[k] / omega[k] if rho[k] != 0.0 and omega[k] != 0.0 else 0.0
            rho[k] = fresh[k]
        for i in range(n):
            for k in range(3):
                p[i, k] = r[i, k] + beta[k] * (p[i, k] - omega[k] * v[i, k])
                y[i, k] = p[i, k] / diagonal[i]
        multiply(v, indptr, indices, values, y)
        _dots(shadow, v, some)
        _ratio(rho, some, alpha)
        for i in range(n):
            for k in range(3):
                x[i, k] += alpha[k] * y[i, k]
                r[i, k] -= alpha[k] * v[i, k]
                y[i, k] = r[i, k] / diagonal[i]
        multiply(t, indptr, indices, values, y)
        _dots(t, r, some)
        _dots(t, t, other)
        _ratio(some, other, omega)
        for i in range(n):
            for k in range(3):
                x[i, k] += omega[k] * y[i, k]
                r[i, k] -= omega[k] * t[i, k]
    return -1
