"""report: numbers come from rows only, with honest digits; any subset of files makes a page; same in, same out."""

import re

import numpy as np
import pytest

from pipeline import formats
from pipeline.report import CohortCase, ReportConfig, cohort_report, inputs_of, report
from pipeline.report.charts import Chart, Line, ticks
from pipeline.report.pullback import pullbacks
from pipeline.report.scene import Case, colours, scene
from pipeline.report.slices import patient_axes, slices
from pipeline.report.tables import decimals, interval_html, measure_of, number, value_html
from pipeline.stage import is_done, run
from pipeline.table import Row, write_rows
from solvers.geometry.volume import Volume
from tests.example_case import flow_rows, lesion, surface, tree, write_case

CONFIG = ReportConfig(subject="07", recipe="aorta")


def page_of(home, **variants):
    return run(report, inputs_of(home, variants), CONFIG, home / "report").page.read_text()


def with_rows(home, rows):
    (home / "measure").mkdir(parents=True)
    write_rows(home / "measure/measurements.csv", rows)


# Numbers


@pytest.mark.parametrize(("value", "half", "text"), [(21.347, 1.234, "21.3"), (21.347, None, "21.3"),
                                                     (0.78947, 0.0391, "0.789"), (1234.5, None, "1234"),
                                                     (-3.0, 0.4, "\u22123.00"), (0.0, None, "0")])
def test_digits_follow_the_interval(value, half, text):
    assert number(value, decimals(value, half)) == text


def test_interval_has_the_digits_of_the_value():
    row = Row(measure="pressure_drop", statistic="mean", value=20.0, unit="mmHg", low=15.98, high=24.02)
    assert (value_html(row), interval_html(row)) == ("20.0\u202fmmHg", "16.0 to 24.0")


def test_a_count_has_no_decimals():
    assert value_html(Row(measure="n_regions", value=3.0, unit="1")) == "3"
    assert value_html(Row(measure="suv_max", value=3.0, unit="1")) == "3.00"


def test_a_difference_below_its_interval_is_no_number():
    row = Row(statistic="mean_difference", value=-1.0, unit="mmHg", low=-2, high=0.5, quality="not_resolved")
    assert "1" not in value_html(row) and "not resolved" in value_html(row)


def test_measures_read_as_words():
    assert measure_of(Row(measure="pressure_drop", statistic="peak")) == "Pressure drop across the lesion, peak"
    difference = Row(measure="new_thing", statistic="mean_difference")
    assert measure_of(difference) == "New thing, mean, difference to baseline"


# Pictures


def test_ticks_are_round_and_inside():
    assert ticks(3, 97, 5) == [20, 40, 60, 80]
    assert ticks(-0.1, 0.1, 4) == pytest.approx([-0.1, -0.05, 0, 0.05, 0.1])


def test_a_chart_breaks_at_gaps_and_tells_itself():
    line = Line("inlet", np.arange(6.0), np.array([1, 2, np.nan, 4, 5, 6.0]))
    svg = Chart("Flow", "time, s", "mL/s", [line]).svg()
    assert svg.count("<polyline") == 2 and 'aria-label="Flow: mL/s over time, s; curves: inlet."' in svg
    assert Chart("Flow", "s", "mL/s", [Line("", np.arange(2.0), np.full(2, np.nan))]).svg() == ""


def test_patient_axes_of_a_turned_grid():
    affine = np.array([[0, 0.2, 2.0, 0], [0, 2.0, -0.2, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]], float)
    assert patient_axes(Volume(np.zeros((2, 2, 2)), affine)) == [2, 1, 0]


def test_slices_show_the_patient_the_usual_way_round(tmp_path):
    """A bright spot at the patient's left, front and top lands right, up and up."""
    from base64 import b64decode
    from io import BytesIO

    from PIL import Image

    values = np.zeros((20, 22, 24), np.int16)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # left is towards low i, front towards high j
    values[3:6, 15:19, 17:21] = 500
    formats.write_volume(tmp_path / "v.nii.gz", Volume(values, affine))
    made = slices(tmp_path / "v.nii.gz", None, None, np.array([-4.0, -17.0, 19.0]), True)
    middles = []
    for picture in made:
        grey = np.asarray(Image.open(BytesIO(b64decode(picture.png))).convert("L"), float)
        spot = np.argwhere(grey[:, 60:-60] > 200).mean(axis=0) / np.array([grey.shape[0], grey.shape[1] - 120])
        middles.append(spot)
    assert [p.caption for p in made] == ["Axial plane", "Coronal plane", "Sagittal plane"]
    (axial, coronal, sagittal) = middles
    assert axial[1] > 0.6 and axial[0] < 0.4 and coronal[1] > 0.6 and coronal[0] < 0.4
    assert sagittal[0] < 0.4 and sagittal[1] < 0.4


def test_sides_are_not_named_when_unverified(tmp_path):
    home = write_case(tmp_path / "sub-07", until="surface")
    formats.write_json(home / "ingest/volume.json", {"modality": "MR", "anatomical": False})
    html = page_of(home)
    assert "left and right are unverified" in html and "side unverified" in html and "Axial" not in html


def test_one_colour_scale_over_all_cases(tmp_path):
    for name, narrowing in (("a", 0.5), ("b", 0.1)):
        formats.write_mesh(tmp_path / f"{name}.vtp", surface(narrowing, "m"), "m")
    pair = scene([Case("a", wall=tmp_path / "a.vtp"), Case("b", wall=tmp_path / "b.vtp")], True)
    alone = scene([Case("b", wall=tmp_path / "b.vtp")], True)
    span = {f["key"]: f["high"] - f["low"] for f in pair["fields"]}
    assert span["pressure_mean"] == pytest.approx(10, rel=0.01) and len(pair["panels"]) == 2
    assert {f["key"]: f["high"] - f["low"] for f in alone["fields"]}["pressure_mean"] == pytest.approx(2, rel=0.01)
    assert [f["unit"] for f in pair["fields"]] == ["mmHg", "Pa", "no unit"]


def test_colours_grow_lighter_evenly():
    """Lightness (CIE L*) of viridis rises by nearly equal steps."""
    linear = (colours("viridis") / 255.0) ** 2.2
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16
    steps = np.diff(lightness[::15])
    assert (steps > 0).all() and steps.max() < 2 * steps.min()


def test_pullback_meets_the_drop_and_the_narrowing(tmp_path):
    formats.write_tree(tmp_path / "c.vtp", tree())
    formats.write_lesions(tmp_path / "l.json", [lesion()])
    formats.write_mesh(tmp_path / "w.vtp", surface(unit="m"), "m")
    found = pullbacks(tmp_path / "c.vtp", tmp_path / "l.json", tmp_path / "w.vtp")["L1"]
    assert found.abscissa[np.argmin(found.diameter)] == pytest.approx(40) and found.diameter.min() == pytest.approx(4)
    assert found.pressure[0] - found.pressure[-1] == pytest.approx(10, abs=0.05)
    assert (found.start, found.end) == (32, 48)


# The page


def test_a_page_of_every_part(tmp_path):
    home = write_case(tmp_path / "sub-07")
    with_rows(home, [r.but(subject="07") for r in flow_rows(21.7)])
    html = page_of(home)
    for title in ("Findings", "Scan", "Vessel in 3D", "Lesions", "Pull-back", "Drug", "Settings", "Citations"):
        assert f"<h2>{title}</h2>" in html
    assert "21.7\u202fmmHg" in html and "no interval" in html and "Research use only" in html
    assert "doi:10.0000/example" in html and "1.2 mm" in html and "One slice was interpolated." in html


def model_rows():
    """The same lesion and ends in three models; each number is its own."""
    row = Row(stage="simulate_flow", region="iliac_artery_left", unit="mmHg")
    made = []
    for k, mark in enumerate(("", "_pulse_wave", "_network")):
        drop = row.but(lesion="L1", measure=f"pressure_drop{mark}")
        made += [drop.but(statistic="mean", value=21.7 - k, low=20.7 - k, high=22.7 - k, level=0.683,
                          sources="segmentation"), drop.but(statistic="peak", value=51.7 - k)]
        inlet = row.but(region="abdominal_aorta", measure=f"inlet_pressure{mark}")
        made += [inlet.but(statistic=s, value=v - k) for s, v in (("max", 129.3), ("mean", 92.3), ("min", 67.3))]
        made += [row.but(measure=f"outlet_flow{mark}", statistic="mean", value=5.43 - k, unit="mL/s"),
                 row.but(measure=f"pressure_drop_to_outlet{mark}", statistic="mean", value=6.54 - k)]
    return made


def section(html, title):
    found = re.search(f"<h2>{title}</h2>(.*?)</section>", html, re.S)
    return found[1] if found else ""


def lines_of(part):
    """Text of a table's cells, line by line, the first cell's place left out."""
    lines = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, re.S) for line in re.findall("<tr>(.*?)</tr>", part, re.S)]
    return [[re.sub("<br>.*", "", cell) for cell in line] for line in lines]


def test_models_stand_side_by_side(tmp_path):
    """A line for each measure, a column for each model, each with its own number; how walls differ is said."""
    home = tmp_path / "sub-07"
    with_rows(home, model_rows())
    part = section(page_of(home), "Models side by side")
    unit = "\u202fmmHg"
    assert lines_of(part) == [
        ["Measure", "3D", "1D pulse waves", "0D network"],
        ["Pressure drop across the lesion, mean", f"21.7{unit}", f"20.7{unit}", f"19.7{unit}"],
        ["Pressure drop across the lesion, peak", f"51.7{unit}", f"50.7{unit}", f"49.7{unit}"],
        ["Inlet pressure, systolic", f"129{unit}", f"128{unit}", f"127{unit}"],
        ["Inlet pressure, mean", f"92.3{unit}", f"91.3{unit}", f"90.3{unit}"],
        ["Inlet pressure, diastolic", f"67.3{unit}", f"66.3{unit}", f"65.3{unit}"],
        ["Outlet flow, mean", "5.43\u202fmL/s", "4.43\u202fmL/s", "3.43\u202fmL/s"],
        ["Pressure drop from the inlet, mean", f"6.54{unit}", f"5.54{unit}", f"4.54{unit}"]]
    assert "19.7 to 21.7" in part and "elastic in 1D only" in part and "lower pulse pressure" in part


def test_a_model_that_was_left_out_is_told_with_its_reason(tmp_path):
    """Of the baseline and of a variant; its column goes, the others stay."""
    home = tmp_path / "sub-07"
    lost = Row(stage="simulate_flow", region="abdominal_aorta", measure="inlet_pressure_pulse_wave", statistic="mean",
               unit="mmHg", quality="refused", method="1D pulse waves left out (flow_too_fast): <too> fast")
    kept = [r for r in model_rows() if "pulse_wave" not in r.measure]
    with_rows(home, [*kept, lost])
    variant = home / "variants/stent"
    with_rows(variant, [*kept, lost.but(method="1D pulse waves left out (not_periodic): it swings")])
    html = page_of(home, stent=variant)
    part = section(html, "Models side by side")
    assert lines_of(part)[0] == ["Measure", "3D", "0D network"] and "elastic" not in part
    assert "left out (flow_too_fast): &lt;too&gt; fast." in part
    assert "stent: 1D pulse waves left out (not_periodic): it swings." in part
    assert "Results refused: Inlet pressure (1D pulse waves)." in html


def test_one_model_alone_makes_no_table(tmp_path):
    home = tmp_path / "sub-07"
    with_rows(home, [r for r in model_rows() if not r.measure.endswith(("_pulse_wave", "_network"))])
    assert "Models side by side" not in page_of(home)


def test_a_page_names_nothing_that_is_not_there(tmp_path):
    html = page_of(write_case(tmp_path / "sub-07", until="surface"))
    titles = re.findall("<h2>(.*?)</h2>", html)
    assert titles == ["Read this first", "Scan", "Vessel in 3D", "Settings", "Provenance", "Citations"]


def test_an_empty_case_still_makes_a_page(tmp_path):
    (tmp_path / "sub-07").mkdir()
    assert "sub-07" in page_of(tmp_path / "sub-07")


def test_no_lesion_is_an_answer(tmp_path):
    home = write_case(tmp_path / "sub-07", until="flow")
    formats.write_lesions(home / "trace_centrelines/lesions.json", [])
    assert "No narrowing was found" in page_of(home)


def test_the_page_calls_nobody(tmp_path):
    html = page_of(write_case(tmp_path / "sub-07"))
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", html) and "@import" not in html
    assert "default-src 'none'" in html and html.count("</script>") == 2


def test_text_from_files_cannot_become_markup(tmp_path):
    home = write_case(tmp_path / "sub-07")
    with_rows(home, [flow_rows()[0].but(measure="<b>x", region="<i>y", method="<script>z", lesion="<u>")])
    html = page_of(home)
    assert "<b>x" not in html and "<i>y" not in html and "<script>z" not in html and "<u>" not in html


def test_the_same_results_give_the_same_bytes_and_a_changed_file_a_new_page(tmp_path):
    home = write_case(tmp_path / "sub-07")
    variant = write_case(home / "variants/stent", narrowing=0.1)
    first = page_of(home, stent=variant)
    again = write_case(tmp_path / "other/sub-07")
    assert page_of(again, stent=write_case(again / "variants/stent", narrowing=0.1)) == first
    assert is_done(report, inputs_of(home, {"stent": variant}), CONFIG, home / "report")
    formats.write_mesh(variant / "simulate_flow/wall.vtp", surface(0.2, "m"), "m")
    assert not is_done(report, inputs_of(home, {"stent": variant}), CONFIG, home / "report")


def test_a_cohort_lists_failures_with_their_reason(tmp_path):
    cases = [CohortCase("sub-02", "failed", "segment", "no_contrast", "No <bright> vessel was found."),
             CohortCase("sub-01", "ok", page="sub-01/report.html")]
    cohort_report(tmp_path / "report.html", cases)
    html = (tmp_path / "report.html").read_text()
    assert html.index("sub-01") < html.index("sub-02") and 'href="sub-01/report.html"' in html
    assert "No &lt;bright&gt; vessel" in html and "no_contrast" in html and "1 failed, 1 ok" in html


@pytest.mark.parametrize(("value", "told"), [(0.78, True), (0.804, True), (0.81, False), (0.7, False)])
def test_the_grey_zone_is_named_and_not_judged(tmp_path, value, told):
    home = write_case(tmp_path / "sub-01", until="flow")
    ratio = flow_rows()[2].but(measure="peripheral_ffr", statistic="10_to_20_mm", value=value)
    with_rows(home, [*flow_rows()[:2], ratio])
    html = page_of(home)
    assert ("for legs no cut-off is agreed" in html) == told
    assert "Peripheral fractional flow reserve" in html and "10 to 20 mm behind" in html
    assert "at rest" not in section(html, "Lesions")
