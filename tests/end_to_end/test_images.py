"""The recipes that end at the image, from the sample scan to the page: the truth comes back as rows."""

import csv
import json
from pathlib import Path

import flow_phantom
import numpy as np
import pytest
import test_brain

from pipeline import formats
from pipeline.ingest import IngestInputs, ingest
from pipeline.ingest.diffusion import ingest_diffusion
from pipeline.quantify_uptake import QuantifyUptakeConfig, QuantifyUptakeInputs, quantify_uptake
from pipeline.stage import run
from pipeline.table import HEADER, Row, read_rows
from solvers.errors import BadInput
from solvers.geometry.volume import Volume
from tests.end_to_end.test_line import anatwin
from workflows.recipe import STAGES, named

SCANS = Path(__file__).parents[2] / "sample_scans"
Rows = dict[tuple[str, str, str], Row]


def made(name: str, recipe: str, table: str, folder: Path) -> Path:
    """The case's folder, with the labels of the truth as a person's own."""
    truth = SCANS / f"{name}_truth"
    anatwin("run", SCANS / name, folder, "--recipe", recipe, "--use", f"segment.labels={truth / table}.nii.gz",
            "--use", f"segment.table={truth / table}.tsv")
    return next(folder.glob("sub-*"))


def rows_of(home: Path) -> Rows:
    with (home / "measurements.csv").open() as file:
        assert next(csv.reader(file)) == HEADER
    rows = read_rows(home / "measurements.csv")
    assert {r.subject for r in rows} == {home.name} and {r.variant for r in rows} == {"baseline"}
    return {(r.lesion or r.region, r.measure, r.statistic): r for r in rows}


@pytest.fixture(scope="module")
def oncology(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("trunk_pet_ct", "oncology", "organs", tmp_path_factory.mktemp("oncology"))


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("brain_dwi", "brain", "regions", tmp_path_factory.mktemp("brain"))


def test_every_stage_left_its_record(oncology: Path, brain: Path) -> None:
    for home, line in ((oncology, "uptake"), (brain, "diffusion")):
        assert [s for s in STAGES[line] if not (home / s / "record.json").is_file()] == []


def test_the_lesions_of_the_pet_have_their_size_and_uptake(oncology: Path) -> None:
    """Volume by 41 % of the maximum as far as 4 mm voxels tell; SUV through the header's dose, decay and weight."""
    rows, truth = rows_of(oncology), formats.read_json(SCANS / "trunk_pet_ct_truth/truth.json")
    known = formats.read_json(oncology / "quantify_uptake/uptake.json")
    assert len(known["regions"]) == len(truth["lesions"]) == 3
    for region, lesion in zip(known["regions"], truth["lesions"], strict=True):
        name = region["id"]
        apart = np.linalg.norm(np.array(region["hottest_lps"]) - lesion["centre_lps"])
        assert apart < lesion["radius"]
        peak, most = (rows[name, m, "max_41_percent"].value for m in ("suv_peak", "suv_max"))
        assert peak == pytest.approx(lesion["suv"], rel=0.05)
        assert lesion["suv_max_seen"] < most < 1.15 * lesion["suv_max_seen"]
        assert rows[name, "mtv", "max_41_percent"].value == pytest.approx(lesion["volume_ml"], rel=0.25)
        assert rows[name, "tlg", "suv_2.5"].value == pytest.approx(
            rows[name, "mtv", "suv_2.5"].value * rows[name, "suv_mean", "suv_2.5"].value)
    assert rows["all_regions", "n_regions", "suv_4"].value == 2
    assert ("U3", "mtv", "suv_4") not in rows


def test_percist_takes_its_threshold_from_the_liver(oncology: Path) -> None:
    rows = rows_of(oncology)
    assert rows["liver", "liver_suv", "mean"].value == pytest.approx(2.0, rel=0.02)
    threshold = rows["liver", "percist_threshold", "percist"].value
    assert threshold == pytest.approx(1.5 * 2.0 + 2 * rows["liver", "liver_suv", "sd"].value, rel=0.02)
    assert rows["liver", "percist_threshold_sul", "percist"].value == pytest.approx(0.758 * threshold, rel=0.01)
    assert rows["U1", "sul_peak_over_threshold", "percist"].value > 2


def test_the_ct_lies_on_the_pet(oncology: Path) -> None:
    """A lesion is soft tissue in fat: a CT out of place by its size would show -95 HU."""
    rows = rows_of(oncology)
    assert rows["U3", "ct_number", "suv_2.5"].value == pytest.approx(45.0, abs=8.0)


def test_the_frame_of_the_hybrid_scanner_is_kept(oncology: Path) -> None:
    """The CT fits as it came, so nothing moves; that it fits is told, and both images are the scanner's own."""
    told = json.loads((oncology / "harmonise/record.json").read_text())["report"]
    assert told["transform"] == "identity" and told["quality"] == "ok" and told["shift_mm"] < 2 * told["error_mm"]
    assert rows_of(oncology)["body", "body_dice", "after"].value > 0.9
    assert not (oncology / "harmonise/moved.nii.gz").exists()


def test_the_page_shows_what_was_measured(oncology: Path, brain: Path) -> None:
    page = (oncology / "report.html").read_text()
    assert page.count("PET with the edge of its regions") == 3 and page.count("CT with the same edge") == 3
    assert "healthy uptake" in page and "edge of the lumen" not in page
    page = (brain / "report.html").read_text()
    assert page.count("main direction in colours") == 3 and "Fractional anisotropy, mean" in page


def test_tensors_of_the_phantom(brain: Path) -> None:
    """Anisotropy and diffusivity within the noise; the direction in the patient, though the slices are tilted."""
    rows, truth = rows_of(brain), formats.read_json(SCANS / "brain_dwi_truth/truth.json")
    labels = np.asarray(formats.read_volume(SCANS / "brain_dwi_truth/regions.nii.gz").values)
    directions = formats.read_vectors(brain / "fit_diffusion/v1.nii.gz")
    assert directions.affine == pytest.approx(formats.read_volume(brain / "ingest/volume.nii.gz").affine)
    for number, part in enumerate(truth["regions"], start=1):
        assert rows[part["name"], "md", "mean"].value == pytest.approx(part["md_mm2_s"], rel=0.02)
        fa = rows[part["name"], "fa", "mean"].value
        if part["direction_lps"] is None:
            assert 0 < fa < 0.1
            continue
        assert fa == pytest.approx(part["fa"], abs=0.015)
        found = np.asarray(directions.values)[labels == number]
        assert np.abs(found @ part["direction_lps"]).mean() > 0.998


def test_flow_by_phase_contrast_from_dicom_to_the_page(tmp_path: Path) -> None:
    """A pipe with wraps, background phase and noise; its flow is known."""
    scan = flow_phantom.write_dicom(tmp_path / "scan", flow_phantom.scanned(flow_phantom.Scan(venc=0.52)))
    anatwin("run", scan, tmp_path / "out", "--recipe", "phase_contrast")
    home = next((tmp_path / "out").glob("sub-*"))
    assert [s for s in STAGES["flow"] if not (home / s / "record.json").is_file()] == []
    truth = flow_phantom.flow(flow_phantom.moments())
    rows = rows_of(home)
    assert rows["vessel_1", "flow", "mean"].value == pytest.approx(6e4 * truth.mean(), rel=0.02)
    assert rows["vessel_1", "flow", "peak"].value == pytest.approx(6e4 * truth.max(), rel=0.02)
    assert "Measured flow, with one standard deviation" in (home / "report.html").read_text()


def test_a_brain_by_a_network_from_nifti_to_the_page(tmp_path: Path) -> None:
    """A ball in a shell, and a network that tells them by brightness: both volumes are known."""
    place = np.indices((40, 40, 40)) - 19.5
    r = np.linalg.norm(place, axis=0)
    image = np.where(r < 8, 250.0, np.where(r < 13, 150.0, 0.0))
    formats.write_volume(tmp_path / "head.nii.gz", Volume(image, np.eye(4)), np.float32)
    model = test_brain.written(tmp_path / "model", test_brain.threshold_layers())
    anatwin("run", tmp_path / "head.nii.gz", tmp_path / "out", "--recipe", "brain_t1", "--set", f"brain_model={model}")
    home = next((tmp_path / "out").glob("sub-*"))
    assert [s for s in STAGES["brain"] if not (home / s / "record.json").is_file()] == []
    rows = rows_of(home)
    assert rows["white_matter", "volume", "value"].value == pytest.approx((r < 8).sum() / 1000, rel=0.05)
    assert rows["grey_matter", "volume", "value"].value == pytest.approx(((r >= 8) & (r < 13)).sum() / 1000, rel=0.05)
    assert "grey matter" in (home / "report.html").read_text().lower()


def test_without_a_liver_percist_says_so_and_the_rest_goes_on(oncology: Path, tmp_path: Path) -> None:
    read = oncology / "ingest"
    done = run(quantify_uptake, QuantifyUptakeInputs(volume=read / "volume.nii.gz", sidecar=read / "volume.json"),
               QuantifyUptakeConfig(), tmp_path / "uptake")
    rows = read_rows(done.measurements)
    lost = [r for r in rows if r.statistic == "percist"]
    assert [(r.measure, r.value, r.quality) for r in lost] == [("percist_threshold", None, "refused")]
    assert "no mask" in lost[0].method
    peaks = [r.value for r in rows if (r.measure, r.statistic) == ("suv_peak", "suv_4")]
    assert peaks == pytest.approx([9.0, 6.0], rel=0.05)


def test_a_recipe_meets_the_wrong_scan(tmp_path: Path) -> None:
    """A CT is no PET, a PET is no diffusion series; each by its code."""
    for stage, recipe, scan, code in ((ingest, "oncology", "trunk_pet_ct/ct", "no_series_fits"),
                                      (ingest_diffusion, "brain", "trunk_pet_ct/pet", "no_diffusion_series")):
        with pytest.raises(BadInput) as refused:
            run(stage, IngestInputs(scan=SCANS / scan), named(recipe, []).ingest, tmp_path / recipe)
        assert refused.value.code == code


def test_nobody_is_named(oncology: Path, brain: Path) -> None:
    for path in (p for home in (oncology, brain) for p in home.rglob("*")):
        if path.suffix in (".json", ".csv", ".html", ".bval", ".bvec"):
            assert not any(s in path.read_bytes() for s in (b"Synthetic", b"SYP-", b"SYD-", b"Nobody")), path.name
    assert json.loads((oncology / "case.json").read_text())["status"] == "ok"
