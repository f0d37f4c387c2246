"""The lines of stages that end at the image: uptake on PET, diffusion, flow by phase contrast, regions of the brain.

Each gives the rows of its case.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import formats
from pipeline.fit_diffusion import FitDiffusionInputs, fit_diffusion
from pipeline.harmonise import HarmoniseInputs, harmonise
from pipeline.ingest import IngestInputs, ingest
from pipeline.ingest.diffusion import ingest_diffusion
from pipeline.ingest.velocity import ingest_velocity
from pipeline.measure import MeasureInputs
from pipeline.measure_flow import MeasureFlowInputs, measure_flow
from pipeline.quantify_uptake import QuantifyUptakeInputs, quantify_uptake
from pipeline.segment import SegmentInputs, segment
from pipeline.stage import tell
from workflows import weights
from workflows.case import Case
from workflows.intake import key_file
from workflows.line import Line, StageFailed
from workflows.recipe import Recipe


@dataclass(frozen=True)
class OnPet:
    """What lies on the PET: the CT with its sidecar, a person's labels, and the rows that say how well."""

    ct: Path | None = None
    sidecar: Path | None = None
    labels: Path | None = None
    rows: Path | None = None


def uptake(case: Case, recipe: Recipe, line: Line) -> MeasureInputs:
    """PET, with its CT when there is one, and a person's mask of the liver (--use segment.labels)."""
    pet = line.run(ingest, _scan(case), recipe.ingest)
    laid = _laid(recipe, line, pet, _ct(case, recipe, line, pet))
    found = line.run(quantify_uptake, QuantifyUptakeInputs(
        volume=pet.volume, sidecar=pet.sidecar, ct=laid.ct, ct_sidecar=laid.sidecar,
        labels=laid.labels, table=line.use.get("segment.table")), recipe.quantify_uptake)
    return MeasureInputs(uptake=found.measurements, harmonised=laid.rows)


def _laid(recipe: Recipe, line: Line, pet: Any, ct: Any) -> OnPet:
    """The CT and what was drawn on it, laid on the PET; as they came where one frame of reference was kept."""
    labels = line.use.get("segment.labels")
    if ct is None:
        return OnPet(labels=labels)
    as_it_came = OnPet(ct.volume, ct.sidecar, labels)
    drawn_on_ct = labels if labels and _same_grid(labels, ct.volume) else None
    try:
        done = line.run(harmonise, HarmoniseInputs(volume=ct.volume, sidecar=ct.sidecar, reference=pet.volume,
                                                   reference_sidecar=pet.sidecar, labels=drawn_on_ct), recipe.harmonise)
    except StageFailed as failed:
        line.leave_out(failed, "the CT stays where its header says")
        return as_it_came
    if done.moved is None:
        return replace(as_it_came, rows=done.measurements)
    return OnPet(done.moved, done.sidecar, done.labels or labels, done.measurements)


def _same_grid(labels: Path, volume: Path) -> bool:
    a, b = formats.read_volume(labels), formats.read_volume(volume)
    return a.values.shape == b.values.shape and bool(np.allclose(a.affine, b.affine, atol=1e-2))


def diffusion(case: Case, recipe: Recipe, line: Line) -> MeasureInputs:
    """A diffusion series, and a person's label map on its grid (--use segment.labels)."""
    series = line.run(ingest_diffusion, _scan(case), recipe.ingest, "ingest")
    found = line.run(fit_diffusion, FitDiffusionInputs(
        volume=series.volume, b_values=series.b_values, b_vectors=series.b_vectors,
        labels=line.use.get("segment.labels"), table=line.use.get("segment.table")), recipe.fit_diffusion)
    return MeasureInputs(diffusion=found.measurements)


def flow(case: Case, recipe: Recipe, line: Line) -> MeasureInputs:
    """Phase images with their magnitude; a person's mask on their grid, and centrelines, when there are any."""
    settings = recipe.ingest_velocity.but(accept=recipe.ingest.accept)
    read = line.run(ingest_velocity, _scan(case), settings, "ingest")
    found = line.run(measure_flow, MeasureFlowInputs(
        velocity=read.velocity, magnitude=read.magnitude, sidecar=read.sidecar,
        labels=line.use.get("segment.labels"), table=line.use.get("segment.table"),
        centrelines=line.use.get("trace_centrelines.centrelines")), recipe.measure_flow)
    return MeasureInputs(phase_contrast=found.measurements)


def brain(case: Case, recipe: Recipe, line: Line) -> MeasureInputs:
    """A T1-weighted image, and the weights of a network."""
    model = weights.find(recipe.brain_model)
    image = line.run(ingest, _scan(case), recipe.ingest)
    found = line.run(segment, SegmentInputs(volume=image.volume, sidecar=image.sidecar, brain_model=model),
                     recipe.segment)
    return MeasureInputs(labels=found.table)


def _scan(case: Case) -> IngestInputs:
    return IngestInputs(scan=Path(case.scan), key=key_file() if key_file().is_file() else None)


def _ct(case: Case, recipe: Recipe, line: Line, pet: Any) -> Any:
    """The CT of the same scan; None, and told, where it cannot be read: the PET goes on without."""
    listed = formats.read_json(pet.series)["series"]
    if not any(s["modality"] == "CT" and not s["code"] for s in listed):
        return None
    try:
        return line.run(ingest, _scan(case), recipe.ingest_ct, "ingest_ct")
    except StageFailed as failed:
        line.lost[failed.stage] = failed
        tell(f"  the CT is left out: {failed.error}")
        return None


LINES = {"uptake": uptake, "diffusion": diffusion, "flow": flow, "brain": brain}
