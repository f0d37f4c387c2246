"""The wall of a narrowed tube with flow extensions, from files to rows."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import formats
from pipeline.lumen_mesh import write_lumen_mesh
from pipeline.simulate_tissue import SimulateTissueConfig, SimulateTissueInputs, SimulateTissueOutputs, simulate_tissue
from pipeline.stage import read_record, run
from pipeline.table import Row, read_rows
from solvers.errors import BadInput
from solvers.geometry.centrelines import Branch, Tree
from solvers.geometry.lumen_mesh import Boundary, LumenMesh
from solvers.library import artery_wall
from solvers.units import MMHG
from tests.tubes import tube

LENGTH, EXTENSION, RADIUS, NAME = 0.05, 0.01, 0.004, "iliac_artery_left"
SYSTOLIC, MEAN, DIASTOLIC = 125 * MMHG, 93 * MMHG, 75 * MMHG


def radius(z, narrowing):
    return RADIUS * (1 - narrowing * np.exp(-(((z - LENGTH / 2) / 0.004) ** 2)))


def write_inputs(folder: Path, narrowing: float = 0.0, n_across: int = 4, n_along: int = 25) -> SimulateTissueInputs:
    """Mesh, centreline and pressures of a tube along z whose first and last centimetre are flow extensions."""
    points, tets, triangles, tags = tube(n_across, n_along, LENGTH, lambda z: radius(z, narrowing))
    z = points[tets].mean(axis=1)[:, 2]
    region = ((z < EXTENSION) | (z > LENGTH - EXTENSION)).astype(np.int32)
    ends = [Boundary(tag, role, name, 0 if tag > 1 else -1, (0, 0, at), (0, 0, up), 5e-5, RADIUS if tag > 1 else 0.0,
                     0.0)
            for tag, role, name, at, up in ((1, "wall", "wall", 0.0, 0.0), (2, "inlet", NAME, 0.0, -1.0),
                                            (3, "outlet", NAME, LENGTH, 1.0))]
    write_lumen_mesh(folder / "mesh.vtu", folder / "boundaries.json",
                     LumenMesh(points, tets, triangles, tags, region, tuple(ends)), {"n_tets": len(tets)})
    s = np.linspace(EXTENSION, LENGTH - EXTENSION, 61)
    r = 1000 * radius(s, narrowing)
    area = np.pi * r**2
    formats.write_tree(folder / "tree.vtp", Tree((Branch(np.column_stack([0 * s, 0 * s, 1000 * s]), r, area, area, area,
                                                         -1, NAME),)))
    formats.write_json(folder / "haemodynamics.json",
                       {"pressures": {"systolic": SYSTOLIC, "mean": MEAN, "diastolic": DIASTOLIC}})
    return SimulateTissueInputs(mesh=folder / "mesh.vtu", boundaries=folder / "boundaries.json",
                                centrelines=folder / "tree.vtp", haemodynamics=folder / "haemodynamics.json")


def solved(folder: Path, config: SimulateTissueConfig, **shape) -> tuple[SimulateTissueOutputs, dict]:
    folder.mkdir(exist_ok=True)
    out = run(simulate_tissue, write_inputs(folder, **shape), config, folder / "simulate_tissue")
    return out, read_record(folder / "simulate_tissue")["report"]


def by_name(rows: list[Row], region: str = "arterial_wall") -> dict[tuple[str, str], Row]:
    return {(r.measure, r.statistic): r for r in rows if r.region == region}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return solved(tmp_path_factory.mktemp("straight"), SimulateTissueConfig())


@pytest.fixture(scope="module")
def narrowed(tmp_path_factory):
    return solved(tmp_path_factory.mktemp("narrowed"), SimulateTissueConfig(), narrowing=0.5)


def test_a_straight_tube_carries_the_stress_of_laplace(straight):
    """The mean of the hoop stress over the wall's volume balances the pressure at systole, by a cut along the axis."""
    rows = by_name(read_rows(straight[0].measurements))
    grown = RADIUS * (1 + rows["pulse_diameter_change", "mean"].value / 100 * 0.6)
    thick = rows["wall_thickness", "mean"].value / 1000 * RADIUS / grown
    assert rows["wall_stress", "mean"].value == pytest.approx(SYSTOLIC * grown / thick / 1000, rel=0.04)
    assert rows["wall_stress", "p99"].value > rows["wall_stress", "mean"].value


def test_the_wall_moves_as_arteries_do(straight):
    rows = by_name(read_rows(straight[0].measurements))
    assert 2 < rows["pulse_diameter_change", "mean"].value < 12
    assert -40 < rows["zero_pressure_diameter_change", "mean"].value < -5
    widened = rows["pulse_diameter_change", "mean"].value / 100 * 1000 * RADIUS
    assert rows["wall_displacement", "mean"].value == pytest.approx(widened, rel=0.05)
    assert straight[1]["residual"] < 1e-7


def test_thickness_follows_the_rule_and_gives_the_interval(straight):
    row = by_name(read_rows(straight[0].measurements))["wall_thickness", "mean"]
    assert row.value == pytest.approx(1000 * artery_wall.thickness("blanco2015").what.of(np.array(RADIUS)), rel=0.01)
    stress = by_name(read_rows(straight[0].measurements))["wall_stress", "p99"]
    spread = artery_wall.thickness_spread().what
    assert (stress.high / stress.low, stress.sources) == (pytest.approx(np.exp(2 * spread)), "thickness")
    assert row.low < row.value < row.high


def test_extensions_have_no_wall(straight):
    wall = formats.read_mesh(straight[0].wall, "m")
    assert wall.bounds[4:] == pytest.approx((EXTENSION, LENGTH - EXTENSION), abs=1e-9)


def test_the_wall_is_written_as_imaged(straight):
    wall = formats.read_mesh(straight[0].wall, "m")
    inner = np.hypot(*np.asarray(wall.points)[:, :2].T).min()
    assert inner == pytest.approx(RADIUS, rel=1e-6)
    smaller = np.asarray(wall.points) + wall.point_data["zero_pressure"]
    assert np.hypot(*smaller[:, :2].T).min() < 0.95 * RADIUS
    assert np.isfinite(wall.point_data["stress_max_principal"]).all()
    assert wall.volume > 0


def test_a_stenosis_is_no_thinner_than_its_healthy_neighbours(narrowed):
    wall = formats.read_mesh(narrowed[0].wall, "m")
    assert np.ptp(wall.point_data["thickness"]) < 0.02 * wall.point_data["thickness"].max()


def test_the_throat_carries_less_stress_than_the_healthy_vessel(narrowed):
    wall = formats.read_mesh(narrowed[0].wall, "m")
    z, stress = np.asarray(wall.points)[:, 2], wall.point_data["stress_max_principal"]
    throat, healthy = np.abs(z - LENGTH / 2) < 0.002, np.abs(z - 0.018) < 0.002
    assert stress[throat].mean() < 0.75 * stress[healthy].mean()


def test_each_branch_has_its_rows(narrowed):
    rows = read_rows(narrowed[0].measurements)
    assert {r.region for r in rows} == {"arterial_wall", NAME}
    assert all(r.quality == "ok" and "one diameter from each cut end left out" in r.method for r in rows)


def test_a_thicker_wall_carries_less_as_the_interval_says(straight, tmp_path):
    spread = artery_wall.thickness_spread().what
    thick = by_name(read_rows(straight[0].measurements))["wall_thickness", "mean"].value * np.exp(spread)
    rows = by_name(read_rows(solved(tmp_path, SimulateTissueConfig(thickness=f"{thick} mm"))[0].measurements))
    low = by_name(read_rows(straight[0].measurements))["wall_stress", "mean"].low
    assert rows["wall_stress", "mean"].value == pytest.approx(low, rel=0.05)
    assert rows["wall_stress", "p99"].low is None


@pytest.mark.verify
def test_fibres_and_tether(tmp_path):
    config = SimulateTissueConfig(law="gasser2006", tether="1e7 Pa/m", image_pressure="80 mmHg")
    out, report = solved(tmp_path, config)
    rows = by_name(read_rows(out.measurements))
    assert "dispersed fibres" in rows["wall_stress", "p99"].method
    assert report["image_pressure_mmhg"] == pytest.approx(80)
    assert 0.2 < rows["pulse_diameter_change", "mean"].value < 8


def test_pressures_must_be_there_and_in_order(tmp_path):
    inputs = write_inputs(tmp_path)
    for content, code in (({}, "no_pressures"),
                          ({"pressures": {"systolic": 1e4, "mean": 2e4, "diastolic": 9e3}}, "pressures_disorder")):
        formats.write_json(inputs.haemodynamics, content)
        with pytest.raises(BadInput) as error:
            simulate_tissue(inputs, SimulateTissueConfig(), SimulateTissueOutputs().within(tmp_path))
        assert error.value.code == code
