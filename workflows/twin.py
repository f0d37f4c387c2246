"""From a scan to a report: the stages of one case in order.

`anatomy` finds the vessel; then the results are gathered and shown.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.extract_surface import ExtractSurfaceInputs, extract_surface
from pipeline.ingest import IngestInputs, IngestOutputs, ingest
from pipeline.measure import MeasureInputs, measure
from pipeline.report import inputs_of, report
from pipeline.segment import SegmentInputs, segment
from pipeline.trace_centrelines import TraceCentrelinesInputs, trace_centrelines
from solvers.errors import BadInput
from workflows.case import Case
from workflows.intake import key_file
from workflows.line import Line
from workflows.recipe import Recipe


@dataclass(frozen=True)
class Anatomy:
    """Outputs of the stages up to the vessel with its centrelines; `vessel` may be a treated one."""

    image: Any
    labels: Any
    vessel: Any
    lines: Any


def build(case: Case, recipe: Recipe, line: Line) -> None:
    """One case, the baseline, from the scan to its report."""
    found = anatomy(case, recipe, line)
    gathered = line.run(measure, gathering(found), identity(case, recipe), "measure")
    line.run(report, inputs_of(line.home), page_settings(case, recipe), "report")
    show(line.home, {"measurements.csv": gathered.measurements, "report.html": line.home / "report" / "report.html"})


def anatomy(case: Case, recipe: Recipe, line: Line) -> Anatomy:
    """From the scan (or from what was read of it before) to centrelines and lesions."""
    image = read(case, recipe, line)
    given = line.use.get("segment.labels")
    labels = line.run(segment, SegmentInputs(volume=image.volume, sidecar=image.sidecar, labels_given=given),
                      recipe.segment)
    vessel = line.run(extract_surface, ExtractSurfaceInputs(labels=labels.labels, table=labels.table,
                                                            lumen=labels.lumen, inner=labels.inner,
                                                            outer=labels.outer), recipe.extract_surface)
    lines = line.run(trace_centrelines, TraceCentrelinesInputs(
        surface=vessel.lumen, inner=vessel.inner, outer=vessel.outer, sidecar=image.sidecar, labels=labels.labels,
        table=labels.table), recipe.trace_centrelines)
    return Anatomy(image, labels, vessel, lines)


def read(case: Case, recipe: Recipe, line: Line) -> Any:
    """The image: read from the scan, or as an earlier run left it."""
    if case.scan:
        key = key_file() if key_file().is_file() else None
        return line.run(ingest, IngestInputs(scan=Path(case.scan), key=key), recipe.ingest)
    outputs = IngestOutputs().within(line.home / "ingest")
    if not outputs.volume.is_file():
        raise BadInput("no_image", "this case has no image from an earlier run", "a case that anatwin run made")
    return outputs


def gathering(found: Anatomy) -> MeasureInputs:
    """All rows of a case."""
    return MeasureInputs(labels=found.labels.table, geometry=found.lines.measurements)


def identity(case: Case, recipe: Recipe, variant: str = "baseline") -> Any:
    return recipe.measure.but(subject=f"sub-{case.subject}", session=case.session, variant=variant)


def page_settings(case: Case, recipe: Recipe) -> Any:
    return recipe.report.but(subject=f"sub-{case.subject}", session=case.session, recipe=recipe.summary)


def show(home: Path, results: dict[str, Path]) -> None:
    """Put a case's results where a person looks first; each appears whole."""
    for name, source in results.items():
        draft = home / f".{name}"
        draft.write_bytes(source.read_bytes())
        draft.replace(home / name)
