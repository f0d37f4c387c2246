"""What a person may give wrongly: each ends with its exit code and one clear message, and nothing is lost."""

import hashlib
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from workflows.cli import main

ROOT = Path(__file__).parents[2]
NAME, ID, OTHER = "Canary^Quetzalcoatl", "CANARY-4711", "CANARY-4712"
SIZE, SLICES = 24, 10
SIDE = 2.0  # mm, of a voxel of the tube's volume
Edit = Callable[[Dataset, int], None]


@dataclass(frozen=True)
class Answer:
    """What the command said and left."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def anatwin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The command, in the folder of the test; its cases run in processes of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ANATWIN_KEY", str(tmp_path / "key"))

    def command(*arguments: object) -> Answer:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(a) for a in arguments])
        said = capfd.readouterr()
        return Answer(int(end.value.code or 0), said.out, said.err)

    return command


def as_process(*arguments: object, file_limit: int | None = None) -> Answer:
    """The command as a shell would start it; file_limit: bytes that a file may have."""
    limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))) if file_limit else None
    done = subprocess.run([sys.executable, "-P", "-m", "workflows.cli", *map(str, arguments)], text=True,
                          capture_output=True, preexec_fn=limit, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def series(folder: Path, edit: Edit | None = None, slices: range | list[int] = range(SLICES),
           patient: str = ID) -> Path:
    """A small CT series; `edit` spoils slice k."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in slices:
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.Modality = "1.2.840.10008.5.1.4.1.1.2", "CT"
        data.SOPInstanceUID = generate_uid(entropy_srcs=[patient, str(k)])
        data.SeriesInstanceUID, data.StudyInstanceUID = (generate_uid(entropy_srcs=[patient, n]) for n in "ab")
        data.ImageType, data.PatientName, data.PatientID = ["ORIGINAL", "PRIMARY", "AXIAL"], NAME, patient
        data.Rows = data.Columns = SIZE
        data.SamplesPerPixel, data.PixelRepresentation, data.PhotometricInterpretation = 1, 0, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelSpacing, data.RescaleSlope, data.RescaleIntercept = [1, 1], "1", "-1024"
        data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 3 * k], [1, 0, 0, 0, 1, 0]
        data.PixelData = (1000 + k + np.arange(SIZE * SIZE)).astype(np.uint16).tobytes()
        if edit:
            edit(data, k)
        data.save_as(folder / f"{patient[-1]}{k:02d}.dcm", enforce_file_format=True)
    return folder


def nifti(path: Path, values: np.ndarray, shift: float = 0.0) -> Path:
    affine = np.diag([SIDE, SIDE, SIDE, 1.0])
    affine[0, 3] = shift
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def trunk(path: Path, vessel: float, slices: int = 64) -> Path:
    """A round body of soft tissue with a tube of `vessel` HU along it."""
    x, y, _ = np.meshgrid(*[SIDE * np.arange(n) for n in (64, 64, slices)], indexing="ij")
    away = np.hypot(x - 64, y - 64)
    values = np.where(away < 56, 45.0, -1000.0)
    values[away < 8] = vessel
    return nifti(path, (values + np.random.default_rng(1).normal(0, 12, x.shape)).astype(np.int16))


def fingerprint(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_clear(answer: Answer, code: str, *words: str) -> str:
    """One message with its code that says what was wanted or what to try, without a traceback; the message."""
    lines = [line for line in answer.err.splitlines() if f"[{code}]" in line]
    assert len(lines) == 1, answer.err
    message = lines[0].partition(f"[{code}]")[2].strip()
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"
    for noise in ("Traceback", 'File "', "Error(", "Errno", NAME, ID, OTHER):
        assert noise not in answer.err + answer.out, answer.err
    assert "(wanted " in message or "; " in message, f"what was wanted? {message!r}"
    return message


def assert_nothing_half_written(out: Path) -> None:
    """Stages are whole or absent, the failure is written down, and no identifier came out."""
    for stage in out.glob("sub-*/*/"):
        if stage.name not in (".work", "used"):
            assert (stage / "record.json").is_file(), stage
    assert not list(out.rglob("*.draft"))
    text = "".join(p.read_text(errors="replace") for p in out.rglob("*") if p.suffix in (".json", ".tsv", ".csv"))
    assert ID not in text
    assert "Quetzalcoatl" not in text


def failed_cases(out: Path) -> list[dict[str, str]]:
    """What case.json and status.tsv, which must agree, say of those that failed."""
    cases = [json.loads(p.read_text()) for p in out.glob("sub-*/case.json")]
    found = [c for c in cases if c["status"] == "failed"]
    table = (out / "status.tsv").read_text()
    for case in found:
        assert f"failed\t{case['stage']}\t{case['code']}" in table
        assert case["hint"]
    return found


# Scans


def test_an_empty_folder(tmp_path: Path, anatwin: Command) -> None:
    (tmp_path / "scans").mkdir()
    answer = as_process("run", "scans", "out")
    assert answer.code == 1
    message = assert_clear(answer, "nothing_found", "no image was found", "DICOM, NIfTI")
    assert "Point at the folder of the scan." in message


def test_a_text_file_named_dcm(tmp_path: Path, anatwin: Command) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "readme.txt").write_text("exported on Monday\n")
    (tmp_path / "scans" / "IM1.dcm").write_text("the disk was full\n" * 40)
    answer = anatwin("run", "scans", "out")
    assert answer.code == 1
    assert_clear(answer, "not_dicom", "holds text", "Download or export it again")


def test_a_scan_that_is_not_there(tmp_path: Path, anatwin: Command) -> None:
    answer = anatwin("run", "scnas", "out")
    assert answer.code == 1
    assert_clear(answer, "no_such_scan", "scnas does not exist", "a file or folder")


def test_two_patients_in_one_series(tmp_path: Path, anatwin: Command) -> None:
    def edit(data: Dataset, k: int) -> None:
        data.PatientID = ID if k < 5 else OTHER

    series(tmp_path / "scans", edit)
    answer = anatwin("run", "scans", "out")
    assert answer.code == 1
    assert_clear(answer, "mixed_patients", "more than one patient", "Find out whose images these are")


def scout(data: Dataset, k: int) -> None:
    data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def turned(data: Dataset, k: int) -> None:
    if k >= 6:
        data.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def test_series_that_are_no_volume_do_not_stop_the_others(tmp_path: Path, anatwin: Command) -> None:
    scans = series(tmp_path / "scans" / "scout", scout, range(2), f"{ID}1").parent
    series(scans / "gap", None, [0, 1, 2, 3, 5, 6, 7, 8, 9], f"{ID}2")
    series(scans / "turned", turned, range(SLICES), f"{ID}3")
    series(scans / "whole", None, range(SLICES), f"{ID}4")
    before = fingerprint(scans)
    answer = anatwin("run", "scans", "out", "--until", "ingest")
    assert answer.code == 3, "some failed"
    assert_clear(answer, "localizer_only", "scout", "Add the series of the scan itself")
    assert_clear(answer, "missing_slice", "1 slice is missing", "12.0", "3.0", "Export the whole")
    assert_clear(answer, "mixed_orientation", "orientation differs", "Separate the planes")
    assert len(list((tmp_path / "out").glob("sub-*/ingest/volume.nii.gz"))) == 1
    codes = [(c["code"], c["stage"]) for c in failed_cases(tmp_path / "out")]
    assert sorted(codes) == [(c, "ingest") for c in ("localizer_only", "missing_slice", "mixed_orientation")]
    assert_nothing_half_written(tmp_path / "out")
    assert fingerprint(scans) == before


def test_a_file_that_was_cut_off(tmp_path: Path, anatwin: Command) -> None:
    scans = series(tmp_path / "scans")
    cut = scans / "104.dcm"
    cut.write_bytes(cut.read_bytes()[:-300])
    answer = anatwin("ingest", "scans", "out")
    assert answer.code == 1
    assert re.search("refused .*(truncated|incomplete|cut|shorter|damaged|missing)", answer.err), answer.err
    assert "Traceback" not in answer.err
    assert not list((tmp_path / "out").rglob("*.nii.gz")), "a volume with a hole must not come out"


def test_a_ct_without_contrast(tmp_path: Path, anatwin: Command) -> None:
    trunk(tmp_path / "native.nii.gz", vessel=42)
    answer = anatwin("run", "native.nii.gz", "out", "--until", "segment")
    assert answer.code == 1
    assert_clear(answer, "no_contrast_vessel", "No artery filled with contrast", "contrast CT or MR angiogram")
    assert [(c["code"], c["stage"]) for c in failed_cases(tmp_path / "out")] == [("no_contrast_vessel", "segment")]
    assert list((tmp_path / "out").glob("sub-*/ingest/volume.nii.gz")), "what was done before stays"
    assert_nothing_half_written(tmp_path / "out")


# Files of one's own


def test_a_mask_of_another_scan(tmp_path: Path, anatwin: Command) -> None:
    trunk(tmp_path / "scan.nii.gz", vessel=320)
    nifti(tmp_path / "mask.nii.gz", np.ones((16, 16, 16), np.uint8), shift=900)
    answer = anatwin("run", "scan.nii.gz", "out", "--until", "segment", "--use", "segment.labels=mask.nii.gz")
    assert answer.code == 1
    assert_clear(answer, "mask_outside_image", "0 %", "inside the image", "a mask of the same scan")
    assert_nothing_half_written(tmp_path / "out")


@pytest.mark.parametrize(("given", "exit_code", "code", "words"), [
    ("segment.labels=mask.nii.gz", 1, "no_such_file", ("mask.nii.gz is not a file",)),
    ("mask.nii.gz", 2, "bad_use", ("stage.output=file",))])
def test_a_file_of_ones_own_that_is_not_there(tmp_path: Path, anatwin: Command, given: str, exit_code: int, code: str,
                                              words: tuple[str, ...]) -> None:
    answer = anatwin("run", series(tmp_path / "scans"), "out", "--use", given)
    assert answer.code == exit_code
    assert_clear(answer, code, *words)
    assert not (tmp_path / "out").exists(), "nothing was begun"


# Settings and usage


def test_unknown_settings_are_told_all_at_once(tmp_path: Path, anatwin: Command) -> None:
    (tmp_path / "mine.yaml").write_text("recipe: aorta\n\nsegment:\n  shortest_branhc: 8 mm\n  smallest_tube: 3\n"
                                        "segmnet: {}\n")
    answer = anatwin("run", series(tmp_path / "scans"), "out", "--recipe", "mine.yaml")
    assert answer.code == 2
    assert "[bad_settings]" in answer.err
    assert "mine.yaml:4: segment.shortest_branhc: unknown setting; did you mean shortest_branch?" in answer.err
    assert re.search(r'mine.yaml:5: segment.smallest_tube: .*unit, for example "1.2 mm"', answer.err), answer.err
    assert "mine.yaml:6: segmnet: unknown setting; did you mean segment?" in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (("--recipe", "arota"), "unknown_recipe", ("arota", "aorta")),
    (("--recipe", "mine.yaml"), "no_settings_file", ("mine.yaml could not be read",)),
    (("--until", "segmnt"), "unknown_stage", ("segmnt", "segment")),
    (("--recepie", "aorta"), "usage", ("--recepie", "--recipe"))])
def test_usage_that_is_not_understood(tmp_path: Path, anatwin: Command, arguments: tuple[str, ...], code: str,
                                      words: tuple[str, ...]) -> None:
    answer = anatwin("run", series(tmp_path / "scans"), "out", *arguments)
    assert answer.code == 2
    for word in ("[" + code + "]", *words):
        assert word in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "out").exists()


# Where results go


def test_a_file_where_results_should_go(tmp_path: Path, anatwin: Command) -> None:
    (tmp_path / "out").write_text("my thesis")
    answer = anatwin("run", series(tmp_path / "scans"), "out")
    assert answer.code == 1
    assert_clear(answer, "out_is_a_file", "a file stands there", "Choose another output path")
    assert (tmp_path / "out").read_text() == "my thesis"


def test_a_place_that_cannot_be_written(tmp_path: Path, anatwin: Command) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    place = Path("/proc/anatwin") if os.access(closed, os.W_OK) else closed / "out"  # root may write anywhere else
    answer = anatwin("run", series(tmp_path / "scans"), place)
    assert answer.code == 1
    assert_clear(answer, "cannot_write", "cannot be written", "a folder with write permission")


def test_a_limit_on_file_size_in_mid_run(tmp_path: Path, anatwin: Command) -> None:
    trunk(tmp_path / "native.nii.gz", vessel=42, slices=640)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    answer = as_process("run", "native.nii.gz", "out", "--until", "ingest", file_limit=1_600_000)
    assert answer.code == 1
    assert_clear(answer, "cannot_write", "size limit", "make room and run the same command again")
    assert [(c["code"], c["stage"]) for c in failed_cases(tmp_path / "out")] == [("cannot_write", "ingest")]
    assert_nothing_half_written(tmp_path / "out")
    assert anatwin("run", "native.nii.gz", "out", "--until", "ingest").code == 0
    assert len(list((tmp_path / "out").glob("sub-*/ingest/volume.nii.gz"))) == 1
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
