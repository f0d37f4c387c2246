"""The velocity series of a scan: phase images of one or three directions over the beat, in m/s, and their magnitude."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from pipeline import formats
from pipeline.ingest import Acceptable, IngestInputs, Options, Outcome, read_all, read_or_make_key
from pipeline.stage import Config, Files, Report
from solvers.errors import BadInput
from solvers.geometry.volume import Volume
from solvers.units import Quantity, Time, quantity

VERSION = 1
SOURCES = ["DICOM PS3.3 C.8.13.5.13 (MR velocity encoding), "
           "https://dicom.nema.org/medical/dicom/current/output/html/part03.html"]
Read = tuple[Outcome, dict[str, Any]]

if TYPE_CHECKING:
    type Speed = Any
else:
    Speed = Annotated[Quantity, quantity("m/s", '"150 cm/s"')]


class IngestVelocityConfig(Config):
    """`series`: names of the phase series, one a direction (as listed in series.json), else the best are chosen."""

    series: tuple[str, ...] = ()
    magnitude: str | None = None
    """Name of the magnitude series."""
    venc: Speed | None = None
    """Where the header does not say it, or says it wrongly; the values' scale moves with it."""
    beat: Time | None = None
    """Where the header does not say it."""
    accept: tuple[Acceptable, ...] = ()


class IngestVelocityOutputs(Files):
    """velocity: (i, j, k, t, c) in m/s as encoded, c directions; magnitude: (i, j, k, t).

    sidecar: `venc_m_s` and `directions_lps` for each direction, `times_ms`, `beat_ms`.
    """

    velocity: Path = Path("velocity.nii.gz")
    magnitude: Path = Path("magnitude.nii.gz")
    sidecar: Path = Path("volume.json")
    series: Path = Path("series.json")


class IngestVelocityReport(Report):
    series: tuple[str, ...]
    size: tuple[int, ...]
    venc_m_s: tuple[float, ...]
    beat_ms: float
    warnings: tuple[str, ...]


def ingest_velocity(inputs: IngestInputs, config: IngestVelocityConfig,
                    outputs: IngestVelocityOutputs) -> IngestVelocityReport:
    """Phase series on one grid at the same times, with most directions, then most voxels.

    Raises BadInput `no_velocity_series`, `unknown_scale` (no header says what the values are), `no_direction`,
    `no_magnitude`, `no_times`.
    """
    key = read_or_make_key(inputs.key) if inputs.key else bytes(32)
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=outputs.velocity.parent) as folder:
        done = read_all(inputs.scan, Path(folder), key, Options(modality=("MR",), accept=config.accept))
        read = [(o, formats.read_json(o.sidecar)) for o in done.outcomes if o.volume is not None and o.sidecar]
        chosen = _phases(read, config, done.outcomes)
        velocity, facts = _in_m_s(chosen, config)
        formats.write_volume(outputs.velocity, velocity, np.float32)
        strength = formats.read_volume(_magnitude(read, chosen[0], config)[0].volume)  # type: ignore[arg-type]
        formats.write_volume(outputs.magnitude, strength, np.float32)
    formats.write_json(outputs.sidecar, facts if inputs.key else facts | {"slice_ids": [], "frame_of_reference": ""})
    formats.write_json(outputs.series, done.as_dict())
    return IngestVelocityReport(series=tuple(o.series for o, _ in chosen), size=velocity.values.shape,
                                venc_m_s=tuple(facts["venc_m_s"]), beat_ms=facts["beat_ms"],
                                warnings=tuple(facts["warnings"]))


def _phases(read: Sequence[Read], config: IngestVelocityConfig, outcomes: Sequence[Outcome]) -> list[Read]:
    """One series for each direction."""
    fit = [(o, f) for o, f in read if (f.get("velocity") or {}).get("component") == "phase" and len(f["size"]) == 4
           and (not config.series or o.series in config.series)]
    groups: dict[str, dict[tuple[float, ...], Read]] = {}
    for one in fit:
        along = one[1]["velocity"]["direction_lps"]
        if along is None:
            raise BadInput("no_direction", f"{one[0].series} does not say along what its velocity is encoded",
                           "a direction in the header", "Export the series again as enhanced MR.")
        groups.setdefault(_grid(one[1]), {}).setdefault(tuple(np.abs(np.round(along, 1)).tolist()), one)
    whole = [list(g.values()) for g in groups.values() if len(g) in (1, 3)]
    if whole:
        best = max(whole, key=lambda g: (len(g), float(np.prod(g[0][1]["size"]))))
        return sorted(best, key=lambda one: int(np.abs(one[1]["velocity"]["direction_lps"]).argmax()))
    refused = [o.refusal for o in outcomes if o.refusal is not None and not o.unwanted]
    if refused and not read:
        raise refused[0]
    raise BadInput("no_velocity_series", f"none of {len(outcomes)} series is one of phase images over the beat with a "
                   "velocity encoding", "phase images of one or of three directions",
                   "See series.json of `anatwin ingest`; the header must say VENC.")


def _grid(facts: dict[str, Any]) -> str:
    """What series of one acquisition share: frame, place of the slices, size, times."""
    return str((facts["frame_of_reference"], facts["size"], facts["spacing_mm"], facts["corner_mm"],
                np.round(facts["times_ms"], 0).tolist()))


def _magnitude(read: Sequence[Read], phase: Read, config: IngestVelocityConfig) -> Read:
    """The magnitude on the grid and at the times of the phase."""
    def is_it(one: Read) -> bool:
        o, f = one
        said = (f.get("velocity") or {}).get("component", "")
        return o.series == config.magnitude if config.magnitude else said != "phase" and _grid(f) == _grid(phase[1])

    found = [one for one in read if is_it(one)]
    if not found:
        raise BadInput("no_magnitude", "no magnitude images lie on the grid of the phase images",
                       "magnitude at the same times", "Add the magnitude series of the same acquisition.")
    return max(found, key=lambda one: (one[1].get("velocity") or {}).get("component") == "magnitude")


def _in_m_s(chosen: Sequence[Read], config: IngestVelocityConfig) -> tuple[Volume, dict[str, Any]]:
    """Velocity (i, j, k, t, c) in m/s, and the sidecar."""
    parts, first = [], chosen[0][1]
    for outcome, facts in chosen:
        how = facts["velocity"]
        if how["scale"] is None:
            raise BadInput("unknown_scale", f"what the values of {outcome.series} are in m/s is not said, or differs "
                           "from image to image", "one scale", "Export velocity images that are not weighted by "
                           "magnitude, or with a real world value mapping.")
        assert outcome.volume is not None
        image = formats.read_volume(outcome.volume)
        turn = 1.0 if config.venc is None else float(config.venc) / how["venc_m_s"]
        parts.append(turn * (np.asarray(image.values, np.float32) * how["scale"][0] + how["scale"][1]))
    beat, said = _beat(first, config)
    told = [*first["warnings"], *first["velocity"]["assumed"], *said]
    vencs = [f["velocity"]["venc_m_s"] if config.venc is None else float(config.venc) for _, f in chosen]
    facts = first | {"size": list(parts[0].shape), "units": "m/s", "venc_m_s": vencs, "warnings": told,
                     "directions_lps": [f["velocity"]["direction_lps"] for _, f in chosen], "beat_ms": beat}
    return image.but(np.stack(parts, axis=-1)), facts


def _beat(facts: dict[str, Any], config: IngestVelocityConfig) -> tuple[float, list[str]]:
    """Length of the beat, ms: the setting, the header, else the times and one step more."""
    times = facts["times_ms"]
    if len(times) < 2:
        raise BadInput("no_times", "the header gives no trigger or acquisition times", "a time for each image",
                       "Export the series again.")
    shortest = float(times[-1] - times[0])
    said = 1000 * float(config.beat) if config.beat is not None else facts["beat_ms"]
    if said and said > shortest:
        return said, []
    return shortest * len(times) / (len(times) - 1), ["the beat's length is taken from the times of the images"]
