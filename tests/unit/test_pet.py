"""Uptake on PET: spheres of known size and SUV through every rule and measure."""

import numpy as np
import pytest
from scipy import ndimage

from solvers.imaging import pet

SPACING = np.array([4.0, 4.0, 3.0])


def ball(shape, centre_mm, radius, finer=6):
    """The share of each voxel that lies in a sphere; the frame's origin is the first voxel's centre."""
    axes = [((np.arange(n * finer) + 0.5) / finer - 0.5) * d - c
            for n, d, c in zip(shape, SPACING, centre_mm, strict=True)]
    inside = axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None] ** 2 <= radius**2
    a, b, c = shape
    return inside.reshape(a, finer, b, finer, c, finer).mean(axis=(1, 3, 5))


def phantom(*lesions, shape=(40, 32, 44), background=0.5):
    """SUV: a warm background with (centre mm, radius mm, SUV) spheres in it."""
    suv = np.full(shape, background)
    for centre, radius, value in lesions:
        share = ball(shape, centre, radius)
        suv = suv * (1 - share) + value * share
    return suv


def ml(radius):
    return 4 / 3 * np.pi * radius**3 / 1000


def test_volume_and_total_uptake_of_a_sphere():
    suv = phantom(((80.0, 62.0, 66.0), 15.0, 8.0))
    labels = pet.above(suv, 0.5 * (8.0 + 0.5), SPACING)
    found = pet.measures(suv, labels == 1, SPACING)
    assert labels.max() == 1
    assert found.mtv == pytest.approx(ml(15.0), rel=0.02)
    assert found.suv_max == pytest.approx(8.0) and found.suv_peak == pytest.approx(8.0)
    assert found.tlg == pytest.approx(found.mtv * found.suv_mean)
    assert 7.0 < found.suv_mean < 8.0


@pytest.mark.parametrize("steps", [1, 2])
def test_parts_of_voxels_count_in_the_peak(steps):
    """Half of the image is hot, up to a face between voxels: the mean is the share of a sphere beyond a plane."""
    suv = np.zeros((16, 16, 16))
    suv[8:] = 10.0
    region = np.zeros(suv.shape, bool)
    region[7, 8, 8] = True
    short = {1: 0.5 * SPACING[0], 2: 0.0}[steps]  # mm from the best centre to the plane
    beyond = pet.PEAK_RADIUS - short
    share = beyond**2 * (3 * pet.PEAK_RADIUS - beyond) / (4 * pet.PEAK_RADIUS**3)
    assert pet.peak(suv, region, SPACING, steps) == pytest.approx(10 * share, rel=0.005)


def test_the_sphere_of_the_peak_holds_one_millilitre():
    weights = pet.sphere(SPACING, pet.PEAK_RADIUS, finer=16)
    assert weights.sum() == pytest.approx(1.0)
    assert 1.0 / weights.max() * np.prod(SPACING) / 1000 == pytest.approx(1.0, rel=0.01)
    n = np.array(weights.shape)
    assert (n % 2 == 1).all() and np.allclose(weights, weights[::-1, ::-1, ::-1])


def test_a_small_lesion_has_a_peak_below_its_maximum():
    """A 4 mm sphere fills a quarter of a millilitre: its peak is that share, less what voxels spread past 6 mm."""
    suv = phantom(((80.0, 64.0, 66.0), 4.0, 10.0))
    found = pet.measures(suv, pet.above(suv, 2.5, SPACING) == 1, SPACING)
    assert found.suv_peak == pytest.approx(0.5 + 9.5 * ml(4.0), rel=0.08)


def test_no_peak_where_every_sphere_leaves_the_image():
    suv = phantom(((0.0, 64.0, 66.0), 3.0, 10.0))
    assert pet.peak(suv, pet.above(suv, 4.0, SPACING) == 1, SPACING) is None


def test_regions_come_hottest_first_and_small_ones_are_left_out():
    suv = phantom(((40.0, 40.0, 40.0), 12.0, 5.0), ((110.0, 80.0, 90.0), 10.0, 9.0), ((40.0, 90.0, 90.0), 3.0, 20.0))
    labels = pet.above(suv, 2.5, SPACING, smallest_ml=0.5)
    assert [float(suv[labels == n].max()) for n in (1, 2)] == pytest.approx([9.0, 5.0])
    assert labels.max() == 2


def test_the_share_of_the_maximum_finds_the_sphere():
    suv = ndimage.gaussian_filter(phantom(((80.0, 62.0, 66.0), 15.0, 8.0)), 2.0 / SPACING)
    region = pet.share_of_maximum(suv, pet.hottest(suv, suv > 4))
    assert region.sum() * np.prod(SPACING) / 1000 == pytest.approx(ml(15.0), rel=0.12)


def test_low_uptake_beside_hot_has_no_share_of_the_maximum():
    suv = phantom(((60.0, 62.0, 66.0), 12.0, 3.0), ((90.0, 62.0, 66.0), 14.0, 12.0), background=1.5)
    cold = (15, 15, 22)
    assert suv[cold] == pytest.approx(3.0)
    assert pet.share_of_maximum(suv, cold) is None
    assert pet.share_of_maximum(suv, (22, 15, 22)) is not None


def test_lesions_keep_their_names_across_thresholds():
    """Two that touch above 2.5 are two above 4; the merged region is named by the hotter one."""
    suv = phantom(((60.0, 62.0, 66.0), 12.0, 6.0), ((90.0, 62.0, 66.0), 12.0, 9.0), ((80.0, 20.0, 30.0), 10.0, 3.0))
    suv[18:20, 14:17, 20:24] = 3.0
    seeds = pet.seeds(suv, [2.5, 4.0], SPACING)
    assert [float(suv[s]) for s in seeds] == pytest.approx([9.0, 6.0, 3.0])
    low, high = (pet.named(pet.above(suv, t, SPACING), seeds) for t in (2.5, 4.0))
    assert sorted(low) == [1, 3] and sorted(high) == [1, 2]


RIGHT = np.array([-1.0, 0.0, 0.0])


def test_the_liver_is_read_in_its_right_lobe():
    """The left lobe is as deep and hotter; the threshold is of the right one."""
    suv = np.full((50, 32, 40), 0.5)
    mask = np.zeros(suv.shape, bool)
    for centre, radius, value in (((60.0, 60.0, 60.0), 32.0, 2.0), ((140.0, 60.0, 60.0), 30.0, 3.0)):
        part = ball(suv.shape, centre, radius) > 0.5
        mask |= part
        suv[part] = value
    suv[mask] += np.random.default_rng(3).normal(scale=0.1, size=mask.sum())
    found = pet.liver(suv, mask, SPACING, RIGHT)
    assert found.mean == pytest.approx(2.0, abs=0.02) and found.deviation == pytest.approx(0.1, rel=0.15)
    assert found.threshold == pytest.approx(3.2, abs=0.06)
    assert found.n_voxels * np.prod(SPACING) / 1000 == pytest.approx(ml(15.0), rel=0.1)
    assert pet.liver(suv, mask, SPACING, -RIGHT).mean == pytest.approx(3.0, abs=0.02)


def test_no_liver_where_the_sphere_does_not_fit():
    suv = np.full((40, 32, 44), 2.0)
    assert pet.liver(suv, ball(suv.shape, (80.0, 62.0, 66.0), 14.0) > 0.5, SPACING, RIGHT) is None
    assert pet.liver(suv, np.zeros(suv.shape, bool), SPACING, RIGHT) is None


@pytest.mark.parametrize(("weight", "height", "sex", "kg"), [(70, 1.76, "M", 56.13), (70, 1.65, "F", 43.11)])
def test_lean_body_mass(weight, height, sex, kg):
    assert pet.lean_body_mass(weight, height, sex) == pytest.approx(kg, abs=0.05)
