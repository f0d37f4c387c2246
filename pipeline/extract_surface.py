"""From the lumen's level field (or a mask) to a closed, smooth surface in LPS mm."""

import csv
from pathlib import Path

import numpy as np

from pipeline import formats
from pipeline.stage import Config, Files, Report
from solvers.errors import BadInput, DidNotConverge
from solvers.geometry import isosurface, smoothing
from solvers.geometry.surface import Surface, joined
from solvers.geometry.volume import Volume
from solvers.units import Length

VERSION = 1
SOURCES = ["Taubin 1995, doi:10.1145/218380.218473",
           "Schroeder, Maynard & Geveci 2015 (flying edges), doi:10.1109/LDAV.2015.7348069"]

VESSELS = ("aorta", "artery", "trunk", "iliac")
"""Words in the names of labels that make up the lumen when no `arterial_lumen` is there."""


class ExtractSurfaceConfig(Config):
    finest_step: Length = "0.5 mm"
    """Grids coarser along one axis are refined, to steps not below this."""
    smoothing_passes: int = 12
    passband: float = 0.1
    volume_tolerance: float = 0.01
    """Smoothing may change the volume by this part at most."""
    smallest_part: float = 0.01
    """Parts of the inner and outer contour below this part of their largest one are left out."""


class ExtractSurfaceInputs(Files):
    labels: Path
    table: Path | None = None
    lumen: Path | None = None
    inner: Path | None = None
    outer: Path | None = None


class ExtractSurfaceOutputs(Files):
    lumen: Path = Path("arterial_lumen.vtp")
    inner: Path | None = Path("arterial_lumen_inner.vtp")
    outer: Path | None = Path("arterial_lumen_outer.vtp")


class ExtractSurfaceReport(Report):
    source: str
    volume_ml: float
    area_mm2: float
    n_triangles: int
    median_edge_mm: float
    is_closed: bool
    n_handles: int
    n_parts_left_out: int
    left_out_ml: float
    smoothing_passes: int
    volume_change_by_smoothing: float
    inner_volume_ml: float | None
    outer_volume_ml: float | None


def extract_surface(inputs: ExtractSurfaceInputs, config: ExtractSurfaceConfig,
                    outputs: ExtractSurfaceOutputs) -> ExtractSurfaceReport:
    field = formats.read_volume(inputs.lumen) if inputs.lumen else _field_of_mask(inputs)
    parts = _parts(field, config)
    rough = parts[0]
    surface, passes = _smooth(rough, config)
    if not surface.is_closed:
        raise DidNotConverge("surface_not_closed", "The lumen's surface has edges without two triangles",
                             "a closed surface", "Look at the level field near the lumen's thinnest place.")
    _write(outputs.lumen, surface)
    inner = _contour(inputs.inner, outputs.inner, config)
    outer = _contour(inputs.outer, outputs.outer, config)
    return ExtractSurfaceReport(
        source="level field" if inputs.lumen else "mask", volume_ml=_ml(surface), area_mm2=round(surface.area, 1),
        n_triangles=len(surface.triangles), median_edge_mm=round(_median_edge(surface), 3),
        is_closed=surface.is_closed, n_handles=1 - surface.euler // 2, n_parts_left_out=len(parts) - 1,
        left_out_ml=round(sum(p.volume for p in parts[1:]) / 1000, 4), smoothing_passes=passes,
        volume_change_by_smoothing=round(surface.volume / rough.volume - 1, 5),
        inner_volume_ml=inner, outer_volume_ml=outer)


def _parts(field: Volume, config: ExtractSurfaceConfig) -> list[Surface]:
    """The outer walls of the parts, the largest first; walls of cavities inside are dropped."""
    parts = isosurface.extract(field, finest=float(config.finest_step) * 1000).parts()
    return [part for part in parts if part.volume > 0]


def _contour(given: Path | None, output: Path | None, config: ExtractSurfaceConfig) -> float | None:
    """The surface one standard deviation inside or outside; it may be in pieces."""
    if given is None or output is None:
        return None
    parts = _parts(formats.read_volume(given), config)
    kept = [p for p in parts if p.volume >= config.smallest_part * parts[0].volume]
    surface = joined([_smooth(part, config)[0] for part in kept])
    _write(output, surface)
    return _ml(surface)


def _smooth(surface: Surface, config: ExtractSurfaceConfig) -> tuple[Surface, int]:
    """Smoothed with as many passes as keep the volume."""
    passes = config.smoothing_passes
    while passes > 0:
        smooth = smoothing.solve(surface, smoothing.Taubin(passes, config.passband))
        if abs(smooth.volume / surface.volume - 1) <= config.volume_tolerance:
            return smooth, passes
        passes //= 2
    return surface, 0


def _field_of_mask(inputs: ExtractSurfaceInputs) -> Volume:
    labels = formats.read_volume(inputs.labels)
    return isosurface.level_field(labels.but(np.isin(labels.values, _lumen_indices(inputs.table))))


def _lumen_indices(table: Path | None) -> list[int]:
    """Which labels are lumen: `arterial_lumen`, else every artery; without a table, label 1."""
    if table is None:
        return [1]
    with table.open(newline="", encoding="utf-8") as file:
        rows = {row["name"]: int(row["index"]) for row in csv.DictReader(file, delimiter="\t")}
    if "arterial_lumen" in rows:
        return [rows["arterial_lumen"]]
    found = [i for name, i in rows.items() if any(w in name for w in VESSELS) and "calcification" not in name]
    if not found:
        raise BadInput("no_lumen_label", f"{table.name} names no artery", "a label arterial_lumen or aorta",
                       "Name the vessel's label arterial_lumen.")
    return found


def _write(path: Path, surface: Surface) -> None:
    import pyvista

    formats.write_mesh(path, pyvista.PolyData.from_regular_faces(surface.points, surface.triangles), "mm")


def _ml(surface: Surface) -> float:
    return round(surface.volume / 1000, 4)


def _median_edge(surface: Surface) -> float:
    i, j = surface.edges[0].T
    return float(np.median(np.linalg.norm(surface.points[i] - surface.points[j], axis=1)))
