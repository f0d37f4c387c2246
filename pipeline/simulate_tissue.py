"""The arterial wall: from the imaged shape to its shape without pressure, and from there to diastole and systole.

The wall is a solid on the lumen's own triangles, of a thickness by a published
rule (computed tomography does not show it), healthy everywhere: plaque is not
told from wall. The lumen is loaded by the inlet's pressure, the same everywhere.
The cut ends are held along the vessel and free to widen; the tissue outside keeps
the wall from sliding along itself, else a long vessel held at its ends bows.

Intervals: a thin wall's stress goes as one over its thickness (Laplace), so the
spread of thickness between people is the stress's; the spread of pulse wave
velocity is that of the movement (Bramwell & Hill: as one over its square), which
holds thickness and stiffness at once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyvista

from pipeline import formats
from pipeline.lumen_mesh import read_lumen_mesh
from pipeline.stage import Config, Files, Report
from pipeline.table import Row, write_rows
from solvers.errors import BadInput
from solvers.geometry import wall_solid, wall_thickness
from solvers.geometry.centrelines import Tree
from solvers.geometry.lumen_mesh import VESSEL, LumenMesh
from solvers.geometry.tetrahedra import FACES
from solvers.geometry.wall_solid import Solid
from solvers.geometry.wall_thickness import Site
from solvers.library import artery_wall
from solvers.materials.gasser_ogden_holzapfel import GasserOgdenHolzapfel
from solvers.materials.law import Law
from solvers.mechanics import cycle
from solvers.mechanics.body import Body, End
from solvers.mechanics.cycle import Cycle, Pressures
from solvers.mechanics.stress import percentile_by_volume
from solvers.numerics.newton import Newton
from solvers.statistics.uncertainty import ONE_SIGMA
from solvers.units import MMHG, Length, Pressure, Quantity, quantity

VERSION = 1
SOURCES = ["Gee, Foerster & Wall 2010 (prestressing), doi:10.1002/cnm.1236",
           "Govindjee & Mihalic 1998 (inverse elastostatics), doi:10.1016/S0045-7825(98)00100-5",
           "Delfino et al. 1997 (law of the wall), doi:10.1016/S0021-9290(97)00025-0",
           "Raghavan & Vorp 2000 (law of aneurysms), doi:10.1016/S0021-9290(99)00201-8",
           "Gasser, Ogden & Holzapfel 2006 (law with fibres), doi:10.1098/rsif.2005.0073",
           "Blanco et al. 2015 (thickness), doi:10.1109/TBME.2014.2364522",
           "Mensel et al. 2014 (spread of thickness), doi:10.1007/s00330-014-3188-8",
           "van Hout et al. 2021 (spread of stiffness), doi:10.1186/s12968-021-00739-y"]

if TYPE_CHECKING:
    type Stiffness = Any
else:
    Stiffness = Annotated[Quantity, quantity("Pa/m", '"1e5 Pa/m" or "0.1 kPa/mm"')]

THINNED = 0.05
"""A region with more than this part of its wall thinner than the rule asks is marked screening."""
COMPRESSED = 0.1
"""Change of volume of a wall that keeps it, from which on the mesh is called coarse there."""
STRESS_TEXT = "largest principal stress at systole, by volume"
WHOLE = "arterial_wall"


class SimulateTissueConfig(Config):
    law: Literal["delfino1997", "raghavan2000", "gasser2006"] = "delfino1997"
    image_pressure: Literal["mean", "diastolic"] | Pressure = "mean"
    """Pressure in the image: a scan without gating gathers the whole cycle (mean), a gated one mostly diastole."""
    thickness: Literal["blanco2015"] | Length = "blanco2015"
    """A rule by the healthy lumen's radius, or one length everywhere."""
    layers: int = 1
    bulk_modulus: Pressure = "100 MPa"
    zero_pressure: Literal["prestress", "inverse"] = "prestress"
    """How the imaged wall gets its stress: by a stretch that balances the pressure on the imaged shape, or from one
    stress-free shape, which a rough surface may not have."""
    tether: Stiffness = "3e6 Pa/m"
    """Stiffness of the tissue outside against sliding of the wall along itself. Seldom known: assumed. It does not
    resist widening; without it a vessel held at its ends bows sideways."""
    load_steps: int = 1
    tolerance: float = 1e-7


class SimulateTissueInputs(Files):
    mesh: Path
    boundaries: Path
    centrelines: Path
    haemodynamics: Path


class SimulateTissueOutputs(Files):
    wall: Path = Path("wall.vtu")
    measurements: Path = Path("measurements.csv")


class SimulateTissueReport(Report):
    n_triangles: int
    n_cells: int
    thinned_fraction: float
    mended_mm: float
    """The farthest that a point of a crumpled place was moved before the wall was built."""
    min_J: float
    newton_iterations: int
    residual: float
    """The worst of the solves, relative to the forces."""
    image_pressure_mmhg: float
    wall_stress_p99_kpa: float | None
    wall_displacement_max_mm: float | None


def simulate_tissue(inputs: SimulateTissueInputs, config: SimulateTissueConfig,
                    outputs: SimulateTissueOutputs) -> SimulateTissueReport:
    """Solve the wall's zero-pressure shape, diastole and systole; write the wall and its rows."""
    tree = formats.read_tree(inputs.centrelines)
    pressures = _pressures(inputs.haemodynamics, config)
    wall = _wall(read_lumen_mesh(inputs.mesh, inputs.boundaries), tree, config)
    law = artery_wall.law(config.law).what
    ends = {wall_solid.CUT + k: End(tuple(normal)) for k, normal in enumerate(wall.solid.ends)}
    found = cycle.solve(_body(wall, law, config), ends, pressures, config.zero_pressure, float(config.tether),
                        Newton(tolerance=config.tolerance, load_steps=config.load_steps))
    formats.write_mesh(outputs.wall, _grid(wall.solid, found), "m")
    rows = _rows(Result(wall, found, pressures, config), tree)
    write_rows(outputs.measurements, rows)
    value = {(r.region, r.measure, r.statistic): r.value for r in rows}
    return SimulateTissueReport(
        n_triangles=len(wall.solid.triangles), n_cells=len(wall.solid.cells),
        thinned_fraction=round(wall.solid.thinned, 4), mended_mm=round(1000 * wall.solid.mended, 3),
        min_J=round(found.min_J, 4), newton_iterations=found.evidence.iterations, residual=found.evidence.residual,
        image_pressure_mmhg=round(pressures.image / MMHG, 2),
        wall_stress_p99_kpa=value[WHOLE, "wall_stress", "p99"],
        wall_displacement_max_mm=value[WHOLE, "wall_displacement", "max"])


# What is solved


@dataclass(frozen=True)
class Wall:
    """The solid, where the triangles of its lumen lie along the tree, and the thickness asked for (v,) m."""

    solid: Solid
    site: Site
    wanted: np.ndarray


def _pressures(path: Path, config: SimulateTissueConfig) -> Pressures:
    """The inlet's pressures over the cycle, and the one that the image was taken at."""
    found = formats.read_json(path).get("pressures", {})
    missing = {"systolic", "mean", "diastolic"} - set(found)
    if missing:
        raise BadInput("no_pressures", f"{path.name} lacks the pressures {', '.join(sorted(missing))}",
                       "pressures.systolic, .mean and .diastolic in Pa", "Run simulate_flow first.")
    diastolic, mean, systolic = (float(found[k]) for k in ("diastolic", "mean", "systolic"))
    if not 0 < diastolic <= mean <= systolic:
        raise BadInput("pressures_disorder", f"diastolic, mean and systolic are {diastolic / MMHG:.0f}, "
                       f"{mean / MMHG:.0f} and {systolic / MMHG:.0f} mmHg", "0 < diastolic <= mean <= systolic")
    image = found[config.image_pressure] if config.image_pressure in ("mean", "diastolic") else config.image_pressure
    return Pressures(float(image), diastolic, systolic)


def _wall(mesh: LumenMesh, tree: Tree, config: SimulateTissueConfig) -> Wall:
    """The wall on the vessel's own triangles, without the flow extensions."""
    triangles = wall_solid.trimmed(_vessel_triangles(mesh))
    if not len(triangles):
        raise BadInput("no_wall", "the mesh has no wall triangles on the vessel", "triangles of role wall on region 0")
    used, triangles = np.unique(triangles, return_inverse=True)
    points, triangles = mesh.points[used], triangles.reshape(-1, 3)
    healthy = wall_solid.smooth(points, triangles, wall_thickness.site(points, tree).healthy)
    wanted = (artery_wall.thickness(config.thickness).what.of(healthy) if not isinstance(config.thickness, float)
              else np.full(len(points), float(config.thickness)))
    solid = wall_solid.build(points, triangles, wanted, config.layers)
    return Wall(solid, wall_thickness.site(points[triangles].mean(axis=1), tree), wanted)


def _vessel_triangles(mesh: LumenMesh) -> np.ndarray:
    """Triangles of the wall whose tetrahedron belongs to the vessel, wound outward."""
    faces = mesh.tets[mesh.region == VESSEL][:, FACES].reshape(-1, 3)
    wall = np.sort(mesh.triangles_of(mesh.wall.tag), axis=1)
    base = len(mesh.points)
    keys, wanted = ((f[:, 0] * base + f[:, 1]) * base + f[:, 2] for f in (np.sort(faces, axis=1), wall))
    return faces[np.isin(keys, wanted)]


def _body(wall: Wall, law: Law, config: SimulateTissueConfig) -> Body:
    solid = wall.solid
    body = Body(solid.points, solid.cells, solid.facets, solid.tags, law, float(config.bulk_modulus))
    if not isinstance(law, GasserOgdenHolzapfel):
        return body
    return body.moved(np.zeros_like(solid.points), wall_solid.helices(solid, wall.site.tangent, law.angle))


# What is written


def _grid(solid: Solid, found: Cycle) -> Any:
    """The wall as imaged, in straight tetrahedra, with its fields at the corners."""
    n = solid.n_corners
    cells = np.insert(solid.cells[:, :4], 0, 4, axis=1).ravel()
    kinds = np.full(len(solid.cells), pyvista.CellType.TETRA, np.uint8)
    grid = pyvista.UnstructuredGrid(cells, kinds, solid.points[:n])
    stresses = found.systole.stresses
    grid.point_data["stress_max_principal"] = stresses.at_points(solid.cells, stresses.max_principal, n)
    grid.point_data["displacement"] = found.displacement[:n]
    grid.point_data["zero_pressure"] = found.zero[:n]
    grid.point_data["thickness"] = np.tile(solid.thickness, n // len(solid.thickness))
    return grid


@dataclass(frozen=True)
class Result:
    """What the rows are made of."""

    wall: Wall
    found: Cycle
    pressures: Pressures
    config: SimulateTissueConfig


def _rows(result: Result, tree: Tree) -> list[Row]:
    """Rows of the whole wall, then of each branch, one diameter from each cut end left out."""
    away = wall_solid.away_from_ends(result.wall.solid)
    names = np.array([b.name for b in tree.branches])[result.wall.site.branch]
    regions = {WHOLE: away} | {name: away & (names == name) for name in dict.fromkeys(b.name for b in tree.branches)}
    return [row for region, here in regions.items() if here.any() for row in _region_rows(result, region, here)]


def _region_rows(result: Result, region: str, here: np.ndarray) -> list[Row]:
    """Stress at systole, displacement over the cycle, thickness and diameters of the triangles `here` (t,) bool."""
    solid, stresses = result.wall.solid, result.found.systole.stresses
    cells = here[solid.triangle_of_cell]
    stress, volume = stresses.max_principal[cells] / 1000, stresses.volume[cells]
    area, normal = _areas(solid, here)
    moved = np.linalg.norm(_on(solid, here, result.found.displacement), axis=1)
    thick = float(np.average(_on(solid, here, result.wall.solid.thickness), weights=area))
    base = _base(result, region, here)
    stress_row = base.but(measure="wall_stress", unit="kPa", method=f"{STRESS_TEXT}; {base.method}")
    p99 = stress_row.but(statistic="p99", value=percentile_by_volume(stress, volume, 99))
    widened = _widening(result, here, result.found.displacement, area, normal)
    moved_row = base.but(measure="wall_displacement", unit="mm", method=f"diastole to systole; {base.method}")
    width = base.but(statistic="mean", unit="%")
    return [
        _by_thickness(_resolved(p99, volume, stresses.J[cells]), result),
        _by_thickness(stress_row.but(statistic="mean", value=float(np.average(stress, weights=volume))), result),
        _by_stiffness(moved_row.but(statistic="max", value=1000 * _farthest(solid, here, result.found.displacement))),
        _by_stiffness(moved_row.but(statistic="mean", value=1000 * float(np.average(moved, weights=area)))),
        _by_thickness(base.but(measure="wall_thickness", statistic="mean", unit="mm", value=1000 * thick), result),
        _by_stiffness(width.but(measure="pulse_diameter_change", value=widened)),
        width.but(measure="zero_pressure_diameter_change",
                  value=_widening(result, here, result.found.zero, area, normal)),
    ]


def _areas(solid: Solid, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas (k,) m^2 and outward unit normals (k, 3) of triangles of the lumen as imaged."""
    a, b, c = (solid.lumen[solid.triangles[here, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    size = np.linalg.norm(normal, axis=1)
    return size / 2, normal / size[:, None]


def _on(solid: Solid, here: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values at points as means over triangles of the lumen."""
    return values[solid.triangles[here]].mean(axis=1)


def _farthest(solid: Solid, here: np.ndarray, displacement: np.ndarray) -> float:
    return float(np.linalg.norm(displacement[np.unique(solid.triangles[here])], axis=1).max())


def _widening(result: Result, here: np.ndarray, displacement: np.ndarray, area: np.ndarray,
              normal: np.ndarray) -> float:
    """Mean change of the diameter by a displacement, % of the imaged one: outward movement over the local radius."""
    outward = np.einsum("ti,ti->t", _on(result.wall.solid, here, displacement), normal)
    return float(100 * np.average(outward / result.wall.site.radius[here], weights=area))


# How it was made


def _base(result: Result, region: str, here: np.ndarray) -> Row:
    """The row that a region's rows start from, with quality and method."""
    solid, wanted = result.wall.solid, result.wall.wanted
    points = np.unique(solid.triangles[here])
    thin = float(np.mean(solid.thickness[points] < 0.99 * wanted[points]))
    law = artery_wall.law(result.config.law)
    image, low, high = (p / MMHG for p in (result.pressures.image, result.pressures.diastolic,
                                           result.pressures.systolic))
    method = (f"{law.display}; {_thickness_text(result.config)}; image taken at {image:.0f} mmHg, {low:.0f} to "
              f"{high:.0f} mmHg over the cycle; ends held along the vessel and free to widen, "
              f"outside tethered by {float(result.config.tether):.2g} Pa/m along the wall; no axial stretch or plaque; "
              "one diameter from each cut end left out")
    if thin <= THINNED:
        return Row(stage="simulate_tissue", region=region, method=method)
    note = f"; screening: {100 * thin:.0f} % of the wall is thinner than the rule asks, where branches meet"
    return Row(stage="simulate_tissue", region=region, quality="screening", method=method + note)


def _thickness_text(config: SimulateTissueConfig) -> str:
    if isinstance(config.thickness, float):
        return f"wall {1000 * config.thickness:.3g} mm thick"
    return f"thickness {artery_wall.thickness(config.thickness).display}"


def _resolved(row: Row, volume: np.ndarray, J: np.ndarray) -> Row:
    """The 99th percentile's row, marked where more of the wall than it looks at keeps its volume badly."""
    bad = float(volume[np.abs(J - 1) > COMPRESSED].sum() / volume.sum())
    if bad <= 0.01:
        return row
    return row.but(quality="screening", method=f"{row.method}; screening: the mesh is coarse for {100 * bad:.1f} % of "
                                               "the wall's volume")


def _by_thickness(row: Row, result: Result) -> Row:
    """The row with its interval by the thickness between people, unless the thickness was given."""
    if isinstance(result.config.thickness, float):
        return row
    return _between_people(row, artery_wall.thickness_spread().what, "thickness")


def _by_stiffness(row: Row) -> Row:
    """The row with its interval by the pulse wave velocity between people."""
    return _between_people(row, 2 * artery_wall.pulse_wave_spread().what, "stiffness;thickness")


def _between_people(row: Row, spread: float, sources: str) -> Row:
    """spread: standard deviation of the value's logarithm."""
    if row.value is None:
        return row
    low, high = sorted((row.value * np.exp(-spread), row.value * np.exp(spread)))
    return row.but(low=float(low), high=float(high), level=ONE_SIGMA, sources=sources)
