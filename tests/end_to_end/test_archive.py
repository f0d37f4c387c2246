"""Results to a real archive (Orthanc) and back, by DICOMweb and by the DICOM network.

Orthanc runs in a network namespace that has nothing but a loopback: it listens on all interfaces whatever its settings
say. The commands run in the same namespace.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from pipeline import formats
from pipeline.ingest import IngestConfig, IngestInputs, ingest
from pipeline.stage import run
from pipeline.table import Row, write_rows
from tests.conftest import ROOT
from tests.drawn_labels import NAMES, drawn, mask, voxels, write
from workflows.recipe import named

WEB = "http://127.0.0.1:8042/dicom-web"
NET = "dicom://ORTHANC@127.0.0.1:4242"
MOVE_PORT = 11113
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
LESION = Row(stage="trace_centrelines", region="iliac_artery_left", lesion="L1", statistic="min",
             measure="minimal_diameter", value=3.9, unit="mm")
ISOLATED = ["unshare", "--map-root-user", "--net"]


def absent() -> str:
    """What is missing for these tests, and how to get it; empty when nothing is."""
    if shutil.which("Orthanc") is None or not PLUGIN.is_file():
        return "Orthanc is absent: apt-get install --no-install-recommends orthanc orthanc-dicomweb"
    if shutil.which("ip") is None or subprocess.run([*ISOLATED, "true"], check=False).returncode:
        return "no network namespace can be made here (unshare --map-root-user --net; iproute2)"
    return ""


@dataclass(frozen=True)
class Orthanc:
    pid: int
    key: Path

    def anatwin(self, *words: object) -> subprocess.CompletedProcess[str]:
        """A command of ours beside the archive."""
        inside = ["nsenter", f"--target={self.pid}", "--user", "--preserve-credentials", "--net"]
        return subprocess.run([*inside, sys.executable, "-P", "-m", "workflows.cli", *map(str, words)], text=True,
                              capture_output=True, cwd=ROOT, check=False,
                              env=os.environ | {"ANATWIN_KEY": str(self.key), "PYTHONPATH": str(ROOT)})

    def done(self, *words: object) -> str:
        result = self.anatwin(*words)
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    missing = absent()
    if missing:
        pytest.skip(f"NOT TESTED: store, find and get with a real archive. {missing}")
    home = tmp_path_factory.mktemp("orthanc")
    (home / "key").write_text("22" * 32)
    (home / "orthanc.json").write_text(json.dumps({
        "StorageDirectory": str(home / "db"), "IndexDirectory": str(home / "db"), "HttpPort": 8042, "DicomPort": 4242,
        "DicomAet": "ORTHANC", "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomModalities": {"anatwin": ["ANATWIN", "127.0.0.1", MOVE_PORT]}, "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}))
    with (home / "log").open("w") as log:
        server = subprocess.Popen([*ISOLATED, "sh", "-c", 'ip link set lo up && exec Orthanc "$0"',
                                   str(home / "orthanc.json")], stderr=log, stdout=log)
    try:
        _wait(server, home / "log")
        yield Orthanc(server.pid, home / "key")
    finally:
        server.terminate()
        server.wait(60)


def _wait(server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if "Orthanc has started" in log.read_text():
            return
        assert server.poll() is None, log.read_text()
        time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def case(orthanc: Orthanc, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case as `run` leaves it, with labels drawn by a formula."""
    home = tmp_path_factory.mktemp("out") / "sub-07"
    image = run(ingest, IngestInputs(scan=samples / "aorta_ct", key=orthanc.key), IngestConfig(), home / "ingest")
    volume = formats.read_volume(image.volume)
    write(home / "segment", drawn(volume.affine, volume.values.shape))
    (home / "measure").mkdir()
    write_rows(home / "measure/measurements.csv", [LESION])
    formats.write_json(home / "case.json", {"subject": "07", "session": "",
                                            "recipe": named("aorta", []).model_dump(mode="json")})
    return home


def by_kind(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.dcm")):
        found.setdefault(pydicom.dcmread(path, stop_before_pixels=True).Modality, []).append(path)
    return found


def check_same(folder: Path, case: Path) -> None:
    """The segmentation in `folder` has the case's voxels where they were; the report its numbers."""
    found = by_kind(folder)
    assert {k: len(v) for k, v in found.items()} == {"SEG": 1, "SR": 1}
    labels = formats.read_volume(case / "segment/labels.nii.gz")
    seg = highdicom.seg.segread(found["SEG"][0])
    for number, name in enumerate(NAMES, start=1):
        got = seg.get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
        theirs, ours = voxels(got.array, got.affine), voxels(mask(labels, name), labels.affine)
        assert len(theirs) == len(ours)
        np.testing.assert_allclose(theirs, ours, atol=1e-3)
    report = highdicom.sr.srread(found["SR"][0])
    volumes = [g.get_measurements(codes.SCT.Volume)[0].value
               for g in report.content.get_volumetric_roi_measurement_groups()]
    np.testing.assert_allclose([float(v) for v in volumes], [mask(labels, n).sum() * labels.voxel_volume / 1000
                                                             for n in NAMES], rtol=1e-6)
    lesion, = report.content.get_image_measurement_groups()
    assert [(float(m.value), m.unit.value) for m in lesion.get_measurements()] == [(3.9, "mm")]


@pytest.mark.parametrize(("to", "back", "more"),
                         [(WEB, WEB, ()), (NET, NET, ()), (WEB, NET, ("--move-port", MOVE_PORT))],
                         ids=["DICOMweb", "C-STORE C-FIND C-GET", "C-MOVE"])
def test_what_is_stored_comes_back_the_same(orthanc: Orthanc, case: Path, tmp_path: Path, to: str, back: str,
                                            more: tuple[object, ...]) -> None:
    assert "2 stored" in orthanc.done("push", case, to)
    orthanc.done("pull", back, tmp_path, "--patient-id", "sub-07", *more)
    check_same(tmp_path, case)


def test_restored_results_lie_beside_the_images(orthanc: Orthanc, case: Path, samples: Path, tmp_path: Path) -> None:
    """Images first, then the results with original UIDs: one study, and the segmentation cites those very images."""
    orthanc.done("push", samples / "aorta_ct", NET)
    orthanc.done("push", case, WEB, "--restore", samples / "aorta_ct")
    original = pydicom.dcmread(next((samples / "aorta_ct").rglob("*.dcm")), stop_before_pixels=True)
    orthanc.done("pull", NET, tmp_path / "all", "--study", original.StudyInstanceUID)
    found = by_kind(tmp_path / "all")
    assert set(found) >= {"CT", "SEG", "SR"}
    place = {str(h.SOPInstanceUID): h.ImagePositionPatient
             for h in (pydicom.dcmread(p, stop_before_pixels=True) for p in found["CT"])}
    seg = highdicom.seg.segread(found["SEG"][0])
    assert str(seg.PatientID) == str(original.PatientID)
    assert seg.FrameOfReferenceUID == original.FrameOfReferenceUID
    for frame in seg.PerFrameFunctionalGroupsSequence:
        cited = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        np.testing.assert_allclose(frame.PlanePositionSequence[0].ImagePositionPatient, place[cited], atol=1e-3)


def test_without_the_key_nothing_is_restored(orthanc: Orthanc, case: Path, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("33" * 32)
    stranger = Orthanc(orthanc.pid, tmp_path / "key")
    result = stranger.anatwin("push", case, WEB, "--restore", samples / "aorta_ct")
    assert result.returncode == 1 and "[no_crosswalk]" in result.stderr


@pytest.mark.parametrize("address", [WEB, NET])
def test_what_is_not_there_is_said(orthanc: Orthanc, tmp_path: Path, address: str) -> None:
    result = orthanc.anatwin("pull", address, tmp_path, "--patient-id", "nobody")
    assert result.returncode == 1 and "[nothing_matches]" in result.stderr


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/dicom-web", "dicom://ORTHANC@127.0.0.1:9"])
def test_an_archive_that_does_not_answer_is_said(orthanc: Orthanc, tmp_path: Path, address: str) -> None:
    result = orthanc.anatwin("pull", address, tmp_path, "--patient-id", "sub-07")
    assert result.returncode == 1 and "[archive_unreachable]" in result.stderr
