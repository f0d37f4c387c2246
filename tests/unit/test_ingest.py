"""Ingest: what is read is right, what is not is refused by name, and nobody's name comes out."""

import ast
import gzip
import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import generate_uid

from pipeline import formats, stage
from pipeline.ingest import (
    IngestConfig,
    IngestInputs,
    IngestOutputs,
    Options,
    Outcome,
    ingest,
    ingest_all,
    read_or_make_key,
    subjects,
    worker,
)
from pipeline.ingest.problems import HINTS
from pipeline.ingest.subjects import index
from solvers.errors import BadInput
from solvers.geometry import frames

KEY = b"a key for tests, nobody's secret"
N, ROWS, COLUMNS = 10, 6, 8
CT, CAPTURE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7"
NAME, ID = "Canary^Quetzalcoatl", "CANARY-4711"
Edit = Callable[[Dataset, int], None]


def stored(k: int) -> np.ndarray:
    """Slice k of the phantom as stored: no two pixels alike."""
    return (1000 + 100 * k + np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)).astype(np.uint16)


def slice_of(k: int, series: str, patient: str, edit: Edit | None) -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    data.SOPClassUID, data.SOPInstanceUID = CT, generate_uid(entropy_srcs=[series, str(k), patient])
    data.SeriesInstanceUID, data.StudyInstanceUID = generate_uid(entropy_srcs=[series]), generate_uid(
        entropy_srcs=["study", patient])
    data.Modality, data.SeriesNumber, data.ImageType = "CT", "1", ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.PatientName, data.PatientID, data.PatientBirthDate = NAME, patient, "19610203"
    data.StudyDate, data.PatientSex, data.PatientWeight = "20240506", "F", "61"
    data.SeriesDescription, data.InstitutionName = f"CTA arterial {NAME}", "Canary Hospital"
    data.Rows, data.Columns, data.SamplesPerPixel = ROWS, COLUMNS, 1
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PhotometricInterpretation, data.PixelSpacing = "MONOCHROME2", [2.0, 3.0]
    data.ImagePositionPatient, data.ImageOrientationPatient = [-10, -20, 30 + 4 * k], [1, 0, 0, 0, 1, 0]
    data.RescaleSlope, data.RescaleIntercept = "1", "-1024"
    data.PixelData = stored(k).tobytes()
    if edit:
        edit(data, k)
    return data


def write_series(folder: Path, series: str = "a", patient: str = ID, edit: Edit | None = None,
                 slices: Iterator[int] | range = range(N)) -> Path:
    """A CT series as files whose names run against the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in slices:
        slice_of(k, series, patient, edit).save_as(folder / f"{series}-{99 - k:03d}.dcm", enforce_file_format=True)
    return folder


def setting(**values: object) -> Edit:
    def edit(data: Dataset, k: int) -> None:
        for name, value in values.items():
            setattr(data, name, value)
    return edit


def at(k_wanted: int, **values: object) -> Edit:
    def edit(data: Dataset, k: int) -> None:
        if k == k_wanted:
            setting(**values)(data, k)
    return edit


def rotated(data: Dataset, k: int) -> None:
    if k > 6:
        data.ImageOrientationPatient = [1, 0, 0, 0, 0, 1]


def tilted(data: Dataset, k: int) -> None:
    data.ImagePositionPatient = [-10, -20 + 1.5 * k, 30 + 4 * k]


def jpeg2000(data: Dataset, k: int) -> None:
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    data.PixelData = encapsulate([imagecodecs.jpeg2k_encode(stored(k), reversible=True, level=0)])
    data["PixelData"].is_undefined_length = True


def bomb(data: Dataset, k: int) -> None:
    """Header and codestream both claim 60000 x 60000 pixels."""
    jpeg2000(data, k)
    code = bytearray(data.PixelData)
    at_size = code.find(b"\xff\x4f\xff\x51") + 8
    code[at_size:at_size + 8] = (60000).to_bytes(4, "big") * 2
    data.PixelData, data.Rows, data.Columns = bytes(code), 60000, 60000


FAULTS: dict[str, tuple[Edit | None, range | list[int], str, str]] = {
    "gap": (None, [k for k in range(N) if k not in (3, 7)], "missing_slice",
            "2 slices are missing: a gap at 42.00, 58.00"),
    "mixed": (rotated, range(N), "mixed_orientation", "10 slices have 2 orientations"),
    "scout": (setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), range(1), "localizer_only", "scout"),
    "capture": (setting(SOPClassUID=CAPTURE), range(3), "not_a_volume", "secondary capture"),
    "swapped": (at(4, PatientID="ANOTHER"), range(N), "mixed_patients", "more than one patient"),
    "noposition": (at(4, ImagePositionPatient=None), range(N), "missing_position", "ImagePositionPatient"),
    "zerospacing": (setting(PixelSpacing=[0, 0]), range(N), "invalid_geometry", "PixelSpacing"),
    "sizes": (at(4, Rows=ROWS // 2), range(N), "inconsistent_slices", "rows"),
    "slope": (setting(RescaleSlope="0"), range(N), "invalid_rescale", "RescaleSlope"),
    "shifted": (at(4, ImagePositionPatient=[-10, -20, 46.5]), range(N), "uneven_slices", "spacing"),
    "aside": (at(4, ImagePositionPatient=[-9, -20, 46]), range(N), "inconsistent_slices", "off the line"),
    "single": (None, range(1), "too_few_slices", "single slice"),
    "lut": (setting(ModalityLUTSequence=[Dataset()]), range(N), "unsupported_lut", "lookup"),
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BadInput | None]:
    """One scan of all faults, each a series in a folder of its own; their refusals by name."""
    root = tmp_path_factory.mktemp("faults")
    for number, (name, (edit, slices, _, _)) in enumerate(FAULTS.items()):
        def numbered(data: Dataset, k: int, edit: Edit | None = edit, number: int = number) -> None:
            data.SeriesNumber = str(number)
            if edit:
                edit(data, k)
        write_series(root / name, name, edit=numbered, slices=slices)
    cut = sorted((write_series(root / "cut", "cut", edit=setting(SeriesNumber="50"))).iterdir())[4]
    cut.write_bytes(cut.read_bytes()[:-20])
    head = sorted((write_series(root / "head", "head", edit=setting(SeriesNumber="51"))).iterdir())[0]
    head.write_bytes(head.read_bytes()[:300])
    found = index(root, KEY, root)
    byname = {s.name: s.problem for s in found.series}
    return {name: byname[f"CT-s{i:03d}"] for i, name in enumerate(FAULTS)} | {
        "cut": byname["CT-s050"], "head": byname["CT-s051"]}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_series_is_refused_by_its_name(faulty, name):
    problem, (_, _, code, words) = faulty[name], FAULTS[name]
    assert problem is not None and problem.code == code
    assert words in str(problem)


@pytest.mark.parametrize("name", ["cut", "head"])
def test_a_cut_file_refuses_its_series_even_when_it_is_the_last_slice(faulty, name):
    assert faulty[name] is not None and faulty[name].code in ("truncated", "corrupt")
    assert "1 of 10 files" in str(faulty[name])


def run(scan: Path, folder: Path, **config: object) -> tuple[IngestOutputs, dict]:
    folder.mkdir(parents=True)
    done = IngestOutputs().within(folder)
    ingest(IngestInputs(scan=scan), IngestConfig(**config), done)
    return done, json.loads(done.sidecar.read_text())


def test_values_and_places_are_those_of_the_slices(tmp_path):
    done, facts = run(write_series(tmp_path / "scan"), tmp_path / "out" / "ingest")
    volume = formats.read_volume(done.volume)
    assert volume.values.shape == (COLUMNS, ROWS, N)
    k, row, column = 7, 4, 5
    assert volume.values[column, row, k] == int(stored(k)[row, column]) - 1024
    np.testing.assert_allclose(volume.position(np.array([[column, row, k]])), [[-10 + 3 * 5, -20 + 2 * 4, 30 + 4 * 7]],
                               atol=1e-5)
    assert facts["modality"] == "CT" and facts["anatomical"] and facts["phase"] == "arterial"
    assert (facts["sex"], facts["age_years"], facts["weight_kg"]) == ("F", 63.0, 61.0)


def test_the_sample_scan_lies_where_its_truth_lies(samples, tmp_path):
    done, facts = run(samples / "aorta_ct", tmp_path / "ingest")
    volume, mask = formats.read_volume(done.volume), formats.read_volume(samples / "aorta_ct_truth" / "mask.nii.gz")
    np.testing.assert_allclose(volume.affine, mask.affine, atol=1e-4)
    assert volume.values.shape == mask.values.shape and facts["has_contrast"]
    assert volume.values[mask.values > 0].mean() > 200


def test_nothing_that_names_the_patient_comes_out(tmp_path):
    key = tmp_path / "secrets" / "key"
    read_or_make_key(key)
    done = stage.run(ingest, IngestInputs(scan=write_series(tmp_path / "scan-of-Quetzalcoatl"), key=key),
                     IngestConfig(), tmp_path / "out" / "ingest")
    facts = json.loads(done.sidecar.read_text())
    everything = b"".join(gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes()
                          for p in (tmp_path / "out").rglob("*") if p.is_file())
    for canary in (b"Quetzalcoatl", b"CANARY", b"Canary", b"1961", b"20240506", str(tmp_path).encode()):
        assert canary not in everything
    uid = generate_uid(entropy_srcs=["a", "0", ID]).encode()
    assert uid not in everything and len(facts["slice_ids"]) == N


def test_the_same_scan_gives_the_same_bytes_from_a_folder_or_a_zip(tmp_path):
    first, _ = run(write_series(tmp_path / "scan" / "deep" / "er"), tmp_path / "one" / "ingest")
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for path in sorted((tmp_path / "scan").rglob("*.dcm"), reverse=True):
            archive.write(path, f"../../{path.name}")
    second, _ = run(tmp_path / "scan.zip", tmp_path / "two" / "ingest")
    assert first.volume.read_bytes() == second.volume.read_bytes()
    assert first.sidecar.read_bytes() == second.sidecar.read_bytes()
    assert not list(tmp_path.parent.glob("a-*.dcm"))


def test_the_series_with_contrast_is_chosen_and_the_others_told(tmp_path):
    plain = setting(SeriesDescription="thin", SeriesNumber="2")
    scan = write_series(tmp_path / "scan", "plain", edit=plain, slices=range(2 * N))
    write_series(scan, "arterial", edit=jpeg2000)
    write_series(scan, "scout", edit=setting(ImageType=["DERIVED", "PRIMARY", "LOCALIZER"], SeriesNumber="9"),
                 slices=range(2))
    done, _ = run(scan, tmp_path / "out" / "ingest")
    rows = {r["name"]: r for r in json.loads(done.series.read_text())["series"]}
    assert [n for n, r in rows.items() if r["chosen"]] == ["CT-s001"]
    assert "arterial" in rows["CT-s001"]["why"] and "contrast" in rows["CT-s002"]["why"]
    assert rows["CT-s009"]["code"] == "localizer_only"
    assert formats.read_volume(done.volume).values[5, 4, 7] == int(stored(7)[4, 5]) - 1024
    again, _ = run(scan, tmp_path / "other" / "ingest", series="CT-s002")
    assert formats.read_volume(again.volume).values.shape[2] == 2 * N


def test_a_decompression_bomb_is_refused_and_the_parent_lives(tmp_path):
    with pytest.raises(BadInput) as caught:
        run(write_series(tmp_path / "scan", edit=bomb), tmp_path / "out" / "ingest")
    assert caught.value.code == "too_large"
    assert not list((tmp_path / "out" / "ingest").iterdir())


@pytest.mark.parametrize("n_bytes", [140, 250, 400, 600, 800, 900])
def test_a_slice_cut_inside_its_header_is_named_as_that(tmp_path, n_bytes):
    """Wherever the cut falls, also inside an identifier: the slice is not taken for another patient's or series'."""
    scan = write_series(tmp_path / "scan")
    path = sorted(scan.iterdir())[2]
    path.write_bytes(path.read_bytes()[:n_bytes])
    outcome, = ingest_all(scan, tmp_path / "out", KEY)
    assert outcome.refusal.code == "truncated" and outcome.subject
    assert "1 of 10 files" in str(outcome.refusal) and "inside its header" in str(outcome.refusal)


def test_a_directory_file_is_not_an_image(tmp_path):
    """A DICOMDIR among the slices is passed over; its records name the patient."""
    scan = write_series(tmp_path / "scan")
    listing = Dataset()
    listing.file_meta = FileMetaDataset()
    listing.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    listing.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    listing.file_meta.MediaStorageSOPInstanceUID = "1.2"
    record = Dataset()
    record.DirectoryRecordType, record.PatientName, record.PatientID = "PATIENT", NAME, ID
    listing.FileSetID, listing.DirectoryRecordSequence = "DISC", [record]
    listing.save_as(scan / "DICOMDIR", enforce_file_format=True)
    outcome, = ingest_all(scan / "DICOMDIR", tmp_path / "out", KEY)
    assert outcome.volume is not None


def test_every_problem_of_a_file_has_something_to_try():
    """Codes are read from the source: Problem("code", ...), and BadInput with all four parts."""
    root = Path(frames.__file__).parents[2]
    for path in [*(root / "pipeline" / "ingest").glob("*.py"), root / "solvers" / "geometry" / "frames.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id == "Problem" and isinstance(node.args[0], ast.Constant):
                assert HINTS[str(node.args[0].value)]
            if node.func.id == "BadInput":
                assert len(node.args) == 4, f"{path.name}:{node.lineno}"


class Mortal(worker.Reader):
    """A reader whose child dies at the third file of its first request."""

    def ask(self, request):
        if not hasattr(self, "died"):
            self.died = True
            answers = super().ask(request | {"files": request["files"][:2]})
            self._child.kill()
            return answers
        return super().ask(request)


def test_a_file_that_kills_its_reader_costs_only_its_own_series(tmp_path):
    write_series(tmp_path / "scan" / "a")
    write_series(tmp_path / "scan" / "b", "b", edit=setting(SeriesNumber="2"))
    with Mortal() as reader:
        found = index(tmp_path / "scan", KEY, tmp_path, reader)
    codes = {s.name: s.problem and s.problem.code for s in found.series}
    assert codes == {"CT-s001": "corrupt", "CT-s002": None}


@pytest.mark.parametrize("content, code", [(None, "nothing_found"), ("hello, no image here", "not_dicom")])
def test_folders_without_images(tmp_path, content, code):
    scan = tmp_path / "scan"
    scan.mkdir()
    if content:
        (scan / "slice.dcm").write_text(content)
    with pytest.raises(BadInput) as caught:
        run(scan, tmp_path / "out" / "ingest")
    assert caught.value.code == code


def test_each_patient_is_one_subject_whose_label_stays(tmp_path):
    scan = tmp_path / "scan"
    write_series(scan, "a", "FIRST"), write_series(scan, "b", "SECOND")
    key = read_or_make_key(tmp_path / "key")
    assert read_or_make_key(tmp_path / "key") == key
    before = {s.label: {p.name[0] for p in s.files} for s in subjects(scan, key, tmp_path / "s1").subjects}
    assert sorted("".join(v) for v in before.values()) == ["a", "b"]
    write_series(scan, "0-earlier", "ADDED")
    mapped = subjects(scan, key, tmp_path / "s2", {"FIRST": "01"}).subjects
    assert len(mapped) == 3 and "01" in [s.label for s in mapped]
    assert set(before) - {s.label for s in mapped} == {next(k for k, v in before.items() if v == {"a"})}
    one = next(s for s in mapped if s.label == "01").gather(tmp_path / "gathered")
    done, _ = run(one, tmp_path / "out" / "ingest")
    assert done.volume.exists()
    with pytest.raises(BadInput) as caught:
        run(scan, tmp_path / "out2" / "ingest")
    assert caught.value.code == "mixed_patients"


def cases(scan: Path, folder: Path) -> list[list[Outcome]]:
    """The outcomes of each subject's files, gathered as `anatwin run` does."""
    people = subjects(scan, KEY, folder / "unpacked").subjects
    return [ingest_all(one.gather(folder / one.label), folder / "out", KEY) for one in people]


def test_a_broken_slice_stays_with_its_series_and_with_no_other(tmp_path):
    """The last slice cut in its header, or turned to text: the case must not become a shorter volume without a word."""
    for number, name in enumerate(("cut", "text", "good"), start=3):
        write_series(tmp_path / "scan" / name, name, edit=setting(SeriesNumber=str(number)))
    last = sorted((tmp_path / "scan" / "cut").iterdir())[0]
    last.write_bytes(last.read_bytes()[:400])
    sorted((tmp_path / "scan" / "text").iterdir())[0].write_text("no image any more")
    outcomes, = cases(tmp_path / "scan", tmp_path / "case")
    named = {o.series: o for o in outcomes if o.series}
    assert named["CT-s003"].refusal.code == "truncated"
    assert "may be incomplete" in str(named["CT-s004"].warnings)
    assert named["CT-s005"].volume is not None and not named["CT-s005"].warnings


def test_volumes_of_one_bids_subject_and_headers_with_their_voxels_stay_together(tmp_path):
    values = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    (tmp_path / "scan").mkdir()
    for name in ("a.nii.gz", "b.hdr"):
        nifti(tmp_path / "scan" / "sub-07" / name, values, lambda i: None)
    SimpleITK.WriteImage(image(1), str(tmp_path / "scan" / "sub-07" / "c.mhd"))
    people = subjects(tmp_path / "scan", KEY, tmp_path / "unpacked").subjects
    assert [one.label for one in people] == ["07"]
    outcomes = ingest_all(people[0].gather(tmp_path / "gathered"), tmp_path / "out", KEY)
    assert [o.subject for o in outcomes if o.volume] == ["07"] * 3


def test_a_bids_name_that_may_be_a_persons_name_is_hashed_unless_given_a_label(tmp_path):
    """A serial number stays. The name of a folder, and of a file, goes no further than its hash."""
    values = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    for name in ("sub-Quetzalcoatl/a.nii.gz", "sub-Quetzalcoatl/anat/b.nii.gz", "sub-4711001_T1w.nii.gz", "sub-12.nii"):
        nifti(tmp_path / "scan" / name, values, lambda i: None)
    found = subjects(tmp_path / "scan", KEY, tmp_path / "unpacked").subjects
    labels = {one.label: len(one.files) for one in found}
    assert labels.pop("12") == 1 and sorted(labels.values()) == [1, 2]
    outcomes = ingest_all(tmp_path / "scan", tmp_path / "out", KEY)
    said = " ".join(map(str, [*labels, *outcomes, *(tmp_path / "out").rglob("*")])).replace(str(tmp_path), "")
    assert "quetzalcoatl" not in said.lower() and "4711001" not in said
    given = {"sub-Quetzalcoatl": "05", "4711001": "06"}
    found = subjects(tmp_path / "scan", KEY, tmp_path / "again", given).subjects
    assert sorted(one.label for one in found) == ["05", "06", "12"]


def test_links_out_pipes_and_unsafe_members_are_passed_over(tmp_path):
    scan = tmp_path / "scan"
    outside = write_series(tmp_path / "outside", "b", "OTHER")
    scan.mkdir()
    (scan / "link.dcm").symlink_to(next(outside.iterdir()))
    (scan / "up").symlink_to(outside)
    os.mkfifo(scan / "pipe.dcm")
    with tarfile.open(scan / "scan.tar.gz", "w:gz") as archive:
        for path in sorted(write_series(tmp_path / "inside").iterdir()):
            archive.add(path, f"/../../escaped/{path.name}")
        link = tarfile.TarInfo("link.dcm")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    outcomes = ingest_all(scan, tmp_path / "out", KEY)
    assert [o.volume is not None for o in outcomes] == [True]
    assert not (tmp_path.parent / "escaped").exists()


def test_a_slice_that_is_no_longer_dicom_is_told(tmp_path):
    scan = write_series(tmp_path / "scan")
    sorted(scan.iterdir())[0].write_bytes(bytes(5000))
    last, = index(scan, KEY, tmp_path).series
    assert last.size[2] == N - 1 and "may be incomplete" in last.warnings[0]


def test_ingest_all_writes_what_can_be_read_and_says_why_not_for_the_rest(tmp_path):
    scan = write_series(tmp_path / "scan" / "good")
    write_series(tmp_path / "scan" / "bad", "b", edit=setting(SeriesNumber="2"), slices=[0, 1, 3])
    outcomes = {o.series: o for o in ingest_all(scan.parent, tmp_path / "out", KEY, Options(labels={ID: "07"}))}
    good, bad = outcomes["CT-s001"], outcomes["CT-s002"]
    assert good.volume == tmp_path / "out" / "sub-07" / "ingest" / "CT-s001.nii.gz" and good.sidecar.exists()
    assert bad.refusal.code == "missing_slice" and bad.volume is None
    assert sorted(p.name for p in good.volume.parent.iterdir()) == ["CT-s001.json", "CT-s001.nii.gz"]


# Volumes that are one file

FORMATS = {"a.mha": (True, False), "b.mha": (False, False), "c.mhd": (True, False), "d.nrrd": (True, True),
           "e.nrrd": (False, True), "f.nii.gz": (True, True)}


def image(seed: int) -> "SimpleITK.Image":
    values = np.random.default_rng(seed).integers(0, 900, (12, 10, 9)).astype(np.int16)
    made = SimpleITK.GetImageFromArray(values)
    made.SetSpacing((1.5, 2.0, 2.5))
    made.SetOrigin((-12.0, 7.0, 31.0))
    made.SetDirection(np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1.0]]).ravel().tolist())
    return made


def test_other_formats_agree_with_simpleitk(tmp_path):
    (tmp_path / "scan").mkdir()
    made = [image(seed) for seed in range(len(FORMATS))]
    for one, (name, (packed, _)) in zip(made, FORMATS.items(), strict=True):
        SimpleITK.WriteImage(one, str(tmp_path / "scan" / name), packed)
    outcomes = [o for o in ingest_all(tmp_path / "scan", tmp_path / "out", KEY)]
    assert len(outcomes) == len({o.subject for o in outcomes}) == len(FORMATS)
    left = {int(np.asarray(formats.read_volume(o.volume).values, int).sum()): o for o in outcomes}
    for one, (_, anatomical) in zip(made, FORMATS.values(), strict=True):
        outcome = left[int(SimpleITK.GetArrayFromImage(one).astype(int).sum())]
        volume, facts = formats.read_volume(outcome.volume), json.loads(outcome.sidecar.read_text())
        np.testing.assert_array_equal(volume.values, SimpleITK.GetArrayFromImage(one).T)
        for corner in ((0, 0, 0), (8, 9, 11), (8, 0, 0)):
            np.testing.assert_allclose(volume.position(np.array([corner]))[0],
                                       one.TransformIndexToPhysicalPoint(corner), atol=1e-4)
        assert facts["anatomical"] is anatomical and facts["modality"] == "MR" and facts["modality_inferred"]


def nifti(path: Path, values: np.ndarray, edit: Callable[[nibabel.Nifti1Image], None]) -> Path:
    made = nibabel.Nifti1Image(values, np.diag([2.0, 2, 3, 1]))
    made.header.set_xyzt_units("mm")
    edit(made)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(made, path)
    return path


def test_doubtful_nifti_geometry_is_refused(tmp_path):
    shear = np.eye(4)
    shear[0, 1] = 0.5
    values = np.ones((4, 5, 6), np.int16)
    nifti(tmp_path / "scan" / "a.nii", values, lambda i: (i.set_qform(np.diag([-2.0, 2, 3, 1]), 1),
                                                          i.set_sform(np.diag([2.0, 2, 3, 1]), 1)))
    nifti(tmp_path / "scan" / "b.nii", values, lambda i: (i.set_qform(None, 0), i.set_sform(shear, 1)))
    nifti(tmp_path / "scan" / "c.nii", values, lambda i: (i.set_qform(None, 0),
                                                          i.set_sform(np.diag([2.0, 2, 0, 1]), 1)))
    found = index(tmp_path / "scan", KEY, tmp_path).series
    assert [s.problem.code for s in found] == ["conflicting_geometry", "sheared_axes", "invalid_geometry"]


def test_a_cut_nifti_is_refused(tmp_path):
    path = nifti(tmp_path / "scan" / "a.nii.gz", np.random.default_rng(0).random((20, 20, 20)), lambda i: None)
    path.write_bytes(path.read_bytes()[:-2000])
    outcome, = ingest_all(path, tmp_path / "out", KEY)
    assert outcome.refusal is not None and outcome.refusal.code == "truncated"


# Geometry

angles = st.floats(-3, 3)


def test_a_tilted_stack_stands_upright_with_every_point_in_its_place(tmp_path):
    """The phantom's value is linear in the row: what was at a place before is there after."""
    done, facts = run(write_series(tmp_path / "scan", edit=tilted), tmp_path / "out" / "ingest")
    volume = formats.read_volume(done.volume)
    assert facts["resampled"] and "tilted by 20.6 degrees" in facts["warnings"][0]
    assert volume.values.shape == (COLUMNS, ROWS + 7, N)
    for k, row in ((0, 0), (3, 2), (9, 5)):
        at = np.rint(volume.index(np.array([[-10, -20 + 1.5 * k + 2 * row, 30 + 4 * k]]))[0] * 4) / 4
        np.testing.assert_allclose(volume.position(at), [-10, -20 + 1.5 * k + 2 * row, 30 + 4 * k], atol=1e-4)
        low, high = int(np.floor(at[1])), int(np.ceil(at[1]))
        between = volume.values[0, low, k] * (1 - at[1] % 1) + volume.values[0, high, k] * (at[1] % 1)
        if 0 < row < ROWS - 1 or at[1] % 1 == 0:
            assert between == pytest.approx(int(stored(k)[row, 0]) - 1024, abs=1)


def test_gaps_are_filled_only_when_a_person_says_so(tmp_path):
    scan = write_series(tmp_path / "scan", slices=[k for k in range(N) if k not in (3, 7)])
    done, facts = run(scan, tmp_path / "out" / "ingest", accept=("missing_slice",))
    values = formats.read_volume(done.volume).values
    assert values.shape[2] == N and facts["resampled"] and "overruled" in facts["warnings"][0]
    for k in range(N):
        assert values[5, 4, k] == int(stored(k)[4, 5]) - 1024


def test_slices_as_thick_as_their_steps_leave_no_gap(tmp_path):
    """Thin slices, then thick ones: every part of the body is in some slice, so they are brought to even steps."""
    heights = np.cumsum([0, 2, 2, 2, 3.5, 5, 5, 5])

    def two_slabs(data: Dataset, k: int) -> None:
        data.ImagePositionPatient = [-10, -20, float(heights[k])]
        data.SliceThickness = "2" if k < 4 else "5"

    done, facts = run(write_series(tmp_path / "scan", edit=two_slabs, slices=range(8)), tmp_path / "out" / "ingest")
    values = formats.read_volume(done.volume).values
    assert "without a gap" in facts["warnings"][0]
    steps = heights[-1] / (values.shape[2] - 1)
    expected = np.interp(np.arange(values.shape[2]) * steps, heights, [int(stored(k)[4, 5]) - 1024 for k in range(8)])
    np.testing.assert_allclose(values[5, 4], expected, atol=0.51)


def rotation(a: float, b: float, c: float) -> np.ndarray:
    def about(axis: int, angle: float) -> np.ndarray:
        i, j = [n for n in range(3) if n != axis]
        made = np.eye(3)
        made[i, i] = made[j, j] = np.cos(angle)
        made[i, j], made[j, i] = -np.sin(angle), np.sin(angle)
        return made
    return about(0, a) @ about(1, b) @ about(2, c)


@settings(max_examples=25, deadline=None)
@given(angles, angles, angles, st.permutations(range(7)), st.floats(0.3, 8))
def test_slices_in_any_order_and_orientation_give_one_grid(a, b, c, order, step):
    turned = rotation(a, b, c)
    positions = np.array([5.0, -3, 11]) + np.outer(np.array(order) * step, turned[:, 2])
    stack = frames.stack(positions, np.tile(turned[:, :2].T.ravel(), (7, 1)), (1.5, 2.5))
    np.testing.assert_allclose(stack.affine[:3, :3], turned * [2.5, 1.5, step], atol=1e-9)
    np.testing.assert_allclose(positions[stack.order[0]], stack.affine[:3, 3], atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 18), st.floats(0.5, 5))
def test_a_missing_slice_is_always_named(k, step):
    heights = np.delete(np.arange(20), k) * step
    positions = np.outer(heights, [0, 0, 1.0])
    with pytest.raises(BadInput) as caught:
        frames.stack(positions, np.tile([1.0, 0, 0, 0, 1, 0], (19, 1)), (1, 1))
    assert caught.value.code == "missing_slice" and f"{k * step:.2f}" in str(caught.value)


def test_pydicom_and_we_read_the_same_pixels(tmp_path):
    path = write_series(tmp_path, edit=jpeg2000, slices=range(1)) / "a-099.dcm"
    np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, stored(0))
