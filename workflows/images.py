"""The lines of stages that end at the image: uptake on PET, diffusion in the brain. Each gives the rows of its case."""

from pathlib import Path
from typing import Any

from pipeline import formats
from pipeline.fit_diffusion import FitDiffusionInputs, fit_diffusion
from pipeline.ingest import IngestInputs, ingest
from pipeline.measure import MeasureInputs
from pipeline.quantify_uptake import QuantifyUptakeInputs, quantify_uptake
from pipeline.stage import tell
from workflows.case import Case
from workflows.diffusion_series import ingest_diffusion
from workflows.intake import key_file
from workflows.line import Line, StageFailed
from workflows.recipe import Recipe


def uptake(case: Case, recipe: Recipe, line: Line) -> MeasureInputs:
    """PET, with its CT when there is one, and a person's mask of the liver (--use segment.labels)."""
    pet = line.run(ingest, _scan(case), recipe.ingest)
    ct = _ct(case, recipe, line, pet)
    found = line.run(quantify_uptake, QuantifyUptakeInputs(
        volume=pet.volume, sidecar=pet.sidecar, ct=ct and ct.volume, ct_sidecar=ct and ct.sidecar,
        labels=line.use.get("segment.labels"), table=line.use.get("segment.table")), recipe.quantify_uptake)
    return MeasureInputs(uptake=found.measurements)


def diffusion(case: Case, recipe: Recipe, line: Line) -> MeasureInputs:
    """A diffusion series, and a person's label map on its grid (--use segment.labels)."""
    series = line.run(ingest_diffusion, _scan(case), recipe.ingest, "ingest")
    found = line.run(fit_diffusion, FitDiffusionInputs(
        volume=series.volume, b_values=series.b_values, b_vectors=series.b_vectors,
        labels=line.use.get("segment.labels"), table=line.use.get("segment.table")), recipe.fit_diffusion)
    return MeasureInputs(diffusion=found.measurements)


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


LINES = {"uptake": uptake, "diffusion": diffusion}
