"""Drugs with published disposition, from drugs.toml, in SI units."""

import difflib
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from solvers import units
from solvers.errors import BadInput

Kind = Literal["base", "acid", "neutral"]


@dataclass(frozen=True)
class Drug:
    """One drug. Clearance is of plasma, m^3/s, in a man of `clearance_weight` kg.

    usual_dose: kg of the substance as it is sold, of which `base_share` is
    active. pka: of its one ionisable group (any number for a neutral drug).
    blood_to_plasma: ratio of concentrations. clearance_spread: one standard
    deviation between people. renal_share: part of the clearance by the kidneys,
    the liver does the rest. absorption_rate: first order, 1/s.
    """

    name: str
    display: str
    usual_dose: float
    base_share: float
    kind: Kind
    pka: float
    log_p: float
    fraction_unbound: float
    blood_to_plasma: float
    clearance: float
    clearance_spread: float
    clearance_weight: float
    clearance_source: str
    renal_share: float
    fraction_absorbed: float
    absorption_rate: float
    sources: tuple[str, ...] = ()

    def but(self, **changes: Any) -> "Drug":
        return replace(self, **changes)


def names() -> list[str]:
    return sorted(_table())


def drug(name: str) -> Drug:
    """The drug called `name`; BadInput `unknown_drug` with the nearest name when there is none."""
    table = _table()
    if name not in table:
        near = difflib.get_close_matches(name.lower(), table, 1)
        hint = f"Did you mean {near[0]}?" if near else "Add it to the library of drugs with the sources of its values."
        raise BadInput("unknown_drug", f"the library has no drug {name}", f"one of {', '.join(sorted(table))}", hint)
    row = table[name]
    clearance = row["clearance"]
    plain = {k: row[k]["value"] for k in ("base_share", "pka", "log_p", "fraction_unbound", "blood_to_plasma",
                                          "renal_share", "fraction_absorbed")}
    return Drug(name, row["display"], units.parse(row["usual_dose"], "kg"), kind=row["kind"],
                clearance=_si(clearance, "value", "m^3/s"), clearance_spread=_si(clearance, "spread", "m^3/s"),
                clearance_weight=clearance["weight"], clearance_source=clearance["source"],
                absorption_rate=0.6931471805599453 / _si(row["absorption_half_time"], "value", "s"),
                sources=_sources(row), **plain)


def _si(entry: dict[str, Any], field: str, unit: str) -> float:
    return float(units.parse(f"{entry[field]} {entry['unit']}", unit))


def _sources(row: dict[str, Any]) -> tuple[str, ...]:
    """Each source once, in the order of the table."""
    return tuple(dict.fromkeys(v["source"] for v in row.values() if isinstance(v, dict)))


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("drugs.toml").read_text(encoding="utf-8"))
