"""Original UIDs and patient in place of the hashed ones, for an archive that holds the original images.

No crosswalk is kept anywhere: it is made anew from the scan and the key. Whoever has neither cannot go back.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from pipeline import ingest, uids
from pipeline.ingest.header import keyed
from solvers.errors import BadInput

LEVELS = {"StudyInstanceUID": "study", "SeriesInstanceUID": "series", "FrameOfReferenceUID": "frame"}
PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
           "StudyID", "ReferringPhysicianName")
OWN = ("SOPInstanceUID", "SeriesInstanceUID")
"""What is the result's own: made anew, so that the restored one is not mistaken for the other."""


@dataclass(frozen=True)
class Crosswalk:
    """originals: hashed UID to the hospital's. patients: by original study, its patient and study attributes."""

    originals: Mapping[str, str]
    patients: Mapping[str, Dataset]


def crosswalk(scan: Path, key_file: Path) -> Crosswalk:
    """From the DICOM files of a scan (a file or a folder, unpacked) and the key that the case was made with."""
    if not key_file.is_file():
        raise BadInput("no_crosswalk", "the key that the case was made with is not here", "the key file",
                       "Set ANATWIN_KEY to it. Without the key nothing leads back to the original UIDs.")
    key = ingest.read_or_make_key(key_file)
    originals: dict[str, str] = {}
    patients: dict[str, Dataset] = {}
    for path in sorted([scan] if scan.is_file() else scan.rglob("*")):
        head = _head(path) if path.is_file() else None
        if head is None:
            continue
        originals[uids.of("image", keyed(key, str(head.SOPInstanceUID))[:16])] = str(head.SOPInstanceUID)
        for tag, level in LEVELS.items():
            if head.get(tag):
                originals[uids.of(level, keyed(key, str(head[tag].value)))] = str(head[tag].value)
        patients[str(head.get("StudyInstanceUID", ""))] = head
    return Crosswalk(originals, patients)


def _head(path: Path) -> Dataset | None:
    try:
        head = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID", *LEVELS, *PATIENT])
    except (InvalidDicomError, OSError):
        return None
    return head if head.get("SOPInstanceUID") else None


def restored(files: Sequence[Path], known: Crosswalk, folder: Path) -> list[Path]:
    """The files with original UIDs and patient, in `folder`. All of them must lead back, else none does."""
    out = []
    results = [dcmread(path) for path in files]
    renamed = {str(data[tag].value): uids.of("restored", str(data[tag].value)) for data in results for tag in OWN}
    for path, data in zip(files, results, strict=True):
        _check(data, renamed, known)
        _rename(data, {**known.originals, **renamed})
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        patient = known.patients[str(data.StudyInstanceUID)]
        for tag in PATIENT:
            setattr(data, tag, patient.get(tag, ""))
        data.PatientIdentityRemoved = "NO"
        del data.DeidentificationMethod
        out.append(folder / path.name)
        data.save_as(out[-1])
    return out


def _check(data: Dataset, own: Collection[str], known: Crosswalk) -> None:
    """The study and every image that is cited are in the scan."""
    cited = {str(e.value) for e in data.iterall() if e.keyword == "ReferencedSOPInstanceUID"}
    if str(data.StudyInstanceUID) not in known.originals or cited - set(own) - set(known.originals):
        raise BadInput("no_crosswalk", "the scan does not hold all that the results refer to",
                       "the scan that the case was made of, and the key it was made with",
                       "Without them nothing leads back to the original UIDs.")


def _rename(data: Dataset, new: Mapping[str, str]) -> None:
    """Every UID that has another one, wherever it stands."""
    for element in data.iterall():
        if element.VR == "UI" and str(element.value) in new:
            element.value = new[str(element.value)]
