"""The diffusion series of a scan: a series of volumes, which the stage `ingest` does not choose."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import formats
from pipeline.ingest import IngestConfig, IngestInputs, Options, Outcome, read_all, read_or_make_key
from pipeline.stage import Files, Report
from solvers.errors import BadInput

VERSION = 1
SOURCES = ["DICOM PS3.3 C.8.13.5.9 (MR diffusion), https://dicom.nema.org/medical/dicom/current/output/html/part03.html"]


class DiffusionSeriesOutputs(Files):
    """The series, and its weightings in FSL's convention where the scan says them."""

    volume: Path = Path("volume.nii.gz")
    sidecar: Path = Path("volume.json")
    series: Path = Path("series.json")
    b_values: Path | None = Path("volume.bval")
    b_vectors: Path | None = Path("volume.bvec")


class DiffusionSeriesReport(Report):
    series: str
    size: tuple[int, ...]
    has_gradients: bool
    warnings: tuple[str, ...]


def ingest_diffusion(inputs: IngestInputs, config: IngestConfig,
                     outputs: DiffusionSeriesOutputs) -> DiffusionSeriesReport:
    """The series with directions, else the longest series; all that was found stands in series.json."""
    key = read_or_make_key(inputs.key) if inputs.key else bytes(32)
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=outputs.volume.parent) as folder:
        done = read_all(inputs.scan, Path(folder), key, Options(modality=config.modality, accept=config.accept))
        chosen, facts = _chosen(done.outcomes, config.series)
        _move(chosen, outputs)
    formats.write_json(outputs.sidecar, facts if inputs.key else facts | {"slice_ids": [], "frame_of_reference": ""})
    formats.write_json(outputs.series, done.as_dict())
    return DiffusionSeriesReport(series=chosen.series, size=tuple(facts["size"]), warnings=tuple(facts["warnings"]),
                                 has_gradients=bool(outputs.b_values and outputs.b_values.is_file()))


def _chosen(outcomes: Sequence[Outcome], name: str | None) -> tuple[Outcome, dict[str, Any]]:
    """The outcome to take, and its sidecar's content."""
    read = [(o, formats.read_json(o.sidecar)) for o in outcomes if o.volume is not None and o.sidecar is not None]
    fit = [(o, f) for o, f in read if len(f["size"]) == 4 and name in (None, o.series)]
    if fit:
        return max(fit, key=lambda pair: (bool(pair[1].get("gradients_lps")), pair[1]["size"][3]))
    refused = [o.refusal for o in outcomes if o.refusal is not None and not o.unwanted]
    if refused and not read:
        raise refused[0]
    raise BadInput("no_diffusion_series", f"none of {len(outcomes)} series is a series of volumes"
                   + (f" called {name}" if name else ""), "an MR diffusion series with its weightings",
                   "See `anatwin ingest` for the list.")


def _move(chosen: Outcome, outputs: DiffusionSeriesOutputs) -> None:
    """The volume and its weightings from where the reader put them."""
    assert chosen.volume is not None
    stem = str(chosen.volume).removesuffix(".nii.gz")
    chosen.volume.replace(outputs.volume)
    for target in (outputs.b_values, outputs.b_vectors):
        if target is not None and (found := Path(f"{stem}{target.suffix}")).is_file():
            found.replace(target)
