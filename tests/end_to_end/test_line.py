"""The whole line on the sample CT, on meshes as small as they may be: scan to report, then a stent beside it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from pipeline import formats
from pipeline.lumen_mesh import read_lumen_mesh
from pipeline.table import HEADER, read_rows
from solvers.geometry.lumen_mesh import VESSEL
from workflows.recipe import STAGES

ROOT = Path(__file__).parents[2]
SMALL = ["mesh.cells_across=2.9", "mesh_coarse.cells_across=2.1", "simulate_flow.time_step=8 ms",
         "simulate_flow.most_cycles=3", "simulate_flow.least_cycles=2", "simulate_flow.periodic_tolerance=0.03",
         "simulate_flow.wall_tolerance=0.1"]


def anatwin(*arguments: object, code: int = 0) -> str:
    """The command as a shell would start it; what it said."""
    done = subprocess.run([sys.executable, "-P", "-m", "workflows.cli", *map(str, arguments)], cwd=ROOT, text=True,
                          capture_output=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("line") / "out"
    anatwin("run", ROOT / "sample_scans/aorta_ct", folder, *(part for s in SMALL for part in ("--set", s)))
    return folder


@pytest.fixture(scope="module")
def home(out) -> Path:
    return next(out.glob("sub-*"))


@pytest.fixture(scope="module")
def compared(home, tmp_path_factory) -> Path:
    """The same case with two variants: a stent, and the drug by vein."""
    path = tmp_path_factory.mktemp("variants") / "variants.yaml"
    path.write_text("variants:\n  stent:\n    intervene: {}\n  by_vein:\n    dose: {route: iv_bolus}\n")
    anatwin("compare", home, path)
    return path


def rows_of(home: Path) -> dict[tuple[str, str, str, str], object]:
    return {(r.variant, r.lesion or r.region, r.measure, r.statistic): r for r in read_rows(home / "measurements.csv")}


def test_every_stage_left_its_record(home):
    assert [s for s in STAGES["vessel"] if not (home / s / "record.json").is_file()] == []
    assert json.loads((home / "case.json").read_text())["status"] == "ok"
    assert (home / "report.html").stat().st_size > 100_000


def test_scan_surface_and_mesh_lie_over_each_other(home):
    """The scan is bright where the mesh is, dark just outside it; the vessel's centre comes out the same twice."""
    volume = formats.read_volume(home / "ingest/volume.nii.gz")
    labels = formats.read_volume(home / "segment/labels.nii.gz")
    mesh = read_lumen_mesh(home / "mesh/mesh.vtu", home / "mesh/boundaries.json")
    vessel = mesh.tets[mesh.region == VESSEL]
    corners = 1000 * mesh.points[vessel]
    weight = np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1]))
    inside = _grey(volume, corners.mean(axis=1))
    assert np.median(inside) > 200
    surface = formats.read_mesh(home / "extract_surface/arterial_lumen.vtp", "mm")
    middle, normals = surface.cell_centers().points, surface.face_normals
    step = {d: np.median(_grey(volume, middle + d * normals)) for d in (-1.5, 1.5)}
    assert step[-1.5] > step[1.5] + 80
    where = np.argwhere(np.asarray(labels.values) == 1)
    by_label = labels.position(where).mean(axis=0)
    by_mesh = np.average(corners.mean(axis=1), axis=0, weights=weight)
    assert np.linalg.norm(by_label - by_mesh) < 3.0


def _grey(volume, points):
    index = np.rint(volume.index(points)).astype(int)
    index = np.clip(index, 0, np.array(volume.values.shape) - 1)
    return np.asarray(volume.values)[tuple(index.T)]


def test_the_numbers_of_the_case(home):
    """Every flow number has its interval; mass is kept; the tuned pressures are met by the 3D model within its loss."""
    rows = rows_of(home)
    with (home / "measurements.csv").open() as file:
        assert next(csv.reader(file)) == HEADER
    drop = rows["baseline", "L1", "pressure_drop", "mean"]
    assert drop.low < drop.value < drop.high and set(drop.sources.split(";")) == {"segmentation", "mesh"}
    assert 1 < drop.value < 20
    assert 0.7 < rows["baseline", "L1", "distal_to_proximal_ratio", "mean"].value < 1
    flows = [r.value for (variant, _, measure, _), r in rows.items()
             if (variant, measure) == ("baseline", "outlet_flow")]
    inflow = next(r.value for (_, _, measure, _), r in rows.items() if measure == "inlet_flow")
    assert len(flows) == 6 and sum(flows) == pytest.approx(inflow, rel=2e-3)
    record = json.loads((home / "simulate_flow/record.json").read_text())["report"]
    assert record["mass_imbalance"] < 1e-8
    assert abs(record["systolic_mmhg"] - record["target_systolic_mmhg"]) < 15
    assert abs(record["diastolic_mmhg"] - record["target_diastolic_mmhg"]) < 8
    assert rows["baseline", "plasma", "concentration", "max"].value > 0
    assert 20 < rows["baseline", "arterial_wall", "wall_stress", "p99"].value < 1000


def test_a_stent_opens_the_vessel(home, compared):
    """The drop falls below a fifth of the baseline's, the difference is resolved, outlets and inflow are kept."""
    rows = rows_of(home)
    before, after = (rows[v, "L1", "pressure_drop", "mean"].value for v in ("baseline", "stent"))
    assert after < 0.2 * before
    change = rows["stent", "L1", "pressure_drop", "mean_difference"]
    assert change.quality != "not_resolved" and change.high < 0
    kept = [json.loads((home / p / "simulate_flow/outlets.json").read_text()) for p in ("", "variants/stent")]
    assert kept[0]["inlet"] == kept[1]["inlet"]
    assert [o["distal"] for o in kept[0]["outlets"]] == [o["distal"] for o in kept[1]["outlets"]]
    page = (home / "report.html").read_text()
    assert "stent" in page and "by_vein" in page


def test_a_drug_variant_shares_the_flow(home, compared):
    """Only the drug differs: no mesh and no flow are made for it."""
    assert not any((home / "variants/by_vein" / s).exists() for s in ("mesh", "simulate_flow", "simulate_tissue"))
    rows = rows_of(home)
    assert rows["by_vein", "plasma", "concentration", "max"].value > rows[
        "baseline", "plasma", "concentration", "max"].value
    assert rows["by_vein", "L1", "pressure_drop", "mean"].value == rows["baseline", "L1", "pressure_drop", "mean"].value


def test_nothing_is_done_twice(home, compared):
    said = anatwin("compare", home, compared)
    assert "up to date" in said
    assert [line for line in said.splitlines() if line.endswith(" s")] == []


def test_only_what_changed_runs_again(home, compared):
    """Another device length reruns the variant from the device on, and nothing of the baseline."""
    changed = compared.with_name("changed.yaml")
    changed.write_text(compared.read_text().replace("intervene: {}", "intervene: {recoil: 0.06}"))
    said = anatwin("compare", home, changed, "--dry-run")
    assert "intervene: would run" in said
    assert said.count("would run") == 1


def test_a_stent_longer_than_the_vessel_is_refused(home, compared, tmp_path):
    """One sentence, exit code 3, no traceback; the baseline and the other variant stay."""
    path = tmp_path / "long.yaml"
    path.write_text("variants:\n  long:\n    intervene: {length: 300 mm}\n  by_vein:\n    dose: {route: iv_bolus}\n")
    said = anatwin("compare", home, path, code=3)
    assert "variant long failed in intervene" in said and "Traceback" not in said
    rows = rows_of(home)
    assert ("baseline", "L1", "pressure_drop", "mean") in rows and ("by_vein", "plasma", "clearance", "value") in rows
    with (home.parent / "measurements.csv").open() as file:
        lost = [line for line in csv.DictReader(file) if line["variant"] == "long"]
    assert [line["quality"] for line in lost] == ["refused"]


def test_nobody_is_named(out):
    """Names, numbers and dates of the headers are in no file that a person gets."""
    header = pydicom.dcmread(next((ROOT / "sample_scans/aorta_ct").glob("*.dcm")), stop_before_pixels=True)
    secrets = [str(header[k].value).encode() for k in ("PatientName", "PatientID", "AccessionNumber")
               if k in header and str(header[k].value)]
    assert secrets
    for path in out.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".csv", ".tsv", ".html"):
            assert not any(s in path.read_bytes() for s in secrets), path.name
