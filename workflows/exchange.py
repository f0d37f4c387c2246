"""A case to and from other programs and archives."""

from pathlib import Path
from typing import Any

from pipeline.export import ExportConfig, ExportInputs, export
from pipeline.ingest import IngestOutputs
from pipeline.segment import SegmentOutputs
from pipeline.stage import run
from solvers.errors import BadInput
from workflows.case import again


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
