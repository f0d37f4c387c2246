"""The flow stage on a narrowed tube: both models, what they share, what they leave behind."""

import csv

import numpy as np
import pytest
import pyvista

from pipeline import formats
from pipeline import simulate_flow as package
from pipeline.lumen_mesh import write_lumen_mesh
from pipeline.measure import edges_of
from pipeline.simulate_flow import SimulateFlowConfig, SimulateFlowInputs, simulate_flow, vessel
from pipeline.stage import run
from pipeline.table import read_rows
from solvers.errors import BadInput
from solvers.geometry.centrelines import Branch, Lesion, Tree
from solvers.geometry.lumen_mesh import Boundary, LumenMesh
from tests import tubes

LENGTH, RADIUS, NARROWING, MIDDLE = 60.0, 4.0, 0.5, 24.0  # mm
QUICK = SimulateFlowConfig(time_step="16 ms", inlet_flow="0.3 L/min", least_cycles=2, most_cycles=3,
                           periodic_tolerance=0.05, snapshots=3)


def radius(z):
    """Radius along the tube, mm."""
    return RADIUS * (1 - NARROWING * np.exp(-(((z - MIDDLE) / 4.0) ** 2)))


def tree():
    z = np.linspace(0, LENGTH, 81)
    area = np.pi * radius(z) ** 2
    return Tree((Branch(np.column_stack([0 * z, 0 * z, z]), radius(z), area, 0.92 * area, 1.08 * area, -1,
                        "common_iliac_artery_left"),))


def lesion():
    r = RADIUS * (1 - NARROWING)
    a = np.pi * r**2
    return Lesion("L1", 0, "common_iliac_artery_left", MIDDLE, 18.0, 30.0, 12.0, a, 0.92 * a, 1.08 * a, 2 * r,
                  2 * RADIUS, 100 * NARROWING)


def write_inputs(folder):
    folder.mkdir(parents=True)
    points, tets, triangles, tags = tubes.tube(4, 24, LENGTH / 1000, lambda z: radius(1000 * z) / 1000)
    ends = [Boundary(1, "wall", "wall", -1, (0, 0, 0), (0, 0, 0), 0.0, 0.0, 0.0)]
    ends += [Boundary(tag, role, name, 0, (0, 0, z), (0, 0, n), np.pi * 16e-6, 4e-3, 0.0) for tag, role, name, z, n in
             ((2, "inlet", "inlet", 0.0, -1.0), (3, "outlet", "common_iliac_artery_left", LENGTH / 1000, 1.0))]
    mesh = LumenMesh(points, tets, triangles, tags, np.zeros(len(tets), int), tuple(ends))
    write_lumen_mesh(folder / "mesh.vtu", folder / "boundaries.json", mesh, {"n_tets": len(tets)})
    formats.write_tree(folder / "centrelines.vtp", tree())
    formats.write_lesions(folder / "lesions.json", [lesion()])
    formats.write_json(folder / "volume.json", {"sex": "M", "age_years": 64})
    return SimulateFlowInputs(mesh=folder / "mesh.vtu", boundaries=folder / "boundaries.json",
                              centrelines=folder / "centrelines.vtp", lesions=folder / "lesions.json",
                              sidecar=folder / "volume.json")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    home = tmp_path_factory.mktemp("flow")
    inputs = write_inputs(home / "given")
    return inputs, run(simulate_flow, inputs, QUICK, home / "simulate_flow")


def test_numbers_of_both_models(done):
    """The drop of 3D and network agree as two models of one stenosis do; the network's edges bracket it."""
    content = formats.read_json(done[1].haemodynamics)
    drops = {k: v["lesions"]["L1"]["pressure_drop"]["mean"] for k, v in content["models"]["0D"].items()}
    full = content["models"]["3D"]["lesions"]["L1"]
    assert drops["outer"] < drops["nominal"] < drops["inner"]
    assert 0.3 < full["pressure_drop"]["mean"] / drops["nominal"] < 3
    assert full["pressure_drop"]["peak"] > full["pressure_drop"]["mean"] > 0
    assert 0.5 < full["distal_to_proximal_ratio"]["mean"] < 1
    assert ("", "L1", "pressure_drop", "mean") in edges_of(content)
    assert content["evidence"]["imbalance"] < 1e-9


def test_rows_have_units_places_and_methods(done):
    rows = {(r.lesion or r.region, r.measure, r.statistic): r for r in read_rows(done[1].measurements)}
    drop = rows["L1", "pressure_drop", "mean"]
    assert drop.unit == "mmHg" and "before" in drop.method and "behind" in drop.method
    assert rows["L1", "pressure_drop_network", "mean"].value != drop.value
    assert 0 < rows["common_iliac_artery_left", "osi", "mean"].value < 0.5
    assert rows["inlet", "inlet_flow", "mean"].value == pytest.approx(
        rows["common_iliac_artery_left", "outlet_flow", "mean"].value, rel=1e-6)
    speed = rows["L1", "velocity", "peak"].value
    inflow = np.array(formats.read_json(done[1].outlets)["inlet"]["flow"]).max()
    throat = np.pi * (RADIUS * (1 - NARROWING) / 1000) ** 2
    assert 0.8 * inflow / throat < speed < 2.5 * inflow / throat


def test_curves_have_one_schema(done):
    with done[1].curves.open() as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["model", "case", "place", "time_s", "pressure_pa", "flow_m3_s"]
    places = {(x["model"], x["place"]) for x in lines}
    assert {("3D", "inlet"), ("0D", "inlet"), ("3D", "L1_distal"), ("0D", "L1_distal")} <= places
    assert {x["case"] for x in lines if x["model"] == "0D"} == {"nominal", "inner", "outer"}


def test_fields_are_marked_and_true_to_the_mesh(done):
    wall = formats.read_mesh(done[1].wall, "m")
    assert {"pressure_mean", "pressure_peak", "tawss", "osi", "wss_peak"} <= set(wall.point_data.keys())
    z = 1000 * wall.points[:, 2]
    throat, wide = abs(z - MIDDLE) < 2, z > 50
    assert wall["tawss"][throat].mean() > 3 * wall["tawss"][wide].mean()
    assert (wall["pressure_mean"] > 0).all()
    beat = pyvista.get_reader(done[1].cycle)
    assert len(beat.time_values) == 3
    snapshot = beat.read()[0]
    on_wall = np.isclose(np.hypot(*snapshot.points[:, :2].T), radius(1000 * snapshot.points[:, 2]) / 1000, rtol=1e-6)
    inner = on_wall & (snapshot.points[:, 2] > 1e-3)
    assert np.abs(snapshot["velocity"][inner]).max() < 1e-12


def test_the_baselines_outlets_are_kept(done, tmp_path):
    """A variant on a wider vessel keeps parameters and inflow to the last bit."""
    inputs, base = done
    wide = write_inputs(tmp_path / "given").model_copy(update={"outlets": base.outlets})
    found = run(simulate_flow, wide, QUICK, tmp_path / "simulate_flow")
    before, after = (formats.read_json(x.outlets) for x in (base, found))
    for key in ("proximal", "distal", "compliance", "venous", "target_flow"):
        assert [o[key] for o in before["outlets"]] == [o[key] for o in after["outlets"]]
    assert before["inlet"] == after["inlet"]


def test_outlets_of_another_tree_are_refused(done, tmp_path):
    content = formats.read_json(done[1].outlets)
    content["outlets"][0]["branch"] = 7
    formats.write_json(tmp_path / "outlets.json", content)
    with pytest.raises(BadInput, match="outlets on branches"):
        package.outside.read(tmp_path / "outlets.json", tree())


def test_a_killed_run_goes_on_to_the_same_bytes(done, tmp_path, monkeypatch):
    """Stopped after the first beat, the next run continues from it and writes what an unbroken one does."""
    class Killed(BaseException):
        pass

    inputs, folder = done[0], tmp_path / "simulate_flow"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(vessel, "tell", lambda _text: (_ for _ in ()).throw(Killed()))
        run(simulate_flow, inputs, QUICK, folder)
    starts = []
    monkeypatch.setattr(vessel, "_start", lambda *a: starts.append(a))
    found = run(simulate_flow, inputs, QUICK, folder)
    assert not starts
    for name in ("wall", "curves", "haemodynamics", "measurements", "outlets"):
        assert getattr(found, name).read_bytes() == getattr(done[1], name).read_bytes()
