"""Words planted wherever a scan could hold a name: none comes out in any byte, name or message."""

import gzip
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import generate_uid

ROOT = Path(__file__).parents[3]
ROWS, COLUMNS, SLICES = 12, 16, 10
CT, PET, CAPTURE = (f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("2", "128", "7"))
CONTOURS, SEGMENTATION = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.66.4"
DOSE, HALF_LIFE, WEIGHT, DELAY = 370e6, 6586.2, 61.0, 3600.0
FACTOR = 1000 * WEIGHT / (DOSE * 2 ** (-DELAY / HALF_LIFE))
"""Body-weight SUV per Bq/mL: weight in g over the dose that is left at the start of the scan (QIBA)."""
ALPHABETS = {"ISO_IR 100": ("Müßgänßer", "latin-1"), "ISO_IR 144": ("Канарейка", "iso8859-5"),
             "ISO_IR 126": ("Καναρίνι", "iso8859-7"), "ISO_IR 192": ("金丝雀", "utf-8"),
             "GB18030": ("金絲雀", "gb18030")}


class Aviary:
    """Hands out canaries and remembers each with the bytes in which it could come out."""

    def __init__(self) -> None:
        self.birds: dict[str, set[bytes]] = {}

    def bird(self, limit: int = 64) -> str:
        """A word that is nowhere else, of at most `limit` characters."""
        word = f"Qz{len(self.birds):03d}Xolotl"[:limit]
        return self.foreign(word, "ascii")

    def foreign(self, word: str, encoding: str) -> str:
        self.birds[word] = {f(word).encode(e) for f in (str, str.upper, str.lower)
                            for e in {encoding, "utf-8", "utf-16-le"} if _fits(f(word), e)}
        self.birds[word].add(json.dumps(word).strip('"').encode())
        return word

    def seen_in(self, content: bytes) -> list[str]:
        return [word for word, forms in self.birds.items() if any(form in content for form in forms)]


def _fits(word: str, encoding: str) -> bool:
    try:
        word.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def item(**values: object) -> Dataset:
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


TEXTS = ["InstitutionName", "InstitutionAddress", "ReferringPhysicianName", "StationName", "StudyDescription",
         "SeriesDescription", "PerformingPhysicianName", "OperatorsName", "AccessionNumber", "StudyID",
         "OtherPatientIDs", "PatientAddress", "PatientTelephoneNumbers", "PatientComments", "EthnicGroup", "Occupation",
         "AdditionalPatientHistory", "MilitaryRank", "CountryOfResidence", "PatientReligiousPreference",
         "DeviceSerialNumber", "ProtocolName", "SoftwareVersions", "ImageComments", "RequestingPhysician",
         "RequestedProcedureDescription", "PerformedProcedureStepDescription", "ContrastBolusAgent",
         "PatientMotherBirthName", "ResponsiblePerson", "IssuerOfPatientID", "DeidentificationMethod", "Manufacturer",
         "ManufacturerModelName", "DerivationDescription", "ClinicalTrialSubjectID", "TextComments", "SequenceName"]


def plain(k: int, series: str, **values: object) -> Dataset:
    """One slice without any canary."""
    data = item(SOPClassUID=CT, SOPInstanceUID=generate_uid(entropy_srcs=[series, str(k)]), Modality="CT",
                SeriesInstanceUID=generate_uid(entropy_srcs=[series]), SeriesNumber="1",
                StudyInstanceUID=generate_uid(entropy_srcs=["x"]), ImageType=["ORIGINAL", "PRIMARY"],
                FrameOfReferenceUID=generate_uid(entropy_srcs=["f"]),
                PatientID="P1", PatientSex="F", PatientWeight=str(WEIGHT), Rows=ROWS, Columns=COLUMNS,
                SamplesPerPixel=1, BitsAllocated=16, BitsStored=16, HighBit=15, PixelRepresentation=0,
                PhotometricInterpretation="MONOCHROME2", PixelSpacing=[2.0, 3.0], SliceThickness="4",
                ImagePositionPatient=[-10, -20, 30 + 4 * k], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                RescaleSlope="2.5", RescaleIntercept="0", StudyDate="20240506", SeriesDate="20240506")
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    data.PixelData = (100 * k + np.arange(ROWS * COLUMNS)).astype("<u2").tobytes()
    for name, value in values.items():
        setattr(data, name, value)
    return data


def pet(k: int, series: str) -> Dataset:
    drug = item(RadionuclideTotalDose=str(int(DOSE)), RadionuclideHalfLife=str(HALF_LIFE),
                RadiopharmaceuticalStartTime="080000")
    return plain(k, series, Modality="PT", SOPClassUID=PET, SeriesNumber="2", Units="BQML", DecayCorrection="START",
                 CorrectedImage=["DECY", "ATTN"], SeriesTime="090000", AcquisitionDate="20240506",
                 AcquisitionTime="090000", RadiopharmaceuticalInformationSequence=[drug])


def planted(data: Dataset, birds: dict[str, str]) -> Dataset:
    """The slice with a canary in each place; the same ones in each slice of a series."""
    for name in TEXTS:
        setattr(data, name, birds[name])
    data.PatientName, data.PatientID = birds["name"], birds["id"]
    data.preamble = birds["preamble"].encode().ljust(128, b"\0")
    data.file_meta.SourceApplicationEntityTitle = birds["source"]
    data.file_meta.PrivateInformationCreatorUID = "1.2.3"
    data.file_meta.PrivateInformation = birds["meta"].encode() + b"\0"
    data.file_meta.ImplementationVersionName = birds["implementation"]
    for element, vr in ((0x01, "LO"), (0x02, "OB"), (0x03, "UN"), (0x04, "UT")):
        word = birds[f"private {vr}"]
        data.add_new(0x00090000 | 0x1000 | element, vr, word if vr in ("LO", "UT") else word.encode() + b"\0")
    data.add_new(0x00090010, "LO", birds["creator"])
    data.add_new(0x00091005, "SQ", [item(PatientName=birds["private SQ"])])
    inner = item(PatientName=birds["deep"], TextValue=birds["deep text"])
    for depth in range(4):
        inner = item(ReferencedImageSequence=[inner], RetrieveURL=birds[f"depth {depth}"])
    data.SourceImageSequence = [inner]
    data.ProcedureCodeSequence = [item(CodeValue=birds["code"], CodeMeaning=birds["meaning"])]
    data.OtherPatientIDsSequence = [item(PatientID=birds["other id"])]
    data.IconImageSequence = [item(Rows=4, Columns=8, BitsAllocated=8, PixelRepresentation=0,
                                   PixelData=birds["icon"].encode().ljust(32, b"\0"))]
    data.add_new(0x60000010, "US", 8)
    data.add_new(0x60000011, "US", 16)
    data.add_new(0x60000022, "LO", birds["overlay text"])
    data.add_new(0x60001500, "LO", birds["overlay label"])
    data.add_new(0x60003000, "OW", birds["overlay"].encode().ljust(16, b"\0"))
    data.add_new(0xFFFCFFFC, "OB", birds["padding"].encode() + b"\0")
    return data


PLACES = [*TEXTS, "name", "id", "preamble", "source", "meta", "implementation", "private LO", "private OB",
          "private UN", "private UT", "creator", "private SQ", "deep", "deep text", "depth 0", "depth 1", "depth 2",
          "depth 3", "code", "meaning", "other id", "icon", "overlay text", "overlay label", "overlay",
          "padding", "trailing"]
SHORT = {"source": 16, "implementation": 16, "StationName": 16, "AccessionNumber": 16, "StudyID": 16}


def save(data: Dataset, path: Path, trailing: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    with path.open("ab") as file:
        file.write(trailing.encode())


def write_dicom(scan: Path, aviary: Aviary) -> None:
    birds = {place: aviary.bird(SHORT.get(place, 64)) for place in PLACES}
    folder = scan / aviary.bird()
    for k in range(SLICES):
        save(planted(plain(k, "ct"), birds), folder / f"{aviary.bird()}-{k}.dcm", birds["trailing"])
        save(planted(pet(k, "pet"), birds), folder / "pet" / f"{k}.dcm", birds["trailing"])
    for number, (charset, (word, encoding)) in enumerate(ALPHABETS.items()):
        name = aviary.foreign(word, encoding)
        for k in range(SLICES):
            data = plain(k, charset, SeriesNumber=str(10 + number), PatientID="P1")
            data.SpecificCharacterSet = charset
            data.SeriesDescription = data.InstitutionName = data.PatientComments = name
            data.ReferencedImageSequence = [item(PatientName=name)]
            save(data, scan / "alphabets" / f"{number}-{k}.dcm")
    odd = plain(0, "odd", SOPClassUID=CAPTURE, Modality=aviary.bird(16).upper(), SeriesNumber="9",
                BodyPartExamined=aviary.bird(16), Units=aviary.bird(16), PatientID=birds["id"],
                PhotometricInterpretation=aviary.bird(16))
    odd.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    save(odd, scan / "odd" / f"{aviary.bird()}.dcm")
    gap = [planted(plain(k, "gap", SeriesNumber="8"), birds) for k in (0, 1, 3, 4)]
    for k, data in enumerate(gap):
        data.Modality = "CT"
        save(data, scan / "gap" / f"{aviary.bird()}-{k}.dcm")
    write_regions(scan, aviary, birds)
    (scan / f"{aviary.bird()}.dcm").write_text(aviary.bird())
    (scan / f"{aviary.bird()}.txt").write_text(aviary.bird())


def write_regions(scan: Path, aviary: Aviary, birds: dict[str, str]) -> None:
    """Contours and a segmentation on the CT, with names."""
    one = item(SeriesInstanceUID=generate_uid(entropy_srcs=["ct"]))
    drawn = planted(plain(0, "rs", SOPClassUID=CONTOURS, Modality="RTSTRUCT", SeriesNumber="5"), birds)
    for name in ("PixelData", "Rows", "Columns", "PixelSpacing", "ImagePositionPatient"):
        delattr(drawn, name)
    drawn.StructureSetLabel, drawn.StructureSetName = aviary.bird(16), aviary.bird()
    drawn.StructureSetROISequence = [item(ROINumber="1", ROIName=f"aorta {aviary.bird()}",
                                          ROIDescription=aviary.bird())]
    drawn.ROIContourSequence = [item(ReferencedROINumber="1", ContourSequence=[item(
        ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints="3",
        ContourData=[-5, -15, 34, 20, -15, 34, 10, -2, 34])])]
    drawn.ReferencedFrameOfReferenceSequence = [
        item(RTReferencedStudySequence=[item(RTReferencedSeriesSequence=[one])])]
    save(drawn, scan / "regions" / "rs.dcm")
    segments = planted(plain(0, "seg", SOPClassUID=SEGMENTATION, Modality="SEG", SeriesNumber="6", BitsAllocated=1,
                             BitsStored=1, HighBit=0, NumberOfFrames="1", SegmentationType="BINARY"), birds)
    segments.ContentLabel, segments.ContentCreatorName = aviary.bird(16), aviary.bird()
    segments.SegmentSequence = [item(SegmentNumber=1, SegmentLabel=f"aorta {aviary.bird()}",
                                     SegmentDescription=aviary.bird(), TrackingID=aviary.bird())]
    segments.PerFrameFunctionalGroupsSequence = [item(
        SegmentIdentificationSequence=[item(ReferencedSegmentNumber=1)],
        PlanePositionSequence=[item(ImagePositionPatient=[-10, -20, 38])])]
    segments.ReferencedSeriesSequence = [one]
    segments.PixelData = bytes(range(24))
    save(segments, scan / "regions" / "seg.dcm")


def write_grids(scan: Path, aviary: Aviary) -> None:
    values = np.arange(ROWS * COLUMNS * SLICES, dtype=np.int16).reshape(COLUMNS, ROWS, SLICES)
    scan.mkdir(parents=True, exist_ok=True)
    for kind, suffix in ((nibabel.Nifti1Image, ".nii.gz"), (nibabel.Nifti1Pair, ".hdr")):
        made = kind(values, np.diag([-2.0, 2, 3, 1]))
        made.header["descrip"], made.header["aux_file"] = aviary.bird().encode(), aviary.bird(23).encode()
        made.header["intent_name"], made.header["db_name"] = aviary.bird(15).encode(), aviary.bird(17).encode()
        for code in (6, 4):
            made.header.extensions.append(Nifti1Extension(code, aviary.bird().encode()))
        nibabel.save(made, scan / f"{aviary.bird()}{suffix}")
    header = (f"ObjectType = Image\nNDims = 3\nComment = {aviary.bird()}\nName = {aviary.bird()}\nBinaryData = True\n"
              f"DimSize = {COLUMNS} {ROWS} {SLICES}\nElementSpacing = 2 2 3\nElementType = MET_SHORT\n"
              "ElementDataFile = LOCAL\n")
    (scan / f"{aviary.bird()}.mha").write_bytes(header.encode() + values.tobytes(order="F"))
    header = (f"NRRD0004\n# {aviary.bird()}\ntype: short\ndimension: 3\nsizes: {COLUMNS} {ROWS} {SLICES}\n"
              f"content: {aviary.bird()}\npatient:={aviary.bird()}\nspacings: 2 2 3\nencoding: raw\nendian: little\n\n")
    (scan / f"{aviary.bird()}.nrrd").write_bytes(header.encode() + values.tobytes(order="F"))
    with zipfile.ZipFile(scan / f"{aviary.bird()}.zip", "w") as archive:
        archive.comment = aviary.bird().encode()
        for k in range(SLICES):
            path = scan / "zipped.dcm"
            save(plain(k, "zip", PatientID=aviary.bird(), PatientName="x") if k == 0 else plain(k, "zip"), path)
            archive.write(path, f"{aviary.bird()}/{k}.dcm")
            path.unlink()


def anatwin(*arguments: object, key: Path) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ANATWIN_KEY": str(key)}
    return subprocess.run([sys.executable, "-P", "-m", "workflows.cli", *map(str, arguments)], env=environment,
                          capture_output=True, check=False)


def contents(folder: Path) -> bytes:
    """All bytes of all files (gzip opened) and all names."""
    parts = []
    for path in sorted(folder.rglob("*")):
        parts.append(str(path.relative_to(folder)).encode())
        if path.is_file():
            raw = path.read_bytes()
            parts += [raw, gzip.decompress(raw)] if raw[:2] == b"\x1f\x8b" else [raw]
    return b"\n".join(parts)


def suv_maximum(out: Path) -> float:
    sidecar = next(p for p in out.rglob("PT-*.json"))
    volume = nibabel.load(str(sidecar).replace(".json", ".nii.gz"))
    return float(np.asarray(volume.dataobj).max()) * json.loads(sidecar.read_text())["suv_bw_scale"]


@pytest.fixture(scope="module")
def aviary(tmp_path_factory: pytest.TempPathFactory) -> tuple[Aviary, Path]:
    aviary = Aviary()
    scan = tmp_path_factory.mktemp("scan") / aviary.bird()
    write_dicom(scan, aviary)
    write_grids(scan / "grids", aviary)
    return aviary, scan


def test_no_canary_leaves_ingest(aviary, tmp_path):
    """Everything at once through `anatwin ingest`: volumes, refusals, masks, the account."""
    birds, scan = aviary
    planted_ones = birds.seen_in(contents(scan) + str(scan).encode())
    hidden = set(birds.birds) - set(planted_ones)
    assert len(birds.birds) >= 90 and len(hidden) <= 11, hidden  # within the zip: names and one header
    done = anatwin("ingest", scan, tmp_path / "out", key=tmp_path / "key")
    assert done.returncode == 3 and b"Traceback" not in done.stderr
    assert birds.seen_in(done.stdout + done.stderr) == []
    assert birds.seen_in(contents(tmp_path / "out")) == []
    told = json.loads((tmp_path / "out" / "ingest.json").read_text())
    written = [one for one in told["series"] if one["volume"]]
    assert len(written) >= 13 and any(one["refusal"] for one in told["series"])
    top = (100 * (SLICES - 1) + ROWS * COLUMNS - 1) * 2.5
    assert suv_maximum(tmp_path / "out") == pytest.approx(top * FACTOR, rel=1e-3)


def test_suv_is_the_same_without_canaries(tmp_path):
    for k in range(SLICES):
        save(pet(k, "pet"), tmp_path / "scan" / f"{k}.dcm")
    assert anatwin("ingest", tmp_path / "scan", tmp_path / "out", key=tmp_path / "key").returncode == 0
    top = (100 * (SLICES - 1) + ROWS * COLUMNS - 1) * 2.5
    assert suv_maximum(tmp_path / "out") == pytest.approx(top * FACTOR, rel=1e-3)


@pytest.mark.parametrize("part", ["gap", *(pytest.param(p, marks=pytest.mark.verify)
                                          for p in ("alphabets", "grids", "odd"))])
def test_no_canary_leaves_a_case(aviary, tmp_path, part):
    """The same files as cases of `anatwin run`: record, status, messages and tables."""
    birds, scan = aviary
    done = anatwin("run", scan / part, tmp_path / "out", "--until", "ingest", key=tmp_path / "key")
    assert b"Traceback" not in done.stderr
    assert birds.seen_in(done.stdout + done.stderr) == []
    assert birds.seen_in(contents(tmp_path / "out")) == []


def test_no_canary_leaves_deidentify(aviary, tmp_path):
    """The same scan through `anatwin deidentify`: clean files, the account, messages, names of files and folders."""
    birds, scan = aviary
    done = anatwin("deidentify", scan, tmp_path / "out", key=tmp_path / "key")
    assert done.returncode == 3 and b"Traceback" not in done.stderr
    assert birds.seen_in(done.stdout + done.stderr) == []
    assert birds.seen_in(contents(tmp_path / "out")) == []
    told = json.loads((tmp_path / "out" / "deidentify.json").read_text())
    files = told["files"]
    explained = files["used"] + files["duplicate"] + sum(files["refused"].values()) + sum(files["ignored"].values())
    assert files["total"] == explained
    images = list((tmp_path / "out" / "images").rglob("*.dcm"))
    assert len(images) >= 7 * SLICES and len(list((tmp_path / "out" / "images").rglob("*.nii.gz"))) == 2
    assert files["used"] == len(images) + 2
    again = anatwin("ingest", tmp_path / "out" / "images", tmp_path / "read", key=tmp_path / "key")
    assert again.returncode == 0
    top = (100 * (SLICES - 1) + ROWS * COLUMNS - 1) * 2.5
    assert suv_maximum(tmp_path / "read") == pytest.approx(top * FACTOR, rel=1e-3)


def test_a_clean_scan_is_read_as_the_scan_itself(samples, tmp_path):
    """The sample PET and CT (JPEG-LS) before and after: volumes byte for byte, place, person, SUV."""
    key = tmp_path / "key"
    assert anatwin("deidentify", samples / "trunk_pet_ct", tmp_path / "clean", key=key).returncode == 0
    for scan, out in ((samples / "trunk_pet_ct", "before"), (tmp_path / "clean" / "images", "after")):
        assert anatwin("ingest", scan, tmp_path / out, key=key).returncode == 0
    pairs = [(p, next((tmp_path / "after").rglob(p.name))) for p in (tmp_path / "before").rglob("*.nii.gz")]
    assert len(pairs) == 2 and all(a.read_bytes() == b.read_bytes() for a, b in pairs)
    hashed = {"study_id", "series_id", "slice_ids", "frame_of_reference"}
    for before, after in pairs:
        old, new = (json.loads(Path(str(p).replace(".nii.gz", ".json")).read_text()) for p in (before, after))
        assert {k for k in old if old[k] != new[k]} <= hashed
