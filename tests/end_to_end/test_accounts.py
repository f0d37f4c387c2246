"""Every file of a scan is accounted for, every refusal is JSON with a code, and a person may overrule some by code."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_args

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ingest import KEY, N, at, nifti, setting, write_series

from pipeline.ingest import ACCEPTABLE, Acceptable, Reading, read_all

ROOT = Path(__file__).parents[2]


def anatwin(*arguments: object, key: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ANATWIN_KEY": str(key)}
    return subprocess.run([sys.executable, "-P", "-m", "workflows.cli", *map(str, arguments)], env=environment,
                          capture_output=True, text=True, check=False)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A scan with something of each kind: 10 good slices and 2 copies, a gap, a scout, text, links, an archive."""
    scan = tmp_path / "scan"
    good = sorted(write_series(scan / "good").iterdir())
    for path in good[:2]:
        (scan / "good" / f"copy-{path.name}").write_bytes(path.read_bytes())
    write_series(scan / "gap", "gap", edit=setting(SeriesNumber="2"), slices=[0, 1, 3, 4])
    write_series(scan / "us", "us", edit=setting(SeriesNumber="3", Modality="US"), slices=range(2))
    cut = sorted(write_series(scan / "cut", "cut", edit=setting(SeriesNumber="4")).iterdir())[2]
    cut.write_bytes(cut.read_bytes()[:250])
    (scan / "notes.txt").write_text("hello")
    (scan / "page.nii.gz").write_text("<html>not found</html>")
    (scan / ".hidden").write_text("")
    (scan / "out.dcm").symlink_to("/etc/hostname")
    nifti(scan / "pair" / "a.hdr", np.ones((4, 5, 6), np.int16), lambda i: None)
    with zipfile.ZipFile(scan / "more.zip", "w") as archive:
        for path in write_series(tmp_path / "zipped", "z", edit=setting(SeriesNumber="5")).iterdir():
            archive.write(path, path.name)
        archive.writestr("readme.md", "text")
    (scan / "broken.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    return scan


def test_every_file_is_used_a_duplicate_or_told_why_not(mixed, tmp_path):
    n_files = sum(len(names) for _, _, names in os.walk(mixed)) + N + 1
    done = anatwin("ingest", mixed, tmp_path / "out", key=tmp_path / "key")
    told = json.loads((tmp_path / "out" / "ingest.json").read_text())
    files = told["files"]
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert files["total"] == n_files
    assert files["used"] == 2 * N + 1 and files["duplicate"] == 2
    assert files["refused"] == {"missing_slice": 4, "unsupported_modality": 2, "corrupt": N, "not_nifti": 1,
                                "broken_archive": 1} or files["refused"].get("truncated") == N
    assert files["ignored"] == {"not an image": 2, "hidden file": 1, "link out of the scan": 1, "archive, opened": 1,
                                "data file of a header": 1}
    assert files["total"] == files["used"] + files["duplicate"] + sum(files["refused"].values()) + sum(
        files["ignored"].values())
    for one in told["series"]:
        assert (one["volume"] is None) != (one["refusal"] is None)
        if one["refusal"]:
            assert set(one["refusal"]) == {"kind", "code", "happened", "wanted", "hint"}
            assert all(one["refusal"][part] for part in ("code", "happened", "wanted", "hint")), one
            line = next(x for x in done.stderr.splitlines() if f"[{one['refusal']['code']}]" in x)
            assert one["refusal"]["happened"] in line


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(["copy", "cut", "text", "other", "empty", "gap"]), max_size=5), st.integers(0, 99))
def test_counts_add_up_whatever_is_thrown_in(tmp_path_factory, faults, seed):
    scan = write_series(tmp_path_factory.mktemp("scan"))
    rng = np.random.default_rng(seed)
    for number, fault in enumerate(faults):
        path = sorted(scan.iterdir())[int(rng.integers(3))]
        if fault == "gap":
            path.unlink()
        elif fault == "cut":
            path.write_bytes(path.read_bytes()[:int(rng.integers(1, 700))])
        elif fault == "other":
            write_series(scan, f"x{number}", edit=setting(SeriesNumber=str(number + 2), Modality="US"), slices=range(2))
        else:
            content = {"copy": path.read_bytes(), "text": b"hello", "empty": b""}[fault]
            (scan / f"{fault}-{number}{rng.choice(['', '.dcm', '.nii'])}").write_bytes(content)
    done: Reading = read_all(scan, tmp_path_factory.mktemp("out"), KEY)
    assert done.ledger.explained == done.ledger.total == len(list(scan.iterdir()))


def test_a_person_may_overrule_by_code(tmp_path):
    scan = tmp_path / "scan"
    write_series(scan / "gap", "gap", edit=setting(SeriesNumber="2"), slices=[0, 1, 3, 4])
    write_series(scan / "uneven", "uneven", edit=at(4, ImagePositionPatient=[-10, -20, 46.5]))
    nifti(scan / "sub-1" / "a.nii", np.ones((4, 5, 6), np.int16), lambda i: (
        i.set_qform(np.diag([-2.0, 2, 3, 1]), 1), i.set_sform(np.diag([2.0, 2, 3, 1]), 1)))
    refused = anatwin("ingest", scan, tmp_path / "one", key=tmp_path / "key")
    assert refused.returncode == 1
    for code in ACCEPTABLE:
        assert f"[{code}]" in refused.stderr and f"--accept {code}" in refused.stderr
    some = anatwin("ingest", scan, tmp_path / "two", "--accept", "missing_slice", key=tmp_path / "key")
    assert some.returncode == 3 and "[uneven_slices]" in some.stderr and "[missing_slice]" not in some.stderr
    flags = [word for code in ACCEPTABLE for word in ("--accept", code)]
    done = anatwin("ingest", scan, tmp_path / "three", *flags, key=tmp_path / "key")
    assert done.returncode == 0 and done.stderr.count("overruled") == 3
    image = nibabel.load(next((tmp_path / "three" / "sub-1").rglob("*.nii.gz")))
    np.testing.assert_allclose(image.affine, np.diag([2.0, 2, 3, 1]), atol=1e-6)


@pytest.mark.parametrize("code", ["mixed_patients", "truncated", "nonsense"])
def test_other_refusals_stand(tmp_path, code):
    done = anatwin("ingest", write_series(tmp_path / "scan"), tmp_path / "out", "--accept", code, key=tmp_path / "key")
    assert done.returncode == 2 and "[not_acceptable]" in done.stderr
    assert all(known in done.stderr for known in ACCEPTABLE)


def test_settings_and_command_line_know_the_same_codes():
    assert set(get_args(Acceptable)) == set(ACCEPTABLE)


