"""Which files a page shows, and where the stages leave them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.stage import Files, read_record

ORDER = ("ingest", "segment", "extract_surface", "trace_centrelines", "intervene", "mesh", "mesh_coarse",
         "simulate_flow_coarse", "simulate_flow", "simulate_tissue", "dose", "ingest_ct", "harmonise",
         "quantify_uptake", "fit_diffusion", "measure_flow", "measure")
KEPT = ("stage", "key", "version", "settings", "code", "libraries", "sources", "seed", "used")


class CaseFiles(Files):
    """Files of a baseline or a variant; every one is optional."""

    volume: Path | None = None
    sidecar: Path | None = None
    labels: Path | None = None
    lumen: Path | None = None
    surface: Path | None = None
    centrelines: Path | None = None
    lesions: Path | None = None
    device: Path | None = None
    wall: Path | None = None
    flow_curves: Path | None = None
    outlets: Path | None = None
    tissue: Path | None = None
    dose_curves: Path | None = None
    suv: Path | None = None
    uptake: Path | None = None
    uptake_regions: Path | None = None
    ct: Path | None = None
    fa: Path | None = None
    v1: Path | None = None
    measured_flow: Path | None = None
    flow_preview: Path | None = None
    measurements: Path | None = None


PLACES: dict[str, tuple[str, ...]] = {
    "volume": ("ingest/volume.nii.gz",),
    "sidecar": ("ingest/volume.json",),
    "labels": ("segment/labels.nii.gz",),
    "lumen": ("segment/lumen.nii.gz",),
    "surface": ("intervene/arterial_lumen.vtp", "extract_surface/arterial_lumen.vtp"),
    "centrelines": ("intervene/centrelines.vtp", "trace_centrelines/centrelines.vtp"),
    "lesions": ("intervene/lesions.json", "trace_centrelines/lesions.json"),
    "device": ("intervene/device.json",),
    "wall": ("simulate_flow/wall.vtp",),
    "flow_curves": ("simulate_flow/curves.csv",),
    "outlets": ("simulate_flow/outlets.json",),
    "tissue": ("simulate_tissue/wall.vtu",),
    "dose_curves": ("dose/curves.csv",),
    "suv": ("quantify_uptake/suv.nii.gz",),
    "uptake": ("quantify_uptake/uptake.json",),
    "uptake_regions": ("quantify_uptake/regions.nii.gz",),
    "ct": ("harmonise/moved.nii.gz", "ingest_ct/volume.nii.gz"),
    "fa": ("fit_diffusion/fa.nii.gz",),
    "v1": ("fit_diffusion/v1.nii.gz",),
    "measured_flow": ("measure_flow/curves.csv",),
    "flow_preview": ("measure_flow/preview.png",),
    "measurements": ("measure/measurements.csv",),
}
"""Role to its place below the folder of a case or variant; the first that exists."""


def case_files(home: Path) -> CaseFiles:
    """The files that are there in a case's or a variant's folder."""
    found = {role: next((home / p for p in places if (home / p).is_file()), None) for role, places in PLACES.items()}
    return CaseFiles(**found)


def gather_records(home: Path, variants: Mapping[str, Path]) -> Path:
    """The records of all stages in one file, without times and memory; its path."""
    content = {"stages": _records(home), "variants": {name: _records(folder) for name, folder in variants.items()}}
    path = home / ".work" / "records.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    return path


def _records(home: Path) -> dict[str, Any]:
    """Folder name to what the page shows of its record; the page's own left out."""
    found = {p.parent.name: read_record(p.parent) for p in sorted(home.glob("*/record.json"))}
    return {name: {k: r[k] for k in KEPT if k in r} for name, r in found.items() if r.get("stage") != "report"}


def in_order(stages: Mapping[str, Any]) -> list[str]:
    """Stage folders as they follow each other; unknown ones last."""
    return sorted(stages, key=lambda n: (ORDER.index(n) if n in ORDER else len(ORDER), n))
