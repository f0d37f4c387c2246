"""Uptake on PET on the page: three planes of PET and CT through the hottest region, and the table of regions."""

from collections.abc import Sequence
from html import escape

import numpy as np

from pipeline.formats import read_json, read_volume
from pipeline.report.files import CaseFiles
from pipeline.report.slices import CT_WINDOW, figures, planes
from pipeline.report.tables import cell_html, measure_of, region_name, results_table, table
from pipeline.table import Row

STAGE = "quantify_uptake"
WINDOW = (-10.0, 0.0)
"""SUV from black to white, turned: hot is dark, as nuclear medicine shows it."""
MEASURES = ("mtv", "tlg", "suv_max", "suv_peak", "suv_mean", "sul_peak", "sul_peak_over_threshold")


def uptake_html(files: CaseFiles, rows: Sequence[Row], anatomical: bool) -> str:
    """Pictures, what PERCIST could use, totals, and every region by every rule."""
    if files.suv is None or files.uptake is None:
        return ""
    own = [r for r in rows if r.stage == STAGE]
    found = [r for r in own if not r.lesion]
    note = '<p class="note">Every region above a threshold is listed; healthy uptake (brain, heart, kidneys, ' \
           "bladder) is not told from disease.</p>"
    return note + _pictures(files, anatomical) + _without_percist(found) + \
        results_table([r for r in found if r.value is not None], "All regions together, and the reference") + \
        _regions([r for r in own if r.lesion])


def _pictures(files: CaseFiles, anatomical: bool) -> str:
    assert files.suv is not None and files.uptake is not None
    known = read_json(files.uptake)
    if not known["regions"]:
        return "<p>No region reaches the lowest threshold.</p>"
    suv, point = read_volume(files.suv), np.array(known["regions"][0]["hottest_lps"])
    edge = None
    if files.uptake_regions is not None:
        regions = read_volume(files.uptake_regions)
        edge = regions.but(0.5 - (np.asarray(regions.values) > 0))
    shown = planes(suv.but(-np.asarray(suv.values)), edge, point, WINDOW, anatomical)
    html = '<p class="note">Three planes through the hottest voxel, SUV 0 (white) to 10 (black); the line is the ' \
           f"edge of the regions by the lowest threshold.</p>{figures(shown, 'PET with the edge of its regions')}"
    if files.ct is not None and known["has_ct"]:
        html += figures(planes(read_volume(files.ct), edge, point, CT_WINDOW, anatomical), "CT with the same edge")
    return html


def _without_percist(rows: Sequence[Row]) -> str:
    refused = [r for r in rows if r.quality == "refused"]
    return "".join(f"<p>PERCIST: {escape(r.method)}.</p>" for r in refused)


def _regions(rows: Sequence[Row]) -> str:
    """One line a region and rule, the hottest region first."""
    cells = {(r.lesion, r.statistic, r.measure): r for r in rows}
    lines = []
    for lesion, rule in sorted(dict.fromkeys((r.lesion, r.statistic) for r in rows), key=lambda k: int(k[0][1:])):
        mine = [cells.get((lesion, rule, m)) for m in MEASURES]
        first = next(r for r in rows if (r.lesion, r.statistic) == (lesion, rule))
        where = f'<br><span class="soft">{escape(region_name(first.region))}</span>' if first.region else ""
        lines.append([escape(lesion) + where, escape(first.method), *(cell_html(r) for r in mine)])
    heads = [escape(measure_of(Row(measure=m))) for m in MEASURES]
    return table(["Region", "Rule", *heads], lines, "Regions", "numbers") if lines else ""
