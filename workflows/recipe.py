"""A recipe: the settings of all stages as one frozen object, and the ones that have a name."""

import io
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

from pipeline.dose import DoseConfig
from pipeline.extract_surface import ExtractSurfaceConfig
from pipeline.fit_diffusion import FitDiffusionConfig
from pipeline.harmonise import HarmoniseConfig
from pipeline.ingest import IngestConfig
from pipeline.ingest.velocity import IngestVelocityConfig
from pipeline.intervene import InterveneConfig
from pipeline.measure import MeasureConfig
from pipeline.measure_flow import MeasureFlowConfig
from pipeline.mesh import MeshConfig
from pipeline.quantify_uptake import QuantifyUptakeConfig
from pipeline.report import ReportConfig
from pipeline.segment import SegmentConfig
from pipeline.simulate_flow import SimulateFlowConfig
from pipeline.simulate_tissue import SimulateTissueConfig
from pipeline.stage import Config
from pipeline.trace_centrelines import TraceCentrelinesConfig
from workflows import settings
from workflows.settings import BadSettings

FOLDER = Path(__file__).parent / "recipes"


class Recipe(Config):
    """Settings of every stage.

    mesh_coarse is the second, coarser mesh, on which the flow is solved for the
    interval of each number; intervene is for variants. `line` says which stages
    run: those of an artery, of uptake on PET, of diffusion, of flow by phase contrast, or of the
    brain by a network, whose weights `brain_model` names.
    """

    summary: str = ""
    line: Literal["vessel", "uptake", "diffusion", "flow", "brain"] = "vessel"
    brain_model: str = ""
    """Name of fetched weights (anatwin fetch), or a folder."""
    ingest: IngestConfig = IngestConfig()
    ingest_ct: IngestConfig = IngestConfig(modality=("CT",), prefer_contrast=False)
    """Of the CT beside a PET."""
    ingest_velocity: IngestVelocityConfig = IngestVelocityConfig()
    """In place of `ingest` where flow is measured."""
    segment: SegmentConfig = SegmentConfig()
    extract_surface: ExtractSurfaceConfig = ExtractSurfaceConfig()
    trace_centrelines: TraceCentrelinesConfig = TraceCentrelinesConfig()
    mesh: MeshConfig = MeshConfig(cells_across=3.1)
    mesh_coarse: MeshConfig = MeshConfig(cells_across=2.1)
    simulate_flow: SimulateFlowConfig = SimulateFlowConfig()
    simulate_tissue: SimulateTissueConfig = SimulateTissueConfig()
    dose: DoseConfig = DoseConfig()
    harmonise: HarmoniseConfig = HarmoniseConfig()
    """Of that CT on the PET."""
    quantify_uptake: QuantifyUptakeConfig = QuantifyUptakeConfig()
    fit_diffusion: FitDiffusionConfig = FitDiffusionConfig()
    measure_flow: MeasureFlowConfig = MeasureFlowConfig()
    intervene: InterveneConfig = InterveneConfig()
    measure: MeasureConfig = MeasureConfig()
    report: ReportConfig = ReportConfig()


STAGES = {
    "vessel": ("ingest", "segment", "extract_surface", "trace_centrelines", "mesh", "mesh_coarse",
               "simulate_flow_coarse", "simulate_flow", "simulate_tissue", "dose", "measure", "report"),
    "uptake": ("ingest", "ingest_ct", "harmonise", "quantify_uptake", "measure", "report"),
    "diffusion": ("ingest", "fit_diffusion", "measure", "report"),
    "brain": ("ingest", "segment", "measure", "report"),
    "flow": ("ingest", "measure_flow", "measure", "report"),
}
"""Folders of the stages of each line, in order."""


def names() -> list[str]:
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


def summary(name: str) -> str:
    return named(name, []).summary


def named(name: str, assignments: list[str]) -> Recipe:
    """The recipe of that name, or of a YAML file, with single settings on top."""
    recipe = _load(name)
    for text in assignments:
        recipe = settings.merge(settings.assignment(text), recipe, f"--set {text.partition('=')[0]}")
    return recipe


def _load(name: str) -> Recipe:
    if name in names():
        return settings.load(FOLDER / f"{name}.yaml", Recipe())
    if Path(name).suffix in (".yaml", ".yml"):
        return _from_file(Path(name))
    raise BadSettings("unknown_recipe", f"there is no recipe {name!r}", f"one of {', '.join(names())}, or a YAML file")


def _from_file(path: Path) -> Recipe:
    """A person's file: `recipe:` names the one it starts from (aorta when silent)."""
    content = settings.read(path)
    base = content.pop("recipe", "aorta") if content else "aorta"
    if base not in names():
        raise BadSettings("unknown_recipe", f"{path}: there is no recipe {base!r}", f"one of {', '.join(names())}")
    return settings.merge(content, _load(base), str(path))


def as_text(recipe: Recipe) -> str:
    """The recipe as YAML, with all settings."""
    stream = io.StringIO()
    plain: Any = recipe.model_dump(mode="json")
    YAML().dump(plain, stream)
    return stream.getvalue()
