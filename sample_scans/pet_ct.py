"""A PET with its CT: the trunk of `scene` with three lesions of known place, size and SUV, and a liver of known SUV.

Activity follows from SUV, dose, decay and weight, and back through the header's
facts alone. Uptake is blurred as a scanner would and given noise.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, JPEGLSLossless, PositronEmissionTomographyImageStorage
from scipy.ndimage import gaussian_filter

from pipeline import formats
from sample_scans.scene import Grid, ellipsoid, painter, softly, surroundings, uid, write_nifti
from solvers.geometry.volume import Volume
from solvers.randomness import rng

CENTRE = (0.0, 8.0, 60.0)
PET = Grid((60, 48, 40), (4.0, 4.0, 4.0), CENTRE)
CT = Grid((120, 96, 40), (2.0, 2.0, 4.0), CENTRE)
FINER = 2
BLUR = 5.0 / 2.3548  # mm, standard deviation for 5 mm full width at half maximum
NOISE = 0.025  # of the local uptake, one standard deviation

WEIGHT, HEIGHT, SEX = 79.0, 1.76, "M"
DOSE, HALF_LIFE, DELAY = 350e6, 6586.2, 3600.0  # Bq at injection, s, s from injection to scan
SUV = {"body": 0.5, "liver": 2.0, "kidney": 1.8}
LIVER = ((-62.0, -22.0, 88.0), (44.0, 44.0, 46.0))


@dataclass(frozen=True)
class Lesion:
    """A sphere: centre LPS mm, radius mm, SUV before the scanner's blur."""

    centre: tuple[float, float, float]
    radius: float
    suv: float


LESIONS = (Lesion((45.0, -25.0, 20.0), 15.0, 9.0), Lesion((-48.0, -28.0, 4.0), 11.0, 6.0),
           Lesion((42.0, -18.0, 108.0), 13.0, 3.3))


def make(seed: int, scan: Path, truth: Path) -> None:
    """Write the pair of one seed: `scan` (two DICOM series) and `truth`, both made anew."""
    for folder in (scan, truth):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    clean = uptake()
    draw = rng(seed, "pet noise")
    grain = gaussian_filter(draw.standard_normal(PET.shape), 0.6)
    suv = np.clip(clean * (1 + NOISE * grain / grain.std()), 0, None)
    _write_series(scan / "pet", PET, suv * _activity_per_suv(), seed, "pet")
    _write_series(scan / "ct", CT, _ct(seed), seed, "ct")
    _write_truth(truth, seed, clean)


def _activity_per_suv() -> float:
    """Bq/mL at the start of the scan in tissue of SUV 1."""
    return DOSE * 2.0 ** (-DELAY / HALF_LIFE) / (1000 * WEIGHT)


def uptake() -> np.ndarray:
    """SUV as the scanner sees it, without noise: painted finer, blurred, then the mean over each voxel."""
    fine = Grid(tuple(n * FINER for n in PET.shape), tuple(s / FINER for s in PET.spacing), PET.centre)
    x, y, z = fine.axes()
    image = np.zeros(fine.shape, np.float32)
    lay = painter(image)
    lay(softly((np.sqrt((x / 109) ** 2 + ((y - 8) / 84) ** 2) - 1) * 84 + 0 * z), SUV["body"])
    for sign, lift in ((1, 3), (-1, -4)):
        lay(softly(ellipsoid(fine.axes(), (sign * 70 + 3, 36.0, 50.0 + lift), (23, 21, 46))), SUV["kidney"])
    lay(softly(ellipsoid(fine.axes(), *LIVER)), SUV["liver"])
    for lesion in LESIONS:
        lay(np.clip(0.5 - _from(fine, lesion) / fine.spacing[0], 0, 1), lesion.suv)
    blurred = gaussian_filter(image, BLUR / fine.spacing[0], truncate=3.0)
    n = PET.shape
    return blurred.reshape(n[0], FINER, n[1], FINER, n[2], FINER).mean(axis=(1, 3, 5)).astype(float)


def _from(grid: Grid, lesion: Lesion) -> np.ndarray:
    """Distance in mm from a lesion's edge, negative inside."""
    squares = sum((a - c) ** 2 for a, c in zip(grid.axes(), lesion.centre, strict=True))
    return np.sqrt(squares) - lesion.radius


def _ct(seed: int) -> np.ndarray:
    """The native CT in HU: lesions are of soft tissue."""
    image = surroundings(CT, seed, "CT")
    lay = painter(image)
    lay(softly(ellipsoid(CT.axes(), *LIVER)), 60.0)
    for lesion in LESIONS:
        lay(softly(_from(CT, lesion)), 45.0)
    noise = gaussian_filter(rng(seed, "ct noise").standard_normal(CT.shape), (0.5, 0.5, 0))
    return np.clip(np.rint(gaussian_filter(image, 0.4) + 12 * noise / noise.std()), -1024, 3071)


def _write_truth(folder: Path, seed: int, clean: np.ndarray) -> None:
    """truth.json, and the liver as a label map on the CT's grid with its table."""
    mask = ellipsoid(CT.axes(), *LIVER) < 0
    write_nifti(folder / "organs.nii.gz", Volume(mask.astype(np.uint8), CT.affine))
    (folder / "organs.tsv").write_text("index\tname\n1\tliver\n")
    formats.write_json(folder / "truth.json", {
        "seed": seed, "unit": "mm, mL, SUV in g/mL", "liver_suv": SUV["liver"], "noise": NOISE,
        "activity_per_suv_bq_ml": _activity_per_suv(), "lesions": [_told(lesion, clean) for lesion in LESIONS]})


def _told(lesion: Lesion, clean: np.ndarray) -> dict[str, object]:
    """A lesion's truth: as it is, and the hottest voxel that a scanner without noise would show."""
    near = np.broadcast_to(_from(PET, lesion), PET.shape) < 6.0
    volume = 4 / 3 * np.pi * lesion.radius**3 / 1000
    return {"centre_lps": lesion.centre, "radius": lesion.radius, "suv": lesion.suv, "volume_ml": volume,
            "suv_max_seen": float(clean[near].max())}


# DICOM


def _write_series(folder: Path, grid: Grid, values: np.ndarray, seed: int, kind: str) -> None:
    """One series, one file a slice, JPEG-LS lossless."""
    folder.mkdir(parents=True)
    for k in range(grid.shape[2]):
        _slice(grid, values[:, :, k].T, k, seed, kind).save_as(folder / f"IM{k + 1:04d}.dcm", enforce_file_format=True)


def _slice(grid: Grid, plane: np.ndarray, k: int, seed: int, kind: str) -> Dataset:
    stored, scale = _stored(plane, kind)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGLSLossless
    data.SOPClassUID = PositronEmissionTomographyImageStorage if kind == "pet" else CTImageStorage
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = uid(seed, kind, "image", k)
    series = _pet_series(k) if kind == "pet" else _ct_series()
    for name, value in (_study(seed, kind) | series | _geometry(grid, k, stored) | scale).items():
        setattr(data, name, value)
    if kind == "pet":
        data.RadiopharmaceuticalInformationSequence = [_tracer()]
    data.PixelData = encapsulate([imagecodecs.jpegls_encode(stored)])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    return data


def _stored(plane: np.ndarray, kind: str) -> tuple[np.ndarray, dict[str, object]]:
    """The numbers in the file and their scale: a PET fills its range slice by slice, as scanners do."""
    if kind == "ct":
        return (plane.astype(np.int32) + 1024).astype(np.uint16), {"RescaleIntercept": "-1024", "RescaleSlope": "1",
                                                                   "RescaleType": "HU"}
    slope = f"{max(float(plane.max()), 1.0) / 4095:.8g}"
    return np.rint(plane / float(slope)).astype(np.uint16), {"RescaleIntercept": "0", "RescaleSlope": slope}


def _study(seed: int, kind: str) -> dict[str, object]:
    """Who, when and how: plausible, and of no person."""
    return {
        "PatientName": "Sample^SyntheticPet", "PatientID": f"SYP-{seed:04d}", "PatientBirthDate": "19610802",
        "PatientSex": SEX, "PatientAge": "062Y", "PatientSize": f"{HEIGHT}", "PatientWeight": f"{WEIGHT:g}",
        "StudyDate": "20240506", "StudyTime": "093000", "SeriesDate": "20240506", "AcquisitionDate": "20240506",
        "AccessionNumber": f"ACP{seed:05d}", "ReferringPhysicianName": "Nobody^Doctor",
        "InstitutionName": "Synthetic Hospital", "Manufacturer": "anatwin", "ManufacturerModelName": "pet_ct.py",
        "StudyDescription": "FDG PET/CT trunk", "PatientPosition": "HFS", "StudyID": "1",
        "StudyInstanceUID": uid(seed, "pet study"), "SeriesInstanceUID": uid(seed, kind, "pet series"),
        "FrameOfReferenceUID": uid(seed, "pet frame"), "PositionReferenceIndicator": "",
        "SpecificCharacterSet": "ISO_IR 192"}


def _pet_series(k: int) -> dict[str, object]:
    return {"Modality": "PT", "SeriesNumber": "2", "SeriesDescription": "PET AC", "SeriesTime": "103000",
            "AcquisitionTime": f"10{30 + 2 * (k // 20):02d}00", "Units": "BQML", "DecayCorrection": "START",
            "CorrectedImage": ["DECY", "ATTN", "SCAT", "RAN", "NORM"], "SeriesType": ["WHOLE BODY", "IMAGE"],
            "NumberOfSlices": PET.shape[2], "ImageType": ["ORIGINAL", "PRIMARY"], "FrameReferenceTime": "0",
            "CountsSource": "EMISSION", "ActualFrameDuration": "120000"}


def _ct_series() -> dict[str, object]:
    return {"Modality": "CT", "SeriesNumber": "1", "SeriesDescription": "CT attenuation", "SeriesTime": "102500",
            "AcquisitionTime": "102500", "KVP": "120", "ConvolutionKernel": "soft",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}


def _tracer() -> Dataset:
    """FDG, injected one hour before the scan."""
    code, tracer = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C-111A1", "SRT", "^18^Fluorine"
    tracer.Radiopharmaceutical = "FDG"
    tracer.RadiopharmaceuticalStartTime = "093000"
    tracer.RadionuclideTotalDose = f"{DOSE:.0f}"
    tracer.RadionuclideHalfLife = f"{HALF_LIFE}"
    tracer.RadionuclideCodeSequence = [code]
    return tracer


def _geometry(grid: Grid, k: int, stored: np.ndarray) -> dict[str, object]:
    origin = grid.affine[:3, 3] + [0, 0, k * grid.spacing[2]]
    return {"Rows": stored.shape[0], "Columns": stored.shape[1], "InstanceNumber": str(k + 1),
            "ImagePositionPatient": [f"{v:.4f}" for v in origin], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [f"{grid.spacing[1]}", f"{grid.spacing[0]}"], "SliceThickness": f"{grid.spacing[2]}",
            "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 12,
            "HighBit": 11, "PixelRepresentation": 0}
