"""The images that results refer to, as headers without pixels: de-identified, on the case's grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from pipeline import uids
from solvers.errors import BadInput

METHOD = "anatwin: identifiers as keyed hashes, without dates and texts"


@dataclass(frozen=True)
class Source:
    """`headers`: one a slice, in the order of the grid. `is_cited`: whether those images exist as DICOM."""

    headers: list[Dataset]
    is_cited: bool

    @property
    def first(self) -> Dataset:
        return self.headers[0]


def source(facts: Mapping[str, Any], affine: np.ndarray, size: tuple[int, ...], subject: str, digest: str) -> Source:
    """The source of a volume on `affine` (LPS mm, index to patient) with the sidecar `facts`.

    size: (i, j, k). digest: stands for the volume where the sidecar knows no study or series. A volume whose slices
    are not one image each (not DICOM, multi-frame, resampled) cites nothing.
    """
    ids = facts.get("slice_ids") or []
    is_cited = bool(facts.get("study_id")) and len(set(ids)) == size[2] and not facts.get("resampled")
    if not is_cited:
        ids = [f"{digest}:{k}" for k in range(size[2])]
    common = _common(facts, affine, size, subject, digest)
    headers = []
    for k, one in enumerate(ids):
        header = Dataset()
        header.update(common)
        header.SOPInstanceUID = uids.of("image", one)
        header.ImagePositionPatient = _numbers(affine[:3, 3] + k * affine[:3, 2])
        header.InstanceNumber = k + 1
        headers.append(header)
    return Source(headers, is_cited)


def _common(facts: Mapping[str, Any], affine: np.ndarray, size: tuple[int, ...], subject: str, digest: str) -> Dataset:
    """What all slices share."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / spacing
    if abs(axes[:, 0] @ axes[:, 1]) > 1e-4:
        raise BadInput("not_a_dicom_grid", "rows and columns of the volume are not at right angles",
                       "a grid that DICOM can hold", "Resample the volume to an upright grid.")
    header = Dataset()
    is_mr = facts["modality"] == "MR"
    header.SOPClassUID = facts.get("sop_class") or (MRImageStorage if is_mr else CTImageStorage)
    header.Modality = facts["modality"]
    header.StudyInstanceUID = uids.of("study", facts.get("study_id") or digest)
    header.SeriesInstanceUID = uids.of("series", facts.get("series_id") or digest)
    header.FrameOfReferenceUID = uids.of("frame", facts.get("frame_of_reference") or digest)
    header.PatientID, header.PatientName = subject, f"{subject}^"
    header.PatientSex = facts.get("sex") or ""
    header.PatientIdentityRemoved, header.DeidentificationMethod = "YES", METHOD
    for empty in ("PatientBirthDate", "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName",
                  "PositionReferenceIndicator"):
        setattr(header, empty, "")
    header.Columns, header.Rows = size[:2]
    header.ImageOrientationPatient = _numbers(np.r_[axes[:, 0], axes[:, 1]])
    header.PixelSpacing = _numbers(spacing[[1, 0]])
    between = abs(float(affine[:3, 2] @ np.cross(axes[:, 0], axes[:, 1])))
    header.SliceThickness = header.SpacingBetweenSlices = _numbers(np.array([between]))[0]
    return header


def _numbers(values: np.ndarray) -> list[str]:
    """Decimal strings: at most 16 characters each."""
    return [format_number_as_ds(float(v) + 0.0) for v in values]
