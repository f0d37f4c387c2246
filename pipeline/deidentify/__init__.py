"""A scan made fit to leave: DICOM in, clean DICOM out (NIfTI the same), by allow-list; each file told of.

    rules, words, private   what may stay: elements, words, private elements
    clean                   a data set made anew from these
    dicom_file, nifti_file  one file: read, looked at, made anew, read again
    child                   the limited process that does this (ingest's, with one task more)

It reads by ingest's reader: what ingest takes for a patient is one here. A series leaves whole or not at all. Pixels
stay as they are, so that a face or what is written in them is not removed: such a series is refused.

Dates of a patient move by one number of days, which follows from the key, so that intervals stay. UIDs are those by
which the project's own results cite the images (`pipeline.uids`). No crosswalk is kept: scan and key give it anew.
Source: DICOM PS3.15 Annex E, https://dicom.nema.org/medical/dicom/current/output/html/part15.html.
"""

import hmac
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline import formats, ingest
from pipeline.ingest import sidecar
from pipeline.ingest.header import keyed
from pipeline.ingest.ledger import Ledger
from pipeline.ingest.problems import HINTS
from pipeline.ingest.series import Series
from pipeline.ingest.subjects import Index, label_of
from pipeline.ingest.worker import BASE_MEMORY, Reader
from pipeline.stage import Config, Files, Report
from solvers.errors import BadInput
from solvers.geometry.volume import Volume
from solvers.imaging.head import shows_head

VERSION = 1
SOURCES = ["DICOM PS3.15 Annex E, https://dicom.nema.org/medical/dicom/current/output/html/part15.html"]

ACCEPTABLE = {"shows_head": "a head leaves as it is, marked as recognizable",
              "burned_in_text": "images leave with what is written in them"}
"""Refusals that a person may overrule, and what is done then."""
_HINTS = HINTS | {
    "shows_head": "A face can be known again. Take it out first, or, where nobody could: --accept shows_head.",
    "burned_in_text": "Look at the images. Where the text names nobody: --accept burned_in_text.",
    "unsupported_class": "Send the images alone; contours and reports hold names in many places.",
    "unsupported_format": "Convert it to NIfTI.", "hidden_data": "Export the series again, uncompressed.",
    "would_change": "Take the file to `anatwin ingest`, whose output holds nothing that names.",
    "mixed_patients": "Find out whose images these are before going on.",
    "contradicting_copies": "Find out which of them is right."}


class DeidentifyConfig(Config):
    """accept: codes of refusals that you overrule, of ACCEPTABLE."""

    accept: tuple[Literal["shows_head", "burned_in_text"], ...] = ()


class DeidentifyInputs(Files):
    """A scan of any number of patients, and the file with the secret behind labels, UIDs and dates."""

    scan: Path
    key: Path


class DeidentifyOutputs(Files):
    images: Path = Path("images")
    account: Path = Path("deidentify.json")


class DeidentifyReport(Report):
    n_files: int
    n_written: int
    n_series_written: int
    n_series_refused: int


@dataclass(frozen=True)
class _Group:
    """Files of one series (or one NIfTI), and the volumes that ingest makes of them."""

    name: str
    files: tuple[int, ...]
    volumes: tuple[Series, ...]


@dataclass(frozen=True)
class _Work:
    """What all groups share."""

    found: Index
    key: bytes
    scratch: Path
    reader: Reader
    accept: tuple[str, ...]


def deidentify(inputs: DeidentifyInputs, config: DeidentifyConfig, outputs: DeidentifyOutputs) -> DeidentifyReport:
    """Clean files in `images`, and in `account` what became of every series and file. Raises BadInput `nothing_found`.

    images: sub-<label>/<study>/<series>/<instance>.dcm and sub-<label>/<volume>.nii.gz, all names made of hashes.
    """
    key = ingest.read_or_make_key(inputs.key)
    outputs.images.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=outputs.images.parent) as folder, \
            Reader("pipeline.deidentify.child") as reader:
        found = ingest.index(inputs.scan, key, Path(folder) / "unpacked", reader)
        work = _Work(found, key, Path(folder), reader, config.accept)
        told, rows = {}, []
        for group in _groups(found):
            fates, refused = _one(group, work, outputs.images)
            told.update(fates)
            rows.append(_row(group, fates, refused, work))
    ledger = _ledger(found, told)
    formats.write_json(outputs.account, {"series": rows, "refused": [r.as_dict() for r in found.refused],
                                         "files": ledger.as_dict()})
    n_refused = sum(r["refusal"] is not None for r in rows)
    return DeidentifyReport(n_files=ledger.total, n_written=ledger.used, n_series_written=len(rows) - n_refused,
                            n_series_refused=n_refused)


def _groups(found: Index) -> list[_Group]:
    """Files that belong together: by series, or each alone."""
    by: dict[str, list[int]] = {}
    for n, head in enumerate(found.heads):
        by.setdefault(head.get("series") or f"file {n}", []).append(n)
    groups = []
    for numbers in by.values():
        volumes = tuple(s for s in found.series if s.files and set(s.files) <= set(numbers) and s.region is None)
        named = [s.name for s in found.series if set(s.files) & set(numbers)]
        groups.append(_Group(named[0] if named else f"file-{numbers[0] + 1:03d}", tuple(numbers), volumes))
    return sorted(groups, key=lambda g: g.name)


def _row(group: _Group, fates: Mapping[int, tuple[str, str]], refused: BadInput | None, work: _Work) -> dict[str, Any]:
    owner = _owner(group, work)
    n_written = sum(fate == "used" for fate, _ in fates.values())
    return {"subject": _label(owner, work.key) if owner else "", "series": group.name, "n_files": len(group.files),
            "n_written": n_written, "refusal": refused.as_dict() if refused else None}


def _ledger(found: Index, told: Mapping[int, tuple[str, str]]) -> Ledger:
    counts = Counter(fate for fate, _ in told.values())
    refused = Counter(why for fate, why in told.values() if fate == "refused")
    refused.update(problem.code for problem in found.refused)
    return Ledger(found.n_files, counts["used"], counts["duplicate"], dict(refused), dict(found.ignored))


# Whose

def _owner(group: _Group, work: _Work) -> str:
    """The patient, by keyed hash; for a NIfTI its own name, which goes no further than the hash of it."""
    first = group.files[0]
    return work.found.heads[first].get("patient") or f"file:{work.found.files[first].name}"


def _label(owner: str, key: bytes) -> str:
    return label_of(owner, key)


def _shift_days(owner: str, key: bytes) -> int:
    """One to ten years back, the same for all that a patient has."""
    digest = hmac.new(key, f"shift:{owner}".encode(), "sha256").digest()
    return -366 - int.from_bytes(digest[:8], "big") % 3285


# One series

def _one(group: _Group, work: _Work, images: Path) -> tuple[dict[int, tuple[str, str]], BadInput | None]:
    """The fate of each file, and the refusal of the whole if there is one."""
    try:
        _check_whose(group, work)
        drafts = _drafts(group, work)
        _check_face(group, drafts, work)
        return _publish(group, drafts, work, images), None
    except BadInput as problem:
        return dict.fromkeys(group.files, ("refused", problem.code)), problem


def _refusal(code: str, happened: str) -> BadInput:
    return BadInput(code, happened, "images that name and show nobody", _HINTS[code])


def _check_whose(group: _Group, work: _Work) -> None:
    heads = [work.found.heads[n] for n in group.files]
    kinds = {work.found.files[n].kind for n in group.files}
    if not kinds <= {"dicom", "nifti"}:
        raise _refusal("unsupported_format", "MetaImage and NRRD are not written")
    for head in heads:
        if head["problem"]:
            raise BadInput(head["problem"][0], head["problem"][1], "a readable image", _HINTS[head["problem"][0]])
    for which in range(3):
        if len({h["identity"][which] for h in heads if "identity" in h}) > 1:
            raise _refusal("mixed_patients", "files of one series carry the identity of more than one patient")


def _drafts(group: _Group, work: _Work) -> list[tuple[Path, dict[str, Any]]]:
    """Clean files in the scratch folder with what was seen of each. Raises the first problem."""
    owner, files = _owner(group, work), [work.found.files[n] for n in group.files]
    folder = work.scratch / f"clean-{group.files[0]}"
    folder.mkdir()
    suffix = ".nii.gz" if files[0].kind == "nifti" else ".dcm"
    pairs = [(f.path, folder / f"{n}{suffix}") for n, f in zip(group.files, files, strict=True)]
    sizes = [f.path.stat().st_size for f in files]
    n_frames = sum(work.found.heads[n].get("n_frames") or 1 for n in group.files)
    answers = work.reader.ask({
        "task": "clean", "kind": files[0].kind, "key": work.key.hex(), "label": _label(owner, work.key),
        "shift_days": _shift_days(owner, work.key), "accept": list(work.accept),
        "files": [[str(a), str(b)] for a, b in pairs], "memory": BASE_MEMORY + 64 * max(sizes) + 2**30,
        "seconds": 30 + n_frames + sum(sizes) // 20_000})
    for answer in answers:
        if "os_error" in answer:
            raise OSError(answer["os_error"], "the disk refused a file")
        if "problem" in answer:
            code = answer["problem"][0]
            raise BadInput(code, answer["problem"][1], "an image that can be cleaned whole", _HINTS.get(code, ""))
    if len(answers) < len(pairs):
        raise _refusal("decoder_died", "a file stopped its reader: it is corrupt, or needs more than is allowed")
    lettered = next((a["lettered"] for a in answers if a["lettered"]), "")
    if lettered and "burned_in_text" not in work.accept:
        raise _refusal("burned_in_text", lettered)
    return [(out, answer) for (_, out), answer in zip(pairs, answers, strict=True)]


def _check_face(group: _Group, drafts: Sequence[tuple[Path, dict[str, Any]]], work: _Work) -> None:
    """Refused: a head by name, by its look, or what could not be looked at and says no other part of the body."""
    if "shows_head" in work.accept:
        return
    if any(answer["head"] for _, answer in drafts):
        raise _refusal("shows_head", "the header says that the images show a head, or the whole body")
    volumes = [s for s in group.volumes if s.problem is None]
    if any(_looks_like_a_head(s, work) for s in volumes):
        raise _refusal("shows_head", "the images seem to show a head")
    if not volumes and not work.found.heads[group.files[0]].get("body_part"):
        raise _refusal("shows_head", "the header names no part of the body, and the images make no volume that could "
                                     "be looked at: they may show a head")


def _looks_like_a_head(one: Series, work: _Work) -> bool:
    values, _ = ingest.decode(one, work.found, work.scratch, work.reader)
    first = np.asarray(values if values.ndim == 3 else values[..., 0])
    assert one.affine is not None
    modality = one.modality or sidecar.infer_modality(first)
    return shows_head(Volume(first, one.affine), is_ct=modality == "CT")


def _publish(group: _Group, drafts: Sequence[tuple[Path, dict[str, Any]]], work: _Work,
             images: Path) -> dict[int, tuple[str, str]]:
    """Put the drafts where they stay; a second copy of an image is left out."""
    places = [images / _place(n, group, work) for n in group.files]
    first: dict[Path, Path] = {}
    fates: dict[int, tuple[str, str]] = {}
    for n, (draft, _), place in zip(group.files, drafts, places, strict=True):
        if place in first and draft.read_bytes() != first[place].read_bytes():
            raise _refusal("contradicting_copies", "two different images have one identifier")
        fates[n] = ("duplicate", "") if place in first else ("used", "")
        first.setdefault(place, draft)
    for place, draft in first.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(place)
    return fates


def _place(number: int, group: _Group, work: _Work) -> Path:
    head, folder = work.found.heads[number], Path(f"sub-{_label(_owner(group, work), work.key)}")
    if work.found.files[number].kind == "nifti":
        return folder / f"{keyed(work.key, work.found.files[number].name)[:16]}.nii.gz"
    return folder / head["study"][:12] / head["series"][:12] / f"{head['sop'][:16]}.dcm"
