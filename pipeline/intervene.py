"""A device in the vessel: surfaces and centrelines in, the treated ones out, in the same roles.

Lesion identities stay, so that baseline and variant are compared at the same
stations. Inner and outer contours get the same device, one standard deviation
of the recoil narrower and wider.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyvista

from pipeline import formats
from pipeline.stage import Config, Files, Report
from pipeline.table import Row, write_rows
from solvers.devices import stent as stents
from solvers.devices.stent import Stent
from solvers.errors import BadInput
from solvers.geometry import profiles
from solvers.geometry.centrelines import Branch, Lesion, Tree
from solvers.geometry.sections import Cutter
from solvers.geometry.surface import Surface
from solvers.units import Length

VERSION = 1
SOURCES = stents.SOURCES


class InterveneConfig(Config):
    """A stent. Without a lesion, branch or position: on the most severe lesion."""

    lesion: str | None = None
    """Id of the lesion to treat, as L1."""
    branch: str | None = None
    """Name of the branch, for a device put by hand."""
    position: Length | None = None
    """Centre of the device along that branch."""
    length: Length | None = None
    """None: the lesion and 3 mm beyond each end."""
    diameter: Length | Literal["own"] | None = None
    """None: the lesion's reference diameter after recoil; "own": the vessel's own shape (a null test)."""
    oversize: float = 1.0
    """Factor on the diameter."""
    recoil: float = 0.05
    recoil_sd: float = 0.022
    transition: Length = "4 mm"
    """Over which the widening fades beyond each end."""


class InterveneInputs(Files):
    surface: Path
    centrelines: Path
    lesions: Path
    inner: Path | None = None
    outer: Path | None = None


class InterveneOutputs(Files):
    lumen: Path = Path("arterial_lumen.vtp")
    inner: Path | None = Path("arterial_lumen_inner.vtp")
    outer: Path | None = Path("arterial_lumen_outer.vtp")
    centrelines: Path = Path("centrelines.vtp")
    lesions: Path = Path("lesions.json")
    device: Path = Path("device.json")
    measurements: Path = Path("measurements.csv")


class InterveneReport(Report):
    branch: str
    centre_mm: float
    length_mm: float
    nominal_diameter_mm: float | None
    final_diameter_mm: float | None
    lesions_treated: list[str]


def intervene(inputs: InterveneInputs, config: InterveneConfig, outputs: InterveneOutputs) -> InterveneReport:
    """Deploy the stent and measure the vessel that it leaves."""
    tree, lesions = formats.read_tree(inputs.centrelines), formats.read_lesions(inputs.lesions)
    device = placed(config, tree, lesions)
    spread = {"surface": 0.0, "inner": config.recoil_sd, "outer": -config.recoil_sd}
    cutters: dict[str, tuple[Cutter, Cutter]] = {}
    for role, target in (("surface", outputs.lumen), ("inner", outputs.inner), ("outer", outputs.outer)):
        if (source := getattr(inputs, role)) and target:
            worn = replace(device, recoil=device.recoil + spread[role])
            before, after = _deploy(source, target, tree, worn)
            cutters[role] = Cutter(before), Cutter(after)
    treated = _with_areas(tree, device, cutters)
    remaining = [_after(lesion, treated.branches[lesion.branch]) for lesion in lesions]
    formats.write_tree(outputs.centrelines, treated)
    formats.write_lesions(outputs.lesions, remaining)
    formats.write_json(outputs.device, {"kind": "stent", "unit": "mm", "device": device})
    write_rows(outputs.measurements, _rows(tree, device, remaining))
    return _report(tree, device, lesions)


def placed(config: InterveneConfig, tree: Tree, lesions: list[Lesion]) -> Stent:
    """The device where the settings put it; BadInput when it cannot be there."""
    blank = Stent(0, 0.0, 0.0, None, config.recoil, config.transition * 1e3)
    length = config.length and config.length * 1e3
    if config.branch is None:
        lesion = _lesion(config.lesion, lesions)
        device = stents.on_lesion(tree, lesion, length, _diameter(config), blank)
    else:
        device = stents.fitted(tree, replace(blank, **_by_hand(config, tree)))
    if config.diameter == "own":
        return replace(device, diameter=None)
    return stents.fitted(tree, replace(device, diameter=(device.diameter or 0.0) * config.oversize))


def _diameter(config: InterveneConfig) -> float | None:
    """mm; None when the vessel decides."""
    return None if config.diameter is None or config.diameter == "own" else float(config.diameter) * 1e3


def _lesion(wanted: str | None, lesions: list[Lesion]) -> Lesion:
    if not lesions:
        raise BadInput("no_lesion", "no narrowing was found in this vessel", "a lesion to treat",
                       "Give branch, position, length and diameter to put a device by hand.")
    if wanted is None:
        return max(lesions, key=lambda lesion: lesion.percent_diameter_stenosis)
    found = [lesion for lesion in lesions if lesion.id == wanted]
    if not found:
        raise BadInput("unknown_lesion", f"there is no lesion {wanted}", f"one of {', '.join(x.id for x in lesions)}")
    return found[0]


def _by_hand(config: InterveneConfig, tree: Tree) -> dict[str, Any]:
    names = [b.name for b in tree.branches]
    if config.branch not in names:
        raise BadInput("unknown_branch", f"there is no branch {config.branch}", f"one of {', '.join(names)}")
    if config.position is None or config.length is None or config.diameter is None:
        raise BadInput("incomplete_device", "a device put by hand lacks its place or size",
                       "branch, position, length and diameter")
    return {"branch": names.index(config.branch), "centre": config.position * 1e3, "length": config.length * 1e3,
            "diameter": _diameter(config)}


def _deploy(source: Path, target: Path, tree: Tree, device: Stent) -> tuple[Surface, Surface]:
    """The surface before and after, the latter written to `target`."""
    mesh = formats.read_mesh(source, "mm")
    before = Surface(np.asarray(mesh.points, float), np.asarray(mesh.regular_faces))
    after = before.but(points=stents.deploy(before.points, tree, device))
    faces = np.column_stack([np.full(len(after.triangles), 3), after.triangles]).ravel()
    formats.write_mesh(target, pyvista.PolyData(after.points, faces), "mm")
    return before, after


def _with_areas(tree: Tree, device: Stent, cutters: dict[str, tuple[Cutter, Cutter]]) -> Tree:
    """The tree with the areas cut anew where the device changed them, in the planes of the first measurement."""
    branch = tree.branches[device.branch]
    here = np.flatnonzero((device.weight(branch.abscissa) > 0) & np.isfinite(branch.area))
    names = {"surface": "area", "inner": "area_inner", "outer": "area_outer"}
    areas = {n: getattr(branch, n).copy() for n in names.values()}
    normals = profiles.square_to(branch.points)
    for role, cutter in cutters.items():
        for i in here:
            reach = 4 * branch.radius[i] + device.final_radius
            before, after = (c.cut(branch.points[i], normals[i], reach) for c in cutter)
            if after and (before is None or after.area != before.area):
                areas[names[role]][i] = after.area
    radius = branch.radius + device.weight(branch.abscissa) * np.maximum(0, device.final_radius - branch.radius)
    treated = branch.but(radius=radius, **areas)
    return Tree(tuple(treated if i == device.branch else b for i, b in enumerate(tree.branches)))


def _after(lesion: Lesion, branch: Branch) -> Lesion:
    """The lesion measured again in the treated vessel, over the same stretch."""
    inside = (branch.abscissa >= lesion.start) & (branch.abscissa <= lesion.end) & np.isfinite(branch.area)
    areas = [branch.area[inside], branch.area_inner[inside], branch.area_outer[inside]]
    least, low, high = (float(np.nanmin(a)) for a in areas)
    diameter = float(np.sqrt(4 * least / np.pi))
    return replace(lesion, minimal_area=least, minimal_area_low=low, minimal_area_high=high, minimal_diameter=diameter,
                   percent_diameter_stenosis=100 * (1 - diameter / lesion.reference_diameter))


def _rows(tree: Tree, device: Stent, lesions: list[Lesion]) -> list[Row]:
    region = tree.branches[device.branch].name
    rows = [Row(stage="intervene", region=region, measure="device_length", statistic="nominal", value=device.length,
                unit="mm")]
    if device.diameter is not None:
        rows.append(Row(stage="intervene", region=region, measure="device_diameter", statistic="after_recoil",
                        value=2 * device.final_radius, unit="mm", method="nominal diameter less recoil"))
    return rows + [row for lesion in lesions for row in _lesion_rows(lesion)]


def _lesion_rows(lesion: Lesion) -> list[Row]:
    row = Row(stage="intervene", region=lesion.branch_name, lesion=lesion.id, level=0.683,
              sources="segmentation;recoil", method="sections of the treated surface")
    low, high = (float(np.sqrt(4 * a / np.pi)) for a in (lesion.minimal_area_low, lesion.minimal_area_high))
    return [row.but(measure="minimal_diameter", statistic="min", value=lesion.minimal_diameter, unit="mm",
                    low=low, high=high),
            row.but(measure="percent_diameter_stenosis", statistic="max", value=lesion.percent_diameter_stenosis,
                    unit="%", low=100 * (1 - high / lesion.reference_diameter),
                    high=100 * (1 - low / lesion.reference_diameter))]


def _report(tree: Tree, device: Stent, lesions: list[Lesion]) -> InterveneReport:
    low, high = device.centre - device.length / 2, device.centre + device.length / 2
    covered = [x.id for x in lesions if x.branch == device.branch and low <= x.abscissa <= high]
    return InterveneReport(branch=tree.branches[device.branch].name, centre_mm=device.centre, length_mm=device.length,
                           nominal_diameter_mm=device.diameter, lesions_treated=covered,
                           final_diameter_mm=None if device.diameter is None else 2 * device.final_radius)
