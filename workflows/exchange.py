"""A case to and from other programs and archives."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.export import ExportConfig, ExportInputs, export
from pipeline.ingest import IngestOutputs
from pipeline.segment import SegmentOutputs
from pipeline.stage import run
from solvers.errors import BadInput
from workflows import archive as archives
from workflows import restore
from workflows.case import again
from workflows.intake import key_file


def export_case(folder: Path) -> Any:
    """Segmentation, report and `.seg.nrrd` of a case that `anatwin run` made; the stage's outputs."""
    case, _ = again(folder)
    home = Path(case.home)
    image = IngestOutputs().within(home / "ingest")
    labels = SegmentOutputs().within(home / "segment")
    for path in (image.volume, labels.labels):
        if not path.is_file():
            raise BadInput("not_segmented", f"the case has no {path.parent.name}/{path.name}",
                           "a case with its labels", "Run `anatwin run SCANS OUT` first, at least --until segment.")
    inputs = ExportInputs(volume=image.volume, sidecar=image.sidecar, labels=labels.labels, table=labels.table,
                          measurements=_measurements(home))
    is_drawn = "segment.labels" in case.use
    return run(export, inputs, ExportConfig(subject=f"sub-{case.subject}", is_drawn=is_drawn), home / "export")


def _measurements(home: Path) -> Path | None:
    """The fullest table of the baseline that there is."""
    found = [home / stage / "measurements.csv" for stage in ("measure", "trace_centrelines")]
    return next((path for path in found if path.is_file()), None)


def push(what: Path, address: str, scan: Path | None) -> int:
    """Store a case's results, or DICOM files, in the archive at `address`; how many.

    scan: the case's scan, when the original UIDs and patient are to stand in what is sent.
    """
    archive = archives.connect(address)
    files = _files(what)
    if scan is None:
        return archives.push(files, archive)
    with tempfile.TemporaryDirectory(prefix="anatwin-") as scratch:
        return archives.push(restore.restored(files, restore.crosswalk(scan, key_file()), Path(scratch)), archive)


def _files(what: Path) -> Sequence[Path]:
    """What to send: a case's segmentation and report (written now where they are not), a file, or a folder's."""
    if (what / "case.json").is_file():
        made = export_case(what)
        return [made.segmentation, made.report]
    files = [what] if what.is_file() else sorted(p for p in what.rglob("*") if p.is_file() and _is_dicom(p))
    if not files or not all(map(_is_dicom, files)):
        raise BadInput("nothing_to_push", f"{what} holds no DICOM file", "a case, a DICOM file or a folder of such")
    return files


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
