"""The dose stage on a made-up flow result: two legs, two kidneys, a lesion on the left."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import formats
from pipeline.dose import DoseConfig, DoseInputs, dose
from pipeline.stage import read_record, run
from pipeline.table import Row, read_rows
from solvers.errors import BadInput
from solvers.geometry.centrelines import Branch, Lesion, Tree
from solvers.library import drugs
from solvers.pharmacology import physiology
from solvers.pharmacology.physiology import Outlet

ML_PER_MIN = 1e-6 / 60
NAMES = ["abdominal_aorta", "renal_artery_left", "renal_artery_right", "iliac_artery_left", "iliac_artery_right",
         "external_iliac_artery_left", "internal_iliac_artery_left"]
PARENTS = [-1, 0, 0, 0, 0, 3, 3]
FLOWS = {1: 500, 2: 520, 4: 420, 5: 230, 6: 90}  # mL/min at the leaves


def branch(parent: int, name: str) -> Branch:
    z = np.linspace(0, 40, 9)
    return Branch(np.column_stack([0 * z, 0 * z, z]), 0 * z + 4, 0 * z + 50, 0 * z + 48, 0 * z + 52, parent, name)


def lesion(index: int, percent: float = 60.0, name: str = "L1") -> Lesion:
    return Lesion(name, index, NAMES[index], 20, 15, 25, 10, 8, 7, 9, 3.2, 8, percent)


def case(home: Path, lesions: list[Lesion], flows: dict[int, float] | None = None, **sidecar: object) -> DoseInputs:
    formats.write_tree(home / "centrelines.vtp", Tree(tuple(map(branch, PARENTS, NAMES))))
    formats.write_lesions(home / "lesions.json", lesions)
    formats.write_json(home / "volume.json", {"sex": "M", "age_years": 35, "weight_kg": 73.0} | sidecar)
    outlets = [{"name": NAMES[i], "branch": i, "tag": 10 + i, "bed": "", "proximal": 1.0, "distal": 1.0,
                "compliance": 1.0, "venous": 0.0, "target_flow": FLOWS[i] * ML_PER_MIN, "mean_flow": q * ML_PER_MIN}
               for i, q in (flows or FLOWS).items()]
    formats.write_json(home / "outlets.json", {"unit": "SI", "inlet": {"name": "inlet", "mean_flow": 3e-5},
                                               "outlets": outlets})
    return DoseInputs(outlets=home / "outlets.json", lesions=home / "lesions.json",
                      centrelines=home / "centrelines.vtp", sidecar=home / "volume.json")


def one(rows: list[Row], region: str, measure: str) -> Row:
    found = [r for r in rows if r.region == region and r.measure == measure]
    assert len(found) == 1, (region, measure, found)
    return found[0]


def curves(path: Path) -> dict[str, np.ndarray]:
    """Compartment to (n, 3): hours, mg, mg/L; NaN where empty."""
    with path.open() as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["compartment", "time_h", "amount_mg", "concentration_mg_per_l"]
    found: dict[str, list[list[float]]] = {}
    for line in lines:
        values = [float(v) if v else np.nan for v in list(line.values())[1:]]
        found.setdefault(line["compartment"], []).append(values)
    return {name: np.array(values) for name, values in found.items()}


def test_the_bed_beyond_the_lesion_has_its_arteries_flow(tmp_path: Path) -> None:
    out = run(dose, case(tmp_path, [lesion(3)]), DoseConfig(), tmp_path / "dose")
    rows = read_rows(out.measurements)
    bed = one(rows, "perfused_bed", "blood_flow")
    assert bed.value == pytest.approx(320)
    assert bed.lesion == "L1"
    assert "external_iliac_artery_left" in bed.method
    assert "flow result" in bed.method
    assert one(rows, "other_leg", "blood_flow").value == pytest.approx(420)
    assert one(rows, "kidney", "blood_flow").value == pytest.approx(1020)
    organs = [r.value for r in rows if r.measure == "blood_flow" and r.region != "whole_body"]
    assert sum(organs) == pytest.approx(one(rows, "whole_body", "blood_flow").value, rel=1e-9)
    assert sum(organs) == pytest.approx(6500, rel=1e-6), "the library's cardiac output, shared out"


def test_curves_hold_the_dose_at_every_time(tmp_path: Path) -> None:
    config = DoseConfig(drug="paracetamol", dose="500 mg", n_doses=2, interval="6 h", duration="12 h")
    out = run(dose, case(tmp_path, [lesion(3)]), config, tmp_path / "dose")
    found = curves(out.curves)
    assert {"plasma", "perfused_bed", "liver", "kidney", "muscle", "adipose", "lung", "brain"} <= set(found)
    assert np.isnan(found["plasma"][:, 1]).all()
    assert np.isnan(found["metabolised"][:, 2]).all()
    held = sum(values[:, 1] for name, values in found.items() if name != "plasma")
    hours = found["liver"][:, 0]
    assert held == pytest.approx(np.where(hours < 6, 500, 1000), rel=1e-6)
    assert min(np.nanmin(v) for v in found.values()) >= 0


def test_rows_hold_what_the_curves_show(tmp_path: Path) -> None:
    out = run(dose, case(tmp_path, [lesion(3)]), DoseConfig(), tmp_path / "dose")
    rows, found = read_rows(out.measurements), curves(out.curves)
    for place in ("plasma", "perfused_bed"):
        hours, levels = found[place][:, 0], found[place][:, 2]
        peak, area = one(rows, place, "concentration"), one(rows, place, "exposure")
        assert (peak.statistic, peak.unit, area.statistic, area.unit) == ("max", "mg/L", "auc", "mg*h/L")
        assert peak.value == pytest.approx(levels.max(), rel=1e-6)
        assert one(rows, place, "time_of_maximum").value == pytest.approx(hours[levels.argmax()])
        assert area.value == pytest.approx(np.trapezoid(levels, hours), rel=2e-3)
        assert peak.low < peak.value < peak.high
        assert peak.sources == "clearance"
        assert "Metoprolol" in peak.method
    clearance = one(rows, "plasma", "clearance")
    assert clearance.low < clearance.value < clearance.high


def test_a_stent_that_doubles_the_flow_halves_the_lag(tmp_path: Path) -> None:
    found = []
    for name, factor in (("before", 1), ("after", 2)):
        (tmp_path / name).mkdir()
        flows = FLOWS | {5: factor * 115, 6: factor * 45}
        out = run(dose, case(tmp_path / name, [lesion(3)], flows), DoseConfig(), tmp_path / name / "dose")
        found.append(read_rows(out.measurements))
    lags = [one(rows, "perfused_bed", "equilibration_half_time").value for rows in found]
    assert lags[0] / lags[1] == pytest.approx(2)
    peaks = [one(rows, "perfused_bed", "time_of_maximum").value for rows in found]
    assert peaks[0] > peaks[1]


def test_doubling_the_dose_doubles_the_curves(tmp_path: Path) -> None:
    inputs = case(tmp_path, [lesion(3)])
    once, twice = (curves(run(dose, inputs, DoseConfig(dose=d), tmp_path / n).curves)
                   for d, n in (("50 mg", "once"), ("100 mg", "twice")))
    for name in once:
        assert twice[name][:, 1:] == pytest.approx(2 * once[name][:, 1:], rel=1e-6, nan_ok=True), name


@pytest.mark.parametrize(("index", "bed_flow", "other"), [
    (5, 230, "other_leg"), (4, 420, "other_leg"), (1, 500, "kidney"), (0, 740, "")])
def test_the_bed_follows_the_lesion(tmp_path: Path, index: int, bed_flow: float, other: str) -> None:
    out = run(dose, case(tmp_path, [lesion(index)]), DoseConfig(), tmp_path / "dose")
    rows = read_rows(out.measurements)
    assert one(rows, "perfused_bed", "blood_flow").value == pytest.approx(bed_flow)
    assert "other_leg" not in {r.region for r in rows} or other == "other_leg"


def test_the_most_severe_lesion_decides_unless_one_is_named(tmp_path: Path) -> None:
    inputs = case(tmp_path, [lesion(4, 30.0, "L1"), lesion(3, 70.0, "L2")])
    for config, wanted in ((DoseConfig(), "L2"), (DoseConfig(lesion="L1"), "L1")):
        out = run(dose, inputs, config, tmp_path / wanted)
        assert one(read_rows(out.measurements), "perfused_bed", "concentration").lesion == wanted
    with pytest.raises(BadInput, match="no lesion L7"):
        run(dose, inputs, DoseConfig(lesion="L7"), tmp_path / "dose")


def test_without_a_lesion_the_bed_is_both_legs(tmp_path: Path) -> None:
    out = run(dose, case(tmp_path, []), DoseConfig(), tmp_path / "dose")
    bed = one(read_rows(out.measurements), "perfused_bed", "blood_flow")
    assert bed.value == pytest.approx(740)
    assert "both legs" in bed.method
    assert bed.lesion == ""


def test_what_nobody_said_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = case(tmp_path, [lesion(3)], sex=None, weight_kg=None, age_years=None)
    run(dose, inputs, DoseConfig(), tmp_path / "dose")
    assumed = read_record(tmp_path / "dose")["report"]["assumed"]
    assert len(assumed) == 3
    assert "73 kg" in capsys.readouterr().err
    run(dose, inputs, DoseConfig(sex="female", weight="55 kg", age="64 year"), tmp_path / "told")
    assert read_record(tmp_path / "told")["report"]["assumed"] == []


def test_masks_of_whole_organs_set_their_volumes(tmp_path: Path) -> None:
    table = tmp_path / "labels.tsv"
    table.write_text("index\tname\tvolume_ml\n5\tkidney_left\t150\n6\tkidney_right\t160\n7\tliver\t300\n")
    inputs = case(tmp_path, [lesion(3)]).model_copy(update={"labels_table": table})
    out = run(dose, inputs, DoseConfig(), tmp_path / "dose")
    found = curves(out.curves)
    kidney, liver = (np.nanmax(found[n][:, 1]) / np.nanmax(found[n][:, 2]) for n in ("kidney", "liver"))
    assert kidney == pytest.approx(0.31, rel=1e-6)
    assert liver == pytest.approx(1.8 / 1.05, rel=1e-6), "a liver of 300 mL is cut by the image and is left out"
    assert any("liver" in line for line in read_record(tmp_path / "dose")["report"]["assumed"])


def test_organs_that_the_image_cuts_are_left_out(tmp_path: Path) -> None:
    table = tmp_path / "labels.tsv"
    table.write_text("index\tname\tvolume_ml\twhole\n46\tliver\t1300\tno\n")
    cut = run(dose, case(tmp_path, [lesion(3)]).model_copy(update={"labels_table": table}), DoseConfig(),
              tmp_path / "cut")
    without = run(dose, case(tmp_path, [lesion(3)]), DoseConfig(), tmp_path / "without")
    assert Path(cut.curves).read_bytes() == Path(without.curves).read_bytes()


@pytest.mark.parametrize(("settings", "code"), [
    ({"drug": "metroprolol"}, "unknown_drug"), ({"dose": "-5 mg"}, "dose_not_positive"),
    ({"n_doses": 0}, "no_dose"), ({"duration": "0 h"}, "nothing_to_follow"),
    ({"weight": "7 kg"}, "weight_out_of_range"),
    ({"age": "9 year"}, "age_out_of_range"), ({"n_doses": 2, "interval": "0 h"}, "interval_not_positive"),
    ({"route": "iv_infusion", "infusion_time": "0 s"}, "infusion_time_not_positive"),
    ({"route": "iv_infusion", "n_doses": 2, "infusion_time": "13 h"}, "infusions_overlap")])
def test_what_makes_no_sense_is_refused(tmp_path: Path, settings: dict[str, object], code: str) -> None:
    with pytest.raises(BadInput) as refused:
        run(dose, case(tmp_path, [lesion(3)]), DoseConfig(**settings), tmp_path / "dose")
    assert refused.value.code == code
    assert not (tmp_path / "dose").exists()


def test_an_unknown_drug_gets_a_suggestion() -> None:
    with pytest.raises(BadInput, match="Did you mean metoprolol"):
        drugs.drug("metroprolol")


def test_a_dry_artery_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        run(dose, case(tmp_path, [lesion(3)], FLOWS | {5: -3}), DoseConfig(), tmp_path / "dose")
    assert refused.value.code == "outlet_without_flow"


@pytest.mark.parametrize(("change", "code"), [
    ({"unit": "mm"}, "wrong_unit"), ({"outlets": []}, "no_outlets"),
    ({"outlets": [{"name": "x"}]}, "outlet_incomplete"),
    ({"outlets": [{"name": "x", "branch": 1, "mean_flow": "1 L/min"}]}, "outlet_incomplete"),
    ({"outlets": [{"name": "x", "branch": 40, "mean_flow": 1e-6}]}, "outlets_differ"), (None, "not_json")])
def test_an_odd_flow_result_is_refused(tmp_path: Path, change: dict[str, object] | None, code: str) -> None:
    inputs = case(tmp_path, [lesion(3)])
    if change is None:
        inputs.outlets.write_text("name;flow")
    else:
        formats.write_json(inputs.outlets, formats.read_json(inputs.outlets) | change)
    with pytest.raises(BadInput) as refused:
        run(dose, inputs, DoseConfig(), tmp_path / "dose")
    assert refused.value.code == code
    assert refused.value.wanted


def test_a_label_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "labels.tsv"
    table.write_text("index,name\n5,liver\n")
    with pytest.raises(BadInput) as refused:
        run(dose, case(tmp_path, []).model_copy(update={"labels_table": table}), DoseConfig(), tmp_path / "dose")
    assert refused.value.code == "bad_labels_table"


def test_a_weight_of_nothing_was_never_entered(tmp_path: Path) -> None:
    run(dose, case(tmp_path, [], weight_kg=0.0), DoseConfig(), tmp_path / "dose")
    assert "73 kg" in read_record(tmp_path / "dose")["report"]["assumed"][0]


def test_doses_that_nobody_will_see_are_told(tmp_path: Path) -> None:
    run(dose, case(tmp_path, []), DoseConfig(n_doses=4, interval="12 h"), tmp_path / "dose")
    assert "2 of 4 doses" in read_record(tmp_path / "dose")["report"]["assumed"][-1]


def test_flows_of_hyperaemia_are_told_to_be_held(tmp_path: Path) -> None:
    inputs = case(tmp_path, [lesion(3)])
    formats.write_json(inputs.outlets, formats.read_json(inputs.outlets) | {"state": "hyperaemia"})
    run(dose, inputs, DoseConfig(), tmp_path / "dose")
    assert any("hyperaemia" in line for line in read_record(tmp_path / "dose")["report"]["assumed"])


def test_an_unnamed_end_feeds_what_its_artery_feeds(tmp_path: Path) -> None:
    inputs = case(tmp_path, [lesion(3)])
    content = formats.read_json(inputs.outlets)
    content["outlets"][3]["name"] = "branch_5"
    content["outlets"][2] |= {"name": "branch_4", "bed": "limbs"}
    formats.write_json(inputs.outlets, content)
    rows = read_rows(run(dose, inputs, DoseConfig(), tmp_path / "dose").measurements)
    assert one(rows, "perfused_bed", "blood_flow").value == pytest.approx(320)
    assert one(rows, "other_leg", "blood_flow").value == pytest.approx(420)


def test_every_drug_of_the_library_names_its_sources() -> None:
    for name in drugs.names():
        drug = drugs.drug(name)
        assert len(drug.sources) >= 4
        assert 0 < drug.fraction_unbound <= 1
        assert 0 < drug.clearance_spread < drug.clearance


def test_arteries_that_carry_too_much_raise_the_cardiac_output() -> None:
    body = physiology.adult("male")
    plenty = [Outlet(f"{n}_{s}", 2000 * ML_PER_MIN, 1.0) for n in ("renal_artery", "iliac_artery")
              for s in ("left", "right")]
    filled = physiology.perfused(body, plenty)
    assert filled.cardiac_output > body.cardiac_output
    assert filled.organ("brain").flow == pytest.approx(0.5 * body.organ("brain").flow)


def test_a_side_without_an_outlet_keeps_its_half() -> None:
    body = physiology.adult("male")
    one_side = physiology.perfused(body, [replace(Outlet("iliac_artery_left", 3e-6, 1.0), is_beyond=True)])
    assert one_side.organ("perfused_bed").volume == pytest.approx(body.organ("legs").volume / 2)
    assert one_side.organ("other_leg").flow == pytest.approx(body.organ("legs").flow / 2)
