"""A scan in any shape to a checked volume, or a refusal that says why.

    discover   which files could be images: regular files, archives unpacked, told by their first bytes
    child      the limited process that touches foreign bytes: header, vendor (DICOM), codecs, grids (NIfTI, MHA, NRRD)
    worker     the parent's side of it: whatever happens to the child happens to one file
    split      frames at one place told apart: echoes, phases, times, diffusion
    regions    contours and segmentations in the child; masks: the same as series, one a region
    series     headers to series: grouped, checked, placed (solvers.geometry.frames); nothing decoded yet
    choose     the series for a recipe and why; why not for each other
    sidecar    what later stages may know; suv: PET
    ledger     what became of every file: used, duplicate, refused, passed over
    subjects   whose files are whose: keyed labels, one case per patient

A series is read whole or not at all. Identifiers become keyed hashes inside the
child; free text and dates become flags, ages and intervals there. No path, name
or date is in an output or a message.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.ingest import choose, ledger, sidecar, worker
from pipeline.ingest.ledger import Ledger
from pipeline.ingest.series import ACCEPTABLE, MODALITIES, Series
from pipeline.ingest.subjects import (
    Discovery,
    Index,
    SubjectScan,
    index,
    label_of,
    owner_of,
    read_or_make_key,
    subjects,
)
from pipeline.ingest.worker import Reader
from pipeline.stage import Config, Files, Report
from solvers.errors import BadInput
from solvers.geometry.volume import Volume

__all__ = ["ACCEPTABLE", "Discovery", "Index", "IngestConfig", "IngestInputs", "IngestOutputs", "IngestReport",
           "Ledger", "Options", "Outcome", "Reading", "SubjectScan", "index", "ingest", "ingest_all", "read_all",
           "read_or_make_key", "subjects"]

VERSION = 1
SOURCES = ["DICOM PS3.3 C.7.6.2 (image plane), https://dicom.nema.org/medical/dicom/current/output/html/part03.html"]


Acceptable = Literal["missing_slice", "uneven_slices", "conflicting_geometry"]


class IngestConfig(Config):
    """`series`: the name of one series (as listed in series.json), else the best is chosen.

    `accept`: codes of refusals that you overrule, as missing_slice (`anatwin ingest --help` says what is done then).
    """

    series: str | None = None
    modality: tuple[str, ...] = ("CT", "MR")
    min_slices: int = 8
    prefer_contrast: bool = True
    accept: tuple[Acceptable, ...] = ()


class IngestInputs(Files):
    """A scan of one patient; `key` is the file with the secret behind ids (absent: no ids are written)."""

    scan: Path
    key: Path | None = None


class IngestOutputs(Files):
    volume: Path = Path("volume.nii.gz")
    sidecar: Path = Path("volume.json")
    series: Path = Path("series.json")


class IngestReport(Report):
    series: str
    modality: str
    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    n_series: int
    n_files: int
    why: str
    warnings: tuple[str, ...]


def ingest(inputs: IngestInputs, config: IngestConfig, outputs: IngestOutputs) -> IngestReport:
    """One volume for the recipe, with its sidecar and the list of all series.

    Raises BadInput `mixed_patients` when the scan holds more than one patient
    (see `subjects`), and the code of the best candidate when none can be read.
    """
    key = read_or_make_key(inputs.key) if inputs.key else None
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=outputs.volume.parent) as folder, Reader() as reader:
        scratch = Path(folder)
        found = index(inputs.scan, key or bytes(32), scratch, reader, config.accept)
        _check_something(found)
        _check_one_patient(found)
        chosen, rows = choose.choose(found.series, config.modality, config.series, config.min_slices,
                                     config.prefer_contrast)
        facts = _write(chosen, found, outputs.volume, outputs.sidecar, scratch, reader,
                       has_key=key is not None)
        _check_modality(facts, config)
    why = next(r["why"] for r in rows if r["chosen"])
    _write_json(outputs.series, {"series": rows, "refused": [r.as_dict() for r in found.refused],
                                 "files": ledger.of(found, [_choice(s, s is chosen) for s in found.series]).as_dict()})
    return IngestReport(series=chosen.name, modality=facts["modality"], size=tuple(facts["size"]),
                        spacing_mm=tuple(facts["spacing_mm"]), n_series=len(found.series), n_files=len(chosen.files),
                        why=why, warnings=tuple(facts["warnings"]))


def _choice(one: Series, is_chosen: bool) -> tuple[Series, str, str]:
    """The fate of a series' files where one series is taken."""
    if one.problem is not None:
        return one, "refused", one.problem.code
    return (one, "used", "") if is_chosen else (one, "ignored", "another series was chosen")


def _check_something(found: Index) -> None:
    if not found.series and found.refused:
        raise found.refused[0]
    if not found.series:
        n_ignored = sum(found.ignored.values())
        raise BadInput("nothing_found", f"no image was found ({n_ignored} other files were passed over)",
                       "DICOM, NIfTI, MetaImage or NRRD files", "Point at the folder of the scan.")


def _check_one_patient(found: Index) -> None:
    for one in found.series:
        if one.problem is not None and one.problem.code == "mixed_patients":
            raise one.problem
    owners = found.patients()
    if len(owners) > 1:
        raise BadInput("mixed_patients", f"the scan holds images of {len(owners)} patients or subjects", "one patient",
                       "Run the whole folder with `anatwin run`, which makes one case of each.")


def _check_modality(facts: Mapping[str, Any], config: IngestConfig) -> None:
    """The inferred modality of a file that names none must be wanted too."""
    if facts["modality"] not in config.modality:
        raise BadInput("no_series_fits", f"the volume looks like {facts['modality']} by its values",
                       " or ".join(config.modality), "Allow it with --set ingest.modality, or give another scan.")


def _write(one: Series, found: Index, volume: Path, beside: Path, scratch: Path, reader: Reader, *,
           has_key: bool) -> dict[str, Any]:
    """Decode a usable series and write volume and sidecar; the sidecar's content."""
    from pipeline import formats

    if one.region is not None:
        values, said = _drawn(one, found, scratch, reader)
        facts = sidecar.of_mask(one, values, said)
    else:
        values, n_odd = decode(one, found, scratch, reader)
        facts = sidecar.content(one, values, found.heads, n_odd)
    if not has_key:
        facts |= {"slice_ids": [], "frame_of_reference": "", "study_id": "", "series_id": ""}
    assert one.affine is not None
    formats.write_volume(volume, Volume(values, one.affine))
    _write_json(beside, facts)
    return facts


def _drawn(one: Series, found: Index, scratch: Path, reader: Reader) -> tuple[np.ndarray, list[str]]:
    """The mask of a region, (i, j, k) of 0 and 1, and what a person should know."""
    assert one.region is not None and one.affine is not None
    out = scratch / "values.npy"
    head = {k: v for k, v in one.facts.items() if k not in ("identity", "patient")}
    said = worker.mask(found.files[one.files[0]].path, head, one.region["number"], one.affine.tolist(), one.size, out,
                       reader)
    return np.load(out, mmap_mode="r"), said


def decode(one: Series, found: Index, scratch: Path, reader: Reader) -> tuple[np.ndarray, int]:
    """The values of a series, (i, j, k[, t]), and how many were not finite; the child writes, we map."""
    files = list(one.files)
    place = {n: i for i, n in enumerate(files)}
    plan = [(place[f.file], f.index, f.slope, f.intercept) for row in one.rows for f in row]
    out = scratch / "values.npy"
    given = one.facts
    shape = (len(one.rows), len(one.rows[0]), given["rows"], given["columns"]) if one.rows else one.size
    heads = [{k: v for k, v in found.heads[n].items() if k not in ("frames", "identity", "patient")} for n in files]
    n_odd = worker.decode([found.files[n].path for n in files], heads, plan, shape, out, reader)
    values = np.load(out, mmap_mode="r")
    return values if one.shifts is None else _upright(values, one), n_odd


def _upright(values: np.ndarray, one: Series) -> np.ndarray:
    """Tilted or unevenly spaced slices, (i, j, k[, t]), on the grid that was made for them."""
    from solvers.imaging.upright import upright

    assert one.shifts is not None
    out = np.empty(one.size, values.dtype, order="F")
    for time in range(one.size[3] if len(one.size) == 4 else 1):
        whole = (values, out) if values.ndim == 3 else (values[..., time], out[..., time])
        upright(whole[0], one.shifts, whole[1])
    return out


def _write_json(path: Path, content: Any) -> None:
    from pipeline import formats

    formats.write_json(path, content)


# All series, for `anatwin ingest SCANS OUT`

@dataclass(frozen=True)
class Options:
    """For `ingest_all`: modalities to read, the user's map of labels, subjects to keep (all when empty).

    `accept`: codes of refusals that the person overrules.
    """

    modality: tuple[str, ...] = MODALITIES
    labels: Mapping[str, str] = field(default_factory=dict)
    only: Sequence[str] = ()
    accept: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of one series: files written, or the refusal. `subject` is empty when it belongs to nobody.

    `unwanted`: it could be read, but was not asked for.
    """

    subject: str
    series: str
    volume: Path | None = None
    sidecar: Path | None = None
    refusal: BadInput | None = None
    warnings: tuple[str, ...] = ()
    n_files: int = 0
    unwanted: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types; no path beyond the names that ingest gave."""
        return {"subject": self.subject, "series": self.series, "n_files": self.n_files,
                "volume": self.volume.name if self.volume else None, "warnings": list(self.warnings),
                "refusal": self.refusal.as_dict() if self.refusal else None}


@dataclass(frozen=True)
class Reading:
    """What became of a scan: of each series, and of every file."""

    outcomes: tuple[Outcome, ...]
    ledger: Ledger

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"series": [o.as_dict() for o in self.outcomes], "files": self.ledger.as_dict()}


def ingest_all(scans: Path, out: Path, key: bytes, options: Options = Options()) -> list[Outcome]:  # noqa: B008
    """The outcomes of `read_all`."""
    return list(read_all(scans, out, key, options).outcomes)


def read_all(scans: Path, out: Path, key: bytes, options: Options = Options(),  # noqa: B008
             reader: Reader | None = None) -> Reading:
    """Every series of a scan as `out/sub-<label>/ingest/<series>.nii.gz` with its `.json`, or why not.

    key: the secret behind labels and ids, from `read_or_make_key`. reader: a child
    that outlives this call; absent, one is started. Each volume appears whole or
    not at all. There is always an outcome: a scan without any image is one.
    """
    if reader is None:
        with Reader() as own:
            return read_all(scans, out, key, options, own)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=out) as folder:
        scratch = Path(folder)
        found = Index((), (), (), (), {})
        try:
            found = index(Path(scans), key, scratch, reader, options.accept)
            _check_something(found)
        except BadInput as problem:
            return Reading((Outcome("", "", refusal=problem),), ledger.of(found, []))
        return _read_each(found, out, key, options, scratch, reader)


def _read_each(found: Index, out: Path, key: bytes, options: Options, scratch: Path, reader: Reader) -> Reading:
    outcomes = [Outcome("", "", refusal=problem, n_files=1) for problem in found.refused]
    given, fates = _given(options, key), []
    for one in found.series:
        owner = owner_of(one)
        label = label_of(owner, key, given) if owner else ""
        if options.only and label not in options.only:
            fates.append((one, "ignored", "of another participant"))
            continue
        outcome = _one_outcome(one, label, found, out, scratch, options, reader)
        outcomes.append(replace(outcome, n_files=len(one.files)))
        fates.append((one, *_fate(outcome)))
    return Reading(tuple(outcomes), ledger.of(found, fates))


def _fate(outcome: Outcome) -> tuple[str, str]:
    if outcome.unwanted:
        return "ignored", "modality not wanted"
    return ("refused", outcome.refusal.code) if outcome.refusal else ("used", "")


def _given(options: Options, key: bytes) -> dict[str, str]:
    from pipeline.ingest.subjects import _keyed_labels

    return _keyed_labels(options.labels, key)


def _one_outcome(one: Series, label: str, found: Index, out: Path, scratch: Path, options: Options,
                 reader: Reader) -> Outcome:
    if one.problem is not None:
        return Outcome(label, one.name, refusal=one.problem, warnings=one.warnings)
    if one.modality and one.modality not in options.modality and one.region is None:
        return Outcome(label, one.name, unwanted=True, refusal=BadInput(
            "unwanted_modality", f"modality {one.modality} is not wanted", " or ".join(options.modality),
            "Ask for it by its modality."))
    folder = out / f"sub-{label}" / "ingest"
    draft = scratch / "draft"
    draft.mkdir(exist_ok=True)
    try:
        facts = _write(one, found, draft / "volume.nii.gz", draft / "volume.json", scratch, reader, has_key=True)
    except BadInput as problem:
        return Outcome(label, one.name, refusal=problem, warnings=one.warnings)
    folder.mkdir(parents=True, exist_ok=True)
    volume, beside = folder / f"{one.name}.nii.gz", folder / f"{one.name}.json"
    if one.gradients and any(one.b_values):
        for suffix, text in zip((".bval", ".bvec"), sidecar.fsl_gradients(one), strict=True):
            (folder / f"{one.name}{suffix}").write_text(text)
    (draft / "volume.json").replace(beside)
    (draft / "volume.nii.gz").replace(volume)
    return Outcome(label, one.name, volume, beside, warnings=tuple(facts["warnings"]))
