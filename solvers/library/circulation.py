"""Numbers of the closed circulation from circulation.toml, checked as they are read, in SI."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from solvers.errors import BadInput
from solvers.library.physiology import BASES
from solvers.units import MMHG

ML = 1e-6
UNITS = {"1": 1.0, "s": 1.0, "s^2": 1.0, "1/s": 1.0, "1/min": 1 / 60, "mmHg": MMHG, "mL": ML, "1/mL": 1 / ML,
         "mL/mmHg": ML / MMHG, "mmHg/mL": MMHG / ML, "mmHg s/mL": MMHG / ML, "mmHg s^2/mL": MMHG / ML,
         "L/min": 1e-3 / 60, "cm^2": 1e-4, "cm": 1e-2}
"""Units of the table, in SI."""
_KEYS = {"value", "unit", "source", "basis"}


def number(group: str, name: str) -> float:
    """One value, SI, e.g. `number("left_ventricle", "active")`."""
    row = table()[group][name]
    return float(row["value"] * UNITS[row["unit"]])


def numbers(group: str) -> dict[str, float]:
    """All values of a group by name, SI."""
    return {name: number(group, name) for name in table()[group]}


def sources() -> list[str]:
    """What the values were taken from, each once."""
    return list(dict.fromkeys(row["source"] for rows in table().values() for row in rows.values()
                              if "doi:" in row["source"]))


@cache
def table() -> dict[str, Any]:
    """The whole table as it is written; BadInput `bad_library` when an entry lacks something or has an odd unit."""
    content = tomllib.loads(Path(__file__).with_name("circulation.toml").read_text(encoding="utf-8"))
    check(content)
    return content


def check(content: dict[str, Any]) -> None:
    """BadInput `bad_library` names the first entry that is not a sound one."""
    for group, rows in content.items():
        for name, row in rows.items():
            missing = sorted(_KEYS - set(row))
            if missing:
                raise BadInput("bad_library", f"{group}.{name} lacks {', '.join(missing)}", "all four")
            if row["unit"] not in UNITS or row["basis"] not in BASES:
                raise BadInput("bad_library", f"{group}.{name} has {row['unit']!r}, {row['basis']!r}",
                               f"one of {', '.join(UNITS)}; one of {', '.join(BASES)}")
            if not np.isfinite(row["value"]):
                raise BadInput("bad_library", f"{group}.{name} is {row['value']}", "a finite value")
