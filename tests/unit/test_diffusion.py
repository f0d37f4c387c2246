"""Diffusion tensors: known ones come back, in the patient's frame however the image lies; another program agrees."""

import numpy as np
import pytest

from sample_scans import diffusion as phantom
from solvers.errors import BadInput
from solvers.imaging import diffusion
from solvers.randomness import rng

B_VALUES, DIRECTIONS = phantom.weightings()
WEIGHTINGS = diffusion.Gradients(B_VALUES, DIRECTIONS)
TENSORS = np.array([phantom._tensor(part) for part in phantom.PARTS])

REFERENCE_FA = [0.127779877, 0.680905861, 0.623937646, 0.18817774]
REFERENCE_MD = [0.000811415, 0.000800513, 0.000707252, 0.00307224]
REFERENCE_V1 = [[-0.4980409, -0.853496035, -0.153296383], [-0.999408009, -0.013769326, -0.031528354],
                [-0.502076519, -0.594559085, -0.628027598], [-0.240881222, 0.935589032, -0.258165451]]


def signals(n=1, noise=0.0, tensors=TENSORS):
    """(parts, n, 1, volumes): magnitude of 1000 exp(-b g D g) with Gaussian noise on two channels."""
    clean = 1000 * np.exp(-B_VALUES * np.einsum("ni,mij,nj->mn", DIRECTIONS, tensors, DIRECTIONS))
    draw = rng(9, "signals")
    whole = np.broadcast_to(clean[:, None, None], (len(tensors), n, 1, len(B_VALUES)))
    real, imaginary = (draw.normal(scale=noise, size=whole.shape) if noise else 0.0 for _ in range(2))
    return np.hypot(whole + real, imaginary)


def solve(signal):
    return diffusion.solve(signal, np.ones(signal.shape[:3], bool), WEIGHTINGS)


def test_known_tensors_come_back_exactly():
    found = solve(signals())
    for n, part in enumerate(phantom.PARTS):
        exact = float(diffusion.anisotropy(np.array(part.eigenvalues)))
        assert found.fa[n, 0, 0] == pytest.approx(exact, abs=1e-5)
        assert found.md[n, 0, 0] == pytest.approx(1e-3 * np.mean(part.eigenvalues), rel=1e-5)
        assert found.residual[n, 0, 0] < 1e-5
    for n in (1, 2):
        assert abs(found.v1[n, 0, 0] @ phantom.PARTS[n].direction) == pytest.approx(1.0, abs=1e-5)


def test_anisotropy_of_a_stick_a_plane_and_a_ball():
    shapes = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    assert diffusion.anisotropy(shapes) == pytest.approx([1.0, np.sqrt(0.5), 0.0, 0.0], abs=1e-12)


def test_noise_leaves_means_of_tracts_and_lifts_those_of_a_ball():
    """At a signal-to-noise ratio of 40: unbiased within 2 % in tracts, a floor of anisotropy where there is none."""
    found = solve(signals(400, noise=25.0))
    fa, md = found.fa.mean(axis=(1, 2)), found.md.mean(axis=(1, 2))
    for n in (1, 2):
        exact = float(diffusion.anisotropy(np.array(phantom.PARTS[n].eigenvalues)))
        assert fa[n] == pytest.approx(exact, rel=0.02)
        assert md[n] == pytest.approx(1e-3 * np.mean(phantom.PARTS[n].eigenvalues), rel=0.02)
        assert np.abs(found.v1[n, :, 0] @ phantom.PARTS[n].direction).mean() > 0.998
    assert 0.03 < fa[0] < 0.1
    assert np.median(found.residual[0]) == pytest.approx(25.0 / 1000, rel=0.1)


def test_another_program_has_the_same_tensors():
    """dipy 1.12.1, TensorModel(fit_method="WLS"), on these signals."""
    clean = signals()[:, 0, 0]
    noisy = np.abs(clean + rng(5, "reference").normal(scale=40, size=clean.shape))
    found = solve(noisy[:, None, None])
    assert found.fa.ravel() == pytest.approx(REFERENCE_FA, abs=2e-6)
    assert found.md.ravel() == pytest.approx(REFERENCE_MD, rel=1e-5)
    assert np.abs((found.v1[:, 0, 0] * REFERENCE_V1).sum(axis=1)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("mirrored", [False, True])
def test_directions_are_the_patients_in_an_oblique_image(mirrored):
    """The same patient scanned in tilted slices: FSL's vectors differ, the direction in the patient does not."""
    affine = phantom.affine() @ np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0, 1.0])
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    along = DIRECTIONS @ axes
    if np.linalg.det(axes) > 0:
        along[:, 0] *= -1
    assert np.abs(along - DIRECTIONS).max() > 0.1
    weightings = diffusion.from_fsl(B_VALUES, along.T, affine)
    assert weightings.directions == pytest.approx(DIRECTIONS, abs=1e-9)
    found = diffusion.solve(signals(), np.ones((4, 1, 1), bool), weightings)
    assert abs(found.v1[2, 0, 0] @ phantom.PARTS[2].direction) == pytest.approx(1.0, abs=1e-5)


def test_outside_the_mask_nothing_is_said():
    mask = np.array([True, False, True, False])[:, None, None]
    found = diffusion.solve(signals(), mask, WEIGHTINGS)
    assert (found.fa[~mask] == 0).all() and (found.v1[~mask] == 0).all() and found.md[2] > 0


@pytest.mark.parametrize(("kept", "code"), [
    (slice(2, None), "no_unweighted"), (slice(0, 7), "few_directions"), (slice(0, 0), "gradients_do_not_match")])
def test_weightings_that_give_no_tensor_are_refused(kept, code):
    some = diffusion.Gradients(B_VALUES[kept], DIRECTIONS[kept])
    with pytest.raises(BadInput) as refused:
        diffusion.checked(some, max(1, len(some.b_values)))
    assert refused.value.code == code


def test_a_weighted_volume_without_direction_is_refused():
    lost = DIRECTIONS.copy()
    lost[5] = 0
    with pytest.raises(BadInput) as refused:
        diffusion.checked(diffusion.Gradients(B_VALUES, lost), len(B_VALUES))
    assert refused.value.code == "no_direction"


def test_seven_directions_in_a_plane_are_refused():
    angle = np.linspace(0, 3, 24)
    flat = np.vstack([np.zeros((2, 3)), np.column_stack([np.cos(angle), np.sin(angle), 0 * angle])])
    with pytest.raises(BadInput) as refused:
        diffusion.checked(diffusion.Gradients(B_VALUES, flat), len(B_VALUES))
    assert refused.value.code == "few_directions"
