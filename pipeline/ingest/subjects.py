"""Whose files are whose: one case per patient, named by a keyed hash, never by the identifier.

A patient's label depends on the key and the patient alone: another patient
added later renames nobody. Volumes without a patient in their header (NIfTI,
MetaImage, NRRD) are a subject each, or one per BIDS `sub-` folder.
"""

import base64
import hmac
import os
import re
import secrets
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.ingest import discover, worker
from pipeline.ingest.masks import with_masks
from pipeline.ingest.series import Head, Series, build
from solvers.errors import BadInput

_BIDS = re.compile(r"(?:^|[/_])sub-([0-9A-Za-z]+)(?=[/_.]|$)")
_SERIAL = re.compile(r"[0-9]{1,3}")
"""A BIDS name that only counts. Any other may be somebody's name or record number, and is hashed."""


@dataclass(frozen=True)
class SubjectScan:
    """The files of one patient, which may lie in the scratch folder given to `subjects`, and where each is to go."""

    label: str
    files: tuple[Path, ...]
    places: tuple[str, ...]

    def gather(self, folder: Path) -> Path:
        """A folder (outside OUT) with these files alone, those of one folder together: what `ingest` is given."""
        for path, place in zip(self.files, self.places, strict=True):
            target = folder / f"sub-{self.label}" / place
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target)
            except OSError:
                shutil.copyfile(path, target)
        return folder


@dataclass(frozen=True)
class Discovery:
    """The patients of a scan, what could not be given to any, and how many files were passed over and why."""

    subjects: tuple[SubjectScan, ...]
    refused: tuple[BadInput, ...]
    ignored: Mapping[str, int]


@dataclass(frozen=True)
class Index:
    """All that the headers of a scan say: files, their headers, and the series made of them."""

    files: tuple[discover.Found, ...]
    heads: tuple[Head, ...]
    series: tuple[Series, ...]
    refused: tuple[BadInput, ...]
    ignored: Mapping[str, int]
    n_files: int = 0
    doubtful: tuple[discover.Found, ...] = ()

    def patients(self) -> dict[str, list[Series]]:
        """Series by patient (a keyed hash); series without a patient are left out."""
        found: dict[str, list[Series]] = {}
        for one in self.series:
            owner = owner_of(one)
            if owner is not None:
                found.setdefault(owner, []).append(one)
        return found


def read_or_make_key(path: Path) -> bytes:
    """The secret behind labels and ids: 32 bytes as hex in a file of the user's own, made when absent."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_key(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return read_or_make_key(path)
    key = secrets.token_bytes(32)
    with os.fdopen(handle, "w") as file:
        file.write(key.hex() + "\n")
    return key


def _read_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError:
        key = b""
    if len(key) < 16:
        raise BadInput("bad_key", "the key file does not hold a key", "at least 32 hexadecimal digits",
                       "Give another file, or remove it to have one made (labels will change).")
    return key


def index(scan: Path, key: bytes, scratch: Path, reader: worker.Reader | None = None,
          accept: Collection[str] = ()) -> Index:
    """Read all headers of a scan; archives are unpacked into `scratch`, which must outlive the result.

    reader: a child that goes on to decode; absent, one is started for the headers alone.
    accept: codes of refusals that the person overrules.
    """
    if reader is None:
        with worker.Reader() as own:
            return index(scan, key, scratch, own, accept)
    found = discover.discover(Path(scan), scratch)
    heads = worker.describe(found.files, key, reader)
    made = with_masks(build(found.files, heads, found.doubtful, accept), heads)
    return Index(tuple(found.files), tuple(heads), tuple(made), tuple(found.refused), dict(found.ignored),
                 found.n_files, tuple(found.doubtful))


def subjects(scan: Path, key: bytes, scratch: Path, labels: Mapping[str, str] | None = None) -> Discovery:
    """The patients of a scan with their files, by label.

    labels: the user's own map from patient identifier (or, for volumes without
    one, BIDS name or path within the scan) to label. A series with two identities in it
    belongs to nobody and is among the refused.
    """
    found = index(scan, key, scratch)
    given = _keyed_labels(labels or {}, key)
    people = [_subject(label_of(owner, key, given), owned, found) for owner, owned in found.patients().items()]
    nobody = [s.problem for s in found.series if owner_of(s) is None and s.problem is not None]
    return Discovery(tuple(sorted(people, key=lambda s: s.label)), (*found.refused, *nobody), found.ignored)


def _subject(label: str, owned: Sequence[Series], found: Index) -> SubjectScan:
    """The files of some series, and the broken ones beside them, which may be slices of theirs."""
    numbers = sorted({n for one in owned for n in one.files})
    folders = {found.files[n].folder for n in numbers if found.files[n].kind == "dicom"}
    known = {n for one in found.series for n in (*one.files, *one.copies)}
    loose = [f for n, f in enumerate(found.files) if n not in known and found.heads[n]["problem"]]
    near = [f for f in (*loose, *found.doubtful) if f.folder in folders]
    files, places, order = [], [], sorted({found.files[n].folder for n in numbers})
    for i, one in enumerate([*(found.files[n] for n in numbers), *near]):
        paths = _with_companion(one.path)
        files += paths
        places += [f"pair-{i:06d}/{p.name}" for p in paths] if len(paths) > 1 else [
            f"{order.index(one.folder):04d}/{i:06d}{_suffix(one.path)}"]
    return SubjectScan(label, tuple(files), tuple(places))


def owner_of(one: Series) -> str | None:
    """The patient of a series; None when it has two, or none."""
    if one.problem is not None and one.problem.code == "mixed_patients":
        return None
    return _group_of(one.patient) if one.patient else None


def _group_of(patient: str) -> str:
    """A BIDS `sub-` name joins the volumes of one subject."""
    match = _BIDS.search(patient.removeprefix("file:")) if patient.startswith("file:") else None
    return f"bids:{match[1]}" if match else patient


def label_of(owner: str, key: bytes, given: Mapping[str, str] | None = None) -> str:
    """The label of a patient: the user's, the BIDS name where it is a serial number, or a keyed hash (8 letters)."""
    if given and owner in given:
        return given[owner]
    if owner.startswith("bids:") and _SERIAL.fullmatch(owner.removeprefix("bids:")):
        return owner.removeprefix("bids:")
    digest = hmac.new(key, f"label:{owner}".encode(), "sha256").digest()
    return base64.b32encode(digest[:5]).decode().lower()


def _keyed_labels(labels: Mapping[str, str], key: bytes) -> dict[str, str]:
    """The user's map with its identifiers hashed as the child does; labels must be fit for folder names."""
    if not labels:
        return {}
    from pipeline.ingest.header import keyed

    bad = [label for label in labels.values() if not re.fullmatch(r"[0-9A-Za-z]+", label)]
    if bad or len(set(labels.values())) < len(labels):
        raise BadInput("bad_labels", "labels must be letters and digits, each used once", "such as 01 or patientA",
                       "Correct the table of labels.")
    return {form: label for name, label in labels.items()
            for form in (keyed(key, name), f"file:{name}", f"bids:{name.removeprefix('sub-')}")}


def _with_companion(path: Path) -> list[Path]:
    """A header with its detached image."""
    if path.suffix.lower() not in (".hdr", ".mhd", ".nhdr"):
        return [path]
    others = [p for p in path.parent.glob(f"{glob_safe(path.stem)}.*") if p != path]
    return [path, *sorted(o for o in others if o.suffix.lower() in (".img", ".raw", ".zraw", ".gz"))]


def glob_safe(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _suffix(path: Path) -> str:
    low = path.name.lower()
    return ".nii.gz" if low.endswith(".nii.gz") else path.suffix.lower() if re.fullmatch(
        r"\.(dcm|ima|nii|mha|nrrd)", path.suffix.lower()) else ""


def only(found: Index, label: str, key: bytes, given: Mapping[str, str] | None = None) -> Sequence[Series]:
    """The series of one patient."""
    return [s for owner, owned in found.patients().items() if label_of(owner, key, given) == label for s in owned]
