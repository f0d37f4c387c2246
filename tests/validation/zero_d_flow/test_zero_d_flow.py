"""The 0D solver beside svZeroDSolver and tabled solutions; see README.md."""

import csv
import json
from dataclasses import dataclass

import numpy as np
import pytest
from pytest import approx
from vessel_trees import aorta_with_lesion, straight

from solvers.flow import circuit, network, outlets
from solvers.flow.circuit import Circuit, Numerics, Segment
from solvers.flow.pulse import Pulse
from solvers.flow.windkessel import Windkessel

svzerod = pytest.importorskip("svzerod")

# The peer's absolute tolerance suits centimetres, grams and seconds: factors from SI.
PRESSURE, FLOW, RESISTANCE, COMPLIANCE, QUADRATIC = 10.0, 1e6, 1e-5, 1e5, 1e-11
PULSATILE, STEADY = 0.001, 1e-6


@dataclass(frozen=True)
class Blood:
    density: float = 1060.0
    viscosity: float = 0.0035


# From our circuits to the peer's input


def as_svzerod(made: Circuit, pulse: Pulse, cycles: int, points: int) -> dict:
    """A tree-shaped circuit in the peer's terms; storage stands at the end of segments without inertance."""
    t = np.arange(points) / (points - 1)
    flow = FLOW * pulse.at(points - 1)
    ends = {s.end: i for i, s in enumerate(made.segments)}
    vessels = [vessel(made, i) for i in range(len(made.segments))]
    junctions = []
    for node, into in ends.items():
        out = [i for i, s in enumerate(made.segments) if s.start == node]
        if out:
            junctions.append({"junction_name": f"J{len(junctions)}", "junction_type": "NORMAL_JUNCTION",
                              "inlet_vessels": [into], "outlet_vessels": out})
    beds = [{"bc_name": f"BED{ends[n]}", "bc_type": "RCR", "bc_values": {
        "Rp": w.proximal * RESISTANCE, "Rd": w.distal * RESISTANCE, "C": w.compliance * COMPLIANCE,
        "Pd": w.venous * PRESSURE}} for n, w in made.outlets.items()]
    inflow = {"bc_name": "INFLOW", "bc_type": "FLOW", "bc_values": {
        "Q": np.r_[flow, flow[0]].tolist(), "t": (t * pulse.period).tolist()}}
    return {"simulation_parameters": {"number_of_cardiac_cycles": cycles, "absolute_tolerance": 1e-9,
                                      "number_of_time_pts_per_cardiac_cycle": points, "output_all_cycles": False,
                                      "steady_initial": True},
            "boundary_conditions": [inflow, *beds], "junctions": junctions, "vessels": vessels}


def vessel(made: Circuit, i: int) -> dict:
    s = made.segments[i]
    stored = made.compliances.get(s.end, 0.0)
    assert not (stored and s.inertance), "the peer stores between resistance and inertance"
    bounds = ({"inlet": "INFLOW"} if s.start == made.inlet else {}) | (
        {"outlet": f"BED{i}"} if s.end in made.outlets else {})
    values = {"R_poiseuille": s.resistance * RESISTANCE, "L": s.inertance * RESISTANCE,
              "stenosis_coefficient": s.quadratic * QUADRATIC, "C": stored * COMPLIANCE}
    return {"vessel_id": i, "vessel_name": f"V{i}", "vessel_length": 1.0, "zero_d_element_type": "BloodVessel",
            "zero_d_element_values": values, **({"boundary_conditions": bounds} if bounds else {})}


def peer(made: Circuit, pulse: Pulse, cycles: int, points: int) -> dict[str, np.ndarray]:
    """Node to pressure (Pa), and `flow <i>` to the flow into segment i (m^3/s; what is stored at its end is still in
    it), each (points - 1,)."""
    table = svzerod.simulate(as_svzerod(made, pulse, cycles, points))
    found = {}
    for i, s in enumerate(made.segments):
        rows = table[table["name"] == f"V{i}"]
        found[s.start] = rows["pressure_in"].to_numpy()[:-1] / PRESSURE
        found[s.end] = rows["pressure_out"].to_numpy()[:-1] / PRESSURE
        found[f"flow {i}"] = rows["flow_in"].to_numpy()[:-1] / FLOW
    return found


def random_tree(seed: int) -> tuple[Circuit, Pulse]:
    """One to six outlets; some segments with a stenosis, some nodes with storage."""
    rng = np.random.default_rng(seed)
    ends, segments, stores = ["in"], [], {}
    for k in range(int(rng.integers(1, 8))):
        start = ends.pop(int(rng.integers(len(ends))))
        for side in range(1 if start == "in" else int(rng.integers(1, 3))):
            node = f"{k}.{side}"
            stiff = rng.random() < 0.3
            segments.append(Segment(start, node, rng.uniform(0.5, 5) * 1e7, rng.choice([0.0, 1.0, 10.0]) * 1e12,
                                    0.0 if stiff else rng.uniform(0.2, 3) * 1e6))
            if stiff:
                stores[node] = rng.uniform(0.2, 2) * 1e-11
            ends.append(node)
    share = len(ends)
    beds = {n: bed(rng, share) for n in ends}
    harmonics = sum(rng.uniform(-0.6, 0.6) * np.cos(2 * np.pi * (k * np.arange(50) / 50 + rng.random()))
                    for k in range(1, 5))
    return Circuit(tuple(segments), "in", beds, stores), Pulse(rng.uniform(0.6, 1.2), 3e-5 * (1 + harmonics))


def bed(rng: np.random.Generator, share: int) -> Windkessel:
    total = rng.uniform(3, 6) * 1e8 * share
    return Windkessel(0.08 * total, 0.92 * total, rng.uniform(0.3, 1.2) / total, rng.uniform(0, 800))


def differences(made: Circuit, pulse: Pulse, steps: int, cycles: int) -> tuple[float, float]:
    """Largest difference in pressure and in flow over the cycle, relative to the largest of its kind."""
    ours = circuit.solve(made, pulse, Numerics(steps=steps))
    theirs = peer(made, pulse, cycles, steps + 1)
    p = max(np.abs(ours.at(n) - theirs[n]).max() for n in made.nodes) / np.abs(ours.pressure).max()
    q = max(np.abs(ours.flow[:, i] - theirs[f"flow {i}"]).max() for i in range(len(made.segments)))
    return float(p), float(q / np.abs(ours.flow).max())


@pytest.mark.parametrize("seed", range(10))
def test_ten_pulsatile_networks(seed):
    made, pulse = random_tree(seed)
    assert max(differences(made, pulse, steps=500, cycles=15)) < PULSATILE


@pytest.mark.parametrize("seed", range(10))
def test_ten_steady_networks(seed):
    made, pulse = random_tree(seed)
    pressure, flow = circuit.steady(made, pulse.mean)
    theirs = peer(made, Pulse(1.0, np.full(10, pulse.mean)), 2, 21)
    for node, value in pressure.items():
        assert theirs[node][-1] == approx(value, rel=STEADY)
    for i, value in enumerate(flow):
        assert theirs[f"flow {i}"][-1] == approx(value, rel=STEADY)


def test_a_tuned_aorta_with_a_stenosis():
    tree, lesions = aorta_with_lesion()
    targets = outlets.targets(tree, lesions)
    tuned = outlets.tune(lambda beds: network.build(tree, Blood(), lesions, outlets=beds), targets)
    made = network.build(tree, Blood(), lesions, outlets=tuned.outlets)
    assert max(differences(made.circuit, outlets.pulse(targets), steps=500, cycles=15)) < PULSATILE


# Stored and tabled solutions


def test_stored_result_of_a_pipe_and_a_windkessel(shared):
    folder = shared / "references/pharmacology/closed_loop_svzerod"
    case = json.loads((folder / "pulsatileFlow_R_RCR.json").read_text())
    stored = json.loads((folder / "result_pulsatileFlow_R_RCR.json").read_text())
    values = case["boundary_conditions"][1]["bc_values"]
    made = Circuit((Segment("in", "out", 100.0),), "in", {"out": Windkessel(values["Rp"], values["Rd"], values["C"])})
    found = circuit.solve(made, Pulse(1.0, np.array(case["boundary_conditions"][0]["bc_values"]["Q"][:-1])),
                          Numerics(steps=200))
    for name, node in (("pressure_in", "in"), ("pressure_out", "out")):
        last = np.array(list(stored[name].values()))[-201:-1]
        assert np.abs(found.at(node) - last).max() < PULSATILE * np.abs(last).max()


def rows(shared, name):
    with (shared / "references/analytic" / name).open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_windkessel_under_a_sine(shared):
    for row in rows(shared, "windkessel3_sine.csv"):
        made = Circuit((Segment("in", "out", 0.0),), "in", {
            "out": Windkessel(row["Rp_dyn_s_cm5"], row["Rd_dyn_s_cm5"], row["C_cm5_dyn"], row["Pd_dyn_cm2"])})
        t = np.arange(50) / 50
        flow = row["Q0_cm3_s"] * (1 + row["amp_frac"] * np.sin(2 * np.pi * t))
        found = circuit.solve(made, Pulse(1 / row["f_Hz"], flow), Numerics(steps=500))
        mode = 2 * (found.at("in") * np.exp(-2j * np.pi * np.arange(500) / 500)).mean() * 1j  # of a sine
        assert found.at("in").mean() == approx(row["P_mean_dyn_cm2"], rel=1e-6)
        assert abs(mode) == approx(row["P_amp_dyn_cm2"], rel=5e-4)
        assert np.angle(mode) == approx(row["P_phase_rad"], abs=1e-3)


def test_poiseuille(shared):
    for row in rows(shared, "poiseuille.csv"):
        tube = straight(row["R_m"] * 1e3, row["L_m"] * 1e3)
        made = network.build(tube, Blood(viscosity=row["mu_Pa_s"]), ())
        pressure, flow = circuit.steady(made.circuit, row["Q_m3_s"])
        drop = pressure[made.circuit.inlet] - next(pressure[n] for n in made.leaves.values())
        assert drop == approx(row["dp_Pa"], rel=1e-6)
