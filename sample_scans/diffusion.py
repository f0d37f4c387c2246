"""A diffusion phantom: an enhanced MR file of oblique slices with tensors of known anisotropy and direction.

Directions of tracts and gradients are in the patient's frame; the slices are
tilted against it, so that a mix-up of frames shows.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian

from pipeline import formats
from sample_scans.scene import uid, write_nifti
from solvers.geometry.volume import Volume
from solvers.imaging.diffusion import anisotropy
from solvers.randomness import rng

SHAPE, SPACING = (28, 28, 12), 2.5
TURNS = (25.0, -15.0, 20.0)  # degrees about x, y, z of the patient, in this order
B_VALUE, N_DIRECTIONS, N_PLAIN = 1000.0, 24, 2
NOISE = 20.0


@dataclass(frozen=True)
class Part:
    """A region: signal without weighting, eigenvalues in 1e-3 mm^2/s, the main direction (LPS)."""

    name: str
    signal: float
    eigenvalues: tuple[float, float, float]
    direction: tuple[float, float, float] = (0.0, 0.0, 1.0)


PARTS = (Part("grey_matter", 900.0, (0.8, 0.8, 0.8)),
         Part("tract_across", 800.0, (1.6, 0.4, 0.4), (1.0, 0.0, 0.0)),
         Part("tract_oblique", 800.0, (1.4, 0.6, 0.3), (0.48, 0.6, 0.64)),
         Part("ventricle", 1600.0, (3.0, 3.0, 3.0)))


def make(seed: int, scan: Path, truth: Path) -> None:
    """Write the phantom of one seed: `scan` (one DICOM file) and `truth`, both made anew."""
    for folder in (scan, truth):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    labels = parts()
    b_values, directions = weightings()
    _file(_noisy(_signal(labels, b_values, directions), seed), b_values, directions, seed).save_as(
        scan / "dwi.dcm", enforce_file_format=True)
    write_nifti(truth / "regions.nii.gz", Volume(labels, affine()))
    (truth / "regions.tsv").write_text("index\tname\n" + "".join(f"{n}\t{p.name}\n" for n, p in enumerate(PARTS, 1)))
    formats.write_json(truth / "truth.json", {"seed": seed, "frame": "LPS", "regions": [_told(p) for p in PARTS]})


def _told(part: Part) -> dict[str, object]:
    return {"name": part.name, "fa": float(anisotropy(np.array(part.eigenvalues))),
            "md_mm2_s": 1e-3 * float(np.mean(part.eigenvalues)),
            "direction_lps": part.direction if len(set(part.eigenvalues)) > 1 else None}


def affine() -> np.ndarray:
    """Index to LPS mm, centred on the origin."""
    x, y, z = np.radians(TURNS)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    whole = np.eye(4)
    whole[:3, :3] = about_z @ about_y @ about_x * SPACING
    whole[:3, 3] = -whole[:3, :3] @ (np.array(SHAPE) - 1) / 2
    return whole


def parts() -> np.ndarray:
    """Numbers of the parts by voxel, 0 outside: an ellipsoid of grey matter with two tracts and a ventricle."""
    i, j, k = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in SHAPE], indexing="ij")
    labels = np.where((i / 12.5) ** 2 + (j / 12.5) ** 2 + (k / 6.5) ** 2 < 1, 1, 0).astype(np.uint8)
    labels[(np.abs(i) < 9) & (np.abs(j + 5) < 2.6) & (np.abs(k) < 2.6)] = 2
    labels[(np.abs(j - 5) < 3.6) & (np.abs(i + 4) < 2.6) & (np.abs(k) < 3.6)] = 3
    labels[((i - 5) ** 2 + (j - 4) ** 2 < 9) & (np.abs(k) < 3)] = 4
    return labels


def weightings() -> tuple[np.ndarray, np.ndarray]:
    """b-values (n,) and directions (n, 3), LPS: some without, the others spread over half a sphere by a spiral."""
    n = np.arange(N_DIRECTIONS)
    z = (n + 0.5) / N_DIRECTIONS
    angle, ring = n * np.pi * (3 - np.sqrt(5)), np.sqrt(1 - z**2)
    spread = np.column_stack([ring * np.cos(angle), ring * np.sin(angle), z])
    plain = np.zeros((N_PLAIN, 3))
    return np.r_[np.zeros(N_PLAIN), np.full(N_DIRECTIONS, B_VALUE)], np.vstack([plain, spread])


def _signal(labels: np.ndarray, b_values: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """The signal without noise, (i, j, k, n)."""
    whole = np.zeros((*labels.shape, len(b_values)))
    for number, part in enumerate(PARTS, start=1):
        tensor = _tensor(part)
        decay = np.exp(-b_values * np.einsum("ni,ij,nj->n", directions, tensor, directions))
        whole[labels == number] = part.signal * decay
    return whole


def _tensor(part: Part) -> np.ndarray:
    """(3, 3) in mm^2/s, LPS."""
    first = np.array(part.direction) / np.linalg.norm(part.direction)
    second = np.cross(first, [0.3, -0.5, 0.8])
    second /= np.linalg.norm(second)
    axes = np.column_stack([first, second, np.cross(first, second)])
    return axes @ np.diag(1e-3 * np.array(part.eigenvalues)) @ axes.T


def _noisy(signal: np.ndarray, seed: int) -> np.ndarray:
    """The magnitude of a complex signal with noise."""
    draw = rng(seed, "diffusion noise")
    real, imaginary = (draw.normal(scale=NOISE, size=signal.shape) for _ in range(2))
    return np.rint(np.hypot(signal + real, imaginary)).astype(np.uint16)


# DICOM


def _file(values: np.ndarray, b_values: np.ndarray, directions: np.ndarray, seed: int) -> Dataset:
    """All frames in one enhanced MR file."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = EnhancedMRImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = uid(seed, "diffusion", "image")
    for name, value in _study(seed).items():
        setattr(data, name, value)
    data.SharedFunctionalGroupsSequence = [_shared()]
    data.PerFrameFunctionalGroupsSequence = [
        _frame(k, t, b_values[t], directions[t]) for t in range(len(b_values)) for k in range(SHAPE[2])]
    data.NumberOfFrames = len(data.PerFrameFunctionalGroupsSequence)
    data.PixelData = np.ascontiguousarray(values.transpose(3, 2, 1, 0)).tobytes()
    data["PixelData"].VR = "OW"
    return data


def _study(seed: int) -> dict[str, object]:
    """Who, when and how: plausible, and of no person."""
    return {
        "PatientName": "Sample^SyntheticBrain", "PatientID": f"SYD-{seed:04d}", "PatientBirthDate": "19700121",
        "PatientSex": "F", "PatientAge": "054Y", "PatientWeight": "64", "StudyDate": "20240611",
        "StudyTime": "140000", "SeriesDate": "20240611", "SeriesTime": "141000", "AccessionNumber": f"ACD{seed:05d}",
        "ContentDate": "20240611", "ContentTime": "141200", "AcquisitionDateTime": "20240611141000",
        "ReferringPhysicianName": "Nobody^Doctor", "InstitutionName": "Synthetic Hospital", "Manufacturer": "anatwin",
        "ManufacturerModelName": "diffusion.py", "Modality": "MR", "StudyDescription": "MR brain",
        "SeriesDescription": "DTI 24 directions", "ProtocolName": "DTI", "BodyPartExamined": "BRAIN",
        "MagneticFieldStrength": 3.0, "PatientPosition": "HFS", "StudyID": "1", "SeriesNumber": "5",
        "InstanceNumber": "1", "StudyInstanceUID": uid(seed, "diffusion study"),
        "SeriesInstanceUID": uid(seed, "diffusion series"), "FrameOfReferenceUID": uid(seed, "diffusion frame"),
        "PositionReferenceIndicator": "", "ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"],
        "SpecificCharacterSet": "ISO_IR 192", "Rows": SHAPE[1], "Columns": SHAPE[0], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11,
        "PixelRepresentation": 0}


def _shared() -> Dataset:
    """What all frames have in common: orientation, spacing, scale."""
    shared, plane, pixels, scale = Dataset(), Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = [f"{v:.9f}" for v in (affine()[:3, :2] / SPACING).T.ravel()]
    pixels.PixelSpacing, pixels.SliceThickness = [SPACING, SPACING], SPACING
    scale.RescaleIntercept, scale.RescaleSlope, scale.RescaleType = "0", "1", "US"
    shared.PlaneOrientationSequence = [plane]
    shared.PixelMeasuresSequence = [pixels]
    shared.PixelValueTransformationSequence = [scale]
    return shared


def _frame(k: int, time: int, b_value: float, direction: np.ndarray) -> Dataset:
    """Place and weighting of slice k of a volume."""
    frame, content, place, weighting = Dataset(), Dataset(), Dataset(), Dataset()
    content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", k + 1, [1, k + 1, time + 1]
    place.ImagePositionPatient = [f"{v:.6f}" for v in affine()[:3, 3] + k * affine()[:3, 2]]
    weighting.DiffusionBValue = float(b_value)
    weighting.DiffusionDirectionality = "DIRECTIONAL" if b_value else "NONE"
    if b_value:
        gradient = Dataset()
        gradient.DiffusionGradientOrientation = [float(v) for v in direction]
        weighting.DiffusionGradientDirectionSequence = [gradient]
    frame.FrameContentSequence = [content]
    frame.PlanePositionSequence = [place]
    frame.MRDiffusionSequence = [weighting]
    return frame
