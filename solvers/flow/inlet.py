"""Velocity profiles on an inlet of any shape."""

import numpy as np
from scipy import sparse, special
from scipy.sparse.linalg import spsolve

from solvers.flow.cells import gradients

HARMONICS = 15
"""Of the heart's frequency that shape the profile."""


def profile(points: np.ndarray, faces: np.ndarray, rim: np.ndarray) -> np.ndarray:
    """The profile of developed steady flow, zero on the rim, 1 at its maximum, (n,).

    Solves -laplace(shape) = 1 on the inlet's triangles (segments, in a plane); on
    a circle it is the parabola.
    """
    grads, areas = gradients(points, faces)
    local = np.einsum("fak,fbk->fab", grads, grads) * areas[:, None, None]
    n = len(points)
    m = faces.shape[1]
    rows, columns = np.repeat(faces, m, axis=1).ravel(), np.tile(faces, (1, m)).ravel()
    matrix = sparse.csr_matrix((local.ravel(), (rows, columns)), shape=(n, n))
    load = np.bincount(faces.ravel(), np.repeat(areas / m, m), minlength=n)
    free = np.setdiff1d(np.unique(faces), rim)
    shape = np.zeros(n)
    shape[free] = spsolve(matrix[free][:, free].tocsc(), load[free])
    return shape / shape.max()


def womersley(shape: np.ndarray, flow: np.ndarray, period: float, radius: float, nu: float) -> np.ndarray:
    """Profiles (times, n) that carry a periodic flow, by the harmonics of pulsatile tube flow.

    shape: `profile` on the inlet; flow: m^3/s at equal times over a period; the
    place of a node is its equivalent radius sqrt(1 - shape). Only the form
    matters: the caller scales each profile to the exact discrete flow.
    Source: Womersley 1955, doi:10.1113/jphysiol.1955.sp005276.
    """
    modes = np.fft.rfft(flow) / len(flow)
    r = np.sqrt(np.clip(1 - shape, 0, 1))
    area = np.pi * radius**2
    total = np.tile(2 * modes[0].real / area * (1 - r**2), (len(flow), 1))
    phase = np.arange(len(flow)) / len(flow)
    for k in range(1, min((len(flow) + 1) // 2, HARMONICS + 1)):
        alpha = radius * np.sqrt(2 * np.pi * k / period / nu)
        z = alpha * 1j**1.5
        ratio = special.jv(0, z * r) / special.jv(0, z)
        mean = 1 - 2 * special.jv(1, z) / (z * special.jv(0, z))
        wave = modes[k] / area * (1 - ratio) / mean
        total += 2 * np.real(np.exp(2j * np.pi * k * phase)[:, None] * wave[None, :])
    return total
