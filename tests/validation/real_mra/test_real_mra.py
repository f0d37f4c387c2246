"""The whole line on a real MRA (README)."""

import json

import pytest

from pipeline import formats
from pipeline.table import read_rows
from workflows import recipe, twin
from workflows.case import Case
from workflows.line import Line

pytestmark = pytest.mark.verify


@pytest.fixture(scope="module")
def home(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mra") / "sub-x"
    settings = recipe.named("aorta", [])
    case = Case(home=str(folder), subject="x", session="", recipe=settings.model_dump(mode="json"),
                scan=str(shared / "scans/vmtk-aorta-mra/input/aorta.mha"))
    assert twin.build(case, settings, Line(folder)) == {}
    return folder


def test_ends_and_names(home):
    tree = formats.read_tree(home / "trace_centrelines/centrelines.vtp")
    names = [tree.branches[i].name for i in tree.leaves]
    assert len(names) >= 6
    assert sum("iliac" in n for n in names) >= 4
    assert sum("renal" in b.name for b in tree.branches) >= 2
    report = json.loads((home / "trace_centrelines/record.json").read_text())["report"]
    assert not report["side_verified"] and "unverified" in report["side_note"]


def test_flow_is_conserved_and_repeats(home, capsys):
    rows = read_rows(home / "measurements.csv")
    inflow = next(r.value for r in rows if r.measure == "inlet_flow")
    out = sum(r.value for r in rows if r.measure == "outlet_flow")
    change = next(r.value for r in rows if r.measure == "cycle_change")
    with capsys.disabled():
        print(f"\nreal MRA: in {inflow:.3f}, out {out:.3f} mL/s; beat to beat {change:.2f} %")
    assert out == pytest.approx(inflow, rel=5e-3)
    assert change < 1.0


def test_shear_carries_its_mesh_error(home):
    shear = [r for r in read_rows(home / "measurements.csv") if r.measure == "tawss"]
    assert shear and all("mesh" in r.sources for r in shear)
    wide = [r for r in shear if r.high - r.value > 0.1 * r.value]
    assert all(r.quality == "screening" for r in wide)
