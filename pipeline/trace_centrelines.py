"""Centrelines of the lumen: its ends, branches with radius and areas, names, lesions."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from pipeline import formats, vmtk_child
from pipeline.stage import Config, Files, Report
from pipeline.table import Row, write_rows
from solvers.errors import BadInput
from solvers.geometry import branching, lesions, naming, profiles, resolved_ends, skeleton
from solvers.geometry.branching import Wall
from solvers.geometry.centrelines import Lesion, Tree
from solvers.geometry.sections import Cutter
from solvers.geometry.surface import Surface
from solvers.units import Length, Time

VERSION = 1
SOURCES = ["Antiga, Ene-Iordache & Remuzzi 2003 (centrelines by the Voronoi diagram), doi:10.1109/TMI.2003.812261",
           "Sato et al. 2000 (the tree by distance), doi:10.1109/PCCGA.2000.883951",
           "Hoogeveen, Bakker & Viergever 1998 (limits of width measurement), doi:10.1002/jmri.1880080523"]

RESOLVED = 3.0
"""A diameter below this many voxels cannot be measured well (Hoogeveen 1998): marked `screening`."""
SEEN = 2.0
"""An outlet is where a branch is still this many voxels wide: narrower, its lumen is the noise's."""


class TraceCentrelinesConfig(Config):
    method: str = "vmtk"
    """`vmtk`, with the second way when it fails; or `own`, the second way: the middle of the voxelised lumen."""
    root_name: str = "abdominal_aorta"
    step: Length = "0.75 mm"
    voxel: Length = "0.7 mm"
    """The lumen is looked at in voxels of this edge, or coarser when it would hold more than `voxels_most`."""
    voxels_most: int = 300_000
    smooth_over: Length = "1.5 mm"
    branch_parent_radii: float = 2.3
    branch_smallest_radius: Length = "1.5 mm"
    lesion_percent: float = 30.0
    time_limit: Time = "120 s"
    memory_limit_gb: float = 4.0
    vmtk_points: int = 30000
    """Surfaces with more points are thinned out for VMTK (areas are cut from the full one)."""


class TraceCentrelinesInputs(Files):
    surface: Path
    inner: Path | None = None
    outer: Path | None = None
    sidecar: Path | None = None
    labels: Path | None = None
    table: Path | None = None


class TraceCentrelinesOutputs(Files):
    centrelines: Path = Path("centrelines.vtp")
    lesions: Path = Path("lesions.json")
    measurements: Path = Path("measurements.csv")


class TraceCentrelinesReport(Report):
    method: str
    method_note: str
    n_ends: int
    n_branches: int
    n_bulges_pruned: int
    unresolved_ends_mm: float
    """Length of branches given up where the lumen is narrower than two voxels."""
    names: list[str]
    total_length_mm: float
    has_bifurcation: bool
    side_verified: bool
    side_note: str
    n_lesions: int
    n_lesions_below_resolution: int
    worst_percent_diameter_stenosis: float | None
    assessed_length_fraction: float


def trace_centrelines(inputs: TraceCentrelinesInputs, config: TraceCentrelinesConfig,
                      outputs: TraceCentrelinesOutputs) -> TraceCentrelinesReport:
    surface = _read(inputs.surface)
    anatomical = _anatomical(inputs.sidecar)
    wall = Wall(surface)
    ways = _ways(surface, config, anatomical)
    lines, method, note = _lines(surface, wall, ways, config)
    stretches = branching.stretches(lines, wall)
    contours = profiles.Contours(Cutter(surface), _cutter(inputs.inner), _cutter(inputs.outer))
    voxel = _voxel(inputs.labels)
    tree, given_up = resolved_ends.solve(profiles.measure(stretches, wall, contours, _mm(config.step)), SEEN * voxel)
    named = naming.solve(tree, config.root_name, anatomical)
    found = lesions.solve(named.tree, lesions.Criteria(percent=config.lesion_percent))
    formats.write_tree(outputs.centrelines, named.tree)
    formats.write_lesions(outputs.lesions, found)
    least = RESOLVED * voxel
    write_rows(outputs.measurements, _rows(surface, inputs, named.tree, found, least))
    how = {"method": method, "method_note": note, "unresolved_ends_mm": round(given_up, 2)}
    return _report(named, found, ways, least, how)


def _mm(length: object) -> float:
    return float(length) * 1000  # type: ignore[arg-type]


def _read(path: Path) -> Surface:
    mesh = formats.read_mesh(path, "mm")
    surface = Surface(np.asarray(mesh.points, float), mesh.regular_faces.astype(np.int64))
    if not surface.is_closed:
        raise BadInput("surface_not_closed", f"{path.name} has edges without two triangles", "a closed surface",
                       "Close the ends of the surface (flat caps) first.")
    return surface if surface.volume > 0 else surface.but(triangles=surface.triangles[:, ::-1])


def _cutter(path: Path | None) -> Cutter | None:
    if path is None:
        return None
    mesh = formats.read_mesh(path, "mm")
    return Cutter(Surface(np.asarray(mesh.points, float), mesh.regular_faces.astype(np.int64)))


def _anatomical(sidecar: Path | None) -> bool:
    """Whether the image's axes are the patient's; without a sidecar nobody knows."""
    return bool(sidecar is not None and formats.read_json(sidecar).get("anatomical", False))


def _voxel(labels: Path | None) -> float:
    """The edge of a cube of a voxel's volume, mm; zero when the image is not given."""
    return 0.0 if labels is None else float(formats.read_volume(labels).voxel_volume) ** (1 / 3)


def _ways(surface: Surface, config: TraceCentrelinesConfig, anatomical: bool) -> skeleton.Ways:
    """Rough ways to all ends; the one to the widest end first."""
    pruning = skeleton.Pruning(config.branch_parent_radii, _mm(config.branch_smallest_radius))
    edge = max(_mm(config.voxel), (surface.volume / config.voxels_most) ** (1 / 3))
    body = skeleton.body(skeleton.voxelised(surface, edge))
    ways = skeleton.ways(body, pruning, superior_first=anatomical)
    if not ways.points:
        raise BadInput("no_ends", "The lumen has no two ends", "a tube-like surface", "Look at the surface.")
    order = sorted(range(len(ways.points)), key=lambda i: -skeleton.end_radius(ways.points[i], ways.radius[i]))
    return skeleton.Ways(tuple(ways.points[i] for i in order), tuple(ways.radius[i] for i in order), ways.pruned)


def _lines(surface: Surface, wall: Wall, ways: skeleton.Ways,
           config: TraceCentrelinesConfig) -> tuple[list[np.ndarray], str, str]:
    """Smooth lines (steps of branching.FINE) from the inlet to each end, by VMTK or by the second way."""
    found, why = None, "asked for"
    if config.method == "vmtk":
        rough = [_own_line(points, wall) for points in ways.points]
        found, why = vmtk_child.centrelines(_thinned(surface, config.vmtk_points), rough[0][0],
                                            [line[-1] for line in rough], float(config.time_limit),
                                            config.memory_limit_gb)
        if found is not None and not _agrees([points for points, _ in found], ways, wall):
            found, why = None, "VMTK's lines leave the lumen's middle"
    traced = ([_own_line(points, wall, is_final=True) for points in ways.points] if found is None
              else [branching.to_both_ends(points, wall, trim=0.3) for points, _ in found])
    lines = [branching.smoothed(line, branching.FINE, _mm(config.smooth_over)) for line in traced]
    return lines, ("own" if found is None else "vmtk"), ("" if found else why)


def _agrees(lines: list[np.ndarray], ways: skeleton.Ways, wall: Wall) -> bool:
    """Each line follows its rough way: nowhere farther from it than about the radius of the tube."""
    return all((cKDTree(way).query(line)[0] <= 1.2 * wall.about(line) + 3.0).all()
               for line, way in zip(lines, ways.points, strict=True))


def _own_line(points: np.ndarray, wall: Wall, is_final: bool = False) -> np.ndarray:
    """A way through voxels as a smooth line to both ends; moved to the middle of the tube when it is to stay."""
    step = 4 * branching.FINE
    line = branching.smoothed(branching.resampled(points, step), step, 1.5)
    if is_final:
        line = branching.smoothed(branching.resampled(branching.centred(line, step, wall), step), step, 1.0)
    return branching.to_both_ends(line, wall, trim=1.2)


def _thinned(surface: Surface, most: int) -> Surface:
    """At most about `most` points, for VMTK's Voronoi diagram."""
    import pyvista

    if len(surface.points) <= most:
        return surface
    mesh = pyvista.PolyData.from_regular_faces(surface.points, surface.triangles)
    thin = mesh.decimate(1 - most / len(surface.points), volume_preservation=True)
    return Surface(np.asarray(thin.points, float), thin.regular_faces.astype(np.int64)).compact()


def _rows(surface: Surface, inputs: TraceCentrelinesInputs, tree: Tree, found: list[Lesion],
          least: float) -> list[Row]:
    rows = [_volume_row(surface, inputs)]
    for name in dict.fromkeys(b.name for b in tree.branches):
        rows += _branch_rows(tree, name)
    return rows + [row for lesion in found for row in _lesion_rows(lesion, inputs.inner is not None, least)]


def _volume_row(surface: Surface, inputs: TraceCentrelinesInputs) -> Row:
    row = Row(stage="trace_centrelines", region="arterial_lumen", measure="volume", value=surface.volume / 1000,
              unit="mL", method="enclosed by the surface")
    if not (inputs.inner and inputs.outer):
        return row
    low, high = (_volume(path) / 1000 for path in (inputs.inner, inputs.outer))
    return row.but(low=low, high=high, level=0.683, sources="segmentation")


def _volume(path: Path) -> float:
    mesh = formats.read_mesh(path, "mm")
    return Surface(np.asarray(mesh.points, float), mesh.regular_faces.astype(np.int64)).volume


def _branch_rows(tree: Tree, name: str) -> list[Row]:
    """Length and mean diameters of the branches that share a name."""
    parts = [b for b in tree.branches if b.name == name]
    base = Row(stage="trace_centrelines", region=name, unit="mm")
    rows = [base.but(measure="length", statistic="total", value=sum(b.length for b in parts),
                     method="along the centreline")]
    areas = [np.concatenate([getattr(b, a) for b in parts]) for a in ("area", "area_inner", "area_outer")]
    if not np.isfinite(areas[0]).any():
        return rows
    mean, low, high = (float(np.nanmean(np.sqrt(4 * a / np.pi))) for a in areas)
    row = base.but(measure="diameter", statistic="mean", value=mean, method="area-equivalent, junctions left out")
    return [*rows, row.but(low=low, high=high, level=0.683, sources="segmentation") if high > low else row]


def _lesion_rows(lesion: Lesion, has_interval: bool, least: float) -> list[Row]:
    base = Row(stage="trace_centrelines", region=lesion.branch_name, lesion=lesion.id,
               quality="ok" if lesion.minimal_diameter >= least else "screening")
    area = (lesion.minimal_area_low, lesion.minimal_area_high)
    low, high = (float(np.sqrt(4 * a / np.pi)) for a in area)
    worst, best = (100 * (1 - d / lesion.reference_diameter) for d in (low, high))
    spread = [("minimal_area", "min", lesion.minimal_area, "mm^2", area),
              ("minimal_diameter", "min", lesion.minimal_diameter, "mm", (low, high)),
              ("percent_diameter_stenosis", "max", lesion.percent_diameter_stenosis, "%", (best, worst))]
    rows = [base.but(measure=m, statistic=s, value=v, unit=u, method="area-equivalent diameter",
                     **({"low": i[0], "high": i[1], "level": 0.683, "sources": "segmentation"} if has_interval else {}))
            for m, s, v, u, i in spread]
    plain = [("reference_diameter", lesion.reference_diameter), ("lesion_length", lesion.length),
             ("lesion_position", lesion.abscissa)]
    return rows + [base.but(measure=m, value=v, unit="mm", method="healthy lumen on both sides") for m, v in plain]


def _report(named: naming.Named, found: list[Lesion], ways: skeleton.Ways, least: float,
            how: dict[str, Any]) -> TraceCentrelinesReport:
    tree = named.tree
    known = sum(int(np.isfinite(b.area).sum()) for b in tree.branches)
    return TraceCentrelinesReport(
        **how, n_ends=len(tree.leaves) + 1, n_branches=len(tree.branches),
        n_bulges_pruned=ways.pruned, names=[b.name for b in tree.branches],
        total_length_mm=round(sum(b.length for b in tree.branches), 2), has_bifurcation=named.has_bifurcation,
        side_verified=named.side_verified, side_note="" if named.side_verified else "side unverified",
        n_lesions=len(found), n_lesions_below_resolution=sum(lesion.minimal_diameter < least for lesion in found),
        worst_percent_diameter_stenosis=round(found[0].percent_diameter_stenosis, 2) if found else None,
        assessed_length_fraction=round(known / sum(len(b.points) for b in tree.branches), 4))
