"""harmonise: known motions come back through another contrast, bad pairs are refused, a shared frame is kept."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from pipeline import formats
from pipeline.harmonise import HarmoniseConfig, HarmoniseInputs, HarmoniseOutputs, harmonise
from pipeline.stage import read_record, run
from pipeline.table import read_rows
from sample_scans import pet_ct
from solvers.errors import BadInput
from solvers.geometry.volume import Volume
from solvers.registration import agreement, grids, intensity, outline, rigid, warp

QUICK = rigid.Scheme(finest=4.0, points=12000, levels=(2, 1), repeats=2)
CENTRE = (0.0, 0.0, 60.0)


@cache
def ct() -> Volume:
    """The trunk of the sample PET/CT, 4 mm voxels."""
    found = Volume(pet_ct._ct(7), pet_ct.CT.affine)
    return grids.coarser(found, 4.0)


def other_contrast(image: Volume) -> Volume:
    """As an MR might show it: air dark, fat bright, the rest the darker the denser. No function that can be undone."""
    hu = np.nan_to_num(np.asarray(image.values), nan=-1024.0)
    tissue = 900 * np.exp(-((hu + 100) / 150) ** 2) + 250 * np.exp(-hu.clip(0) / 200)
    return image.but(np.where(hu < -300, 15.0, tissue))


def moved(transform: sitk.Transform) -> Volume:
    """The trunk after `transform`, in the other contrast, sampled on a grid of its own."""
    grid = Volume(np.zeros((66, 54, 44)), np.array([[3.7, 0, 0, -121.0], [0, 3.7, 0, -90.0], [0, 0, 3.7, -15.0],
                                                    [0, 0, 0, 1.0]]))
    return other_contrast(grids.resample(ct(), grid, transform.GetInverse(), "linear"))


def motion(turn: float = 5.0, shift: float = 12.0) -> sitk.Euler3DTransform:
    """Turned by `turn` degrees about an oblique axis, moved by `shift` mm along another."""
    axis, way = np.array([1.0, 2.0, 2.0]) / 3, np.array([2.0, -1.0, 2.0]) / 3
    made = sitk.VersorRigid3DTransform()
    made.SetCenter(CENTRE)
    made.SetRotation(axis.tolist(), np.radians(turn))
    out = sitk.Euler3DTransform()
    out.SetCenter(CENTRE)
    out.SetMatrix(made.GetMatrix())
    out.SetTranslation((shift * way).tolist())
    return out


def scene(fixed: Volume, moving: Volume) -> agreement.Scene:
    return agreement.Scene(fixed, outline.body(fixed, "CT"), moving, outline.body(moving, "MR"))


def apart(one: agreement.Scene, a: sitk.Transform, b: sitk.Transform) -> float:
    """Mean distance in mm of where two transforms put the reference's body."""
    points = agreement.body_points(one.fixed, one.fixed_body)
    return float(np.linalg.norm(grids.mapped(a, points) - grids.mapped(b, points), axis=1).mean())


def test_a_rigid_motion_comes_back_through_another_contrast() -> None:
    truth = motion()
    pair = scene(ct(), moved(truth))
    start = rigid.identity(pair)
    assert apart(pair, start, truth) > 12.0
    found = rigid.solve(pair, ("CT", "MR"), QUICK, [start])
    assert apart(pair, found.transform, truth) < 1.0
    assert 0 < found.spread < 1.0
    assert agreement.judge(pair, found.transform).dice > agreement.judge(pair, start).dice


def test_the_same_digits_whatever_the_threads() -> None:
    pair, once = scene(ct(), moved(motion())), rigid.Scheme(finest=4.0, points=3000, levels=(2,), repeats=1)
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    found = []
    try:
        for threads in (1, 2):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            found.append(rigid.solve(pair, ("CT", "MR"), once, [rigid.identity(pair)]))
            assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    assert found[0].transform.GetParameters() == found[1].transform.GetParameters()
    assert found[0].spread == found[1].spread


def test_a_known_warp_is_halved(tmp_path: Path) -> None:
    """A smooth field of about 5 mm; what is left is less than half, nothing folds, and its file gives it back."""
    truth = sitk.BSplineTransformInitializer(grids.to_itk(ct()), [2, 2, 1], order=3)
    draws = np.random.default_rng(3).uniform(-1, 1, len(truth.GetParameters()))
    truth.SetParameters((14.0 * draws).tolist())
    pair = scene(grids.resample(ct(), ct(), truth, "linear", -1024.0), other_contrast(ct()))
    still = rigid.identity(pair)
    start = rigid.Rigid(still, (still,), 0.0, 0.005, 0)
    found = warp.solve(pair, ("CT", "MR"), QUICK, warp.Bend(control=80.0, points=4000, iterations=12, repeats=0), start)
    assert apart(pair, still, truth) > 3.0
    assert apart(pair, found.transform, truth) < 0.5 * apart(pair, still, truth)
    assert found.jacobian[0] > warp.LEAST_JACOBIAN and not found.refused
    sitk.WriteTransform(found.transform, str(tmp_path / "warp.tfm"))
    assert apart(pair, found.transform, sitk.ReadTransform(str(tmp_path / "warp.tfm"))) < 1e-6


def test_a_warp_that_presses_tissue_or_does_not_help_is_refused() -> None:
    pair = agreement.Scene(ct(), outline.body(ct(), "CT"), ct(), outline.body(ct(), "CT"))
    half, still = sitk.ScaleTransform(3, (0.5, 0.5, 0.5)), rigid.identity(pair)
    half.SetCenter(CENTRE)
    start = rigid.Rigid(still, (still,), 0.0, 0.005, 0)
    determinant = warp._jacobian(pair, half, 4.0)
    assert determinant == pytest.approx((0.125, 0.125), abs=1e-6)
    assert "presses" in warp._fault(pair, QUICK, start, half, determinant)
    assert "does not rise" in warp._fault(pair, QUICK, start, motion(1.0, 3.0), (1.0, 1.0))


def test_the_shading_of_a_coil_comes_off() -> None:
    """A field of 0.5 to 1.7: the spread within fat falls to a fifth at most."""
    flat = other_contrast(ct())
    body = outline.body(ct(), "CT")
    fat = ndimage.binary_erosion((np.abs(ct().values + 100) < 15) & body)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in flat.values.shape), indexing="ij")
    shaded = flat.but(flat.values * np.exp(0.45 * x - 0.3 * y * y + 0.25 * z * x))
    done = intensity.unshade(shaded, body, working=12.0).image
    before, after = (float(v.values[fat].std() / v.values[fat].mean()) for v in (shaded, done))
    assert before > 0.12
    assert after < before / 5


def test_scales_are_told_and_can_be_undone() -> None:
    image = other_contrast(ct())
    body = outline.body(ct(), "CT")
    for scale, low, high in (("robust_z", 50, None), ("percentile", 1, 99)):
        found = intensity.scaled(image, body, scale)
        assert np.percentile(found.image.values[body], low) == pytest.approx(0.0, abs=1e-4)
        assert high is None or np.percentile(found.image.values[body], high) == pytest.approx(1.0, abs=1e-4)
        np.testing.assert_allclose(found.image.values * found.unit + found.offset, image.values, atol=0.01)
    with pytest.raises(BadInput) as refused:
        intensity.scaled(image.but(np.ones(image.values.shape)), body, "robust_z")
    assert refused.value.code == "no_contrast"


def laid(folder: Path, moving: Volume, frames: tuple[str, str], labels: Volume | None = None,
         **settings: object) -> HarmoniseOutputs:
    """The stage on the trunk and an MR of these frames of reference."""
    formats.write_volume(folder / "ct.nii.gz", ct(), np.float32)
    formats.write_volume(folder / "mr.nii.gz", moving, np.float32)
    for name, modality, frame in (("ct", "CT", frames[0]), ("mr", "MR", frames[1])):
        formats.write_json(folder / f"{name}.json", {"modality": modality, "frame_of_reference": frame})
    if labels is not None:
        formats.write_volume(folder / "labels.nii.gz", labels, np.uint8)
    inputs = HarmoniseInputs(volume=folder / "mr.nii.gz", sidecar=folder / "mr.json", reference=folder / "ct.nii.gz",
                             reference_sidecar=folder / "ct.json",
                             labels=None if labels is None else folder / "labels.nii.gz")
    return run(harmonise, inputs, HarmoniseConfig(finest="8 mm", repeats=2).but(**settings), folder / "harmonise")


def test_the_stage_lays_volume_and_labels_on_the_reference(tmp_path: Path) -> None:
    truth = motion(4.0, 10.0)
    moving = moved(truth)
    liver = ct().but((np.abs(ct().values - 60) < 40).astype(np.float32))
    drawn = grids.resample(liver, moving, truth.GetInverse(), "nearest", 0.0)
    done = laid(tmp_path, moving, ("one", "two"), drawn, correct_bias=False)
    on_grid, labels = formats.read_volume(done.volume), formats.read_volume(done.labels)
    assert on_grid.affine == pytest.approx(ct().affine) and on_grid.values.shape == ct().values.shape
    assert agreement.dice(np.asarray(labels.values) == 1, np.asarray(liver.values) == 1) > 0.9
    assert not np.isfinite(on_grid.values).all()
    pair, found = scene(ct(), moving), sitk.ReadTransform(str(done.transform))
    assert apart(pair, found, truth) < 1.0
    own = formats.read_volume(done.moved)
    corner = np.array([[10.0, 20.0, 30.0]])
    assert grids.mapped(found, own.position(corner)) == pytest.approx(moving.position(corner), abs=1e-3)
    facts = formats.read_json(done.sidecar)
    assert facts["frame_of_reference"] == "one" and facts["harmonised"]["intensity"] == "robust_z"
    rows = {(r.measure, r.statistic): r for r in read_rows(done.measurements)}
    assert rows["body_dice", "after"].value > rows["body_dice", "before"].value
    assert rows["registration_error", "rms"].value >= 2.0 and rows["registration_error", "rms"].quality == "ok"


def test_a_shared_frame_is_kept_within_the_error(tmp_path: Path) -> None:
    """1 mm is less than voxels of 4 mm can tell; 12 mm is not."""
    for shift, kind in ((1.0, "identity"), (12.0, "rigid")):
        folder = tmp_path / kind
        folder.mkdir()
        done = laid(folder, moved(motion(0.0, shift)), ("one", "one"), correct_bias=False)
        report = read_record(folder / "harmonise")["report"]
        assert report["transform"] == kind and report["quality"] == "ok"
        assert report["shift_mm"] == pytest.approx(shift, abs=1.2)
        assert (done.moved is None) == (kind == "identity")


def test_a_coarse_mask_keeps_its_edge_on_a_fine_grid() -> None:
    """A ball of 30 mm on voxels of 4 mm beside the same on 1 mm: a third of what the steps disagree by is gone."""
    def ball(step: float) -> Volume:
        axis = np.arange(-48.0 + step / 2, 48.0, step)
        x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
        affine = np.diag([step, step, step, 1.0])
        affine[:3, 3] = axis[0]
        return Volume((x * x + y * y + z * z < 900).astype(np.float32), affine)

    fine, coarse, still = ball(1.0), ball(4.0), sitk.Euler3DTransform()
    truth = np.asarray(fine.values) > 0.5
    steps = np.asarray(grids.resample(coarse, fine, still, "nearest", 0.0).values) > 0.5
    drawn = agreement.on_grid(coarse, fine, still)
    assert 1 - agreement.dice(drawn, truth) < 0.7 * (1 - agreement.dice(steps, truth))
    assert drawn.sum() == pytest.approx(truth.sum(), rel=0.03)


def stranger() -> Volume:
    """A ball, which is no trunk."""
    x, y, z = np.meshgrid(*(np.arange(40.0),) * 3, indexing="ij")
    inside = (x - 20) ** 2 + (y - 20) ** 2 + (z - 20) ** 2 < 100
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -80.0, -80.0, -20.0
    return Volume(np.where(inside, 400 + 5 * x, 10.0), affine)


def test_bodies_that_do_not_fit_are_refused_or_marked(tmp_path: Path) -> None:
    """Without a frame a poor fit ends the stage; with one, the frame holds and all rows are marked."""
    for frames in (("one", "two"), ("", "")):
        with pytest.raises(BadInput) as refused:
            laid(tmp_path, moved(motion(2.0, 6.0)), frames, correct_bias=False, repeats=0, least_dice=0.999)
        assert refused.value.code == "poor_overlap"
    done = laid(tmp_path, stranger(), ("one", "one"), correct_bias=False, repeats=0)
    assert {r.quality for r in read_rows(done.measurements)} == {"screening"}
    assert np.array(sitk.ReadTransform(str(done.transform)).TransformPoint((1.0, 2.0, 3.0))) == pytest.approx([1, 2, 3])


@pytest.mark.parametrize("code", ["not_one_volume", "mask_of_another_grid", "sheared_grid"])
def test_what_cannot_be_laid_is_refused(tmp_path: Path, code: str) -> None:
    image, labels = other_contrast(ct()), None
    if code == "not_one_volume":
        image = image.but(np.stack([image.values] * 2, axis=-1))
    if code == "mask_of_another_grid":
        labels = Volume(np.ones((8, 8, 8)), np.eye(4))
    if code == "sheared_grid":
        shear = np.eye(4)
        shear[0, 1] = 0.2
        image = Volume(image.values, image.affine @ shear)
    with pytest.raises(BadInput) as refused:
        laid(tmp_path, image, ("one", "two"), labels, transform="none", correct_bias=False)
    assert refused.value.code == code


def test_the_header_is_taken_at_its_word_when_nothing_is_asked(tmp_path: Path) -> None:
    """Four slices of forty in common: laid there, and nothing is made up beyond them."""
    done = laid(tmp_path, Volume(other_contrast(ct()).values[:, :, :4], ct().affine), ("one", "two"), transform="none",
                correct_bias=False, scale="none")
    assert {r.quality for r in read_rows(done.measurements)} == {"ok"}
    seen = np.asarray(formats.read_volume(done.volume).values)
    assert np.isfinite(seen).all(axis=(0, 1)).tolist() == [True] * 4 + [False] * 36
    np.testing.assert_allclose(seen[:, :, :4], other_contrast(ct()).values[:, :, :4], atol=0.01)
