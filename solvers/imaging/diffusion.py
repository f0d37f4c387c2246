"""Diffusion tensors from weighted images: fractional anisotropy, mean diffusivity, main direction.

b-values are in s/mm^2, diffusivities in mm^2/s. Directions are in the frame of
the b-vectors that are given; `from_fsl` takes them from the image's axes into
the patient's frame (LPS), which is what an oblique image needs.

Sources: Basser, Mattiello & LeBihan 1994 (tensor), doi:10.1016/S0006-3495(94)80775-1; Basser & Pierpaoli 1996
(anisotropy), doi:10.1006/jmrb.1996.0086; Chung, Lu & Henry 2006 (weighted least squares),
doi:10.1016/j.neuroimage.2006.07.001.
"""

from dataclasses import dataclass

import numpy as np

from solvers.errors import BadInput

LEAST_WEIGHTED = 50.0
"""b-values below this count as none, s/mm^2."""
VOXELS_AT_ONCE = 50_000


@dataclass(frozen=True)
class Gradients:
    """b-values (n,) in s/mm^2 and unit directions (n, 3) in one frame; zeros where b is 0."""

    b_values: np.ndarray
    directions: np.ndarray


@dataclass(frozen=True)
class Tensors:
    """Maps (i, j, k[, 3]), zero outside the mask; `v1` is a unit vector in the gradients' frame, its sign is free.

    `residual`: standard deviation of the signal about the fit over the signal without weighting, (i, j, k).
    """

    fa: np.ndarray
    md: np.ndarray
    v1: np.ndarray
    residual: np.ndarray


def from_fsl(b_values: np.ndarray, b_vectors: np.ndarray, affine: np.ndarray) -> Gradients:
    """FSL's b-vectors (3, n) as directions in the patient's frame.

    FSL writes them along the image's axes, the first reversed where the axes are
    right-handed. affine: of the image, index to LPS mm (or RAS: then the
    directions are RAS). Source: https://fsl.fmrib.ox.ac.uk/fsl/docs/#/diffusion/dtifit.
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    along = np.array(b_vectors, float).T
    if np.linalg.det(axes) > 0:
        along[:, 0] *= -1
    length = np.linalg.norm(along, axis=1, keepdims=True)
    unit = np.divide(along, length, out=np.zeros_like(along), where=length > 1e-6)
    return Gradients(np.asarray(b_values, float), unit @ np.linalg.inv(axes))


def checked(gradients: Gradients, n_volumes: int) -> None:
    """Raise BadInput where these weightings cannot give a tensor."""
    b, g = gradients.b_values, gradients.directions
    if len(b) != n_volumes or len(g) != n_volumes:
        raise BadInput("gradients_do_not_match", f"{len(b)} b-values and {len(g)} directions for {n_volumes} volumes",
                       "one of each per volume", "Give the .bval and .bvec of this series.")
    weighted = b >= LEAST_WEIGHTED
    if not (~weighted).any():
        raise BadInput("no_unweighted", f"no volume has a b-value below {LEAST_WEIGHTED:g} s/mm2",
                       "at least one without weighting", "Add the b = 0 images.")
    if (np.linalg.norm(g[weighted], axis=1) < 0.5).any():
        raise BadInput("no_direction", "a weighted volume has no direction", "a unit vector for each",
                       "Leave out trace images that the scanner made.")
    if np.linalg.matrix_rank(_products(g[weighted]), tol=1e-2) < 6:
        raise BadInput("few_directions", f"{int(weighted.sum())} weighted volumes do not span a tensor",
                       "six directions or more that differ", "A trace or ADC series has no tensor.")


def _products(g: np.ndarray) -> np.ndarray:
    """The six products of each direction that a tensor's six elements are multiplied by, (n, 6)."""
    x, y, z = g.T
    return np.column_stack([x * x, y * y, z * z, x * y, x * z, y * z])


def select(gradients: Gradients, highest_b: float) -> np.ndarray:
    """Volumes (boolean) that the tensor describes: above, the signal's decay is no single exponential."""
    return gradients.b_values <= highest_b


def solve(signal: np.ndarray, mask: np.ndarray, gradients: Gradients) -> Tensors:
    """Tensors by weighted linear least squares on the logarithm; signal (i, j, k, n), mask (i, j, k).

    The weights are the squared signals of an unweighted fit before. Eigenvalues
    below zero, which noise makes, count as zero. Raises BadInput where the
    weightings do not suffice.
    """
    checked(gradients, signal.shape[-1])
    design = _design(gradients)
    inside = np.asarray(signal[mask], float)
    lowest = np.min(inside, where=inside > 0, initial=max(1e-6, float(inside.max(initial=0.0))))
    parts = np.array_split(np.maximum(inside, lowest), 1 + len(inside) // VOXELS_AT_ONCE)
    fitted = np.concatenate([_fit(part, design) for part in parts])
    values, vectors = np.linalg.eigh(_tensors(fitted))
    values = np.maximum(values, 0.0)
    plain = np.exp(fitted[:, 6])
    expected = np.exp(fitted @ design.T)
    spread = np.sqrt(((inside - expected) ** 2).sum(axis=1) / max(1, inside.shape[1] - 7))
    return Tensors(_whole(anisotropy(values), mask), _whole(values.mean(axis=1), mask),
                   _whole(vectors[:, :, 2], mask), _whole(spread / plain, mask))


def _design(gradients: Gradients) -> np.ndarray:
    """The logarithm of the signal is this (n, 7) times the tensor's xx, yy, zz, xy, xz, yz and log S0."""
    twice = np.array([1, 1, 1, 2, 2, 2])
    return np.column_stack([-gradients.b_values[:, None] * twice * _products(gradients.directions),
                            np.ones(len(gradients.b_values))])


def _fit(signal: np.ndarray, design: np.ndarray) -> np.ndarray:
    """The seven unknowns of each voxel, (m, 7), for signals (m, n) above zero."""
    scale = np.r_[np.full(6, 1e-3), 1.0]  # near one, so that the normal equations are well conditioned
    columns, logs = design * scale, np.log(signal)
    before = logs @ np.linalg.pinv(columns).T @ columns.T
    weights = np.exp(2 * (before - before.max(axis=1, keepdims=True)))
    pairs = (columns[:, :, None] * columns[:, None, :]).reshape(len(columns), -1)
    normal = (weights @ pairs).reshape(-1, 7, 7)
    return np.linalg.solve(normal, ((weights * logs) @ columns)[..., None])[..., 0] * scale


def _tensors(fitted: np.ndarray) -> np.ndarray:
    """(m, 3, 3) of the first six unknowns."""
    return fitted[:, [0, 3, 4, 3, 1, 5, 4, 5, 2]].reshape(-1, 3, 3)


def _whole(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Values of the mask's voxels on the whole grid, float32."""
    whole = np.zeros((*mask.shape, *values.shape[1:]), np.float32)
    whole[mask] = np.nan_to_num(values)
    return whole


def anisotropy(eigenvalues: np.ndarray) -> np.ndarray:
    """Fractional anisotropy of tensors with these eigenvalues (..., 3)."""
    values = np.asarray(eigenvalues, float)
    apart, size = values - values.mean(axis=-1, keepdims=True), (values**2).sum(axis=-1)
    return np.sqrt(1.5 * np.divide((apart**2).sum(axis=-1), size, out=np.zeros_like(size), where=size > 0))
