"""From a scan to a report: the stages of one case in order, and those of its variants.

`anatomy` finds the vessel, `physics` gives it flow, wall and drug; then the
results are gathered and shown. A variant starts at the device, takes inflow and
outlets from the baseline, and is compared with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.dose import DoseInputs, dose
from pipeline.extract_surface import ExtractSurfaceInputs, extract_surface
from pipeline.ingest import IngestInputs, IngestOutputs, ingest
from pipeline.intervene import InterveneInputs, intervene
from pipeline.measure import MeasureInputs, measure
from pipeline.mesh import MeshInputs, mesh
from pipeline.report import inputs_of, report
from pipeline.segment import SegmentInputs, segment
from pipeline.simulate_flow import SimulateFlowInputs, simulate_flow
from pipeline.simulate_tissue import SimulateTissueInputs, simulate_tissue
from pipeline.stage import tell
from pipeline.table import read_rows, write_rows
from pipeline.trace_centrelines import TraceCentrelinesInputs, trace_centrelines
from solvers.errors import BadInput
from workflows import images, settings
from workflows.case import Case
from workflows.intake import key_file
from workflows.line import Line, StageFailed
from workflows.recipe import Recipe


@dataclass(frozen=True)
class Anatomy:
    """Outputs of the stages up to the vessel with its centrelines; `vessel` and `lines` may be of a treated one."""

    image: Any
    labels: Any
    vessel: Any
    lines: Any


@dataclass(frozen=True)
class Physics:
    """Outputs of the stages from the mesh to the drug."""

    mesh: Any
    coarse: Any
    flow: Any
    flow_coarse: Any
    tissue: Any
    drug: Any


@dataclass(frozen=True)
class Before:
    """A flow whose outlets and inflow are kept, the state of it where another starts, and its mesh."""

    flow: Any
    state: Path
    mesh: Any


@dataclass(frozen=True)
class Twin:
    """A case that is done: its stages and its rows."""

    anatomy: Anatomy
    physics: Physics
    rows: Path


def build(case: Case, recipe: Recipe, line: Line) -> dict[str, StageFailed]:
    """One case from the scan to its report, with its variants; those that failed, by name."""
    if recipe.line != "vessel":
        _measured(case, recipe, line)
        return {}
    base = baseline(case, recipe, line)
    if not case.variants:
        _told(case, recipe, line, base.rows)
        return {}
    return _compare(case, recipe, line, base)


def _measured(case: Case, recipe: Recipe, line: Line) -> None:
    """A case whose results are read off its images."""
    if case.variants:
        raise BadInput("no_variants", f"a case of the line {recipe.line!r} has no variants", "a case with a vessel",
                       "Run SCANS with --recipe aorta first.")
    rows = images.LINES[recipe.line](case, recipe, line)
    _told(case, recipe, line, line.run(measure, rows, identity(case, recipe), "measure").measurements)


def _told(case: Case, recipe: Recipe, line: Line, rows: Path) -> None:
    """The page of a case without variants, and its results where a person looks first."""
    line.run(report, inputs_of(line.home), page_settings(case, recipe), "report")
    show(line.home, {"measurements.csv": rows, "report.html": line.home / "report" / "report.html"})


def baseline(case: Case, recipe: Recipe, line: Line) -> Twin:
    """The case as it was scanned."""
    found = anatomy(case, recipe, line)
    solved = physics(found, found, recipe, line)
    gathered = line.run(measure, gathering(found, solved), identity(case, recipe), "measure")
    return Twin(found, solved, gathered.measurements)


def _compare(case: Case, recipe: Recipe, line: Line, base: Twin) -> dict[str, StageFailed]:
    """Every variant in its turn, then one table and one page; a variant that fails does not stop the others."""
    done: dict[str, Path] = {}
    failed = {}
    for name, changes in case.variants.items():
        home = line.home / "variants" / name
        tell(f"  variant {name}")
        try:
            changed = settings.merge(changes, recipe, name)
            own = Line(home, dry=line.dry, base=line.home)
            done[name] = _variant(case, name, changed, own, base, "intervene" in changes)
            line.lost |= {f"variants/{name}/{stage}": lost for stage, lost in own.lost.items()}
        except StageFailed as error:
            tell(f"  variant {name} failed in {error.stage}: {error.error}")
            failed[name] = error
    folders = {name: line.home / "variants" / name for name in done}
    line.run(report, inputs_of(line.home, folders), page_settings(case, recipe), "comparison")
    write_rows(line.home / ".measurements.csv", [r for p in (base.rows, *done.values()) for r in read_rows(p)])
    (line.home / ".measurements.csv").replace(line.home / "measurements.csv")
    show(line.home, {"report.html": line.home / "comparison" / "report.html"})
    return failed


def _variant(case: Case, name: str, recipe: Recipe, line: Line, base: Twin, has_device: bool) -> Path:
    """One variant; its rows. Without a device its vessel and flow are the baseline's."""
    found = _treated(base.anatomy, recipe, line) if has_device else base.anatomy
    solved = physics(found, base.anatomy, recipe, line, base.physics, has_device)
    rows = gathering(found, solved).model_copy(update={
        "baseline": base.rows, "baseline_haemodynamics": base.physics.flow.haemodynamics,
        "baseline_flow_coarse": base.physics.flow_coarse.measurements,
        "baseline_boundaries": base.physics.mesh.boundaries,
        "baseline_boundaries_coarse": base.physics.coarse.boundaries})
    return line.run(measure, rows, identity(case, recipe, name), "measure").measurements


def _treated(before: Anatomy, recipe: Recipe, line: Line) -> Anatomy:
    """The vessel with the device in it."""
    after = line.run(intervene, InterveneInputs(
        surface=before.vessel.lumen, inner=before.vessel.inner, outer=before.vessel.outer,
        centrelines=before.lines.centrelines, lesions=before.lines.lesions), recipe.intervene)
    return Anatomy(before.image, before.labels, after, after)


# Stages


def anatomy(case: Case, recipe: Recipe, line: Line) -> Anatomy:
    """From the scan (or from what was read of it before) to centrelines and lesions."""
    image = read(case, recipe, line)
    labels = line.run(segment, SegmentInputs(
        volume=image.volume, sidecar=image.sidecar, labels_given=line.use.get("segment.labels"),
        table_given=line.use.get("segment.table")), recipe.segment)
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


def physics(found: Anatomy, scanned: Anatomy, recipe: Recipe, line: Line, base: Physics | None = None,
            is_new: bool = True) -> Physics:
    """Meshes, flow, wall and drug. With `base`, its inflow and outlets hold; unless `is_new`, its flow too.

    The bed that a drug is followed into is the one beyond the lesion as scanned.
    """
    flow = _flow(found, scanned, recipe, line, base) if is_new or base is None else base
    tissue = line.attempt(simulate_tissue, SimulateTissueInputs(
        mesh=flow.mesh.mesh, boundaries=flow.mesh.boundaries, centrelines=found.lines.centrelines,
        haemodynamics=flow.flow.haemodynamics), recipe.simulate_tissue)
    drug = line.run(dose, DoseInputs(outlets=flow.flow.outlets, lesions=scanned.lines.lesions,
                                     centrelines=scanned.lines.centrelines, labels_table=found.labels.table,
                                     sidecar=found.image.sidecar), recipe.dose)
    return Physics(flow.mesh, flow.coarse, flow.flow, flow.flow_coarse, tissue, drug)


def _flow(found: Anatomy, scanned: Anatomy, recipe: Recipe, line: Line, base: Physics | None) -> Physics:
    """Both meshes and the flow on each, with the same outlets; tissue and drug are still to come.

    The coarse one first: on its mesh the beats that a flow needs to repeat cost least, and the fine one starts from
    its end. A variant's flow starts where the last two beats of the baseline's on the like mesh did, so that a jet that
    is never twice the same differs by the device alone.
    """
    fine = line.run(mesh, _mesh_inputs(found, scanned, base and base.mesh), recipe.mesh)
    coarse = line.run(mesh, _mesh_inputs(found, scanned, base and base.coarse), recipe.mesh_coarse, "mesh_coarse")
    before = Before(base.flow_coarse, base.flow_coarse.last_two, base.coarse) if base else None
    rough = line.run(simulate_flow, _flow_inputs(found, coarse, before, line), recipe.simulate_flow,
                     "simulate_flow_coarse")
    before = Before(base.flow, base.flow.last_two, base.mesh) if base else Before(rough, rough.state, coarse)
    flow = line.run(simulate_flow, _flow_inputs(found, fine, before, line), recipe.simulate_flow)
    return Physics(fine, coarse, flow, rough, None, None)


def _mesh_inputs(found: Anatomy, scanned: Anatomy, leader: Any) -> MeshInputs:
    """leader: the mesh of the vessel as scanned, which that of a treated one follows; None for a first mesh."""
    shape = MeshInputs(surface=found.vessel.lumen, centrelines=found.lines.centrelines)
    return shape if leader is None else shape.model_copy(update={
        "untreated_surface": scanned.vessel.lumen, "untreated_mesh": leader.mesh,
        "untreated_boundaries": leader.boundaries})


def _flow_inputs(found: Anatomy, made: Any, before: Before | None, line: Line) -> SimulateFlowInputs:
    """before: None for a first flow."""
    inputs = SimulateFlowInputs(mesh=made.mesh, boundaries=made.boundaries, centrelines=found.lines.centrelines,
                                lesions=found.lines.lesions, sidecar=found.image.sidecar)
    if before is None:
        return inputs.model_copy(update={"inflow": line.use.get("measure_flow.inlet")})
    return inputs.model_copy(update={"outlets": before.flow.outlets, "state": before.state,
                                     "state_mesh": before.mesh.mesh, "state_boundaries": before.mesh.boundaries})


def gathering(found: Anatomy, solved: Physics) -> MeasureInputs:
    """All rows of a case."""
    return MeasureInputs(
        labels=found.labels.table, geometry=found.lines.measurements, flow=solved.flow.measurements,
        tissue=solved.tissue and solved.tissue.measurements, dose=solved.drug.measurements,
        haemodynamics=solved.flow.haemodynamics,
        boundaries=solved.mesh.boundaries, flow_coarse=solved.flow_coarse.measurements,
        boundaries_coarse=solved.coarse.boundaries)


def identity(case: Case, recipe: Recipe, variant: str = "baseline") -> Any:
    return recipe.measure.but(subject=f"sub-{case.subject}", session=case.session, variant=variant)


def page_settings(case: Case, recipe: Recipe) -> Any:
    return recipe.report.but(subject=f"sub-{case.subject}", session=case.session, recipe=recipe.summary)


def show(home: Path, results: Mapping[str, Path]) -> None:
    """Put a case's results where a person looks first; each appears whole."""
    for name, source in results.items():
        draft = home / f".{name}"
        draft.write_bytes(source.read_bytes())
        draft.replace(home / name)
