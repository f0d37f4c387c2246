"""From phase-contrast MR to flow: velocity corrected, flow through planes over the beat, a waveform for an inlet.

Planes: each vessel in the slice when the image has one; else the cross-sections
named in the settings, or at even steps along given centrelines.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import formats
from pipeline.stage import Config, Files, Report, tell
from pipeline.table import Row, write_rows
from solvers.errors import BadInput
from solvers.geometry.volume import Volume
from solvers.imaging import phase_contrast
from solvers.statistics.uncertainty import ONE_SIGMA
from solvers.units import Length

VERSION = 1
SOURCES = ["Herraez et al. 2002 (unwrapping by reliability), doi:10.1364/AO.41.007437",
           "Walker et al. 1993 (background by a fit to static tissue), recalled"]
Six = tuple[float, float, float, float, float, float]


class MeasureFlowConfig(Config):
    unwrap: bool = True
    """Undo wraps of velocities above VENC."""
    background_order: int | None = 2
    """Of the polynomial through tissue at rest, 0 to 4; None: no correction."""
    planes: tuple[Six, ...] = ()
    """Centre (LPS, mm) and normal of each cross-section; flow along the normal is positive."""
    step: Length = "10 mm"
    """Along given centrelines."""
    reach: Length = "25 mm"
    """Half the edge of the square in which a cross-section lies."""
    smallest_vessel: float = 20.0
    """Area in mm^2 of a vessel in a single slice, at least, where no mask is given."""
    inlet: str = ""
    """The plane whose flow becomes inlet.json, else the one with the largest flow."""


class MeasureFlowInputs(Files):
    """As `ingest_velocity` wrote them; a mask of vessels on their grid; centrelines in their frame."""

    velocity: Path
    magnitude: Path
    sidecar: Path
    labels: Path | None = None
    table: Path | None = None
    centrelines: Path | None = None


class MeasureFlowOutputs(Files):
    velocity: Path = Path("velocity.nii.gz")
    """Corrected, m/s along the encoded directions, (i, j, k, t, c)."""
    vessels: Path = Path("vessels.nii.gz")
    curves: Path = Path("curves.csv")
    inlet: Path = Path("inlet.json")
    """Flow over the beat as an inflow of simulate_flow, SI."""
    measurements: Path = Path("measurements.csv")
    preview: Path = Path("preview.png")


class MeasureFlowReport(Report):
    n_times: int
    n_planes: int
    inlet: str
    inlet_flow_l_per_min: float
    wrapped: float
    """Share of seen voxels that were moved by a turn or more."""
    static_voxels: int
    largest_background_m_s: float
    not_cut: tuple[str, ...]
    """Planes without a lumen, and why."""


@dataclass(frozen=True)
class _Cut:
    name: str
    plane: phase_contrast.Plane
    flow: phase_contrast.Flow


def measure_flow(inputs: MeasureFlowInputs, config: MeasureFlowConfig,
                 outputs: MeasureFlowOutputs) -> MeasureFlowReport:
    """Correct the velocity, find the vessels, and take the flow through each plane."""
    facts, measured = _given(inputs)
    given = None if inputs.labels is None else _mask(inputs.labels, measured)
    clean = phase_contrast.solve(measured, phase_contrast.Corrections(
        config.unwrap, config.background_order, None if given is None else given > 0))
    thick = float(measured.spacing[2]) if measured.velocity.shape[2] == 1 else 1.0
    found = phase_contrast.vessels(clean, config.smallest_vessel * thick) if given is None else given
    cuts, lost = _cuts(inputs, config, clean, found, facts)
    first = _inlet(cuts, config)
    grid = Volume(found, measured.affine)
    formats.write_volume(outputs.velocity, grid.but(clean.velocity), np.float32)
    formats.write_volume(outputs.vessels, grid, np.uint8)
    _write_curves(outputs.curves, cuts)
    formats.write_json(outputs.inlet, _waveform(first))
    write_rows(outputs.measurements, [row for cut in cuts for row in _rows(cut, config)])
    _write_preview(outputs.preview, clean, found, cuts)
    for line in lost:
        tell(f"  measure_flow: {line}")
    return MeasureFlowReport(
        n_times=measured.velocity.shape[3], n_planes=len(cuts), inlet=first.name,
        inlet_flow_l_per_min=6e4 * abs(first.flow.net), wrapped=round(clean.wrapped, 5),
        static_voxels=int(clean.static.sum()), largest_background_m_s=round(float(np.abs(clean.background).max()), 4),
        not_cut=tuple(lost))


def _given(inputs: MeasureFlowInputs) -> tuple[dict[str, Any], phase_contrast.Encoded]:
    facts = formats.read_json(inputs.sidecar)
    velocity, magnitude = formats.read_volume(inputs.velocity), formats.read_volume(inputs.magnitude)
    missing = [n for n in ("venc_m_s", "directions_lps", "times_ms", "beat_ms") if not facts.get(n)]
    if missing:
        raise BadInput("not_a_velocity", f"{inputs.sidecar.name} lacks {', '.join(missing)}",
                       "the sidecar of a velocity series", "Make it by ingest, recipe phase_contrast.")
    return facts, phase_contrast.Encoded(
        np.asarray(velocity.values, float), np.asarray(magnitude.values, float), np.array(facts["directions_lps"]),
        np.array(facts["venc_m_s"]), velocity.affine)


def _mask(path: Path, measured: phase_contrast.Encoded) -> np.ndarray:
    """A given label map on the grid, numbers (i, j, k)."""
    given = formats.read_volume(path)
    values = np.round(np.asarray(given.values, float)).astype(int)
    if values.shape != measured.velocity.shape[:3] or not np.allclose(given.affine, measured.affine, atol=1e-2):
        raise BadInput("mask_of_another_grid", f"{path.name} is not on the grid of the velocity",
                       "labels voxel by voxel of the velocity image", "Resample the labels.")
    if not values.any():
        raise BadInput("empty_mask", f"{path.name} is empty", "a mask of a vessel", "Give another file.")
    return values


# Planes

def _cuts(inputs: MeasureFlowInputs, config: MeasureFlowConfig, clean: phase_contrast.Corrected, found: np.ndarray,
          facts: dict[str, Any]) -> tuple[list[_Cut], list[str]]:
    """The flow through every plane, and the planes that met no lumen."""
    times, period = np.array(facts["times_ms"]) / 1000, facts["beat_ms"] / 1000
    done, lost = [], []
    if found.shape[2] == 1:
        names = _names(inputs.table)
        planes = [(names.get(n, f"vessel_{n}"), phase_contrast.slice_plane(found[:, :, 0] == n, clean.encoded.affine))
                  for n in (int(v) for v in np.unique(found)) if n]
        done = [_Cut(name, plane, phase_contrast.through(clean, plane, times, period)) for name, plane in planes]
    for name, centre, normal in _stations(inputs, config) if found.shape[2] > 1 else ():
        try:
            plane = phase_contrast.cross_section(found > 0, clean.encoded.affine, centre, normal,
                                                 1000 * float(config.reach))
            done.append(_Cut(name, plane, phase_contrast.through(clean, plane, times, period)))
        except BadInput as problem:
            lost.append(f"{name}: {problem.happened}")
    if not done:
        raise BadInput("no_flow", "no plane meets a vessel with flow" + (f" ({lost[0]})" if lost else ""),
                       "a vessel in the image, and planes across it",
                       "For a volume give --set measure_flow.planes=[[x,y,z,nx,ny,nz]] or "
                       "--use trace_centrelines.centrelines=FILE.")
    return done, lost


def _stations(inputs: MeasureFlowInputs, config: MeasureFlowConfig) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, centre and normal of each cross-section of a volume."""
    for n, six in enumerate(config.planes, start=1):
        yield f"plane_{n}", np.array(six[:3]), np.array(six[3:])
    if inputs.centrelines is None:
        return
    for number, branch in enumerate(formats.read_tree(inputs.centrelines).branches):
        tangent = np.gradient(branch.points, branch.abscissa, axis=0)
        for at in np.arange(1000 * float(config.step) / 2, branch.abscissa[-1], 1000 * float(config.step)):
            i = int(np.abs(branch.abscissa - at).argmin())
            yield f"{branch.name or f'branch_{number}'}_{at:.0f}_mm", branch.points[i], tangent[i]


def _names(table: Path | None) -> dict[int, str]:
    if table is None:
        return {}
    with table.open(newline="", encoding="utf-8") as file:
        return {int(row["index"]): row["name"] for row in csv.DictReader(file, delimiter="\t")}


def _inlet(cuts: Sequence[_Cut], config: MeasureFlowConfig) -> _Cut:
    if not config.inlet:
        return max(cuts, key=lambda c: abs(c.flow.net))
    named = next((c for c in cuts if c.name == config.inlet), None)
    if named is None:
        raise BadInput("unknown_plane", f"there is no plane {config.inlet}",
                       f"one of {', '.join(c.name for c in cuts)}", "Correct measure_flow.inlet.")
    return named


# What is written

def _waveform(cut: _Cut) -> dict[str, Any]:
    """Flow at equal times over the beat, positive the way of the net flow; its deviation at the same times."""
    f, n = cut.flow, len(cut.flow.times)
    way = 1.0 if f.net >= 0 else -1.0
    at = f.times[0] + f.period * np.arange(n) / n
    return {"unit": "SI", "plane": cut.name, "period": f.period, "mean_flow": abs(f.net),
            "mean_flow_deviation": f.net_deviation,
            "flow": np.interp(at, f.times, way * f.flow, period=f.period).tolist(),
            "deviation": np.interp(at, f.times, f.deviation, period=f.period).tolist()}


def _write_curves(path: Path, cuts: Sequence[_Cut]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["plane", "time_s", "flow_m3_per_s", "flow_deviation_m3_per_s", "peak_velocity_m_per_s",
                         "mean_velocity_m_per_s"])
        for cut in cuts:
            f = cut.flow
            writer.writerows([cut.name, *(f"{v:.7g}" for v in line)] for line in zip(
                f.times, f.flow, f.deviation, f.peak, f.mean, strict=True))


def _rows(cut: _Cut, config: MeasureFlowConfig) -> Iterator[Row]:
    """Net flow with its interval, peak and mean velocity, area, regurgitant fraction."""
    f = cut.flow
    done = ["wraps undone" if config.unwrap else "wraps kept",
            "background kept" if config.background_order is None else f"background of order {config.background_order}"]
    base = Row(stage="measure_flow", region=cut.name, method=f"phase contrast; {', '.join(done)}")
    wide = 6e4 * f.net_deviation
    yield base.but(measure="flow", statistic="mean", value=6e4 * f.net, unit="L/min", low=6e4 * f.net - wide,
                   high=6e4 * f.net + wide, level=ONE_SIGMA, sources="noise;background;segmentation")
    most = int(np.abs(f.flow).argmax())
    yield base.but(measure="flow", statistic="peak", time_s=float(f.times[most]), value=6e4 * float(f.flow[most]),
                   unit="L/min", low=6e4 * float(f.flow[most] - f.deviation[most]),
                   high=6e4 * float(f.flow[most] + f.deviation[most]), level=ONE_SIGMA,
                   sources="noise;background;segmentation")
    fast = int(np.abs(f.peak).argmax())
    yield base.but(measure="velocity", statistic="peak", time_s=float(f.times[fast]), value=float(f.peak[fast]),
                   unit="m/s")
    yield base.but(measure="velocity", statistic="mean", value=float(f.mean.mean()), unit="m/s",
                   method=f"{base.method}; over the voxels that the wall shares too")
    yield base.but(measure="area", statistic="value", value=1e6 * f.area, unit="mm2",
                   method="voxels with flow, those that the wall shares too")
    yield base.but(measure="regurgitant_fraction", statistic="value", value=f.regurgitant_fraction, unit="1")


def _write_preview(path: Path, clean: phase_contrast.Corrected, found: np.ndarray, cuts: Sequence[_Cut]) -> None:
    """Magnitude with the vessels, velocity at the largest flow, and the curves."""
    from matplotlib.figure import Figure

    time = int(np.abs(cuts[0].flow.flow).argmax())
    k = int(found.astype(bool).sum(axis=(0, 1)).argmax())
    speed = clean.velocity[:, :, k, time]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.imshow(clean.encoded.magnitude[:, :, k].mean(axis=2).T, cmap="gray")
    left.contour((found[:, :, k] > 0).T.astype(float), [0.5], colors="#d62728", linewidths=0.8)
    left.set_title("magnitude, vessels")
    shown = speed[..., 0] if speed.shape[-1] == 1 else np.linalg.norm(speed, axis=-1)
    most = max(float(np.abs(shown[found[:, :, k] > 0]).max(initial=0)), 1e-6)
    figure.colorbar(middle.imshow(shown.T, cmap="RdBu_r", vmin=-most, vmax=most), ax=middle, label="m/s")
    middle.set_title(f"velocity at {1e3 * cuts[0].flow.times[time]:.0f} ms")
    for cut in cuts[:8]:
        f = cut.flow
        right.plot(f.times, 1e6 * f.flow, label=cut.name)
        right.fill_between(f.times, 1e6 * (f.flow - f.deviation), 1e6 * (f.flow + f.deviation), alpha=0.25)
    right.set(xlabel="time, s", ylabel="flow, mL/s")
    right.legend(fontsize=7)
    for axes in (left, middle):
        axes.set_axis_off()
    figure.savefig(path, dpi=90, metadata={"Software": None})
