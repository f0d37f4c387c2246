"""The whole-body model where the answer is known: one compartment, Bateman, clearances, balance, partition."""

import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solvers.errors import BadInput
from solvers.library import body as library
from solvers.library import drugs
from solvers.pharmacology import body_model, elimination, exposure, partition, physiology
from solvers.pharmacology.absorption import Regimen
from solvers.pharmacology.body_model import Disposition
from solvers.pharmacology.physiology import Body, Organ, Outlet

HOUR, DAY = 3600.0, 86400.0
LITRE, MG = 1e-3, 1e-6
CLEARANCE = 10 * LITRE / HOUR
VOLUME = 40 * LITRE
ABSORPTION = 1.2 / HOUR
SMALL_BODY_FLOW = 100 * LITRE  # per second: blood goes round in a blink


def stirred(flow: float = SMALL_BODY_FLOW) -> tuple[Body, Disposition]:
    """A body in which blood moves so fast that it is one compartment of VOLUME, cleared by its liver."""
    part = VOLUME / 6
    organs = tuple(Organ(n, n, part, flow) for n in ("gut", "liver", "kidney"))
    ratios = dict.fromkeys(("gut", "liver", "kidney", "lung"), 1.0)
    return (Body("male", 70.0, 30.0, organs, part, part, part),
            Disposition(ratios, 1.0, CLEARANCE, 0.0, ABSORPTION, 0.7, 1e4 * ABSORPTION))


def metoprolol(body: Body | None = None) -> tuple[Body, Disposition]:
    body = body or physiology.perfused(physiology.adult("male", 70.0), [])
    return body, body_model.disposition(drugs.drug("metoprolol"), body)


def test_a_dose_by_vein_falls_as_one_exponential() -> None:
    run = body_model.solve(*stirred(), Regimen(100 * MG, "iv_bolus"), 12 * HOUR, 300)
    later = run.times > 60
    exact = 100 * MG / VOLUME * np.exp(-CLEARANCE / VOLUME * run.times)
    assert run.concentration("plasma")[later] == pytest.approx(exact[later], rel=2e-4)
    assert exposure.half_life(run.times, run.concentration("plasma")) == pytest.approx(
        np.log(2) * VOLUME / CLEARANCE, rel=2e-4)


def test_the_one_compartment_limit_is_approached_at_first_order() -> None:
    errors = []
    for flow in (0.02, 0.04, 0.08):
        run = body_model.solve(*stirred(flow), Regimen(100 * MG, "iv_bolus"), 12 * HOUR, HOUR)
        exact = 100 * MG / VOLUME * np.exp(-CLEARANCE / VOLUME * run.times[-1])
        errors.append(abs(run.concentration("plasma")[-1] / exact - 1))
    assert [a / b for a, b in pairwise(errors)] == pytest.approx([2, 2], rel=0.05)


def test_a_dose_by_mouth_follows_bateman() -> None:
    run = body_model.solve(*stirred(), Regimen(100 * MG, "oral"), 24 * HOUR, 60)
    k = CLEARANCE / VOLUME
    exact = 0.7 * 100 * MG / VOLUME * ABSORPTION / (ABSORPTION - k) * (
        np.exp(-k * run.times) - np.exp(-ABSORPTION * run.times))
    assert run.concentration("plasma") == pytest.approx(exact, abs=1e-3 * exact.max())
    peak = run.times[run.concentration("plasma").argmax()]
    assert peak == pytest.approx(np.log(ABSORPTION / k) / (ABSORPTION - k), abs=61)
    assert run.amount("not_absorbed")[-1] == pytest.approx(0.3 * 100 * MG, rel=1e-6)


def test_an_infusion_levels_off_at_rate_over_clearance() -> None:
    run = body_model.solve(*stirred(), Regimen(240 * MG, "iv_infusion", infusion_time=2 * DAY), 2 * DAY, HOUR)
    assert run.concentration("plasma")[-1] == pytest.approx(240 * MG / (2 * DAY) / CLEARANCE, rel=1e-3)


@pytest.mark.parametrize("route", ["oral", "iv_bolus", "iv_infusion"])
@pytest.mark.parametrize("name", drugs.names())
def test_nothing_is_lost(name: str, route: str) -> None:
    body = physiology.perfused(physiology.adult("female", 55.0, 70.0), [Outlet("iliac_artery_left", 2e-6, 4e-6, True)])
    drug = body_model.disposition(drugs.drug(name), body)
    regimen = Regimen(50 * MG, route, 3, 5 * HOUR, HOUR)  # type: ignore[arg-type]
    run = body_model.solve(body, drug, regimen, DAY, 600)
    given = np.array([regimen.given(t) for t in run.times])
    assert run.amounts.sum(axis=1) == pytest.approx(given, abs=1e-6 * 150 * MG)
    assert np.abs(body_model.System(body, drug).matrix.sum(axis=0)).max() < 1e-12


def test_doses_add_up() -> None:
    body, drug = metoprolol()
    once = body_model.solve(body, drug, Regimen(50 * MG), DAY, 600).concentration("plasma")
    run = body_model.solve(body, drug, Regimen(50 * MG, n_doses=2, interval=6 * HOUR), DAY, 600)
    shift = 36
    assert run.concentration("plasma") == pytest.approx(once + np.r_[np.zeros(shift), once[:-shift]], abs=1e-9 * MG)


@pytest.mark.parametrize("name", drugs.names())
def test_exposure_is_dose_over_clearance_whatever_the_flows(name: str) -> None:
    plain = physiology.adult("male", 80.0, 60.0)
    outlets = [Outlet("renal_artery_left", 3e-6, 8e-6), Outlet("iliac_artery_right_3", 2e-6, 4e-6, True)]
    body = physiology.perfused(plain, outlets)
    drug = body_model.disposition(drugs.drug(name), body)
    vein, mouth = (body_model.solve(body, drug, Regimen(50 * MG, route), 20 * DAY, HOUR) for route in
                   ("iv_bolus", "oral"))
    assert vein.auc("plasma") == pytest.approx(50 * MG / body_model.clearance(body, drug), rel=1e-6)
    first_pass = elimination.extraction(body.liver_flow, drug.liver)
    available = mouth.auc("plasma") / vein.auc("plasma")
    assert available == pytest.approx(drug.fraction_absorbed * (1 - first_pass), rel=1e-6)


def test_the_study_man_clears_what_was_published() -> None:
    for name in drugs.names():
        drug = drugs.drug(name)
        body = physiology.adult("male", drug.clearance_weight)
        assert body_model.clearance(body, body_model.disposition(drug, body)) == pytest.approx(drug.clearance, rel=1e-9)


def test_no_organ_clears_more_blood_than_it_gets() -> None:
    drug = drugs.drug("metoprolol")
    with pytest.raises(BadInput) as refused:
        body_model.disposition(drug.but(clearance=10 * drug.clearance), physiology.adult())
    assert refused.value.code == "clearance_exceeds_flow"
    assert elimination.clearance(1.0, 1e9) == pytest.approx(1.0), "flow limits what an eager organ clears"
    assert elimination.clearance(1.0, 1e-9) == pytest.approx(1e-9), "a lazy organ does not feel the flow"


def test_tissue_comes_to_equilibrium_with_plasma() -> None:
    body, drug = metoprolol()
    run = body_model.solve(body, drug, Regimen(1.0, "iv_infusion", infusion_time=20 * DAY), 20 * DAY, DAY)
    arterial = run.concentration("arterial_blood")[-1] / drug.blood_to_plasma
    for organ in ("muscle", "adipose", "brain", "perfused_bed"):
        ratio = run.concentration(organ)[-1] / arterial
        assert ratio == pytest.approx(drug.tissue_to_plasma[body.organ(organ).tissue], rel=1e-6), organ


def test_a_bed_with_half_the_flow_follows_half_as_fast() -> None:
    times = []
    for flow in (4e-6, 2e-6):
        body, drug = metoprolol(physiology.perfused(physiology.adult("male", 70.0), [
            Outlet("iliac_artery_left", flow, 4e-6, is_beyond=True), Outlet("iliac_artery_right", 4e-6, 4e-6)]))
        half = body_model.equilibration_half_time(body, drug, "perfused_bed")
        system = body_model.System(body, drug)
        i = system.names.index("perfused_bed")
        assert half == pytest.approx(np.log(2) / -system.matrix[i, i])
        run = body_model.solve(body, drug, Regimen(1.0, "iv_infusion", infusion_time=10 * DAY), 10 * DAY, 600)
        level = run.concentration("perfused_bed")
        times.append((half, float(run.times[np.argmax(level > 0.5 * level[-1])])))
    assert times[1][0] == pytest.approx(2 * times[0][0])
    assert times[1][1] > times[0][1]


def test_a_polar_drug_fills_the_water_of_a_tissue() -> None:
    polar = drugs.drug("paracetamol").but(kind="neutral", log_p=-10.0, fraction_unbound=1.0)
    muscle = library.composition("muscle")
    water = muscle.extracellular_water + muscle.intracellular_water
    assert partition.tissue_to_plasma(polar, "muscle") == pytest.approx(water + 0.7 * muscle.neutral_phospholipid)


def test_fat_holds_what_is_fond_of_fat() -> None:
    drug = drugs.drug("paracetamol").but(kind="neutral", fraction_unbound=0.5)
    ratios = [partition.tissue_to_plasma(drug.but(log_p=p), "adipose") for p in (0.0, 2.0, 4.0)]
    assert ratios == sorted(ratios)
    oil = 10 ** (1.115 * 4 - 1.35) * library.composition("adipose").neutral_lipid
    assert ratios[2] == pytest.approx(0.5 * oil, rel=0.01)


def test_what_is_bound_in_plasma_stays_there() -> None:
    acid = drugs.drug("paracetamol")
    free, bound = (partition.tissue_to_plasma(acid.but(fraction_unbound=f), "brain") for f in (1.0, 0.01))
    assert bound < 0.1 * free


def test_an_exponential_has_its_half_life_and_area() -> None:
    hours = np.linspace(0, 12, 25)
    levels = 3 * np.exp(-0.4 * hours)
    assert exposure.half_life(hours, levels) == pytest.approx(np.log(2) / 0.4)
    assert exposure.area(hours, levels) == pytest.approx(3 / 0.4 * (1 - np.exp(-4.8)), rel=1e-9)
    assert exposure.half_life(hours, 0 * hours) is None
    assert exposure.half_life(hours, hours) is None


@pytest.mark.parametrize("sex", ["male", "female"])
def test_the_body_adds_up(sex: library.Sex) -> None:
    reference = library.reference(sex)
    body = physiology.adult(sex)
    volume = sum(o.volume for o in body.organs) + body.lung_volume + body.arterial_volume + body.venous_volume
    assert volume == pytest.approx(reference.weight / 1050, rel=0.03)
    assert body.cardiac_output == pytest.approx(reference.cardiac_output)
    assert min(o.flow for o in body.organs) > 0
    assert body.liver_flow == pytest.approx(reference.flows["liver"])


@pytest.mark.parametrize(("name", "territory", "side"), [
    ("renal_artery_left", "kidney", "left"), ("external_iliac_artery_right_8", "leg", "right"),
    ("iliac_artery_b", "leg", "b"), ("abdominal_aorta", "rest", ""), ("limbs", "leg", ""), ("unknown", "rest", "")])
def test_names_of_arteries_tell_what_they_feed(name: str, territory: str, side: str) -> None:
    assert library.territory(name) == territory
    assert library.side(name) == side


def test_one_artery_for_both_legs_feeds_both() -> None:
    plain = physiology.adult("male")
    body = physiology.perfused(plain, [Outlet("abdominal_aorta", 1e-5, 1e-5, True, feeder="limbs")])
    assert body.organ("perfused_bed").volume == pytest.approx(plain.organ("legs").volume)
    assert body.organ("perfused_bed").flow == pytest.approx(1e-5)
    assert "other_leg" not in {o.name for o in body.organs}


def test_two_ends_of_one_visceral_artery_are_not_all_of_the_viscera() -> None:
    plain = physiology.adult("male")
    one = physiology.perfused(plain, [Outlet(f"celiac_trunk_{i}", 5e-6, 5e-6) for i in (3, 4)])
    both = physiology.perfused(plain, [Outlet("celiac_trunk", 5e-6, 5e-6),
                                       Outlet("superior_mesenteric_artery", 6e-6, 6e-6)])
    assert one.liver_flow == pytest.approx(plain.liver_flow)
    assert both.liver_flow == pytest.approx(11e-6)


def test_a_larger_liver_clears_more() -> None:
    body, drug = metoprolol()
    larger = body.but(organs=tuple(replace(o, volume=1.5 * o.volume) if o.name == "liver" else o for o in body.organs))
    assert body_model.disposition(drugs.drug("metoprolol"), larger).liver == pytest.approx(1.5 * drug.liver)


def unsourced(table: dict[str, Any], path: str = "", is_sourced: bool = False) -> list[str]:
    """Names of numbers without a source in their entry or in a table around it."""
    is_sourced = is_sourced or bool(table.get("source"))
    found = []
    for name, value in table.items():
        if isinstance(value, dict):
            found += unsourced(value, f"{path}.{name}", is_sourced)
        elif isinstance(value, (int, float, list)) and name != "columns" and not is_sourced:
            found.append(f"{path}.{name}")
    return found


@pytest.mark.parametrize("name", ["body.toml", "drugs.toml"])
def test_every_number_of_the_library_has_a_source(name: str) -> None:
    content = tomllib.loads((Path(library.__file__).with_name(name)).read_text())
    assert unsourced(content) == []
    assert unsourced({"a": {"value": 1.0, "unit": "m"}}) == [".a.value"]
