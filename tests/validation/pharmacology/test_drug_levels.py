"""Levels against published means, the library against an independent copy, curves' numbers against WinNonlin."""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from solvers.library import body as library
from solvers.library import drugs
from solvers.pharmacology import body_model, exposure, physiology
from solvers.pharmacology.absorption import Regimen
from solvers.pharmacology.body_model import Curves

HOUR, MG = 3600.0, 1e-6
NMOL_PER_MG = 1e6 / 267.36
CLEARANCE_FACTOR, TISSUE_FACTOR = 1.25, 2.0


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@cache
def levels(name: str, route: str, mg: float, hours: float = 24, n: int = 1) -> tuple[np.ndarray, np.ndarray, Curves]:
    """Hours and mg/L in plasma of a man of 70 kg; the dose as it is sold."""
    drug = drugs.drug(name)
    body = physiology.perfused(physiology.adult("male", 70.0), [])
    regimen = Regimen(mg * MG * drug.base_share, route, n, 12 * HOUR)  # type: ignore[arg-type]
    run = body_model.solve(body, body_model.disposition(drug, body), regimen, hours * HOUR, 60)
    return run.times / HOUR, run.concentration("plasma") * 1e3, run


def available(name: str) -> float:
    areas = [levels(name, route, 1000 if name == "paracetamol" else 100, 96)[2].auc("plasma")
             for route in ("oral", "iv_bolus")]
    return areas[0] / areas[1]


def within(value: float, low: float, high: float, factor: float) -> None:
    assert low / factor <= value <= high * factor, f"{value:.4g} is not within {factor} of {low:g} to {high:g}"


def test_metoprolol_by_mouth() -> None:
    within(available("metoprolol"), 0.40, 0.50, CLEARANCE_FACTOR)
    hours, plasma, _ = levels("metoprolol", "oral", 100)
    within(hours[plasma.argmax()], 1.5, 2.0, 1.25)
    half = exposure.half_life(hours, plasma)
    assert half is not None
    within(half, 3.0, 4.2, 1.25)


def test_metoprolol_twice_a_day() -> None:
    hours, plasma, _ = levels("metoprolol", "oral", 50, 72, 6)
    last = plasma[hours >= 60] * NMOL_PER_MG
    within(last.max(), 388, 388, TISSUE_FACTOR)
    within(last[-1], 75, 75, TISSUE_FACTOR)


def test_paracetamol_by_mouth() -> None:
    hours, plasma, run = levels("paracetamol", "oral", 1000)
    within(plasma.max(), 17.98, 20.73, CLEARANCE_FACTOR)
    within(hours[plasma.argmax()], 0.40, 0.88, 1.0)
    within(run.auc("plasma") * 1e3 / HOUR, 52.6, 56.3, CLEARANCE_FACTOR)
    within(available("paracetamol"), 0.85, 0.93, 1.05)
    half = exposure.half_life(hours, plasma)
    assert half is not None
    within(half, 2.65, 2.81, TISSUE_FACTOR)


def test_paracetamol_by_vein() -> None:
    hours, plasma, _ = levels("paracetamol", "iv_infusion", 2000)
    within(plasma.max(), 67.9 - 21.8, 67.9 + 21.8, 1.0)
    assert hours[plasma.argmax()] == pytest.approx(0.25)
    within(float(np.interp(6.0, hours, plasma)), 6.2 - 2.3, 6.2 + 2.3, 1.0)


def test_the_numbers_of_a_curve_are_winnonlins(shared: Path) -> None:
    folder = shared / "references" / "pharmacology"
    wanted = {r["Subject"]: r for r in table(folder / "winnonlin_nca" / "Final_Parameters_Pivoted_Theoph_Log.csv")}
    rows = table(folder / "r_datasets" / "Theoph.csv")
    halves = []
    for subject, row in wanted.items():
        curve = np.array([[float(r["Time"]), float(r["conc"])] for r in rows if r["Subject"] == subject])
        assert exposure.area(*curve.T) == pytest.approx(float(row["AUClast"]), rel=1e-3), subject
        assert curve[curve[:, 1].argmax(), 0] == pytest.approx(float(row["Tmax"]))
        found = exposure.half_life(*curve.T)
        assert found is not None
        halves.append(abs(found / float(row["HL_Lambda_z"]) - 1))
    assert len(halves) == 12
    assert max(halves) < 1e-3, halves


ORGANS = {"adipose": ["ad"], "bone": ["bo"], "brain": ["br"], "heart": ["he"], "kidney": ["ki"], "liver": ["li"],
          "lung": ["lu"], "muscle": ["mu"], "skin": ["sk"], "gut": ["la_int", "sm_int", "st", "pa", "sp"]}


@pytest.mark.parametrize("sex", ["male", "female"])
def test_organs_are_the_reference_adults(shared: Path, sex: library.Sex) -> None:
    adult = table(shared / "references" / "pharmacology" / "physiology_icrp" / "icrpData.csv")[-1]
    raw, s = library.table()[sex], sex[0]
    for organ, parts in ORGANS.items():
        if organ != "adipose":
            mass = sum(float(adult[f"{p}_{s}"]) for p in parts)
            assert raw["mass"][organ] == pytest.approx(mass, rel=0.01), organ
    assert raw["weight"]["value"] == float(adult[f"bw_{s}"])
    assert raw["blood_volume"]["value"] * 1.05 == pytest.approx(float(adult[f"bl_{s}"]), rel=0.01)
    assert raw["cardiac_output"]["value"] == pytest.approx(float(adult[f"co_{s}"]), rel=0.04)


def test_flows_are_the_reference_mans(shared: Path) -> None:
    folder = shared / "references" / "pharmacology" / "physiology_icrp"
    flows = {r["organ"]: float(r["flowPerc"]) for r in table(folder / "flow.csv")}
    mine = library.table()["male"]["flow"]
    for organ, parts in ORGANS.items():
        if organ in mine and organ != "liver":
            assert mine[organ] == flows[parts[0]], organ
    assert mine["liver"] == flows["li"]
    assert mine["liver_arterial"] == flows["ha"]
    assert mine["liver"] - mine["liver_arterial"] == sum(flows[p] for p in ORGANS["gut"])
    blood = {r["organ"]: float(r["bloodPerc"]) for r in table(folder / "BC.csv")}
    share = blood["ar"] / (blood["ar"] + blood["ve"])
    assert library.number("blood", "arterial_share") == pytest.approx(share, abs=1e-3)


def test_tissues_are_made_of_what_was_published(shared: Path) -> None:
    rows = table(shared / "references" / "pharmacology" / "physiology_icrp" / "TCData.csv")
    for row in rows:
        name = row["tissue"].lower()
        if name in ("spleen", "rbcs", "plasma"):
            continue
        mine = library.composition(name)
        assert (mine.extracellular_water, mine.intracellular_water) == (float(row["f_ew"]), float(row["f_iw"])), name
        assert (mine.albumin_ratio, mine.lipoprotein_ratio) == (float(row["AR"]), float(row["LR"])), name
