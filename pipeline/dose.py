"""A drug by mouth or vein in a small whole body that has this patient's flows: levels over time, in the bed beyond
the lesion too.

The body is a library adult of the patient's sex, weight and age. Kidneys, legs and bowel take the flows of their
arteries from the flow result; how the drug spreads and leaves is the population's, so its rows are `screening`.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pipeline import formats
from pipeline.stage import Config, Files, Report, tell
from pipeline.table import Row, write_rows
from solvers.errors import BadInput
from solvers.geometry.centrelines import Lesion
from solvers.library import body as library
from solvers.library import drugs
from solvers.library.drugs import Drug
from solvers.pharmacology import body_model, exposure, physiology
from solvers.pharmacology.absorption import Regimen, Route
from solvers.pharmacology.body_model import Curves
from solvers.pharmacology.physiology import BED, Body, Outlet
from solvers.statistics.uncertainty import ONE_SIGMA
from solvers.units import Mass, Time

VERSION = 1
SOURCES = [*body_model.SOURCES, *library.SOURCES]
YEAR, HOUR = 365.25 * 86400.0, 3600.0
MG, MG_PER_L = 1e6, 1e3
ML_PER_MIN, L_PER_H = 6e7, 3.6e6
OUTLET_FIELDS: dict[str, Any] = {"name": str, "branch": int, "mean_flow": (int, float)}
MOST_TIMES = 2000
"""The step of the output grows where it would give more times than this."""


class DoseConfig(Config):
    drug: str = "metoprolol"
    """Name in the library of drugs."""
    route: Route = "oral"
    dose: Mass | None = None
    """Of the substance as it is sold; None: the library's usual dose."""
    infusion_time: Time = "15 min"
    n_doses: int = 1
    interval: Time = "12 h"
    """Between doses."""
    duration: Time = "24 h"
    output_step: Time = "5 min"
    weight: Mass | None = None
    """None: the sidecar's, else the library's reference."""
    age: Time | None = None
    """As "64 year". None: the sidecar's, else the library's reference."""
    sex: Literal["male", "female"] | None = None
    """None: the sidecar's, else male."""
    lesion: str | None = None
    """Id of the lesion whose bed is followed; None: the most severe one."""


class DoseInputs(Files):
    outlets: Path
    lesions: Path | None = None
    centrelines: Path | None = None
    labels_table: Path | None = None
    sidecar: Path | None = None


class DoseOutputs(Files):
    curves: Path = Path("curves.csv")
    measurements: Path = Path("measurements.csv")


class DoseReport(Report):
    drug: str
    route: str
    dose_mg: float
    n_doses: int
    plasma_peak_mg_per_l: float
    plasma_time_of_peak_h: float
    plasma_exposure_mg_h_per_l: float
    bed_peak_mg_per_l: float
    bed_exposure_mg_h_per_l: float
    half_life_h: float | None
    clearance_l_per_h: float
    cardiac_output_l_per_min: float
    bed: str
    bed_flow_ml_per_min: float
    mass_balance_error: float
    assumed: list[str]
    sources: list[str]


@dataclass(frozen=True)
class Patient:
    """The body with its flows, what the bed is, whose lesion it lies beyond, and what had to be assumed."""

    body: Body
    bed: str
    lesion: str
    assumed: tuple[str, ...]


def dose(inputs: DoseInputs, config: DoseConfig, outputs: DoseOutputs) -> DoseReport:
    """Follow the drug, at the published clearance and one standard deviation to either side of it."""
    drug = drugs.drug(config.drug)
    regimen = _regimen(config, drug)
    patient = _patient(inputs, config)
    patient = replace(patient, assumed=(*patient.assumed, *_unseen(regimen, float(config.duration))))
    for line in patient.assumed:
        tell(f"dose: {line}")
    changed = [drug.but(clearance=drug.clearance + s * drug.clearance_spread) for s in (0, -1, 1)]
    runs = [_run(patient.body, d, regimen, config) for d in changed]
    _write_curves(outputs.curves, runs[0], patient.body)
    rows = _rows(patient, changed, runs, _label(config, drug))
    write_rows(outputs.measurements, rows)
    return _report(patient, drug, config, runs[0], rows)


def _regimen(config: DoseConfig, drug: Drug) -> Regimen:
    """The doses, in kg of active drug."""
    sold = drug.usual_dose if config.dose is None else float(config.dose)
    return Regimen(sold * drug.base_share, config.route, config.n_doses, float(config.interval),
                   float(config.infusion_time))


def _unseen(regimen: Regimen, duration: float) -> list[str]:
    """What of the doses lies after the end of the curves."""
    after = sum(t >= duration for t in regimen.starts)
    if not after:
        return []
    return [f"{after} of {regimen.n_doses} doses come after {duration / HOUR:g} h and are not seen: a longer duration "
            "shows them"]


def _run(body: Body, drug: Drug, regimen: Regimen, config: DoseConfig) -> Curves:
    duration = float(config.duration)
    step = max(float(config.output_step), duration / MOST_TIMES)
    return body_model.solve(body, body_model.disposition(drug, body), regimen, duration, step)


def _label(config: DoseConfig, drug: Drug) -> str:
    sold = drug.usual_dose if config.dose is None else float(config.dose)
    times = f"{config.n_doses} doses of " if config.n_doses > 1 else ""
    return f"{drug.display}, {times}{sold * MG:g} mg, {config.route.replace('_', ' ')}"


# The patient


def _patient(inputs: DoseInputs, config: DoseConfig) -> Patient:
    known = formats.read_json(inputs.sidecar) if inputs.sidecar else {}
    sex, weight, age, assumed = _person(config, known)
    plain = physiology.adult(sex, weight, age)
    plain, left_out = physiology.with_volumes(plain, _volumes(inputs.labels_table))
    assumed += [f"the mask of {name} is not of an organ's usual size and was left out" for name in left_out]
    lesion = _lesion(inputs, config)
    outlets = _outlets(inputs, lesion)
    body = physiology.perfused(plain, outlets)
    bed = _bed(outlets, lesion)
    if body.cardiac_output > 1.001 * plain.cardiac_output:
        assumed.append(f"the arteries carry so much that the cardiac output was raised from "
                       f"{plain.cardiac_output * 6e4:.2f} to {body.cardiac_output * 6e4:.2f} L/min")
    if formats.read_json(inputs.outlets).get("state", "rest") != "rest":
        assumed.append("the legs' flows are those of hyperaemia, taken to last as long as the drug is followed")
    if lesion and not physiology.beyond_lesion(outlets):
        assumed.append(f"neither a leg nor a kidney is known to lie beyond {lesion.id}: both legs are followed")
    where = lesion.id if lesion and physiology.beyond_lesion(outlets) else ""
    return Patient(body, bed, where, tuple(assumed))


def _person(config: DoseConfig, known: dict[str, Any]) -> tuple[library.Sex, float, float, list[str]]:
    """Sex, weight (kg), age (years), and what of them nobody said."""
    assumed = []
    sexes: dict[str | None, library.Sex] = {"M": "male", "F": "female"}
    sex = config.sex or sexes.get(known.get("sex"))
    if sex is None:
        sex, assumed = "male", ["the sex is not known: the library's man was taken"]
    reference = library.reference(sex)
    weight = known.get("weight_kg") if config.weight is None else float(config.weight)
    if weight is None or (config.weight is None and not weight > 0):  # scanners write 0 for what nobody entered
        weight = reference.weight
        assumed.append(f"the weight is not known: the library's {weight:g} kg was taken")
    age = known.get("age_years") if config.age is None else float(config.age) / YEAR
    if age is None:
        age = reference.age
        assumed.append(f"the age is not known: the library's {age:g} years was taken")
    return sex, float(weight), float(age), assumed


def _volumes(table: Path | None) -> dict[str, float]:
    """m^3 of liver and both kidneys, where the label table has them whole."""
    if table is None:
        return {}
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    try:
        found = {row["name"]: float(row["volume_ml"]) * 1e-6 for row in rows
                 if row.get("whole", "yes") != "no"}
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput("bad_labels_table", f"{table.name} could not be understood", "the columns name and volume_ml, "
                       "tab-separated", "Give the table that segment wrote.") from error
    volumes = {"liver": found["liver"]} if "liver" in found else {}
    if {"kidney_left", "kidney_right"} <= set(found):
        volumes["kidney"] = found["kidney_left"] + found["kidney_right"]
    return volumes


def _lesion(inputs: DoseInputs, config: DoseConfig) -> Lesion | None:
    lesions = formats.read_lesions(inputs.lesions) if inputs.lesions else []
    if config.lesion is None:
        return max(lesions, key=lambda x: x.percent_diameter_stenosis, default=None)
    found = [x for x in lesions if x.id == config.lesion]
    if not found:
        raise BadInput("unknown_lesion", f"there is no lesion {config.lesion}",
                       f"one of {', '.join(x.id for x in lesions)}" if lesions else "no name, as none was found",
                       "Leave out the setting lesion to follow the most severe one.")
    return found[0]


def _outlets(inputs: DoseInputs, lesion: Lesion | None) -> list[Outlet]:
    """The outlets of the flow result; those whose way from the heart leads through the lesion's branch are beyond."""
    rows = _outlet_rows(inputs.outlets)
    tree = formats.read_tree(inputs.centrelines) if inputs.centrelines else None
    n_branches = len(tree.branches) if tree else math.inf
    if not all(0 <= int(row["branch"]) < n_branches for row in rows):
        raise BadInput("outlets_differ", f"{inputs.outlets.name} names branches that the centrelines do not have",
                       "the centrelines that the flow was computed in", "Give both files of one case.")
    found = []
    for row in rows:
        path = tree.path(int(row["branch"])) if tree else []
        beyond = bool(lesion and lesion.branch in path)
        found.append(Outlet(row["name"], float(row["mean_flow"]), float(row.get("target_flow") or 0.0), beyond,
                            _feeder(row, [tree.branches[i].name for i in path] if tree else [])))
    return found


def _outlet_rows(path: Path) -> list[dict[str, Any]]:
    """The list in outlets.json, each item with what is needed here."""
    try:
        content = formats.read_json(path)
    except ValueError as error:
        raise BadInput("not_json", f"{path.name} could not be read as JSON", "outlets.json as simulate_flow writes it",
                       f"The reader said: {error}.") from error
    if not isinstance(content, dict) or content.get("unit") != "SI":
        said = content.get("unit") if isinstance(content, dict) else "nothing"
        raise BadInput("wrong_unit", f"{path.name} says unit = {said}", "unit = SI")
    rows = content.get("outlets")
    if not rows:
        raise BadInput("no_outlets", f"{path.name} has no outlets", "one or more, each with name, branch and mean_flow")
    for number, row in enumerate(rows, 1):
        known = row if isinstance(row, dict) else {}
        lacks = [name for name, kind in OUTLET_FIELDS.items() if not isinstance(known.get(name), kind)]
        if lacks:
            raise BadInput("outlet_incomplete", f"outlet {number} of {path.name} lacks {', '.join(lacks)}",
                           "name, branch (a number) and mean_flow (m^3/s)")
    return list(rows)


def _feeder(row: dict[str, Any], path: Sequence[str]) -> str:
    """The nearest artery towards the heart whose name tells what is fed, else what the flow result says it feeds."""
    told = (row["name"], *reversed(path), str(row.get("bed", "")))
    return next((name for name in told if library.territory(name) != "rest"), "")


def _bed(outlets: Sequence[Outlet], lesion: Lesion | None) -> str:
    """What the bed is, in words."""
    beyond = physiology.beyond_lesion(outlets)
    if not beyond or lesion is None:
        return "muscle of both legs (no leg or kidney is known to lie beyond a lesion)"
    what = "muscle" if beyond[0].territory == "leg" else "kidney"
    return f"{what} fed by {', '.join(o.name for o in beyond)}, beyond {lesion.id}"


# What is written


def _write_curves(path: Path, run: Curves, body: Body) -> None:
    """Long form; plasma is part of venous blood and has no amount of its own, a lumen or a loss no concentration."""
    names = [*body_model.compartments(body), "stomach", "gut_lumen", *body_model.SINKS]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["compartment", "time_h", "amount_mg", "concentration_mg_per_l"])
        for name in names:
            amounts = [f"{a * MG:.8g}" for a in run.amount(name)] if name != "plasma" else [""] * len(run.times)
            levels = [f"{c * MG_PER_L:.8g}" for c in run.concentration(name)] if _has_level(name, run) else [""] * len(
                run.times)
            writer.writerows([name, f"{t / HOUR:.8g}", a, c]
                             for t, a, c in zip(run.times, amounts, levels, strict=True))


def _has_level(name: str, run: Curves) -> bool:
    return name == "plasma" or name in run.volumes


def _levels(run: Curves, place: str) -> dict[tuple[str, str, str], float | None]:
    """The numbers that describe one curve: (measure, statistic, unit) to value."""
    levels, hours = run.concentration(place) * MG_PER_L, run.times / HOUR
    return {("concentration", "max", "mg/L"): float(levels.max()),
            ("time_of_maximum", "value", "h"): float(hours[levels.argmax()]),
            ("exposure", "auc", "mg*h/L"): run.auc(place) * MG_PER_L / HOUR,
            ("half_life", "terminal", "h"): exposure.half_life(hours, levels)}


def _rows(patient: Patient, changed: Sequence[Drug], runs: Sequence[Curves], label: str) -> list[Row]:
    """One row a number; intervals from the published spread of the clearance between people."""
    drug, body = changed[0], patient.body
    model = f"{label}; perfusion-limited whole body, clearance of {drug.clearance_source}"
    row = Row(stage="dose", level=ONE_SIGMA, sources="clearance", quality="screening", method=model)
    rows = []
    for place in ("plasma", BED):
        here = row.but(region=place, method=model if place == "plasma" else f"{model}; whole tissue, {patient.bed}",
                       lesion=patient.lesion if place == BED else "")
        every = [_levels(run, place) for run in runs]
        rows += [_row(here, key, [e[key] for e in every]) for key in every[0] if every[0][key] is not None]
    rows.append(_row(row.but(region="plasma"), ("clearance", "value", "L/h"),
                     [body_model.clearance(body, body_model.disposition(d, body)) * L_PER_H for d in changed]))
    half = body_model.equilibration_half_time(body, body_model.disposition(drug, body), BED)
    rows.append(Row(stage="dose", region=BED, lesion=patient.lesion, measure="equilibration_half_time",
                    statistic="value", value=half / HOUR, unit="h", quality="screening",
                    method=f"{label}; time in which the bed comes half way to a new blood level; {patient.bed}"))
    return rows + _flow_rows(patient)


def _row(row: Row, key: tuple[str, str, str], values: Sequence[float | None]) -> Row:
    """The first value with the range of all as its interval."""
    known = [v for v in values if v is not None]
    measure, statistic, unit = key
    return row.but(measure=measure, statistic=statistic, unit=unit, value=known[0], low=min(known), high=max(known))


def _flow_rows(patient: Patient) -> list[Row]:
    body = patient.body
    row = Row(stage="dose", measure="blood_flow", statistic="mean", unit="mL/min")
    whole = row.but(region="whole_body", value=body.cardiac_output * ML_PER_MIN, quality="screening",
                    method=f"cardiac output of {_who(body)} by the library")
    return [whole] + [row.but(region=o.name, value=o.flow * ML_PER_MIN, method=_origin(o, patient),
                              lesion=patient.lesion if o.name == BED else "",
                              quality="ok" if o.origin.startswith("flow result") else "screening")
                      for o in sorted(body.organs, key=lambda o: o.name)]


def _who(body: Body) -> str:
    return f"a {'man' if body.sex == 'male' else 'woman'} of {body.weight:g} kg and {body.age:.0f} years"


def _origin(organ: physiology.Organ, patient: Patient) -> str:
    """Where a flow is from, and what it feeds."""
    told = "hepatic artery alone, " if organ.name == "liver" else ""
    told += f"{patient.bed}, " if organ.name == BED else ""
    if organ.origin.startswith("library"):
        return f"{told}{organ.origin} for {_who(patient.body)}: organs without an artery in the flow result share " \
               f"what is left of the cardiac output"
    return told + organ.origin


def _report(patient: Patient, drug: Drug, config: DoseConfig, run: Curves, rows: Sequence[Row]) -> DoseReport:
    values = {(r.region, r.measure): r.value or 0.0 for r in rows}
    sold = drug.usual_dose if config.dose is None else float(config.dose)
    return DoseReport(
        drug=drug.name, route=config.route, dose_mg=round(sold * MG, 9), n_doses=config.n_doses,
        plasma_peak_mg_per_l=values["plasma", "concentration"],
        plasma_time_of_peak_h=values["plasma", "time_of_maximum"],
        plasma_exposure_mg_h_per_l=values["plasma", "exposure"], bed_peak_mg_per_l=values[BED, "concentration"],
        bed_exposure_mg_h_per_l=values[BED, "exposure"], half_life_h=values.get(("plasma", "half_life")),
        clearance_l_per_h=values["plasma", "clearance"],
        cardiac_output_l_per_min=patient.body.cardiac_output * 6e4, bed=patient.bed,
        bed_flow_ml_per_min=values[BED, "blood_flow"], mass_balance_error=run.balance_error,
        assumed=list(patient.assumed), sources=list(drug.sources))
