"""What is read off the models: numbers by lesion and region, curves, rows, how sound they are."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.simulate_flow import state
from pipeline.simulate_flow.state import BEHIND
from pipeline.simulate_flow.vessel import INLET, Solved, Vessel, Zero, end_of, sites, wall_triangles
from pipeline.simulate_flow.waves import MODEL, Curves, LeftOut, One
from pipeline.table import Row
from solvers.flow import network
from solvers.flow.network import Results, stations
from solvers.flow.pulsatile import Energy
from solvers.geometry.centrelines import Lesion
from solvers.geometry.lumen_mesh import EXTENSION
from solvers.units import MMHG

ML = 1e6  # from m^3
UNITS = {"pressure_drop": "mmHg", "distal_to_proximal_ratio": "1", "peripheral_ffr": "1", "hyperaemic_ratio": "1",
         "velocity": "m/s", "tawss": "Pa", "wss": "Pa",
         "osi": "1", "rrt": "1/Pa", "ecap": "1/Pa", "transverse_wss": "Pa", "pressure": "mmHg",
         "pressure_drop_to_outlet": "mmHg", "residence_time": "s"}
PULLED = "10_to_20_mm"
PEAK_SHEAR = 99.0
"""Percentile over a region's wall that stands for its largest shear."""


@dataclass(frozen=True)
class Model:
    """How a model is called in the column `method`, what ends the names of its measures, what regions are read on."""

    method: str
    suffix: str
    wall: str = "wall mean"


FULL = Model("3D Navier-Stokes", "")
WAVES = Model("1D pulse waves", "_pulse_wave", "wall mean, narrowings bridged")
NETWORK = Model("0D network", "_network")


def networks(case: Vessel) -> dict[str, Zero]:
    """The 0D model on the three contours (nominal, inner, outer), with the same outlets and inflow on all."""
    found = network.on_contours(case.tree, case.fluid, case.lesions, case.around.beds, case.around.pulse)
    return {name: Zero(net, beat, state.named(case.tree, case.around, case.lesions, network.results(net, beat)))
            for name, (net, beat) in found.items()}


def of_vessel(case: Vessel, found: Solved) -> Results:
    """The 3D model's numbers in the network's form: {lesions, regions}.<id>.<measure>.<statistic>."""
    return {"lesions": {x.id: _of_lesion(case, found, x) for x in case.lesions},
            "regions": dict(_of_regions(case, found))}


def _of_lesion(case: Vessel, found: Solved, lesion: Lesion) -> dict[str, dict[str, float]]:
    proximal, distal = (found.probe(f"{lesion.id}_{side}") for side in ("proximal", "distal"))
    drop = (proximal - distal) / MMHG
    inlet = float(found.probe(INLET).mean())
    ratio = {"mean": float(distal.mean()) / inlet} | {k: p / inlet for k, p in _pulled(found, lesion).items()}
    return {"pressure_drop": {"mean": float(drop.mean()), "peak": float(drop.max())},
            state.ratio_of(case.tree, case.around, lesion): ratio,
            "velocity": {"peak": _peak_velocity(case, found, lesion)}}


def _pulled(found: Solved, lesion: Lesion) -> dict[str, float]:
    """Mean pressure 10 to 20 mm behind a lesion (as far as its branch goes; at its end, where that is nearer), and the
    least from its start on, Pa."""
    behind, pressure = found.pullbacks[lesion.id]
    here = behind >= min(BEHIND[0], behind[-1])
    return {PULLED: float(pressure[here].mean()), "min": float(pressure.min())}


def _peak_velocity(case: Vessel, found: Solved, lesion: Lesion) -> float:
    """Largest speed over the beat between a lesion's start and its distal station, m/s."""
    branch, place = sites(case, case.mesh.points)
    end = stations(case.tree, lesion).distal_abscissa
    here = (branch == lesion.branch) & (place >= lesion.start) & (place <= end)
    speed = found.on_mesh(found.cycle.speed_peak)
    return float(speed[here].max()) if here.any() else float("nan")


def _of_regions(case: Vessel, found: Solved) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    triangles = wall_triangles(case.mesh)
    middle = case.mesh.points[triangles].mean(axis=1)
    a, b, c = case.mesh.points[triangles].transpose(1, 0, 2)
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    names = np.array([x.name for x in case.tree.branches])[sites(case, middle)[0]]
    fields = {k: found.on_mesh(getattr(found.cycle, k))[triangles].mean(axis=1)
              for k in ("tawss", "osi", "rrt", "ecap", "transverse_wss", "pressure_mean", "wss_peak")}
    stay = _residence(case, found)
    for name in dict.fromkeys(x.name for x in case.tree.branches):
        here = names == name
        if here.any():
            times = {"residence_time": {"mean": stay[name]}} if name in stay else {}
            ends = {i: found.probe(end_of(i)) for i in case.tree.leaves}
            drop = network.drop_to_outlets(case.tree, name, found.probe(INLET), ends)
            yield name, _of_region({k: v[here] for k, v in fields.items()}, area[here]) | times | drop


def _residence(case: Vessel, found: Solved) -> dict[str, float]:
    """Mean time (s) that blood stays in each region (branches of one name): volume over what flows into it.

    For anything with inflow and outflow alone that is the mean over all blood that passes, whatever the paths (Meier &
    Zierler 1954, doi:10.1152/jappl.1954.6.12.731). Where flow turns back, a second visit counts to the first.
    """
    inside = case.mesh.region != EXTENSION
    corners = case.mesh.points[case.mesh.tets[inside]]
    sides = corners[:, 1:] - corners[:, :1]
    branch = sites(case, corners.mean(axis=1))[0]
    volume = np.bincount(branch, np.abs(np.linalg.det(sides)) / 6, minlength=len(case.tree.branches))
    out = {b.branch: float(found.cycle.flow[b.tag].mean()) for b in case.mesh.outlets}
    times = {}
    for name in dict.fromkeys(x.name for x in case.tree.branches):
        own = [i for i, x in enumerate(case.tree.branches) if x.name == name]
        into = sum(q for leaf, q in out.items() if set(own) & set(case.tree.path(leaf)))
        if into > 0:
            times[name] = float(volume[own].sum() / into)
    return times


def _of_region(fields: Mapping[str, np.ndarray], area: np.ndarray) -> dict[str, dict[str, float]]:
    """Means by area; medians of rrt and ecap, which grow without bound where shear vanishes at a point, and with them
    their mean on ever finer meshes."""
    mean = {k: float(np.average(v, weights=area)) for k, v in fields.items()}
    middle = {k: {"median": _by_area(fields[k], area, 50.0)} for k in ("rrt", "ecap")}
    return {k: {"mean": mean[k]} for k in ("tawss", "osi", "transverse_wss")} | middle | {
        "pressure": {"mean": mean["pressure_mean"] / MMHG},
        "wss": {"peak": _by_area(fields["wss_peak"], area, PEAK_SHEAR)}}


def _by_area(values: np.ndarray, area: np.ndarray, percentile: float) -> float:
    order = np.argsort(values)
    share = np.cumsum(area[order]) / area.sum()
    return float(values[order][np.searchsorted(share, percentile / 100)])


def pressures(found: Solved) -> dict[str, float]:
    """Systolic, mean, diastolic where the vessel begins, Pa."""
    return found.pressures


def in_mmhg(values: Mapping[str, float | None]) -> dict[str, float]:
    return {k: v / MMHG for k, v in values.items() if v is not None}


def evidence(found: Solved, zero: Mapping[str, Zero], one: One | LeftOut) -> dict[str, Any]:
    """How sound the beat is, and those of the models beside it, or why there is none."""
    told, plain = found.cycle.evidence, zero["nominal"].periodic.evidence
    power = found.cycle.energy
    return {"is_periodic": told.is_periodic, "wall_repeats": told.wall_repeats, "n_cycles": told.n_cycles,
            "change": told.change, "wall_change": told.wall_change,
            "energy": {"inward": power.inward, "outward": power.outward, "lost": power.lost,
                       "dissipated": power.dissipated, "stored": power.stored, "unaccounted": power.unaccounted,
                       "unit": "W"},
            "imbalance": told.imbalance, "largest_cfl": told.largest_cfl, "most_iterations": told.most_iterations,
            "backflow_share": {str(t): v for t, v in told.backflow_share.items()},
            "network": {"is_periodic": plain.is_periodic, "change": plain.change, "imbalance": plain.imbalance},
            "pulse_wave": one.evidence}


# Rows


def rows(case: Vessel, found: Solved, numbers: Results, zero: Zero, one: One | LeftOut) -> list[Row]:
    """The 3D model's numbers, those of 1D and 0D beside them as `<measure>_pulse_wave` and `<measure>_network`, and
    what passes the ends in each; a model that was left out is one refused row."""
    models = [(FULL, numbers, _full_ends(case, found)), (NETWORK, zero.numbers, _zero_ends(case, zero))]
    if isinstance(one, One):
        models.insert(1, (WAVES, one.numbers[MODEL], _ends(case, one.curves)))
    made = []
    for model, values, _ in models:
        for lesion in case.lesions:
            made += list(_rows(values["lesions"][lesion.id], model.suffix, Row(
                stage="simulate_flow", region=lesion.branch_name, lesion=lesion.id,
                method=f"{model.method}; {_said(case, lesion)}")))
        for name, measures in values["regions"].items():
            made += list(_rows(measures, model.suffix,
                               Row(stage="simulate_flow", region=name, method=f"{model.method}; {model.wall}")))
    for model, _, ends in models:
        made += list(_cap_rows(case, model, ends))
    return made + list(_refused(case, one)) + list(_evidence_rows(case, found))


def _refused(case: Vessel, one: One | LeftOut) -> Iterator[Row]:
    if isinstance(one, LeftOut):
        yield Row(stage="simulate_flow", region=case.mesh.inlet.name, measure=f"inlet_pressure{WAVES.suffix}",
                  statistic="mean", unit="mmHg", quality="refused",
                  method=f"{WAVES.method} left out ({one.code}): {one.reason}")


def _evidence_rows(case: Vessel, found: Solved) -> Iterator[Row]:
    """How sound the 3D beat is, as numbers."""
    told = found.cycle.evidence
    row = Row(stage="simulate_flow", region=case.mesh.inlet.name, statistic="rms", unit="%")
    quality = "ok" if told.is_periodic else "screening"
    yield row.but(measure="mass_imbalance", statistic="max", value=100 * told.imbalance,
                  method="3D; sum over all ends, of the inflow")
    yield row.but(measure="wall_shear_change", value=100 * told.wall_change,
                  quality="ok" if told.wall_repeats else "screening",
                  method=f"3D; beat {told.n_cycles} to the one before, mean shear over the wall, of itself")
    yield from _energy_rows(row.but(statistic="mean", unit="mW", quality=quality), found.cycle.energy)
    yield row.but(measure="cycle_change", value=100 * told.change, quality=quality,
                  method=f"3D; beat {told.n_cycles} to the one before, at the worst end, of the range")


def _energy_rows(row: Row, power: Energy) -> Iterator[Row]:
    """What the flow loses on its way through the mesh (flow extensions included), and where it goes."""
    yield row.but(measure="energy_loss", value=1e3 * power.lost,
                  method="3D; flux of static and kinetic pressure in at the inlet minus out at the outlets")
    yield row.but(measure="viscous_dissipation", value=1e3 * power.dissipated, method="3D; heat by viscosity")
    yield row.but(measure="energy_unaccounted", value=1e3 * power.unaccounted,
                  method="3D; loss minus heat minus growth of kinetic energy: what the mesh and the step take")


def _rows(measures: Mapping[str, Mapping[str, float]], suffix: str, row: Row) -> Iterator[Row]:
    for measure, statistics in measures.items():
        for statistic, value in statistics.items():
            yield row.but(measure=measure + suffix, statistic=statistic, value=value, unit=UNITS[measure],
                          method=_read(row.method, measure))


def _read(method: str, measure: str) -> str:
    """The method of a region's row, with how this measure is read in place of the wall's mean."""
    if measure == "pressure_drop_to_outlet":
        return f"{method.partition(';')[0]}; static pressure where the vessel begins minus that at this end"
    read = {"wss": f"{PEAK_SHEAR:.0f}th percentile", "rrt": "median", "ecap": "median"}.get(measure, "mean")
    return method.replace("wall mean", "volume over net inflow" if measure == "residence_time" else f"wall {read}")


def _said(case: Vessel, lesion: Lesion) -> str:
    at = stations(case.tree, lesion)
    condition = "at rest" if case.around.state == "rest" else "with the legs' beds dilated"
    return (f"static pressure {condition} {lesion.start - at.proximal_abscissa:.1f} mm before and "
            f"{at.distal_abscissa - lesion.end:.1f} mm behind the lesion, ratio to the inlet's")


def _cap_rows(case: Vessel, model: Model, ends: Curves) -> Iterator[Row]:
    """Mean flow, and mean, largest and least pressure, at each end of the vessel."""
    for b in (case.mesh.inlet, *case.mesh.outlets):
        pressure, flow = ends[INLET if b.role == "inlet" else b.name]
        row = Row(stage="simulate_flow", region=b.name, method=f"{model.method}; {b.role}")
        yield row.but(measure=f"{b.role}_flow{model.suffix}", statistic="mean", unit="mL/s",
                      value=ML * float(flow.mean()))
        p = pressure / MMHG
        for statistic, value in (("mean", p.mean()), ("max", p.max()), ("min", p.min())):
            yield row.but(measure=f"{b.role}_pressure{model.suffix}", statistic=statistic, value=float(value),
                          unit="mmHg")


def _full_ends(case: Vessel, found: Solved) -> Curves:
    """Pressure (Pa) and downstream flow (m^3/s) of the 3D model where the vessel begins and at each outlet."""
    cycle = found.cycle
    inlet = {INLET: (found.probe(INLET), -cycle.flow[case.mesh.inlet.tag])}
    return inlet | {b.name: (cycle.pressure[b.tag], cycle.flow[b.tag]) for b in case.mesh.outlets}


def _zero_ends(case: Vessel, zero: Zero) -> Curves:
    return _ends(case, network.curves(zero.network, zero.periodic))


def _ends(case: Vessel, curves: Curves) -> Curves:
    """A model's curves by the names that the mesh gives to its outlets."""
    named = {network.outlet_names(case.tree)[b.branch]: b.name for b in case.mesh.outlets}
    return {named.get(place, place): curve for place, curve in curves.items()}


# Curves


def write_curves(path: Path, case: Vessel, found: Solved, zero: Mapping[str, Zero], one: One | LeftOut) -> None:
    """Long form, one schema for all models: model, case, place, time_s, pressure_pa, flow_m3_s (downstream)."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "case", "place", "time_s", "pressure_pa", "flow_m3_s"])
        for model, contour, place, times, pressure, flow in _curves(case, found, zero, one):
            writer.writerows([model, contour, place, f"{t:.6g}", f"{p:.8g}", "" if np.isnan(q) else f"{q:.8g}"]
                             for t, p, q in zip(times, pressure, flow, strict=True))


def _curves(case: Vessel, found: Solved, zero: Mapping[str, Zero], one: One | LeftOut) -> Iterator[tuple[Any, ...]]:
    times = found.cycle.times
    for place, (pressure, flow) in _full_ends(case, found).items():
        yield "3D", "nominal", place, times, pressure, flow
    for lesion in case.lesions:
        for station in (f"{lesion.id}_proximal", f"{lesion.id}_distal"):
            yield "3D", "nominal", station, times, found.probe(station), np.full(len(times), np.nan)
    if isinstance(one, One):
        for place, (pressure, flow) in _ends(case, one.curves).items():
            yield MODEL, "nominal", place, one.waves.times, pressure, flow
    for contour, model in zero.items():
        for place, (pressure, flow) in _zero_ends(case, model).items():
            yield "0D", contour, place, model.periodic.times, pressure, flow
