"""De-identification: what stays and what goes of a file; lettering and heads seen in made-up images."""

from datetime import datetime
from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import generate_uid

from pipeline import uids
from pipeline.deidentify import nifti_file, private, rules, words
from pipeline.deidentify.clean import Person, cleaned
from pipeline.deidentify.dicom_file import cleanse
from pipeline.ingest.header import describe, keyed
from pipeline.ingest.problems import Problem
from solvers.geometry.volume import Volume
from solvers.imaging.head import shows_head
from solvers.imaging.lettering import is_lettered

KEY = bytes(range(32))
PERSON = Person("abc", KEY, -1000)
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, JPEG_LS = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80"


def image(pixels: np.ndarray | None = None, **values: object) -> Dataset:
    """One CT slice of smooth values."""
    data = Dataset()
    rows, columns = np.mgrid[:64, :80]
    stored = (np.hypot(rows - 30, columns - 40) * 20).astype("<u2") if pixels is None else pixels
    given: dict[str, object] = {
        "SOPClassUID": CT, "SOPInstanceUID": generate_uid(entropy_srcs=["i"]), "Modality": "CT",
        "StudyInstanceUID": generate_uid(entropy_srcs=["s"]), "SeriesInstanceUID": generate_uid(entropy_srcs=["e"]),
        "PatientID": "Jekyll", "PatientName": "Jekyll^Henry", "PatientBirthDate": "19500101", "StudyDate": "20200301",
        "Rows": stored.shape[0], "Columns": stored.shape[1], "SamplesPerPixel": 1, "BitsAllocated": 16,
        "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2",
        "PixelSpacing": [1, 1], "ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    for name, value in (given | values).items():
        setattr(data, name, value)
    data.PixelData = stored.tobytes()
    return data


def saved(data: Dataset, path: Path, syntax: str = EXPLICIT) -> Path:
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(path, enforce_file_format=True)
    return path


def lettered(values: np.ndarray, text: str, size: int, level: float) -> np.ndarray:
    """Values with text drawn into the upper left corner; size 11: a font of hard pixels, else a smooth one."""
    mask = Image.new("L", values.shape[::-1], 0)
    font = ImageFont.load_default_imagefont() if size == 11 else ImageFont.load_default(size)
    ImageDraw.Draw(mask).text((3, 3), text, fill=255, font=font)
    share = np.asarray(mask, float) / 255
    return values * (1 - share) + level * share


# A file


def test_pixels_stay_byte_for_byte_and_what_follows_goes(tmp_path):
    path = saved(image(), tmp_path / "a.dcm")
    path.write_bytes(b"Jekyll".ljust(128, b"\0") + path.read_bytes()[128:] + b"Jekyll")
    cleanse(path, tmp_path / "b.dcm", PERSON, accept=())
    raw = (tmp_path / "b.dcm").read_bytes()
    assert b"Jekyll" not in raw and raw[:128] == bytes(128)
    assert pydicom.dcmread(tmp_path / "b.dcm").PixelData == image().PixelData


def test_a_compressed_image_keeps_its_syntax_and_bytes(tmp_path):
    data = image()
    code = imagecodecs.jpegls_encode(np.frombuffer(data.PixelData, "<u2").reshape(64, 80))
    data.PixelData = encapsulate([code])
    data["PixelData"].is_undefined_length = True
    before = saved(data, tmp_path / "a.dcm", JPEG_LS)
    cleanse(before, tmp_path / "b.dcm", PERSON, accept=())
    after = pydicom.dcmread(tmp_path / "b.dcm")
    assert after.file_meta.TransferSyntaxUID == JPEG_LS and after.PixelData == pydicom.dcmread(before).PixelData


@pytest.mark.parametrize("hidden", ["comment", "tail", "bits"])
def test_what_hides_among_the_pixels_is_refused(tmp_path, hidden):
    data, syntax = image(), JPEG_LS
    pixels = np.frombuffer(data.PixelData, "<u2").reshape(64, 80)
    code = imagecodecs.jpegls_encode(pixels)
    if hidden == "bits":
        data, syntax = image(pixels | ((pixels > 500).astype("<u2") << 14)), EXPLICIT
    else:
        code = code + b"Jekyll" if hidden == "tail" else code[:2] + b"\xff\xfe\0\x08Jekyll" + code[2:]
        data.PixelData = encapsulate([code])
        data["PixelData"].is_undefined_length = True
    path = saved(data, tmp_path / "a.dcm", syntax)
    with pytest.raises(Problem) as caught:
        cleanse(path, tmp_path / "b.dcm", PERSON, accept=())
    assert caught.value.code == "hidden_data"


def test_what_geometry_needs_is_not_lost_in_silence(tmp_path):
    """A lookup table is on no list: without it the values would mean something else."""
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [2, 0, 16], b"\0\0\1\0"
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "OW"
    path = saved(image(ModalityLUTSequence=[table]), tmp_path / "a.dcm")
    with pytest.raises(Problem, match="has_lut") as caught:
        cleanse(path, tmp_path / "b.dcm", PERSON, accept=())
    assert caught.value.code == "would_change"


@pytest.mark.parametrize("values", [
    {"BurnedInAnnotation": "YES"}, {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
    {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, {"SOPClassUID": rules.US}])
def test_pictures_of_a_screen_are_known(tmp_path, values):
    assert cleanse(saved(image(**values), tmp_path / "a.dcm"), tmp_path / "b.dcm", PERSON, accept=()).lettered


@pytest.mark.parametrize(("values", "is_head"), [
    ({"BodyPartExamined": "Brain"}, True), ({"SeriesDescription": "T1_MPRAGE"}, True),
    ({"StudyDescription": "Schädel nativ", "SpecificCharacterSet": "ISO_IR 100"}, True),
    ({"BodyPartExamined": "ABDOMEN", "SeriesDescription": "portal venous"}, False)])
def test_a_head_is_known_by_its_header(tmp_path, values, is_head):
    path = saved(image(**values), tmp_path / "a.dcm")
    assert cleanse(path, tmp_path / "b.dcm", PERSON, accept=()).head == is_head


# A data set


def test_intervals_stay_and_dates_go():
    data = image(AcquisitionDateTime="20200302101500.5+0100", SeriesDate="20200229", SeriesTime="101500")
    new = cleaned(data, PERSON)
    first, second = (datetime.strptime(d[:8], "%Y%m%d") for d in (new.SeriesDate, new.AcquisitionDateTime))
    assert (second - first).days == 2 and new.StudyDate == "20170605" and new.SeriesTime == "101500"
    assert new.AcquisitionDateTime.endswith("101500.5+0100") and new.PatientBirthDate == "" and new.PatientAge == "070Y"


def test_uids_are_those_that_results_cite():
    data = image()
    new = cleaned(data, PERSON)
    assert new.SOPInstanceUID == uids.of("image", keyed(KEY, data.SOPInstanceUID)[:16])
    assert new.SeriesInstanceUID == uids.of("series", keyed(KEY, data.SeriesInstanceUID))
    assert new.SOPClassUID == data.SOPClassUID
    assert cleaned(data, Person("abc", bytes(32), -1000)).SOPInstanceUID != new.SOPInstanceUID


def test_a_code_has_the_words_of_the_tables_and_an_unknown_one_goes():
    good, bad, drug = Dataset(), Dataset(), Dataset()
    good.CodeValue, good.CodingSchemeDesignator, good.CodeMeaning = "C-111A1", "SRT", "Jekyll"
    bad.CodeValue, bad.CodingSchemeDesignator, bad.CodeMeaning = "Jekyll", "SRT", "Fluorine"
    drug.RadionuclideCodeSequence, drug.RadionuclideTotalDose = [good, bad], "370000000"
    new = cleaned(image(RadiopharmaceuticalInformationSequence=[drug]), PERSON)
    codes = new.RadiopharmaceuticalInformationSequence[0].RadionuclideCodeSequence
    assert [c.CodeMeaning for c in codes] == ["^18^Fluorine"]


def test_descriptions_keep_known_words_only():
    assert words.described("CT Thorax/Abdomen Dr. Jekyll 12.3.1950 portal venös") == "ct thorax abdomen portal venoes"
    assert words.maker("GE MEDICAL SYSTEMS, Jekyll") == "GE MEDICAL SYSTEMS" and words.maker("Gerd Jekyll") == ""
    assert cleaned(image(ImageType=["ORIGINAL", "PRIMARY", "JEKYLL"]), PERSON).ImageType[2] == "OTHER"


def test_private_elements_stay_by_the_name_of_their_block(tmp_path):
    data = image(Manufacturer="SIEMENS")
    data.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    data.add_new(0x0019100C, "IS", "1000")
    data.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
    protocol = b'tPatient = "Jekyll"\nsSliceArray.lSize = 2\nsSliceArray.asSlice[1].sPosition.dTra = -4.5\n'
    data.add_new(0x00291020, "OB", protocol + b"\0" * (len(protocol) % 2))
    found = {tag: value for tag, _, _, value in private.kept(data)}
    assert found[0x0019100C] == [1000] and b"dTra = -4.5" in found[0x00291020] and b"Jekyll" not in found[0x00291020]
    path = saved(data, tmp_path / "a.dcm")
    cleanse(path, tmp_path / "b.dcm", PERSON, accept=())
    assert describe(tmp_path / "b.dcm", KEY)["frames"][0]["b_value"] == 1000
    data[0x00190010].value = "JEKYLL"
    assert 0x0019100C not in {tag for tag, *_ in private.kept(data)}


def test_a_nifti_keeps_voxels_and_place_alone(tmp_path):
    affine = np.array([[-2.0, 0.1, 0, 7], [0.1, 2, 0, 8], [0, 0, 3, 9], [0, 0, 0, 1]])
    made = nibabel.Nifti1Image(np.arange(2400, dtype=np.int16).reshape(10, 12, 20), affine)
    made.header["descrip"] = b"Jekyll"
    made.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, b"Jekyll"))
    nibabel.save(made, tmp_path / "a.nii")
    nifti_file.cleanse(tmp_path / "a.nii", tmp_path / "b.nii.gz")
    new = nibabel.load(tmp_path / "b.nii.gz")
    assert b"Jekyll" not in new.to_bytes() and np.array_equal(np.asanyarray(new.dataobj), made.dataobj)
    assert np.allclose(new.affine, affine, atol=1e-6) and len(new.header.extensions) == 0


# Images


@pytest.mark.parametrize("size", [10, 11, 14, 32])
@pytest.mark.parametrize("level", [0.0, 700.0, 1000.0])
def test_lettering_is_seen_however_the_image_lies(size, level):
    """Bright, dark, or within the range of the image, beside a metal that is brighter than all."""
    rows, columns = np.mgrid[:160, :200]
    plain = 500 + 100 * np.sin(rows / 20) * np.cos(columns / 15)
    plain[120:124, 90:94] = 4000
    assert not is_lettered(plain)
    drawn = lettered(plain, "DOE 12345", size, level)
    assert is_lettered(drawn) and is_lettered(drawn.T)


def test_noise_has_no_letters_in_it():
    noise = np.random.default_rng(5).integers(0, 255, (5, 256, 256))
    assert not any(is_lettered(one) for one in noise)
    assert is_lettered(lettered(noise[0], "DOE 12345", 32, 1000.0))


def test_text_in_a_nifti_is_seen_though_its_first_axis_runs_along_the_line(tmp_path):
    rows, columns = np.mgrid[:90, :120]
    plane = lettered(500 + 100 * np.sin(rows / 20) * np.cos(columns / 15), "DOE 12345", 14, 700.0)
    for name, planes in (("a", [plane] * 2), ("b", [500 + rows / 3 + columns / 5] * 2)):
        made = nibabel.Nifti1Image(np.stack(planes, axis=-1).transpose(1, 0, 2).astype(np.int16), np.eye(4))
        nibabel.save(made, tmp_path / f"{name}.nii")
    looks = [nifti_file.cleanse(tmp_path / f"{n}.nii", tmp_path / f"clean-{n}.nii.gz") for n in ("a", "b")]
    assert looks[0] and not looks[1]


def ball(shape: tuple[int, int, int], radii: tuple[float, float, float]) -> np.ndarray:
    """Distance from the centre in units of `radii` (voxels)."""
    grid = np.mgrid[tuple(slice(0, n) for n in shape)] - (np.array(shape) / 2)[:, None, None, None]
    return np.sqrt(sum((g / r) ** 2 for g, r in zip(grid, radii, strict=True)))


@pytest.mark.parametrize(("radii", "is_head"), [((19, 24, 30), True), ((45, 30, 60), False)])
@pytest.mark.parametrize("is_ct", [True, False])
def test_a_head_is_told_from_a_trunk(radii, is_head, is_ct):
    """Ellipsoids on a grid of 4 mm: one with a skull, of a head's size; one of a trunk's."""
    far = ball((96, 72, 30), radii)
    values = np.where(far < 1, 40.0, -1000.0)
    if is_head and is_ct:
        values[(far < 0.95) & (far > 0.8)] = 900
    assert shows_head(Volume(values + (0 if is_ct else 1000), np.diag([4.0, 4, 4, 1])), is_ct=is_ct) == is_head


@pytest.mark.parametrize(("n_slices", "is_head"), [(40, False), (110, True)])
def test_a_head_between_raised_arms_is_told_by_the_length_of_the_scan(n_slices, is_head):
    """Nowhere is there an outline of a head; 110 slices of 8 mm hold more than a trunk."""
    x, y, z = np.meshgrid(np.arange(96) - 48, np.arange(72) - 36, np.arange(n_slices), indexing="ij")
    far = np.minimum(np.hypot(x / 19, y / 24), np.hypot(np.abs(x) - 26, y) / 10)
    trunk = np.hypot(x / 45, y / 30)
    body = np.where(z < n_slices - 30, trunk, far) < 1
    assert shows_head(Volume(np.where(body, 40.0, 0.0), np.diag([4.0, 4, 8, 1])), is_ct=False) == is_head
