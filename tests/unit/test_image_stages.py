"""The stages that end at the image: what they refuse and how they say it; sides, frames and labels of other grids."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import formats
from pipeline.fit_diffusion import FitDiffusionConfig, FitDiffusionInputs, fit_diffusion
from pipeline.quantify_uptake import QuantifyUptakeConfig, QuantifyUptakeInputs, quantify_uptake
from pipeline.stage import run
from pipeline.table import Row, read_rows
from sample_scans import diffusion as phantom
from solvers.errors import BadInput
from solvers.geometry.volume import Volume

FACTS = {"modality": "PT", "anatomical": True, "suv_bw_scale": 0.01, "weight_kg": 70.0, "height_m": 1.7, "sex": "F",
         "age_years": 60.0, "frame_of_reference": "one", "warnings": []}
GRID = np.diag([-4.0, 4.0, 4.0, 1.0])  # the first index runs to the patient's right
LIVER = (slice(18, 34), slice(4, 20), slice(4, 20))


def uptake(folder: Path, *, liver: bool = False, **facts: object) -> dict[tuple[str, str, str], Row]:
    """Rows of a PET with one hot cube, by place, measure and statistic; the liver is on the patient's right."""
    values = np.full((36, 24, 24), 50.0)
    values[LIVER] = 200.0
    values[4:9, 10:15, 10:15] = 800.0
    formats.write_volume(folder / "pet.nii.gz", Volume(values, GRID), np.float32)
    formats.write_json(folder / "pet.json", FACTS | facts)
    inputs = QuantifyUptakeInputs(volume=folder / "pet.nii.gz", sidecar=folder / "pet.json")
    if liver:
        finer = np.zeros((72, 48, 48), np.uint8)
        finer[tuple(slice(2 * s.start, 2 * s.stop) for s in LIVER)] = 5
        affine = GRID @ np.diag([0.5, 0.5, 0.5, 1.0])
        affine[:3, 3] = -0.25 * GRID.diagonal()[:3]
        formats.write_volume(folder / "organs.nii.gz", Volume(finer, affine), np.uint8)
        (folder / "organs.tsv").write_text("index\tname\n5\tliver\n")
        inputs = inputs.model_copy(update={"labels": folder / "organs.nii.gz", "table": folder / "organs.tsv"})
    done = run(quantify_uptake, inputs, QuantifyUptakeConfig(), folder / "uptake")
    return {(r.lesion or r.region, r.measure, r.statistic): r for r in read_rows(done.measurements)}


def test_a_cube_of_known_uptake(tmp_path: Path) -> None:
    rows = uptake(tmp_path)
    assert rows["U1", "mtv", "suv_4"].value == pytest.approx(125 * 0.064)
    assert rows["U1", "tlg", "suv_4"].value == pytest.approx(125 * 0.064 * 8.0, rel=1e-5)
    assert rows["U1", "suv_peak", "max_41_percent"].value == pytest.approx(8.0, rel=1e-5)
    assert rows["all_regions", "n_regions", "suv_2.5"].value == 1


def test_a_liver_drawn_on_a_finer_grid_is_the_reference(tmp_path: Path) -> None:
    rows = uptake(tmp_path, liver=True)
    assert rows["liver", "liver_suv", "mean"].value == pytest.approx(2.0, rel=1e-5)
    assert rows["liver", "percist_threshold", "percist"].value == pytest.approx(3.0, rel=1e-5)
    lean = 9270 * 70 / (8780 + 244 * 70 / 1.7**2) / 70
    assert rows["U1", "sul_peak", "percist"].value == pytest.approx(8.0 * lean, rel=1e-5)
    assert rows["U1", "sul_peak_over_threshold", "percist"].value == pytest.approx(8 / 3, rel=1e-5)


@pytest.mark.parametrize(("facts", "said"), [({"height_m": None}, "height missing"), ({"sex": "O"}, "sex missing"),
                                             ({"age_years": 9.0}, "adults")])
def test_without_lean_body_mass_there_is_no_sul(tmp_path: Path, facts: dict[str, object], said: str) -> None:
    rows = uptake(tmp_path, liver=True, **facts)
    lost = rows["liver", "percist_threshold_sul", "percist"]
    assert lost.value is None and lost.quality == "refused" and said in lost.method
    assert ("U1", "sul_peak", "percist") not in rows and ("U1", "suv_peak", "percist") in rows


def test_no_liver_where_the_right_side_is_not_known(tmp_path: Path) -> None:
    lost = uptake(tmp_path, liver=True, anatomical=False)["liver", "percist_threshold", "percist"]
    assert lost.quality == "refused" and "right" in lost.method


@pytest.mark.parametrize(("facts", "code"), [({"modality": "CT"}, "not_pet"), ({"suv_bw_scale": None}, "no_suv")])
def test_what_is_no_suv_is_refused(tmp_path: Path, facts: dict[str, object], code: str) -> None:
    with pytest.raises(BadInput) as refused:
        uptake(tmp_path, **facts)
    assert refused.value.code == code


def series(folder: Path) -> FitDiffusionInputs:
    """The phantom without noise as NIfTI with FSL's files."""
    b_values, directions = phantom.weightings()
    affine = phantom.affine()
    along = directions @ (affine[:3, :3] / phantom.SPACING)
    along[:, 0] *= -1 if np.linalg.det(affine[:3, :3]) > 0 else 1
    values = phantom._signal(phantom.parts(), b_values, directions)
    formats.write_volume(folder / "dwi.nii.gz", Volume(values, affine), np.float32)
    np.savetxt(folder / "dwi.bval", b_values[None])
    np.savetxt(folder / "dwi.bvec", along.T)
    return FitDiffusionInputs(volume=folder / "dwi.nii.gz", b_values=folder / "dwi.bval",
                              b_vectors=folder / "dwi.bvec")


def test_files_of_fsl_give_the_direction_in_the_patient(tmp_path: Path) -> None:
    done = run(fit_diffusion, series(tmp_path), FitDiffusionConfig(), tmp_path / "fit")
    found = np.asarray(formats.read_vectors(done.v1).values)[phantom.parts() == 3]
    assert np.abs(found @ phantom.PARTS[2].direction).min() > 0.9999
    rows = {(r.region, r.measure, r.statistic): r.value for r in read_rows(done.measurements)}
    exact = float(np.prod(phantom.SPACING) ** 3 * (phantom.parts() > 0).sum() / 1000)
    assert rows["tissue", "volume", "value"] == pytest.approx(exact, rel=1e-5)


def broken(inputs: FitDiffusionInputs, folder: Path, how: str) -> FitDiffusionInputs:
    if how == "no_gradients":
        return inputs.model_copy(update={"b_vectors": None})
    if how == "not_a_series":
        formats.write_volume(folder / "one.nii.gz", Volume(np.ones((8, 8, 8)), np.eye(4)), np.float32)
        return inputs.model_copy(update={"volume": folder / "one.nii.gz"})
    if how == "mask_of_another_grid":
        formats.write_volume(folder / "labels.nii.gz", Volume(np.ones((8, 8, 8)), np.eye(4)), np.uint8)
        return inputs.model_copy(update={"labels": folder / "labels.nii.gz"})
    text = {"gradients_do_not_match": "0 1000 1000\n", "bad_gradients": "b-values: many\n"}[how]
    (folder / "other.bval").write_text(text)
    return inputs.model_copy(update={"b_values": folder / "other.bval"})


@pytest.mark.parametrize("code", ["no_gradients", "not_a_series", "mask_of_another_grid", "gradients_do_not_match",
                                  "bad_gradients"])
def test_a_series_that_gives_no_tensor_is_refused(tmp_path: Path, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        run(fit_diffusion, broken(series(tmp_path), tmp_path, code), FitDiffusionConfig(), tmp_path / "fit")
    assert refused.value.code == code


def test_volumes_above_the_highest_b_value_are_left_out(tmp_path: Path) -> None:
    inputs = series(tmp_path)
    with pytest.raises(BadInput) as refused:
        run(fit_diffusion, inputs, FitDiffusionConfig(highest_b=900.0), tmp_path / "fit")
    assert refused.value.code == "few_directions"
