"""300 slices of 512 x 512 to NIfTI: processor time beside dcm2niix in one run, and memory."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import generate_uid

ROOT = Path(__file__).parents[3]
N_SLICES, EDGE = 300, 512
VOLUME_MB = N_SLICES * EDGE * EDGE * 2 / 2**20


@dataclass(frozen=True)
class Cost:
    """What a command took: processor seconds of all its processes, peak resident memory of the largest, MB."""

    seconds: float
    peak_mb: float


def cost(command: list[str], environment: Mapping[str, str]) -> Cost:
    """Run a command in a process that reports on its children and their children."""
    script = ("import resource, subprocess, sys; "
              "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); "
              "use = resource.getrusage(resource.RUSAGE_CHILDREN); "
              "print(done.returncode, use.ru_utime + use.ru_stime, use.ru_maxrss / 1024)")
    done = subprocess.run([sys.executable, "-c", script, *command], env=dict(environment), capture_output=True,
                          text=True, check=True)
    code, seconds, peak = done.stdout.split()
    assert code == "0", command
    return Cost(float(seconds), float(peak))


def write_slices(folder: Path) -> None:
    """A round body with noise, 12 bits stored, as a scanner would write it."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:EDGE, :EDGE]
    radius = np.hypot(x - EDGE / 2, y - EDGE / 2)
    for k in range(N_SLICES):
        values = np.where(radius < 200, 1064 + 20 * np.sin(x / 20 + k / 9), 24) + rng.normal(0, 12, x.shape) * (
            radius < 240)
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        for name, value in {
                "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "SOPInstanceUID": generate_uid(entropy_srcs=["s", str(k)]),
                "SeriesInstanceUID": generate_uid(entropy_srcs=["s"]), "StudyInstanceUID": "1.2.3", "Modality": "CT",
                "FrameOfReferenceUID": "1.2.4", "SeriesNumber": "1", "InstanceNumber": str(k + 1), "PatientID": "P",
                "StudyDate": "20240101", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "Rows": EDGE, "Columns": EDGE,
                "SamplesPerPixel": 1, "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0,
                "PhotometricInterpretation": "MONOCHROME2", "PixelSpacing": [0.7, 0.7], "SliceThickness": "1",
                "ImagePositionPatient": [-179, -179, float(k)], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                "RescaleSlope": "1", "RescaleIntercept": "-1024"}.items():
            setattr(data, name, value)
        data.PixelData = np.clip(values, 0, 4095).astype("<u2").tobytes()
        data.save_as(folder / f"{k:03d}.dcm", enforce_file_format=True)


@pytest.mark.verify
def test_at_most_twice_the_time_of_dcm2niix(tmp_path):
    peer = shutil.which("dcm2niix") or shutil.which("dcm2niix", path=str(Path(sys.executable).parent))
    if peer is None:
        pytest.skip("dcm2niix is not installed, so the speed of ingest was NOT measured: pip install dcm2niix")
    write_slices(tmp_path / "scan")
    (tmp_path / "peer").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ANATWIN_KEY": str(tmp_path / "key")}
    theirs = cost([peer, "-z", "y", "-o", str(tmp_path / "peer"), str(tmp_path / "scan")], environment)
    ours = cost([sys.executable, "-P", "-m", "workflows.cli", "ingest", str(tmp_path / "scan"), str(tmp_path / "out")],
                environment)
    print(f"ours {ours}, dcm2niix {theirs}, ratio {ours.seconds / theirs.seconds:.2f}")
    mine, other = (nibabel.load(next((tmp_path / part).rglob("*.nii.gz"))) for part in ("out", "peer"))
    np.testing.assert_array_equal(np.asarray(mine.dataobj), np.asarray(other.dataobj)[:, ::-1])
    assert ours.seconds <= 2 * theirs.seconds
    assert ours.peak_mb <= 3 * VOLUME_MB + 300
