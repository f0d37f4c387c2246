"""Rows of measurements as tables: sensible digits, units, intervals, and names for people."""

import math
from collections.abc import Iterable, Sequence
from html import escape

from pipeline.table import Row

NARROW = "\u202f"
LABELS = {
    "pressure_drop": "Pressure drop across the lesion",
    "distal_to_proximal_ratio": "Distal-to-proximal pressure ratio, at rest",
    "peripheral_ffr": "Peripheral fractional flow reserve (legs' beds dilated; computed)",
    "hyperaemic_ratio": "Distal-to-proximal pressure ratio while the legs' beds are dilated (not FFR)",
    "distal_to_proximal": "Distal-to-proximal pressure ratio, at rest",
    "tawss": "Time-averaged wall shear stress",
    "wss": "Wall shear stress",
    "wss_peak": "Peak wall shear stress",
    "osi": "Oscillatory shear index",
    "rrt": "Relative residence time",
    "ecap": "Endothelial cell activation potential",
    "transverse_wss": "Transverse wall shear stress",
    "residence_time": "Mean time that blood stays",
    "energy_loss": "Power lost by the flow",
    "viscous_dissipation": "Power turned into heat by viscosity",
    "energy_unaccounted": "Power lost to mesh and time step",
    "wall_shear_change": "Change of the wall's shear from beat to beat",
    "cycle_change": "Change of pressure and flow from beat to beat",
    "pressure": "Pressure",
    "pressure_drop_to_outlet": "Pressure drop from the inlet",
    "pressure_mean": "Time-averaged pressure",
    "pressure_peak": "Peak pressure",
    "flow": "Flow",
    "velocity": "Largest velocity of the blood",
    "percent_diameter_stenosis": "Diameter stenosis",
    "minimal_area": "Minimal lumen area",
    "minimal_diameter": "Minimal lumen diameter (area-equivalent)",
    "reference_diameter": "Reference diameter",
    "cauchy_stress": "Wall stress",
    "von_mises_stress": "Wall stress (von Mises)",
    "displacement": "Wall displacement",
    "concentration": "Concentration",
    "auc": "Area under the concentration curve",
    "volume": "Volume",
    "mtv": "Metabolic tumour volume",
    "tlg": "Total lesion glycolysis",
    "suv_max": "SUV, maximum",
    "suv_mean": "SUV, mean",
    "suv_peak": "SUV, peak (sphere of 1 mL)",
    "sul_peak": "SUL, peak",
    "sul_peak_over_threshold": "SUL peak over the PERCIST threshold",
    "liver_suv": "SUV of the liver",
    "percist_threshold": "SUV threshold of PERCIST",
    "percist_threshold_sul": "SUL threshold of PERCIST",
    "n_regions": "Regions",
    "body_dice": "Dice of the two bodies in the common field",
    "body_overlap": "Share of the moved body that overlaps",
    "mutual_information": "Mutual information of the two images",
    "registration_shift": "Distance by which the registration would move the body",
    "registration_error": "Registration error",
    "ct_number": "CT number",
    "fa": "Fractional anisotropy",
    "md": "Mean diffusivity",
}
STATISTICS = {"p99": "99th percentile", "p95": "95th percentile", "p01": "1st percentile", "p98": "98th percentile",
              "max": "maximum", "min": "minimum", "mean": "mean", "peak": "peak", "value": "", "median": "median",
              "difference": "difference to baseline", "auc": "area under the curve", "cmax": "maximum",
              "sd": "standard deviation", "suv_2.5": "SUV 2.5", "suv_4": "SUV 4", "percist": "PERCIST",
              "max_41_percent": "41 % of the maximum", "tmax": "time of the maximum",
              "before": "before", "after": "after", "rms": "root mean square",
              "10_to_20_mm": "10 to 20 mm behind"}
UNITS = {"1": "", "-": "", "percent": "%", "mm2": "mm²", "mm^2": "mm²", "m2": "m²", "m^2": "m²", "m3/s": "m³/s",
         "m^3/s": "m³/s", "mL/s": "mL/s", "mg*h/L": "mg·h/L", "mg.h/L": "mg·h/L", "degC": "°C", "um": "µm",
         "mm2/s": "mm²/s"}
QUALITY = {"ok": "", "screening": "screening only", "not_resolved": "not resolved", "refused": "refused"}
MODELS = {"": "3D", "_pulse_wave": "1D pulse waves", "_network": "0D network"}
"""What ends the names of a model's measures, to the model; the fullest first."""
SOURCES = {"segmentation": "edge of the lumen", "mesh": "mesh", "recoil": "recoil of the device"}


def words(name: str) -> str:
    """A snake-case name as words; known measures by their full label."""
    for mark, model in MODELS.items():
        if mark and name.endswith(mark):
            return f"{words(name.removesuffix(mark))} ({model})"
    return LABELS.get(name, name.replace("_", " ").strip().capitalize() if name else "")


def measure_of(row: Row) -> str:
    """What a row measures, in words, with its statistic."""
    base = row.statistic.removesuffix("difference").removesuffix("_")
    parts = [STATISTICS.get(base, base.replace("_", " ")), STATISTICS["difference"] if base != row.statistic else ""]
    statistic = ", ".join(p for p in parts if p)
    return f"{words(row.measure)}, {statistic}" if statistic else words(row.measure)


def unit_of(row: Row) -> str:
    return UNITS.get(row.unit, row.unit.replace("^2", "²").replace("^3", "³").replace("*", "·"))


def decimals(value: float, half_width: float | None) -> int:
    """Decimals worth printing: two digits of the half-width, or three of the value without one."""
    scale, digits = (half_width, 2) if half_width else (abs(value), 3)
    if not scale or not math.isfinite(scale):
        return 0 if not value else 2
    return max(0, digits - 1 - math.floor(math.log10(scale)))


def number(value: float, places: int) -> str:
    """`value` with a true minus; powers of ten where plain decimals would be long."""
    if not math.isfinite(value):
        return "\u2013"
    if places > 7 or abs(value) >= 1e7:
        mantissa, power = f"{value:.2e}".split("e")
        return f"{mantissa}\u00d710<sup>{int(power)}</sup>".replace("-", "\u2212")
    text = f"{value:.{places}f}"
    return "0" if float(text) == 0 and places == 0 else text.replace("-", "\u2212")


def _places(row: Row, value: float) -> int:
    """Decimals of a row's value; a count has none."""
    is_count = row.measure.startswith("n_") and value == round(value)
    return 0 if is_count else decimals(value, _half(row))


def value_html(row: Row) -> str:
    """Value with unit; an unresolved difference is said in words, never as a number."""
    if row.quality == "not_resolved":
        return '<span class="muted">not resolved</span>'
    if row.value is None:
        return '<span class="muted">no value</span>'
    return f"{number(row.value, _places(row, row.value))}{_unit_html(row)}"


def interval_html(row: Row) -> str:
    """The interval in the value's digits, or that there is none."""
    if row.low is None or row.high is None or row.value is None:
        return '<span class="muted">no interval</span>'
    places = _places(row, row.value)
    return f"{number(row.low, places)} to {number(row.high, places)}"


def cell_html(row: Row | None) -> str:
    """Value, interval and quality in one cell, for tables with cases or models side by side."""
    if row is None:
        return '<span class="muted">not measured</span>'
    mark = f'<br><span class="soft">{escape(row.quality.replace("_", " "))}</span>' \
        if row.quality not in ("ok", "not_resolved") else ""
    interval = f'<br><span class="soft">{interval_html(row)}</span>' if row.low is not None else ""
    return value_html(row) + interval + mark


def sources_text(row: Row) -> str:
    """Where the interval comes from and its level, in words."""
    if not row.sources or row.level is None:
        return ""
    names = [SOURCES.get(s, s) for s in row.sources.split(";")]
    return f"{' and '.join(names)}; {100 * row.level:.0f} %"


def _half(row: Row) -> float | None:
    if row.low is None or row.high is None or row.high <= row.low:
        return None
    return 0.5 * (row.high - row.low)


def _unit_html(row: Row) -> str:
    unit = unit_of(row)
    return f"{NARROW}{escape(unit)}" if unit else ""


def table(headings: Sequence[str], lines: Iterable[Sequence[str]], caption: str = "", kind: str = "") -> str:
    """A table; cells are HTML already. The first column heads its line."""
    head = "".join(f'<th scope="col">{h}</th>' for h in headings)
    body = "".join(f'<tr><th scope="row">{line[0]}</th>' + "".join(f"<td>{c}</td>" for c in line[1:]) + "</tr>"
                   for line in lines)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table class="{kind}">{title}<thead><tr>{head}</tr></thead>' \
           f"<tbody>{body}</tbody></table></div>"


def results_table(rows: Sequence[Row], caption: str, place: bool = True) -> str:
    """Rows as they stand: what, where, value, interval, where that comes from, quality."""
    headings = ["Measure", *(["Place"] if place else []), "Value", "Interval", "Interval from", "Quality"]
    lines = []
    for row in rows:
        where = [escape(place_of(row))] if place else []
        lines.append([escape(measure_of(row)), *where, value_html(row), interval_html(row),
                      escape(sources_text(row)), escape(QUALITY.get(row.quality, row.quality))])
    return table(headings, lines, caption, "numbers")


def place_of(row: Row) -> str:
    parts = [lesion_name(row.lesion) if row.lesion else "", region_name(row.region) if row.region else ""]
    at = f"t = {row.time_s:g} s" if row.time_s is not None else ""
    return ", ".join(p for p in [*parts, at] if p)


def lesion_name(lesion: str) -> str:
    return f"Lesion {lesion.removeprefix('lesion_').removeprefix('lesion-')}" if lesion else ""


def region_name(region: str) -> str:
    return region.replace("_", " ")
