"""The flow's models side by side: the same lesions and ends in 3D, 1D and 0D, each number a row of measurements."""

from collections.abc import Mapping, Sequence
from html import escape

from pipeline.report.tables import MODELS, cell_html, measure_of, place_of, table
from pipeline.table import Row

LESION = (("pressure_drop", "mean"), ("pressure_drop", "peak"))
INLET = (("inlet_flow", "mean"), ("inlet_pressure", "max"), ("inlet_pressure", "mean"), ("inlet_pressure", "min"))
OUTLET = (("outlet_flow", "mean"), ("outlet_pressure", "mean"))
DROP = (("pressure_drop_to_outlet", "mean"),)
BEAT = {"max": "systolic", "min": "diastolic"}
ELASTIC = "Inflow and outlets are the same for all; walls are elastic in 1D only, where what they store comes on top " \
          "of the outlets' compliance, so a lower pulse pressure is expected there than with rigid walls (3D, 0D)."

_Key = tuple[str, str, str, str]  # lesion, region, measure, statistic


def models_html(rows: Sequence[Row], changed: Mapping[str, Sequence[Row]]) -> str:
    """The table of a baseline's rows, where there is more than one model, and what was left out, variants' too."""
    found = {_key(r): r for r in rows if r.stage == "simulate_flow"}
    lines = [k for group in (LESION, INLET, OUTLET, DROP) for k in _lines(found, group)]
    marks = [m for m in MODELS if any(_of(found, k, m) is not None for k in lines)]
    body = table(["Measure", *(MODELS[m] for m in marks)], [_line(found, k, marks) for k in lines], "", "numbers") \
        if len(marks) > 1 else ""
    note = f'<p class="note">{ELASTIC}</p>' if body and "_pulse_wave" in marks else ""
    return body + note + "".join(_left_out(n, r) for n, r in {"": rows, **changed}.items())


def _key(row: Row) -> _Key:
    return row.lesion, row.region, row.measure, row.statistic


def _lines(found: Mapping[_Key, Row], wanted: Sequence[tuple[str, str]]) -> list[_Key]:
    """Keys of the wanted measures of the fullest model, lesion by lesion and end by end."""
    places = dict.fromkeys(k[:2] for k in found if k[2:] in wanted)
    return [(*p, *w) for p in places for w in wanted if (*p, *w) in found]


def _of(found: Mapping[_Key, Row], key: _Key, mark: str) -> Row | None:
    """The row of one of the models; None where it has no value."""
    row = found.get((*key[:2], key[2] + mark, key[3]))
    return row if row is not None and row.value is not None else None


def _line(found: Mapping[_Key, Row], key: _Key, marks: Sequence[str]) -> list[str]:
    full = found[key]
    named = full.but(statistic=BEAT.get(full.statistic, full.statistic)) if full.measure == "inlet_pressure" else full
    where = f'<br><span class="soft">{escape(place_of(full))}</span>'
    return [escape(measure_of(named)) + where, *(cell_html(_of(found, key, m)) for m in marks)]


def _left_out(variant: str, rows: Sequence[Row]) -> str:
    """The models that failed, with code and reason."""
    of = f"{escape(variant)}: " if variant else ""
    return "".join(f'<p class="note">{of}{escape(r.method)}.</p>' for r in rows
                   if r.stage == "simulate_flow" and r.quality == "refused"
                   and any(m and r.measure.endswith(m) for m in MODELS))
