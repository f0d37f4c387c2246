"""Valid files of every kind, and mutants of them from a seed."""

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import generate_uid

NAME, ID = "Canary^Quetzalcoatl", "CANARY-4711"
ROWS, COLUMNS, SLICES = 12, 16, 4
Files = dict[str, bytes]
IMPLICIT, EXPLICIT, BIG, DEFLATED = (f"1.2.840.10008.1.2{s}" for s in ("", ".1", ".2", ".1.99"))
RLE, JPEG_LS, JPEG_2000 = (f"1.2.840.10008.1.2{s}" for s in (".5", ".4.80", ".4.90"))


def pixels(k: int) -> np.ndarray:
    return (100 * k + np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)).astype(np.uint16)


def item(**values: object) -> Dataset:
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def as_bytes(data: Dataset) -> bytes:
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def image(k: int, syntax: str = EXPLICIT, **values: object) -> Dataset:
    """One slice of CT with a private block and a nested sequence."""
    data = item(SOPClassUID="1.2.840.10008.5.1.4.1.1.2", SOPInstanceUID=generate_uid(entropy_srcs=[str(k), syntax]),
                SeriesInstanceUID=generate_uid(entropy_srcs=[syntax]), StudyInstanceUID="1.2.3", Modality="CT",
                FrameOfReferenceUID="1.2.3.4", SeriesNumber="1", InstanceNumber=str(k + 1), PatientName=NAME,
                PatientID=ID, PatientBirthDate="19610203", StudyDate="20240506", ImageType=["ORIGINAL", "PRIMARY"],
                SeriesDescription=f"CTA of {NAME}", Rows=ROWS, Columns=COLUMNS, SamplesPerPixel=1, BitsAllocated=16,
                BitsStored=16, HighBit=15, PixelRepresentation=0, PhotometricInterpretation="MONOCHROME2",
                PixelSpacing=[2.0, 3.0], SliceThickness="4", ImagePositionPatient=[-10, -20, 30 + 4 * k],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0], RescaleSlope="1", RescaleIntercept="-1024")
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.ReferencedImageSequence = [item(ReferencedSOPInstanceUID="1.2.3", PurposeOfReferenceCodeSequence=[
        item(CodeValue="1", CodingSchemeDesignator="DCM", CodeMeaning=NAME)])]
    data.add_new(0x00091001, "LO", NAME)
    for name, value in values.items():
        setattr(data, name, value)
    data.PixelData = pixels(k).astype(">u2" if syntax == BIG else "<u2").tobytes()
    encode = {RLE: lambda a: rle(a), JPEG_LS: imagecodecs.jpegls_encode,
              JPEG_2000: lambda a: imagecodecs.jpeg2k_encode(a, reversible=True, level=0)}.get(syntax)
    if encode:
        data.PixelData = encapsulate([bytes(encode(pixels(k)))])
        data["PixelData"].is_undefined_length = True
    return data


def rle(values: np.ndarray) -> bytes:
    from pydicom.pixels.encoders import RLELosslessEncoder

    return RLELosslessEncoder.encode(values.tobytes(), rows=ROWS, columns=COLUMNS, samples_per_pixel=1,
                                     bits_allocated=16, bits_stored=16, pixel_representation=0, number_of_frames=1,
                                     photometric_interpretation="MONOCHROME2")


def classic(syntax: str, **values: object) -> Files:
    return {f"{k}.dcm": as_bytes(image(k, syntax, **values)) for k in range(SLICES)}


def pet() -> Files:
    drug = item(RadionuclideTotalDose="370000000", RadionuclideHalfLife="6586.2", RadiopharmaceuticalStartTime="080000",
                RadionuclideCodeSequence=[item(CodeMeaning="18^Fluorine")])
    return classic(EXPLICIT, Modality="PT", SOPClassUID="1.2.840.10008.5.1.4.1.1.128", Units="BQML",
                   DecayCorrection="START", CorrectedImage=["DECY", "ATTN"], PatientWeight="70", SeriesTime="090000",
                   SeriesDate="20240506", NumberOfSlices=SLICES, RadiopharmaceuticalInformationSequence=[drug])


def enhanced() -> Files:
    data = image(0, EXPLICIT, SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", Modality="MR", NumberOfFrames=str(SLICES))
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(data, name)
    data.SharedFunctionalGroupsSequence = [item(
        PixelMeasuresSequence=[item(PixelSpacing=[2.0, 3.0], SliceThickness="4")],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])])]
    data.PerFrameFunctionalGroupsSequence = [item(
        PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 4 * k])],
        MRDiffusionSequence=[item(DiffusionBValue=1000.0, DiffusionGradientDirectionSequence=[
            item(DiffusionGradientOrientation=[0.6, 0.8, 0.0])])]) for k in range(SLICES)]
    data.PixelData = b"".join(pixels(k).tobytes() for k in range(SLICES))
    return {"enhanced.dcm": as_bytes(data)}


def siemens_mosaic() -> Files:
    data = image(0, EXPLICIT, Modality="MR", Manufacturer="SIEMENS", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    lines = ["sSliceArray.lSize = 4"] + [f"sSliceArray.asSlice[{k}].sPosition.dTra = {30 + 4 * k}" for k in range(4)]
    data.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
    data.add_new(0x00291020, "OB", ("\n".join(lines) + " ").encode())
    data.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    data.add_new(0x0019100A, "US", 4)
    data.add_new(0x0019100C, "IS", "1000")
    data.add_new(0x0019100E, "FD", [1.0, 0.0, 0.0])
    return {"mosaic.dcm": as_bytes(data)}


def contours() -> Files:
    data = image(0, EXPLICIT, SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3", Modality="RTSTRUCT",
                 SeriesInstanceUID="1.2.9", SOPInstanceUID="1.2.9.1")
    for name in ("PixelData", "Rows", "Columns", "PixelSpacing", "ImagePositionPatient"):
        delattr(data, name)
    one = item(SeriesInstanceUID=generate_uid(entropy_srcs=[EXPLICIT]))
    data.StructureSetROISequence = [item(ROINumber="1", ROIName=f"aorta {NAME}")]
    data.ROIContourSequence = [item(ReferencedROINumber="1", ContourSequence=[item(
        ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints="3",
        ContourData=[-5, -15, 34, 10, -15, 34, 10, -2, 34])])]
    data.ReferencedFrameOfReferenceSequence = [
        item(RTReferencedStudySequence=[item(RTReferencedSeriesSequence=[one])])]
    return classic(EXPLICIT) | {"rs.dcm": as_bytes(data)}


def segments() -> Files:
    data = image(0, EXPLICIT, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG", NumberOfFrames="2",
                 BitsAllocated=1, BitsStored=1, HighBit=0, SegmentationType="BINARY", SeriesInstanceUID="1.2.8")
    data.SegmentSequence = [item(SegmentNumber=1, SegmentLabel="aorta")]
    data.PerFrameFunctionalGroupsSequence = [item(
        PlanePositionSequence=[item(ImagePositionPatient=[-10, -20, 30 + 4 * k])],
        SegmentIdentificationSequence=[item(ReferencedSegmentNumber=1)]) for k in range(2)]
    data.PixelData = bytes(range(1, 49))
    return {"seg.dcm": as_bytes(data)}


def nifti(pair: bool, suffix: str) -> Files:
    made = (nibabel.Nifti1Pair if pair else nibabel.Nifti1Image)(np.arange(480, dtype=np.int16).reshape(8, 6, 10),
                                                                 np.diag([-2.0, 2, 3, 1]))
    made.header.set_xyzt_units("mm")
    made.header["descrip"] = NAME.encode()
    return written(lambda folder: nibabel.save(made, folder / f"a{suffix}"))


def written(write: Callable[[Path], None]) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir())}


def itk(suffix: str, packed: bool) -> Files:
    made = SimpleITK.GetImageFromArray(np.arange(480, dtype=np.int16).reshape(10, 6, 8))
    return written(lambda folder: SimpleITK.WriteImage(made, str(folder / f"a{suffix}"), packed))


def zipped() -> Files:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in classic(EXPLICIT).items():
            archive.writestr(name, content)
    return {"scan.zip": buffer.getvalue()}


def tarred() -> Files:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in classic(IMPLICIT).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return {"scan.tar": buffer.getvalue()}


@cache
def seeds() -> list[Files]:
    """Every kind once; each is a scan that can be read as it is."""
    return [*(classic(s) for s in (IMPLICIT, EXPLICIT, BIG, DEFLATED, RLE, JPEG_LS, JPEG_2000)), pet(), enhanced(),
            siemens_mosaic(), contours(), segments(), nifti(False, ".nii"), nifti(False, ".nii.gz"),
            nifti(True, ".hdr"), itk(".mha", True), itk(".mha", False), itk(".mhd", False), itk(".nrrd", True),
            itk(".nrrd", False), zipped(), tarred()]


# Damage

Rng = np.random.Generator


def _flip(body: bytearray, rng: Rng) -> None:
    for _ in range(int(rng.integers(1, 12))):
        body[_place(body, rng)] = int(rng.integers(0, 256))


def _cut(body: bytearray, rng: Rng) -> None:
    del body[_place(body, rng):]


def _drop(body: bytearray, rng: Rng) -> None:
    at = _place(body, rng)
    del body[at:at + int(rng.integers(1, 40))]


def _insert(body: bytearray, rng: Rng) -> None:
    at = _place(body, rng)
    body[at:at] = rng.bytes(int(rng.integers(1, 40)))


def _double(body: bytearray, rng: Rng) -> None:
    at, n = _place(body, rng), int(rng.integers(4, 400))
    body[at:at] = body[at:at + n]


def _extreme(body: bytearray, rng: Rng) -> None:
    """A length or number of 2 or 4 bytes set to an extreme."""
    for _ in range(int(rng.integers(1, 4))):
        at, n = _place(body, rng), int(rng.choice([2, 4]))
        values = [0, 1, 2**(8 * n - 1) - 1, 2**(8 * n - 1), 2**(8 * n) - 1, 2**(8 * n) - 2, 65535]
        body[at:at + n] = int(rng.choice(values)).to_bytes(n, "little" if rng.random() < 0.8 else "big")


def _number(body: bytearray, rng: Rng) -> None:
    """A digit in text replaced by another beginning of a number, or by letters."""
    digits = [i for i in range(len(body)) if 48 <= body[i] <= 57]
    if digits:
        at = int(rng.choice(digits))
        body[at:at + 2] = rng.choice([b"-9", b"1e", b"na", b"in", b"9e", b",.", b"\\\\", b"00"]).item()


def _splice(body: bytearray, rng: Rng) -> None:
    """The end of another file."""
    other = seeds()[int(rng.integers(len(seeds())))]
    content = other[sorted(other)[0]]
    body[_place(body, rng):] = content[int(rng.integers(len(content))):]


def _place(body: bytearray, rng: Rng) -> int:
    """A position, more often early: headers are there."""
    return int(len(body) * rng.random() ** 2) if len(body) else 0


DAMAGE = [_flip, _cut, _drop, _insert, _double, _extreme, _number, _splice]


def mutant(seed: int, number: int) -> Files:
    """One damaged scan; the same for the same numbers."""
    rng = np.random.default_rng([seed, number])
    files = dict(seeds()[number % len(seeds())])
    name = sorted(files)[int(rng.integers(len(files)))]
    body = bytearray(files[name])
    for _ in range(int(rng.integers(1, 3))):
        if body:
            DAMAGE[int(rng.integers(len(DAMAGE)))](body, rng)
    return files | {name: bytes(body)}
