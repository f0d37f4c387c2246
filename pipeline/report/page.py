"""The page of a case, section by section; a section without its files is left out."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.formats import read_json, read_lesions, read_tree
from pipeline.report import web
from pipeline.report.charts import COLOURS, DASHES, Chart, Line
from pipeline.report.cohort import document
from pipeline.report.diffusion import diffusion_html
from pipeline.report.files import CaseFiles, in_order
from pipeline.report.models import models_html
from pipeline.report.phase_contrast import phase_contrast_html
from pipeline.report.pullback import Pullback, pullbacks
from pipeline.report.scene import Case, as_script, scene
from pipeline.report.slices import figures, slices
from pipeline.report.tables import (
    cell_html,
    interval_html,
    lesion_name,
    measure_of,
    place_of,
    region_name,
    results_table,
    sources_text,
    table,
    value_html,
    words,
)
from pipeline.report.uptake import uptake_html
from pipeline.table import Row, read_rows
from solvers.units import MMHG

HEADLINES = (("percent_diameter_stenosis", ""), ("minimal_diameter", ""),
             ("pressure_drop", "peak"), ("pressure_drop", "mean"), ("distal_to_proximal_ratio", ""),
             ("peripheral_ffr", "10_to_20_mm"), ("hyperaemic_ratio", "10_to_20_mm"), ("tawss", "mean"))
GREY_ZONE = (0.76, 0.80)
"""Of coronary FFR (Norgaard 2019, doi:10.1148/ryct.2019190050)."""


@dataclass(frozen=True)
class Label:
    """Who and what: subject and session labels (never identifiers), the recipe's name."""

    subject: str = ""
    session: str = ""
    recipe: str = ""

    @property
    def title(self) -> str:
        pairs = (("sub-", self.subject), ("ses-", self.session))
        return " ".join(head + name.removeprefix(head) for head, name in pairs if name) or "One case"


@dataclass(frozen=True)
class Page:
    """The finished page and a few counts of it."""

    html: str
    n_rows: int
    n_warnings: int
    sections: tuple[str, ...]


def case_page(files: CaseFiles, variants: Mapping[str, CaseFiles], records: Path | None, label: Label) -> Page:
    """Everything there is about a case."""
    rows = _rows(files)
    changed = {name: _rows(v) for name, v in variants.items()}
    sidecar = read_json(files.sidecar) if files.sidecar else {}
    known = read_json(records) if records else {"stages": {}, "variants": {}}
    notes = _warnings(rows, changed, sidecar)
    anatomical = bool(sidecar.get("anatomical", False))
    data = _scene(files, variants, anatomical)
    made = [
        ("Findings", _headlines(rows)),
        ("Scan", _scan(files, sidecar)),
        ("Uptake", uptake_html(files, rows, anatomical)),
        ("Diffusion", diffusion_html(files, rows, anatomical)),
        ("Measured flow", phase_contrast_html(files, rows)),
        ("Vessel in 3D", _viewer(data)),
        ("Lesions", _lesions(files, rows)),
        ("Models side by side", models_html(rows, changed)),
        ("Baseline and variants", _variants(rows, changed)),
        ("Pull-back", _pullback(files, variants)),
        ("Flow and pressure at the ends", _waveforms(files)),
        ("Wall of the vessel", _stage_table(rows, "simulate_tissue", "Stress and displacement of the arterial wall")),
        ("Drug", _dose(files, variants, rows)),
        ("All measurements", _all(rows, changed)),
        ("Settings", _settings(known)),
        ("Provenance", _provenance(known)),
        ("Citations", _citations(known)),
    ]
    sections = [(title, body) for title, body in made if body]
    body = _notes(notes) + "".join(f'<section id="{_anchor(t)}"><h2>{t}</h2>{b}</section>\n' for t, b in sections)
    html = document(f"{label.title} \u00b7 anatwin", body, _heading(label, sidecar, [t for t, _ in sections]),
                    _script(data))
    total = len(rows) + sum(len(r) for r in changed.values())
    return Page(html, total, len(notes), tuple(t for t, _ in sections))


def _rows(files: CaseFiles) -> list[Row]:
    return read_rows(files.measurements) if files.measurements else []


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


# Head and warnings


def _heading(label: Label, sidecar: Mapping[str, Any], sections: Sequence[str]) -> str:
    modality = {"CT": "CT", "MR": "MR", "PT": "PET"}.get(str(sidecar.get("modality", "")), "")
    person = [str(sidecar["sex"]) if sidecar.get("sex") else "",
              f"{sidecar['age_years']:g} years" if sidecar.get("age_years") is not None else ""]
    parts = [f"recipe {label.recipe}" if label.recipe else "", modality, *person]
    about = " \u00b7 ".join(escape(p) for p in parts if p)
    links = "".join(f'<a href="#{_anchor(t)}">{t}</a>' for t in sections)
    return f'<h1>{escape(label.title)}</h1><div class="soft">{about}</div>' \
           f'<nav aria-label="Sections">{links}</nav>'


def _warnings(rows: Sequence[Row], changed: Mapping[str, Sequence[Row]], sidecar: Mapping[str, Any]) -> list[str]:
    """What a reader must know first, as HTML sentences."""
    notes = [escape(w if isinstance(w, str) else str(w.get("message", w))) for w in sidecar.get("warnings", [])]
    if sidecar and not sidecar.get("anatomical", False):
        notes.append("The scan does not tell its anatomical axes: left and right are unverified.")
    for name, found in {"": rows, **changed}.items():
        where = f" of {escape(name)}" if name else ""
        for quality, text in (("screening", "for screening only"), ("refused", "refused")):
            measures = sorted({words(r.measure) for r in found if r.quality == quality})
            if measures:
                notes.append(f"Results{where} {text}: {escape('; '.join(measures))}.")
    notes += [_grey(r) for r in rows if _is_grey(r)]
    open_ended = sorted({words(r.measure) for r in rows if r.stage == "simulate_flow" and r.value is not None
                         and not r.sources and r.lesion})
    if open_ended:
        notes.append(f"No interval could be given for: {escape('; '.join(open_ended))}.")
    return notes


def _is_grey(row: Row) -> bool:
    return row.measure == "peripheral_ffr" and row.statistic == "10_to_20_mm" and row.value is not None \
        and GREY_ZONE[0] <= round(row.value, 2) <= GREY_ZONE[1]


def _grey(row: Row) -> str:
    return f"{escape(place_of(row))}: {escape(words(row.measure))}, {value_html(row)}, lies in what is a grey zone " \
           f"for coronary arteries, {GREY_ZONE[0]:.2f} to {GREY_ZONE[1]:.2f}; for legs no cut-off is agreed."


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{n}</li>" for n in notes)
    return f'<aside class="warnings" aria-label="Quality warnings"><h2>Read this first</h2><ul>{items}</ul></aside>'


# Findings and lesions


def _headlines(rows: Sequence[Row]) -> str:
    """The numbers that people look for, of the tightest lesion, or that no lesion was found."""
    worst = _worst(rows)
    cards = []
    for measure, statistic in HEADLINES:
        for row in rows:
            if row.lesion == worst and worst and row.measure == measure and statistic in ("", row.statistic) \
                    and row.region in ("", row.region) and not row.statistic.endswith("difference"):
                cards.append(_card(row))
                break
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


def _card(row: Row) -> str:
    interval = f"{interval_html(row)} ({escape(sources_text(row))})" if row.sources else interval_html(row)
    return f'<div class="card"><span class="name">{escape(measure_of(row))}</span><b>{value_html(row)}</b>' \
           f"<span>{interval}</span><span>{escape(place_of(row))}</span></div>"


def _worst(rows: Sequence[Row]) -> str:
    """The lesion with the largest stenosis by diameter, or the first named."""
    named = sorted({r.lesion for r in rows if r.lesion})
    tight = [(r.value, r.lesion) for r in rows
             if r.measure == "percent_diameter_stenosis" and r.lesion and r.value is not None]
    return max(tight)[1] if tight else (named or [""])[0]


def _lesions(files: CaseFiles, rows: Sequence[Row]) -> str:
    if files.lesions is None:
        return ""
    if not read_lesions(files.lesions):
        return "<p>No narrowing was found along the centrelines.</p>"
    own = [r for r in rows if r.lesion and r.stage != "dose" and not r.statistic.endswith("difference")]
    names = sorted({r.lesion for r in own})
    found = {(r.measure, r.statistic, r.lesion): r for r in own}
    lines = []
    for measure, statistic in dict.fromkeys((r.measure, r.statistic) for r in own):
        cells = [found.get((measure, statistic, name)) for name in names]
        lines.append([escape(measure_of(next(c for c in cells if c is not None))), *(cell_html(c) for c in cells)])
    regions = {r.lesion: r.region for r in own if r.region}
    heads = [escape(lesion_name(n)) + (f'<br><span class="soft">{escape(region_name(regions[n]))}</span>'
                                       if n in regions else "") for n in names]
    return table(["Measure", *heads], lines, "", "numbers") if lines else ""


def _variants(rows: Sequence[Row], changed: Mapping[str, Sequence[Row]]) -> str:
    """Baseline and each variant with its difference; one below its interval is said to be not resolved."""
    if not changed:
        return ""
    base = {_key(r): r for r in rows}
    values = {name: {_key(r): r for r in found} for name, found in changed.items()}
    keys = [k for k in base if any((*k[:3], _difference(k[3]), k[4]) in found for found in values.values())]
    heads = ["Measure", "Baseline"]
    for name in changed:
        heads += [escape(name), "Difference"]
    lines = []
    for key in keys:
        row = base[key]
        cells = [cell_html(row)]
        for found in values.values():
            cells += [cell_html(found.get(key)), cell_html(found.get((*key[:3], _difference(key[3]), key[4])))]
        where = f'<br><span class="soft">{escape(place_of(row))}</span>' if place_of(row) else ""
        lines.append([escape(measure_of(row)) + where, *cells])
    methods = dict.fromkeys(r.method for found in changed.values() for r in found if r.statistic.endswith("difference"))
    note = f'<p class="note">A difference that does not stand clear of zero within its interval is printed as not ' \
           f"resolved. {escape(' '.join(sorted(methods)))}</p>"
    return _devices(changed) + (table(heads, lines, "", "numbers") + note if lines else "")


def _devices(changed: Mapping[str, Sequence[Row]]) -> str:
    """What was put into the vessel, variant by variant."""
    lines = [[escape(name), escape(measure_of(r)), escape(place_of(r)), value_html(r)]
             for name, found in changed.items() for r in found if r.stage == "intervene" and not r.lesion]
    return table(["Variant", "Device", "Place", "Value"], lines, "", "numbers") if lines else ""


def _key(row: Row) -> tuple[str, str, str, str, float | None]:
    return row.region, row.lesion, row.measure, row.statistic, row.time_s


def _difference(statistic: str) -> str:
    return "difference" if statistic in ("", "value") else f"{statistic}_difference"


# Pictures


def _scan(files: CaseFiles, sidecar: Mapping[str, Any]) -> str:
    if files.volume is None or files.suv is not None or files.fa is not None:
        return ""
    through = _tightest(files)
    pictures = slices(files.volume, files.lumen, files.labels, through, bool(sidecar.get("anatomical", False)),
                      sidecar.get("modality") == "CT")
    edge = " The line is the edge of the lumen." if files.lumen or files.labels else ""
    at = "through the tightest place" if through is not None else "through the middle of the lumen"
    return f'<p class="note">Three planes {at}.{edge}</p>{figures(pictures, "edge of the lumen")}'


def _tightest(files: CaseFiles) -> np.ndarray | None:
    """The centreline's point at the tightest lesion, LPS mm."""
    if files.lesions is None or files.centrelines is None:
        return None
    lesions = read_lesions(files.lesions)
    if not lesions:
        return None
    worst = max(lesions, key=lambda x: x.percent_diameter_stenosis)
    branch = read_tree(files.centrelines).branches[worst.branch]
    return np.array([np.interp(worst.abscissa, branch.abscissa, branch.points[:, k]) for k in range(3)])


def _scene(files: CaseFiles, variants: Mapping[str, CaseFiles], anatomical: bool) -> dict[str, Any] | None:
    cases = {"Baseline": files, **variants}
    return scene([Case(name, f.surface, f.wall, f.tissue, f.centrelines, f.lesions,
                       {x.id: lesion_name(x.id) for x in read_lesions(f.lesions)} if f.lesions else {})
                  for name, f in cases.items()], anatomical)


def _viewer(data: dict[str, Any] | None) -> str:
    if data is None:
        return ""
    several = " All views turn together and share one colour scale." if len(data["panels"]) > 1 else ""
    coloured = " Colours are the legend's, unshaded but for a thin rim." if data["fields"] else ""
    return (f'<p class="note">Drag to turn, scroll to zoom; or focus the picture and use the arrow keys, + and '
            f"\u2212.{several}{coloured}</p>"
            '<figure id="viewer"><div class="fields" role="group" aria-label="Colour the surface by"></div>'
            '<div class="panel-titles" hidden></div>'
            '<canvas class="view" tabindex="0" role="img" aria-label="The vessel\'s surface in 3D, turnable"></canvas>'
            '<div class="legend" hidden><div class="legend-title"></div><canvas aria-hidden="true"></canvas>'
            '<div class="legend-ticks"></div><div class="legend-note note"></div></div>'
            '<p class="no-view" hidden>This browser offers no WebGL, so the 3D view is left out.</p>'
            "<noscript><p>The 3D view needs JavaScript.</p></noscript></figure>")


def _script(data: dict[str, Any] | None) -> str:
    if data is None:
        return ""
    return f'<script type="application/json" id="scene">{as_script(data)}</script>\n' \
           f"<script>{web.text('viewer.bundle.js')}</script>\n"


def _pullback(files: CaseFiles, variants: Mapping[str, CaseFiles]) -> str:
    drawn: dict[str, dict[str, Pullback]] = {}
    for name, f in {"Baseline": files, **variants}.items():
        if f.centrelines and f.lesions:
            drawn[name] = pullbacks(f.centrelines, f.lesions, f.wall)
    ids = list(drawn.get("Baseline", {}))
    return "".join(_pullback_of(i, {n: p[i] for n, p in drawn.items() if i in p}) for i in ids)


def _pullback_of(lesion: str, curves: Mapping[str, Pullback]) -> str:
    colours = dict(zip(curves, COLOURS * 3, strict=False))
    first = next(iter(curves.values()))
    spans = [(first.start, first.end, lesion_name(lesion))]
    name = {n: n if len(curves) > 1 else "" for n in curves}
    pressure = [Line(name[n], p.abscissa, p.pressure, colours[n]) for n, p in curves.items() if p.pressure is not None]
    diameter = [Line(name[n], p.abscissa, p.diameter, colours[n], low=2 * np.sqrt(p.area_inner / np.pi),
                     high=2 * np.sqrt(p.area_outer / np.pi)) for n, p in curves.items()]
    area = [Line(name[n], p.abscissa, p.area, colours[n], low=p.area_inner, high=p.area_outer)
            for n, p in curves.items()]
    along = "distance from the inlet, mm"
    charts = [Chart("Time-averaged pressure at the wall", along, "mmHg", pressure, spans).svg() if pressure else "",
              Chart("Lumen diameter (area-equivalent)", along, "mm", diameter, spans, True).svg(),
              Chart("Lumen area", along, "mm²", area, spans, True).svg()]
    band = '<p class="note">Bands reach from the contour one standard deviation inside to the one outside.</p>'
    return f'<h3>{escape(lesion_name(lesion))}: along the path from the inlet</h3>{band}' \
           f'<div class="charts">{"".join(charts)}</div>'


# Curves


def _waveforms(files: CaseFiles) -> str:
    if files.flow_curves is None:
        return ""
    lesions = [x.id for x in read_lesions(files.lesions)] if files.lesions else []
    curves = _nominal(_read_curves(files.flow_curves))
    places = [p for p in curves if not any(p.startswith(i) for i in lesions)]
    colour = dict(zip(places, COLOURS * 5, strict=False))
    flow = [Line(region_name(p), curves[p]["time_s"], 1e6 * curves[p]["flow_m3_s"], colour[p]) for p in places]
    pressure = [Line(region_name(p), curves[p]["time_s"], curves[p]["pressure_pa"] / MMHG, colour[p]) for p in places]
    charts = [Chart("Flow", "time, s", "mL/s", flow, height=320).svg(),
              Chart("Pressure", "time, s", "mmHg", pressure, height=320).svg()]
    return f'<div class="charts">{"".join(charts)}</div>{_assumed(files)}' if any(charts) else ""


def _assumed(files: CaseFiles) -> str:
    """What nobody measured of this person's circulation."""
    content = read_json(files.outlets) if files.outlets else {}
    told = [*content.get("assumed", []), *content.get("assumed_walls", []), *content.get("assumed_blood", [])]
    items = "".join(f"<li>{escape(line)}</li>" for line in told)
    return f'<p class="soft">Assumed, for it was not measured:</p><ul class="soft">{items}</ul>' if items else ""


def _read_curves(path: Path) -> dict[tuple[str, str, str], dict[str, np.ndarray]]:
    """(model, case, place) to its columns."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for line in lines:
        groups.setdefault((line["model"], line["case"], line["place"]), []).append(line)
    return {key: {c: np.array([float(x[c]) if x[c] else np.nan for x in found])
                  for c in ("time_s", "pressure_pa", "flow_m3_s")} for key, found in groups.items()}


def _nominal(curves: Mapping[tuple[str, str, str], dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """The nominal curves of the fullest model there is, by place."""
    model = max((m for m, case, _ in curves if case == "nominal"), default="")
    return {place: c for (m, case, place), c in curves.items() if m == model and case == "nominal"}


def _dose(files: CaseFiles, variants: Mapping[str, CaseFiles], rows: Sequence[Row]) -> str:
    lines: list[Line] = []
    seen: dict[str, str] = {}
    for n, (name, f) in enumerate({"Baseline": files, **variants}.items()):
        if f.dose_curves is None:
            continue
        for place, (hours, concentration) in _read_dose(f.dose_curves).items():
            colour = seen.setdefault(place, COLOURS[len(seen) % len(COLOURS)])
            title = f"{region_name(place)}, {name}" if variants else region_name(place)
            lines.append(Line(title, hours, concentration, colour, DASHES[n % len(DASHES)]))
    chart = Chart("Concentration", "time, h", "mg/L", lines, from_zero=True, height=300).svg() if lines else ""
    return f'<div class="charts">{chart}</div>' + _stage_table(rows, "dose", "Exposure") if chart else \
        _stage_table(rows, "dose", "Exposure")


def _read_dose(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Compartment to hours and mg/L; compartments without a concentration (a gut) are left out."""
    found: dict[str, list[tuple[float, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            if line["concentration_mg_per_l"]:
                found.setdefault(line["compartment"], []).append(
                    (float(line["time_h"]), float(line["concentration_mg_per_l"])))
    return {name: (np.array(p)[:, 0], np.array(p)[:, 1]) for name, p in found.items()}


# Tables


def _stage_table(rows: Sequence[Row], stage: str, caption: str) -> str:
    found = [r for r in rows if r.stage == stage and not r.statistic.endswith("difference")]
    return results_table(found, caption) if found else ""


def _all(rows: Sequence[Row], changed: Mapping[str, Sequence[Row]]) -> str:
    parts = []
    for name, found in {"Baseline" if changed else "Every row of measurements.csv": rows, **changed}.items():
        if found:
            parts.append(f"<details><summary>{escape(name)} ({len(found)} rows)</summary>{_long(found)}</details>")
    return "".join(parts)


def _long(rows: Sequence[Row]) -> str:
    lines = [[escape(measure_of(r)), escape(place_of(r)), value_html(r), interval_html(r), escape(sources_text(r)),
              escape(r.quality.replace("_", " ")), escape(r.stage), escape(r.method)] for r in rows]
    return table(["Measure", "Place", "Value", "Interval", "Interval from", "Quality", "Stage", "Method"], lines, "",
                 "numbers")


def _settings(known: Mapping[str, Any]) -> str:
    parts = [_settings_of(name, known["stages"][name]) for name in in_order(known["stages"])]
    for variant, stages in known["variants"].items():
        parts += [_settings_of(f"{variant}: {n}", stages[n]) for n in in_order(stages) if n == "intervene"]
    return "".join(parts)


def _settings_of(name: str, record: Mapping[str, Any]) -> str:
    settings = record.get("settings", {})
    if not settings:
        return ""
    lines = [[escape(k.replace("_", " ")), f"<code>{escape(_plain(v))}</code>"] for k, v in settings.items()]
    return f"<details><summary>{escape(name)}</summary>{table(['Setting', 'As written'], lines)}</details>"


def _plain(value: object) -> str:
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(v) for v in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_plain(v)}" for k, v in value.items()) or "none"
    return str(value)


def _provenance(known: Mapping[str, Any]) -> str:
    groups = {"": known["stages"], **known["variants"]}
    lines: list[list[str]] = []
    libraries: dict[str, str] = {}
    for variant, stages in groups.items():
        for name in in_order(stages):
            record = stages[name]
            title = f"{variant}: {name}" if variant else name
            lines.append([escape(title), *(f"<code>{escape(str(record.get(k, ''))[:16])}</code>"
                                           for k in ("key", "code", "version"))])
            libraries |= record.get("libraries", {})
    if not lines:
        return ""
    versions = ", ".join(f"{escape(n)}\u00a0{escape(v)}" for n, v in sorted(libraries.items()))
    return table(["Stage", "Key of the result", "Digest of the code", "Version"], lines) + \
        f'<p class="note">Libraries: {versions}. The full keys, the hashes of inputs and outputs, CPU seconds and ' \
        "memory stand in record.json beside each stage's files.</p>"


def _citations(known: Mapping[str, Any]) -> str:
    records = [*known["stages"].values(), *(r for stages in known["variants"].values() for r in stages.values())]
    sources = sorted({s for r in records for s in r.get("sources", [])})
    return "<ul>" + "".join(f"<li>{escape(s)}</li>" for s in sources) + "</ul>" if sources else ""


