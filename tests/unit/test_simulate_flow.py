"""The flow stage on a narrowed tube: its models, what they share, what they leave behind."""

import csv

import numpy as np
import pytest
import pyvista

from pipeline import formats
from pipeline import simulate_flow as package
from pipeline.lumen_mesh import read_lumen_mesh, write_lumen_mesh
from pipeline.measure import Evidence, MeasureConfig, edges_of, judged
from pipeline.simulate_flow import SimulateFlowConfig, SimulateFlowInputs, outside, simulate_flow, vessel, waves
from pipeline.stage import read_record, run
from pipeline.table import read_rows
from solvers.errors import BadInput
from solvers.flow import network
from solvers.flow.navier_stokes import Fluid
from solvers.geometry.centrelines import Branch, Lesion, Tree
from solvers.geometry.lumen_mesh import Boundary, LumenMesh
from solvers.units import MMHG
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


def write_inputs(folder, n_along=24):
    folder.mkdir(parents=True)
    points, tets, triangles, tags = tubes.tube(4, n_along, LENGTH / 1000, lambda z: radius(1000 * z) / 1000)
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


@pytest.fixture(scope="module")
def slow_waves(done, tmp_path_factory):
    """The same vessel on the baseline's outlets, with walls so soft that blood outruns the waves."""
    home = tmp_path_factory.mktemp("slow")
    inputs = write_inputs(home / "given").model_copy(update={"outlets": done[1].outlets})
    return run(simulate_flow, inputs, QUICK.but(wave_speed="0.5 m/s"), home / "simulate_flow")


def test_numbers_of_3d_and_0d(done):
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
    power = content["evidence"]["energy"]
    assert power["lost"] == pytest.approx(power["dissipated"] + power["stored"] + power["unaccounted"])
    assert power["lost"] > power["dissipated"] > 0 and power["unit"] == "W"
    assert 0 < content["evidence"]["wall_change"] < 1


def test_rows_have_units_places_and_methods(done):
    rows = {(r.lesion or r.region, r.measure, r.statistic): r for r in read_rows(done[1].measurements)}
    drop = rows["L1", "pressure_drop", "mean"]
    assert drop.unit == "mmHg" and "before" in drop.method and "behind" in drop.method
    assert rows["L1", "pressure_drop_network", "mean"].value != drop.value
    shear = {m: rows["common_iliac_artery_left", m, s] for m, s in (
        ("tawss", "mean"), ("osi", "mean"), ("transverse_wss", "mean"), ("rrt", "median"), ("ecap", "median"))}
    assert 0 < shear["osi"].value < 0.5 and 0 < shear["transverse_wss"].value < shear["tawss"].value
    assert shear["rrt"].value > 0.3 / shear["tawss"].value and shear["ecap"].value > 0
    assert [shear[m].unit for m in ("rrt", "ecap", "transverse_wss")] == ["1/Pa", "1/Pa", "Pa"]
    assert "wall median" in shear["rrt"].method and "wall mean" in shear["transverse_wss"].method
    assert rows["inlet", "inlet_flow", "mean"].value == pytest.approx(
        rows["common_iliac_artery_left", "outlet_flow", "mean"].value, rel=1e-6)
    for model in ("", "_pulse_wave", "_network"):
        whole = rows["common_iliac_artery_left", f"pressure_drop_to_outlet{model}", "mean"]
        assert whole.value > 0.9 * rows["L1", f"pressure_drop{model}", "mean"].value
        assert whole.unit == "mmHg" and whole.method.endswith("begins minus that at this end")
    speed = rows["L1", "velocity", "peak"].value
    inflow = np.array(formats.read_json(done[1].outlets)["inlet"]["flow"]).max()
    throat = np.pi * (RADIUS * (1 - NARROWING) / 1000) ** 2
    assert 0.8 * inflow / throat < speed < 2.5 * inflow / throat


def test_the_ratio_is_read_behind_the_lesion_and_where_it_is_least(done):
    """Pressure comes back behind the throat; the network's edges serve all three readings."""
    rows = {(r.measure, r.statistic): r for r in read_rows(done[1].measurements) if r.lesion}
    mean, behind, least = (rows["distal_to_proximal_ratio", s] for s in ("mean", "10_to_20_mm", "min"))
    assert least.value < behind.value == pytest.approx(mean.value, abs=0.02)
    assert behind.value < 1 and "at rest" in behind.method
    known = Evidence(edges_of(formats.read_json(done[1].haemodynamics)), {}, None, True)
    spans = [(r.high - r.low) for r in (judged(x, known, MeasureConfig()) for x in (mean, behind, least))]
    assert spans == pytest.approx([spans[0]] * 3, rel=1e-9) and spans[0] > 0


@pytest.fixture(scope="module")
def hyperaemic(tmp_path_factory):
    """Two beats of thinning blood with the leg's bed dilated, in few steps: what is told of it, not how good it is."""
    home = tmp_path_factory.mktemp("hyperaemia")
    quick = QUICK.but(state="hyperaemia", viscosity_law="quemada", hematocrit=0.4, time_step="40 ms", most_cycles=2)
    return run(simulate_flow, write_inputs(home / "given"), quick, home / "simulate_flow")


def test_hyperaemia_has_its_own_name_inflow_and_outlets(done, hyperaemic):
    rows = {(r.measure, r.statistic): r for r in read_rows(hyperaemic.measurements) if r.lesion}
    assert not any(m.startswith("distal_to_proximal") for m, _ in rows)
    assert {s for m, s in rows if m == "peripheral_ffr"} == {"mean", "10_to_20_mm", "min"}
    assert ("peripheral_ffr_network", "mean") in rows and ("peripheral_ffr_pulse_wave", "mean") in rows
    rest = {(r.measure, r.statistic): r.value for r in read_rows(done[1].measurements) if r.lesion}
    assert rows["peripheral_ffr", "mean"].value < rest["distal_to_proximal_ratio", "mean"] - 0.005
    assert ("", "L1", "peripheral_ffr", "mean") in edges_of(formats.read_json(hyperaemic.haemodynamics))
    before, after = (formats.read_json(x.outlets) for x in (done[1], hyperaemic))
    assert after["inlet"]["mean_flow"] > 1.5 * before["inlet"]["mean_flow"]
    assert after["achieved"]["0D"]["mean"] == pytest.approx(before["achieved"]["0D"]["mean"], abs=0.1 * MMHG)
    assert after["outlets"][0]["dilated"] and not before["outlets"][0]["dilated"]
    again = package.outside.read(hyperaemic.outlets, tree(), "hyperaemia")
    assert again.state == "hyperaemia" and again.dilated == (0,)
    with pytest.raises(BadInput) as caught:
        package.outside.read(hyperaemic.outlets, tree())
    assert caught.value.code == "state_differs"


def test_a_law_of_blood_is_3d_alone_and_told(done, hyperaemic):
    """What is said names law, hematocrit and the viscosity of the other models; nothing is said of Newtonian blood."""
    told = formats.read_json(hyperaemic.outlets)["assumed_blood"]
    assert len(told) == 1 and "quemada at a hematocrit of 0.4" in told[0] and "3.5 mPa s" in told[0]
    record = formats.read_json(hyperaemic.outlets.with_name("record.json"))
    assert told[0] in record["report"]["assumed"] and any("Quemada 1978" in s for s in record["sources"])
    assert formats.read_json(done[1].outlets)["assumed_blood"] == []


def test_blood_stays_as_long_as_volume_and_flow_say(done):
    rows = {(r.measure, r.statistic): r for r in read_rows(done[1].measurements) if not r.lesion}
    z = np.linspace(0, LENGTH, 2001)
    volume = np.trapezoid(np.pi * radius(z) ** 2, z) * 1e-3  # mL
    stay, inflow = rows["residence_time", "mean"], rows["inlet_flow", "mean"]
    assert stay.value == pytest.approx(volume / inflow.value, rel=0.06)  # the mesh is a polygon of 16 sides
    assert stay.unit == "s" and "volume over net inflow" in stay.method
    loss, heat, rest = (rows[m, "mean"] for m in ("energy_loss", "viscous_dissipation", "energy_unaccounted"))
    assert {loss.unit, heat.unit, rest.unit} == {"mW"} and loss.value > heat.value > 0


def test_curves_have_one_schema(done):
    with done[1].curves.open() as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["model", "case", "place", "time_s", "pressure_pa", "flow_m3_s"]
    places = {(x["model"], x["place"]) for x in lines}
    ends = ("inlet", "common_iliac_artery_left", "L1_proximal", "L1_distal")
    assert places == {(model, place) for model in ("3D", "1D", "0D") for place in ends}
    assert {x["case"] for x in lines if x["model"] == "0D"} == {"nominal", "inner", "outer"}
    assert {x["case"] for x in lines if x["model"] == "1D"} == {"nominal"}


def test_fields_are_marked_and_true_to_the_mesh(done):
    wall = formats.read_mesh(done[1].wall, "m")
    assert {"pressure_mean", "pressure_peak", "tawss", "osi", "rrt", "ecap", "transverse_wss",
            "wss_peak"} <= set(wall.point_data.keys())
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


def test_1d_beside_0d(done):
    """One vessel, one mean flow: the same drop but for the walls; the elastic wall takes from the pulse pressure."""
    models = formats.read_json(done[1].haemodynamics)["models"]
    one, zero = (m["lesions"]["L1"]["pressure_drop"] for m in (models["1D"], models["0D"]["nominal"]))
    assert one["mean"] == pytest.approx(zero["mean"], rel=0.2) and 0 < one["peak"] < zero["peak"]
    found = formats.read_json(done[1].outlets)
    pulse = {m: p["systolic"] - p["diastolic"] for m, p in found["achieved"].items()}
    assert 0.7 * pulse["0D"] < pulse["1D"] < 0.98 * pulse["0D"]
    assert found["achieved"]["1D"]["mean"] == pytest.approx(found["achieved"]["0D"]["mean"], rel=0.01)
    assert "Olufsen 1999" in found["assumed_walls"][0] and not any("1D" in a for a in found["assumed"])


FLUID = Fluid(1060.0, 3.5e-3)


@pytest.fixture(scope="module")
def case(done):
    mesh = read_lumen_mesh(done[0].mesh, done[0].boundaries)
    return vessel.Vessel(mesh, tree(), (lesion(),), FLUID, outside.read(done[1].outlets, tree()))


def test_the_vessel_is_as_wide_as_imaged_at_the_mean_pressure(case):
    one = waves.solve(case, waves.elasticity(None, FLUID))
    assert one.waves.into().area.mean() == pytest.approx(1e-6 * np.pi * RADIUS**2, rel=0.02)


def test_stiff_walls_give_the_pulse_of_0d(case):
    """Waves ten times as fast as in arteries leave no time to store: pressures at both ends are the network's."""
    one = waves.solve(case, waves.elasticity(60.0, FLUID))
    zero = network.on_contours(tree(), FLUID, (lesion(),), case.around.beds, case.around.pulse)["nominal"]
    for place, (pressure, flow) in network.curves(*zero).items():
        p, q = (np.interp(one.waves.times, zero[1].times, x) for x in (pressure, flow))
        assert np.abs(one.curves[place][0] - p).max() < 0.02 * np.ptp(p)
        assert np.abs(one.curves[place][1] - q).max() < 0.02 * np.ptp(q)


def test_every_model_has_rows_of_lesion_and_ends(done):
    rows = {(r.lesion or r.region, r.measure, r.statistic): r for r in read_rows(done[1].measurements)}
    outlet, at_inlet = "common_iliac_artery_left", formats.read_json(done[1].outlets)["achieved"]
    wanted = [("L1", "pressure_drop", "peak"), ("inlet", "inlet_flow", "mean"), (outlet, "outlet_flow", "mean")]
    wanted += [(*place, s) for place in (("inlet", "inlet_pressure"), (outlet, "outlet_pressure"))
               for s in ("mean", "max", "min")]
    for mark, method in (("", "3D"), ("_pulse_wave", "1D"), ("_network", "0D")):
        for place, measure, statistic in wanted:
            row = rows[place, measure + mark, statistic]
            assert row.method.startswith(method) and row.unit == rows[place, measure, statistic].unit
        into, out = rows["inlet", f"inlet_flow{mark}", "mean"].value, rows[outlet, f"outlet_flow{mark}", "mean"].value
        found = [rows["inlet", f"inlet_pressure{mark}", s].value for s in ("max", "mean", "min")]
        assert found == pytest.approx([at_inlet[method][k] / MMHG for k in ("systolic", "mean", "diastolic")], rel=1e-6)
        assert into == pytest.approx(5.0, rel=0.01) and out == pytest.approx(into, rel=1e-3)  # 0.3 L/min in mL/s


def test_1d_has_an_edge_and_no_mesh(done):
    """Its interval is the network's on the lumen's edges; that the coarse mesh has the same 1D says nothing."""
    content = formats.read_json(done[1].haemodynamics)
    rows = {(r.lesion, r.measure, r.statistic): r for r in read_rows(done[1].measurements)}
    row = rows["L1", "pressure_drop_pulse_wave", "mean"]
    coarse = {("", "L1", m, "mean"): 1.1 * rows["L1", m, "mean"].value
              for m in ("pressure_drop_pulse_wave", "pressure_drop")}
    known = Evidence(edges_of(content), coarse, 1.5, True)
    found = judged(row, known, MeasureConfig())
    edges = {k: v["lesions"]["L1"]["pressure_drop"]["mean"] for k, v in content["models"]["0D"].items()}
    assert found.sources == "segmentation"
    assert found.high / row.value == pytest.approx(edges["inner"] / edges["nominal"])
    assert judged(rows["L1", "pressure_drop", "mean"], known, MeasureConfig()).sources == "segmentation;mesh"


def test_a_1d_model_that_fails_is_left_out_and_told(done, slow_waves):
    """Code and reason stand in evidence, record and one refused row; 3D and 0D are the same to the last bit."""
    before, after = (formats.read_json(x.haemodynamics) for x in (done[1], slow_waves))
    assert after["models"] == {k: v for k, v in before["models"].items() if k != "1D"}
    assert after["evidence"]["pulse_wave"]["left_out"] == "flow_too_fast" and after["evidence"]["pulse_wave"]["reason"]
    outlets = formats.read_json(slow_waves.outlets)
    assert "1D" not in outlets["achieved"] and outlets["assumed_walls"] == []
    record = formats.read_json(slow_waves.outlets.with_name("record.json"))
    assert record["report"]["left_out"] == {"1D": "flow_too_fast"}
    one = [r for r in read_rows(slow_waves.measurements) if "pulse_wave" in r.measure]
    assert [(r.quality, r.value) for r in one] == [("refused", None)] and "flow_too_fast" in one[0].method
    rest = [r for r in read_rows(done[1].measurements) if "pulse_wave" not in r.measure]
    assert rest == [r for r in read_rows(slow_waves.measurements) if "pulse_wave" not in r.measure]


@pytest.mark.parametrize("speed", [-8.0, 0.0, 8000.0])
def test_a_wave_speed_that_cannot_be_is_refused(speed):
    """Before anything is solved; a slip of the sign or of mm for m is no speed of waves."""
    with pytest.raises(BadInput, match="wave speed"):
        waves.elasticity(speed, FLUID)


def test_the_baselines_outlets_are_kept(done, slow_waves):
    """A variant keeps parameters and inflow to the last bit."""
    before, after = (formats.read_json(x.outlets) for x in (done[1], slow_waves))
    for key in ("proximal", "distal", "compliance", "venous", "target_flow"):
        assert [o[key] for o in before["outlets"]] == [o[key] for o in after["outlets"]]
    assert before["inlet"] == after["inlet"]


def started(done, folder, state, n_along=24):
    """The flow of `done` started at one of its states, on as many cells along the tube."""
    inputs = write_inputs(folder / "given", n_along).model_copy(update={
        "outlets": done[1].outlets, "state": state, "state_mesh": done[0].mesh, "state_boundaries": done[0].boundaries})
    return run(simulate_flow, inputs, QUICK, folder / "simulate_flow")


def told_of(outputs):
    """The stage's report, and the mean drop in 3D."""
    numbers = formats.read_json(outputs.haemodynamics)["models"]["3D"]["lesions"]["L1"]
    return read_record(outputs.measurements.parent)["report"], numbers["pressure_drop"]["mean"]


def test_the_same_flow_from_its_last_two_beats_ends_in_the_same_numbers(done, slow_waves, tmp_path):
    (first, drop), (again, same) = told_of(done[1]), told_of(started(done, tmp_path, done[1].last_two))
    assert (again["n_cycles"], again["wall_shear_change"], same) == (2, first["wall_shear_change"], drop)
    assert first["n_cycles"] == 3 and first["cycle_change"] == told_of(slow_waves)[0]["cycle_change"]


def test_on_other_cells_a_beat_goes_by_until_the_shear_is_theirs(done, tmp_path):
    (_, drop), (again, other) = told_of(done[1]), told_of(started(done, tmp_path, done[1].state, 28))
    assert again["n_cycles"] == 3 and again["wall_shear_change"] < 5e-3
    assert other == pytest.approx(drop, rel=0.1)


def test_a_start_without_its_mesh_is_refused(done, tmp_path):
    inputs = write_inputs(tmp_path / "given").model_copy(update={"outlets": done[1].outlets, "state": done[1].state})
    with pytest.raises(BadInput, match="without the mesh"):
        run(simulate_flow, inputs, QUICK, tmp_path / "simulate_flow")


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
