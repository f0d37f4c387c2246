"""measure: intervals, quality and differences; each number here was worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from pipeline import formats
from pipeline.measure import Evidence, MeasureConfig, MeasureInputs, compare, edges_of, judged, measure
from pipeline.stage import run
from pipeline.table import Row, read_rows
from solvers.errors import BadInput
from solvers.statistics.uncertainty import (
    Contours,
    Spread,
    combine,
    difference_spread,
    edge_spread,
    independent,
    is_resolved,
    mesh_spread,
    on_full_model,
)
from tests.example_case import flow_rows, geometry_rows, network, write_case


def inputs(home, **more):
    return MeasureInputs(
        labels=home / "segment/labels.tsv", geometry=home / "trace_centrelines/measurements.csv",
        flow=home / "simulate_flow/measurements.csv", dose=home / "dose/measurements.csv",
        haemodynamics=home / "simulate_flow/haemodynamics.json", boundaries=home / "mesh/boundaries.json",
        flow_coarse=home / "simulate_flow_coarse/measurements.csv",
        boundaries_coarse=home / "mesh_coarse/boundaries.json", **more)


def against(home):
    return {"baseline": home / "measure/measurements.csv",
            "baseline_haemodynamics": home / "simulate_flow/haemodynamics.json",
            "baseline_flow_coarse": home / "simulate_flow_coarse/measurements.csv",
            "baseline_boundaries": home / "mesh/boundaries.json",
            "baseline_boundaries_coarse": home / "mesh_coarse/boundaries.json"}


def row_of(rows, measure, statistic):
    return next(r for r in rows if (r.measure, r.statistic) == (measure, statistic))


# The combination


def test_the_full_model_moves_by_the_cheap_models_ratio_or_difference():
    cheap = Contours(10.0, 13.0, 8.0)
    assert on_full_model(20.0, cheap) == Contours(20.0, 26.0, 16.0)
    assert on_full_model(20.0, cheap, "difference") == Contours(20.0, 23.0, 18.0)
    assert edge_spread(on_full_model(20.0, cheap)) == Spread(4.0, 6.0, "segmentation")


def test_a_ratio_through_zero_falls_back_to_the_difference():
    assert on_full_model(-1.0, Contours(0.5, -0.5, 1.0)) == Contours(-1.0, -2.0, -0.5)


def test_contours_that_move_one_way_leave_the_other_side_sure():
    assert edge_spread(Contours(5.0, 6.0, 5.5)) == Spread(0.0, 1.0, "segmentation")


def test_mesh_spread_of_a_second_order_error_covers_the_limit():
    exact, c, h, r = 3.0, 0.4, 0.5, 1.6
    fine, coarse = exact + c * h**2, exact + c * (r * h) ** 2
    assert mesh_spread(fine, coarse, r, 2.0).below == approx(1.5 * c * h**2)


def test_meshes_too_alike_are_refused():
    with pytest.raises(BadInput) as error:
        mesh_spread(1.0, 1.1, 1.05, 2.0)
    assert error.value.code == "meshes_too_alike"


def test_sources_add_in_quadrature_on_each_side():
    found = combine(10.0, [Spread(3.0, 0.0, "segmentation"), Spread(4.0, 4.0, "mesh")])
    assert (found.low, found.high, found.sources) == (approx(5.0), approx(14.0), ("segmentation", "mesh"))
    assert combine(10.0, []) is None


def test_other_levels_widen_as_a_normal_distribution():
    narrow, wide = (combine(0.0, [Spread(1.0, 1.0, "mesh")], level) for level in (0.683, 0.9545))
    assert narrow.high == approx(1.0) and wide.high == approx(2.0, rel=2e-3)


@given(st.floats(-100, 100), st.lists(st.floats(0, 50), min_size=2, max_size=4))
def test_the_interval_holds_its_value_and_grows_with_each_source(value, halves):
    spreads = [Spread(h, h, "mesh") for h in halves]
    less, more = combine(value, spreads[:-1]), combine(value, spreads)
    assert more.low <= less.low <= value <= less.high <= more.high


def test_bounds_are_kept():
    assert combine(0.45, [Spread(0.2, 0.2, "mesh")], bounds=(0.0, 0.5)).high == 0.5


def test_an_error_that_both_share_cancels_in_their_difference():
    before, after = Contours(20.0, 26.0, 16.0), Contours(18.0, 24.0, 14.0)
    interval = combine(-2.0, [difference_spread((before, after))])
    assert (interval.low, interval.high) == (-2.0, -2.0) and is_resolved(interval)


def test_meshes_err_independently():
    assert independent(Spread(3.0, 3.0, "mesh"), Spread(4.0, 4.0, "mesh")) == Spread(5.0, 5.0, "mesh")


# The stage


def evidence(**changes):
    known = {"edges": edges_of(network(18.0)), "coarse": {}, "refinement": None, "is_periodic": True}
    return Evidence(**(known | changes))


def test_edges_are_found_for_lesions_and_regions():
    edges = edges_of(network(10.0, 0.3))
    assert edges["", "L1", "pressure_drop", "mean"] == Contours(10.0, approx(13.0), approx(7.0))
    assert ("iliac_artery_left", "", "tawss", "mean") in edges


def test_haemodynamics_of_another_shape_are_refused():
    with pytest.raises(BadInput):
        edges_of({"0D": {}})
    content = network()
    del content["models"]["0D"]["inner"]
    assert edges_of(content) == {}


def test_a_source_that_is_absent_is_not_named():
    row = flow_rows(20.0)[0]
    assert judged(row, evidence(), MeasureConfig()).sources == "segmentation"
    assert judged(row, evidence(edges={}), MeasureConfig()).sources == ""
    assert judged(row, evidence(edges={}), MeasureConfig()).low is None
    coarse = {("", "L1", "pressure_drop", "mean"): 19.0}
    found = judged(row, evidence(edges={}, coarse=coarse, refinement=2.0), MeasureConfig())
    assert (found.sources, found.high) == ("mesh", approx(20.5))


def test_shear_with_a_large_grid_error_or_an_unsettled_cycle_is_screening():
    row = flow_rows(tawss=2.0)[3]
    key = (row.region, "", "tawss", "mean")

    def quality(coarse, is_periodic=True):
        known = evidence(edges={}, coarse={key: coarse}, refinement=2.0, is_periodic=is_periodic)
        return judged(row, known, MeasureConfig()).quality

    assert quality(1.88) == "ok" and quality(1.85) == "screening" and quality(2.0, is_periodic=False) == "screening"


def test_meshes_too_alike_leave_the_case_whole(tmp_path):
    """No mesh error is claimed then, and shear is for screening."""
    home = write_case(tmp_path / "sub-07")
    formats.write_json(home / "mesh_coarse/boundaries.json", {"quality": {"n_tets": 47000}})
    done = run(measure, inputs(home), MeasureConfig(), home / "measure")
    rows = read_rows(done.measurements)
    assert row_of(rows, "pressure_drop", "mean").sources == "segmentation"
    assert row_of(rows, "tawss", "mean").quality == "screening"


def test_rows_of_other_stages_keep_their_own_interval():
    row = geometry_rows()[0]
    assert judged(row, evidence(), MeasureConfig()) == row


def test_the_stage_gathers_all_rows_with_their_identity(tmp_path):
    home = write_case(tmp_path / "sub-07")
    made = run(measure, inputs(home), MeasureConfig(subject="07", session="a"), home / "measure")
    rows = read_rows(made.measurements)
    assert {(r.subject, r.session, r.variant) for r in rows} == {("07", "a", "baseline")}
    assert [r.stage for r in rows] == ["segment"] + ["trace_centrelines"] * 2 + ["simulate_flow"] * 4 + ["dose"]
    drop = row_of(rows, "pressure_drop", "mean")
    mesh = 1.5 * 0.6 / (4 ** (2 / 3) - 1)
    assert drop.sources == "segmentation;mesh" and drop.level == 0.683
    assert drop.high == approx(20 + math.hypot(4.0, mesh)) and drop.low == approx(20 - math.hypot(4.0, mesh))


def test_any_subset_of_files_is_enough(tmp_path):
    home = write_case(tmp_path / "sub-07", until="surface")
    made = run(measure, MeasureInputs(labels=home / "segment/labels.tsv"), MeasureConfig(), home / "measure")
    assert [(r.measure, r.value, r.unit) for r in read_rows(made.measurements)] == [("volume", 3.6, "mL")]


def test_differences_share_the_edge_and_small_ones_are_not_resolved(tmp_path):
    home = write_case(tmp_path / "sub-07")
    run(measure, inputs(home), MeasureConfig(), home / "measure")
    same = write_case(home / "variants/same", drop=20.0)
    stent = write_case(home / "variants/stent", narrowing=0.1, drop=3.0)
    found = {}
    for folder in (same, stent):
        made = run(measure, inputs(folder, **against(home)), MeasureConfig(variant=folder.name), folder / "measure")
        found[folder.name] = row_of(read_rows(made.measurements), "pressure_drop", "mean_difference")
    assert found["same"].quality == "not_resolved" and found["same"].value == 0
    stent_drop = found["stent"]
    assert stent_drop.quality == "ok" and stent_drop.value == approx(-17)
    mesh = 1.5 * math.hypot(0.6, 0.09) / (4 ** (2 / 3) - 1)
    assert stent_drop.high - stent_drop.value == approx(math.hypot(0.2 * 17, mesh))


def test_meshes_of_the_same_cells_err_alike():
    """Both drops are a tenth lower on the fine mesh; so is their difference."""
    key = ("", "L1", "pressure_drop", "mean")
    before, after = (evidence(edges={}, coarse={key: 1.1 * drop}, refinement=2.0, shares_cells=True)
                     for drop in (20.0, 15.0))
    old, new = (Row(stage="simulate_flow", lesion="L1", measure="pressure_drop", statistic="mean", value=drop,
                    unit="mmHg") for drop in (20.0, 15.0))
    [row] = compare([old], [new], before, after)
    assert row.high - row.value == approx(1.5 * 0.5 / 3)
    assert "which both share" in row.method
    [row] = compare([old], [new], before, evidence(edges={}, coarse={key: 16.5}, refinement=2.0))
    assert row.high - row.value == approx(1.5 * math.hypot(2.0, 1.5) / 3)


def test_differences_across_stages_and_without_evidence():
    old = Row(stage="trace_centrelines", lesion="L1", measure="minimal_diameter", statistic="min", value=4.0, unit="mm",
              low=3.7, high=4.3, level=0.683, sources="segmentation")
    new = old.but(stage="intervene", value=4.3, low=3.9, high=4.7)
    nothing = evidence(edges={})
    [row] = compare([old], [new], nothing, nothing)
    assert (row.statistic, row.quality) == ("min_difference", "not_resolved") and row.high == approx(0.3 + 0.5)
    [row] = compare([old.but(low=None, high=None)], [new], nothing, nothing)
    assert row.low is None and row.quality == "ok" and "no interval" in row.method


def test_a_changed_unit_is_refused():
    old = Row(measure="pressure_drop", statistic="mean", value=4.0, unit="mmHg")
    nothing = evidence(edges={})
    with pytest.raises(BadInput):
        compare([old], [old.but(unit="Pa")], nothing, nothing)


@pytest.mark.parametrize(("measure", "statistic", "unit"), [("rrt", "median", "1/Pa"), ("ecap", "median", "1/Pa"),
                                                            ("transverse_wss", "mean", "Pa")])
def test_indices_of_shear_are_judged_as_shear_is(measure, statistic, unit):
    """An interval by the mesh, held above zero, and screening where it is wide."""
    row = Row(stage="simulate_flow", region="iliac_artery_left", measure=measure, statistic=statistic, value=0.5,
              unit=unit)

    def found(coarse):
        known = evidence(edges={}, coarse={("iliac_artery_left", "", measure, statistic): coarse}, refinement=2.0)
        return judged(row, known, MeasureConfig())

    assert (found(0.51).quality, found(0.51).sources, found(0.9).quality) == ("ok", "mesh", "screening")
    assert found(2.5).low == 0.0


def test_a_wall_that_does_not_repeat_makes_screening_of_shear_alone():
    shear, drop = flow_rows()[3], flow_rows()[0]
    known = evidence(wall_repeats=False)
    assert [judged(r, known, MeasureConfig()).quality for r in (shear, drop)] == ["screening", "ok"]
    assert judged(shear, evidence(), MeasureConfig()).quality == "ok"
