"""The surfaces and their colours for the 3D page: one scale for all cases, colours from one table."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.formats import read_lesions, read_mesh, read_tree
from pipeline.report.charts import tick_text, ticks
from solvers.units import MMHG

MAX_TRIANGLES = 150_000


@dataclass(frozen=True)
class Field:
    """A quantity on a surface: its array, how it is named and scaled, and its colours (matplotlib's, uniform)."""

    key: str
    part: str
    label: str
    unit: str
    factor: float
    colours: str
    from_zero: bool = False
    top: float = 100.0  # percentile of the values at the end of the scale


FIELDS = (
    Field("pressure_mean", "lumen", "Time-averaged pressure", "mmHg", 1 / MMHG, "viridis"),
    Field("pressure_peak", "lumen", "Peak pressure", "mmHg", 1 / MMHG, "viridis"),
    Field("tawss", "lumen", "Time-averaged wall shear stress", "Pa", 1.0, "magma", True, 98.0),
    Field("osi", "lumen", "Oscillatory shear index", "no unit", 1.0, "cividis", True),
    Field("transverse_wss", "lumen", "Transverse wall shear stress", "Pa", 1.0, "magma", True, 98.0),
    Field("rrt", "lumen", "Relative residence time", "1/Pa", 1.0, "cividis", True, 95.0),
    Field("stress", "wall", "Wall stress", "kPa", 1e-3, "inferno", True, 99.0),
)


@dataclass(frozen=True)
class Case:
    """What one panel shows: files of a baseline or a variant."""

    name: str
    surface: Path | None = None
    wall: Path | None = None
    tissue: Path | None = None
    centrelines: Path | None = None
    lesions: Path | None = None
    marks: Mapping[str, str] = field(default_factory=dict)  # lesion id to the text beside it


def scene(cases: Sequence[Case], anatomical: bool) -> dict[str, Any] | None:
    """The page's data (see web/viewer.js), or None when no case has a surface."""
    panels = [(case, _parts(case)) for case in cases]
    panels = [(case, parts) for case, parts in panels if parts]
    if not panels:
        return None
    shown = [_field(f, [parts for _, parts in panels]) for f in FIELDS]
    up, view = ([0, 0, 1], [0, -1, 0]) if anatomical else _upright([p for _, p in panels])
    return {"up": up, "view": view, "fields": [f for f in shown if f],
            "panels": [{"name": case.name, "marks": _marks(case),
                        "parts": {key: _packed(mesh) for key, mesh in parts.items()}} for case, parts in panels]}


def as_script(data: dict[str, Any]) -> str:
    """The data as text that can stand inside a script element."""
    return json.dumps(data, separators=(",", ":"), sort_keys=True, allow_nan=False).replace("</", "<\\/")


def _parts(case: Case) -> dict[str, Any]:
    """The lumen (with flow fields when there are any) and the tissue's outside, in mm, each with wanted arrays."""
    found = {}
    if case.wall is not None:
        mesh = read_mesh(case.wall, "m")
        found["lumen"] = _triangles(mesh, "lumen", 1000.0)
    elif case.surface is not None:
        found["lumen"] = _triangles(read_mesh(case.surface, "mm"), "lumen", 1.0)
    if case.tissue is not None:
        found["wall"] = _triangles(_with_stress(read_mesh(case.tissue, "m")), "wall", 1000.0)
    return found


def _with_stress(mesh: Any) -> Any:
    """The tissue with its stress as the point array `stress`: the one array whose name says so."""
    mesh = mesh.cell_data_to_point_data(pass_cell_data=False) if not _stress_name(mesh.point_data) else mesh
    name = _stress_name(mesh.point_data)
    if name:
        values = np.asarray(mesh.point_data[name], float)
        mesh.point_data["stress"] = values if values.ndim == 1 else np.linalg.norm(values, axis=1)
    return mesh


def _stress_name(arrays: Any) -> str:
    names = sorted(n for n in arrays.keys() if "stress" in n.lower())  # noqa: SIM118  (vtk arrays iterate by key anyway)
    preferred = [n for n in names if "first" in n or "max" in n or "principal" in n]
    return (preferred or names or [""])[0]


def _triangles(mesh: Any, part: str, scale: float) -> Any:
    """Triangles only, in mm, with the arrays of `FIELDS` for this part."""
    surface = mesh.extract_surface(algorithm="dataset_surface").triangulate()
    wanted = {f.key for f in FIELDS if f.part == part}
    for name in list(surface.point_data.keys()):
        if name not in wanted:
            del surface.point_data[name]
    surface.cell_data.clear()
    if surface.n_cells > MAX_TRIANGLES and not surface.point_data.keys():
        surface = surface.decimate(1 - MAX_TRIANGLES / surface.n_cells)
    surface.points = np.asarray(surface.points, float) * scale
    return surface


def _packed(surface: Any) -> dict[str, Any]:
    """Points in 16-bit steps of the box (a few micrometres), triangles, fields as float32, all base64."""
    points = np.asarray(surface.points, float)
    origin, size = points.min(axis=0), np.ptp(points, axis=0)
    step = float(size.max()) / 65535
    steps = np.rint((points - origin) / step).astype("<u2")
    triangles = surface.faces.reshape(-1, 4)[:, 1:].astype("<u4")
    factors = {f.key: f.factor for f in FIELDS}
    fields = {name: _text(np.nan_to_num(np.asarray(surface.point_data[name], float) * factors[name]).astype("<f4"))
              for name in surface.point_data.keys()}  # noqa: SIM118
    return {"points": _text(steps), "triangles": _text(triangles), "fields": fields, "step": step,
            "origin": origin.tolist(), "size": size.tolist()}


def _text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _field(shown: Field, panels: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """A field with one range over all cases, its ticks and its 256 colours; None when no case has it."""
    found = [np.asarray(parts[shown.part].point_data[shown.key], float) * shown.factor for parts in panels
             if shown.part in parts and shown.key in parts[shown.part].point_data]
    values = np.concatenate(found) if found else np.zeros(0)
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low = 0.0 if shown.from_zero else float(values.min())
    high = float(np.percentile(values, shown.top))
    high = high if high > low else low + max(abs(low), 1.0) * 1e-3
    clipped = f"values above {tick_text(high)} {shown.unit} have the last colour" if values.max() > high else ""
    marks = [{"at": (t - low) / (high - low), "text": tick_text(t)} for t in ticks(low, high, 5)]
    return {"key": shown.key, "part": shown.part, "label": shown.label, "unit": shown.unit, "low": low, "high": high,
            "ticks": marks, "clipped": clipped, "colours": _text(colours(shown.colours))}


def colours(name: str) -> np.ndarray:
    """256 colours of a perceptually uniform map, (256, 3) uint8."""
    from matplotlib import colormaps

    return np.rint(colormaps[name](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.uint8)


def _upright(panels: Sequence[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Without trustworthy axes: the longest extent upright, seen along the shortest."""
    points = np.vstack([m.points for parts in panels for m in parts.values()])
    order = np.argsort(np.ptp(points, axis=0), kind="stable")
    unit = np.eye(3)
    return unit[order[2]].tolist(), (-unit[order[0]]).tolist()


def _marks(case: Case) -> list[dict[str, Any]]:
    """Labels at the lesions, on the centreline."""
    if case.centrelines is None or case.lesions is None:
        return []
    tree = read_tree(case.centrelines)
    found = []
    for lesion in read_lesions(case.lesions):
        branch = tree.branches[lesion.branch]
        at = [float(np.interp(lesion.abscissa, branch.abscissa, branch.points[:, k])) for k in range(3)]
        found.append({"text": case.marks.get(lesion.id, lesion.id), "at": at})
    return found
