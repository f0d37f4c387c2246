"""Pressures, heart rate, flows and waveforms of rest from physiology.toml, checked as they are read, in SI."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from solvers.errors import BadInput
from solvers.library.body import Sex
from solvers.units import MMHG

UNITS = {"1": 1.0, "1/min": 1 / 60, "mmHg": MMHG, "L/min": 1e-3 / 60, "mL/s": 1e-6}
"""Units of the table, in SI."""
BASES = ("read", "recalled", "derived", "assumed")
_KEYS = {"value", "unit", "spread", "population", "source", "basis"}


@dataclass(frozen=True)
class Number:
    """A published value and its spread between people (one standard deviation), SI; of whom, by whom, how it came."""

    value: float
    spread: float
    population: str
    source: str
    basis: str
    note: str = ""


@dataclass(frozen=True)
class Series:
    """Like `Number`, with several values (n,)."""

    value: np.ndarray
    spread: np.ndarray
    population: str
    source: str
    basis: str
    note: str = ""


@dataclass(frozen=True)
class Pressures:
    """Systolic and diastolic brachial pressure of a population, Pa, with spreads and source."""

    systolic: float
    diastolic: float
    systolic_spread: float
    diastolic_spread: float
    source: str


def number(group: str, name: str) -> Number:
    """One value of the table, e.g. `number("aortic_flow", "infrarenal")`."""
    row = _row(group, name)
    scale = UNITS[row["unit"]]
    return Number(row["value"] * scale, row["spread"] * scale, *_words(row))


def series(group: str, name: str) -> Series:
    """Several values in a row."""
    row = _row(group, name)
    value, spread = np.asarray(row["value"], float), np.broadcast_to(np.asarray(row["spread"], float),
                                                                     np.shape(row["value"]))
    return Series(value * UNITS[row["unit"]], spread * UNITS[row["unit"]], *_words(row))


def waveform(name: str) -> np.ndarray:
    """Flow over one beat, relative to its mean, at equal times from the end of diastole, (n,)."""
    value = series("waveform", name).value
    return value / value.mean()


def pressures(age: float, sex: Sex) -> Pressures:
    """Of people of that age (years; the nearest group's beyond 25 to 75) and sex."""
    ages = table()["pressure"]["ages"]
    both = [series("pressure", f"{kind}_{sex}") for kind in ("systolic", "diastolic")]
    systolic, diastolic = (float(np.interp(age, ages, s.value)) for s in both)
    spreads = [float(np.interp(age, ages, s.spread)) for s in both]
    return Pressures(systolic, diastolic, spreads[0], spreads[1], both[0].source)


def names(group: str) -> tuple[str, ...]:
    """What a group of the table holds."""
    return tuple(k for k, v in table()[group].items() if isinstance(v, dict))


def _words(row: dict[str, Any]) -> tuple[str, str, str, str]:
    return row["population"], row["source"], row["basis"], row.get("note", "")


def _row(group: str, name: str) -> dict[str, Any]:
    return table()[group][name]


@cache
def table() -> dict[str, Any]:
    """The whole table as it is written; BadInput `bad_library` when an entry lacks something or has an odd unit."""
    content = tomllib.loads(Path(__file__).with_name("physiology.toml").read_text(encoding="utf-8"))
    check(content)
    return content


def check(content: dict[str, Any]) -> None:
    """BadInput `bad_library` names the first entry that is not a sound one."""
    for group, rows in content.items():
        for name, row in rows.items():
            if isinstance(row, dict):
                _check(f"{group}.{name}", row)


def _check(name: str, row: dict[str, Any]) -> None:
    missing = sorted(_KEYS - set(row))
    if missing:
        raise BadInput("bad_library", f"{name} lacks {', '.join(missing)}", "value, unit, spread, population, source")
    if row["unit"] not in UNITS:
        raise BadInput("bad_library", f"{name} is in {row['unit']!r}", f"one of {', '.join(UNITS)}")
    if row["basis"] not in BASES:
        raise BadInput("bad_library", f"{name} has the basis {row['basis']!r}", f"one of {', '.join(BASES)}")
    value, spread = np.asarray(row["value"], float), np.asarray(row["spread"], float)
    if not (np.isfinite(value).all() and np.isfinite(spread).all() and (spread > 0).all()
            and spread.shape in ((), value.shape)):
        raise BadInput("bad_library", f"{name} holds numbers that are not finite or a spread that is not above zero",
                       "finite values and a spread for each")
