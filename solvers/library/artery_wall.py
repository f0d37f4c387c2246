"""Published numbers of the arterial wall, from artery_wall.toml, in SI."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from solvers.errors import BadInput
from solvers.geometry.wall_thickness import Thickness
from solvers.materials.demiray import Demiray
from solvers.materials.gasser_ogden_holzapfel import GasserOgdenHolzapfel
from solvers.materials.law import Law
from solvers.materials.yeoh import Yeoh
from solvers.units import parse

_KINDS = {"demiray": Demiray, "yeoh": Yeoh, "gasser_ogden_holzapfel": GasserOgdenHolzapfel}
_SI = {"kPa": "Pa", "deg": "rad", "1/cm": "1/m"}


@dataclass(frozen=True)
class Published[T]:
    """Something that was published: what it is, in words, of whom it was measured, and where it stands."""

    what: T
    display: str
    population: str
    source: str


def law(name: str) -> Published[Law]:
    """A hyperelastic law with its parameters, e.g. `delfino1997`."""
    row = _row("law", name)
    return Published(_KINDS[row["kind"]](**_numbers(row)), row["display"], row["population"], row["source"])


def thickness(name: str) -> Published[Thickness]:
    """A rule for the wall's thickness, e.g. `blanco2015`."""
    row = _row("thickness", name)
    return Published(Thickness(**_numbers(row)), row["display"], row["population"], row["source"])


def thickness_spread() -> Published[float]:
    """Standard deviation of the logarithm of the thickness between people."""
    return _spread("thickness_spread")


def pulse_wave_spread() -> Published[float]:
    """Standard deviation of the logarithm of the pulse wave velocity between people of like age."""
    return _spread("pulse_wave_spread")


def _spread(name: str) -> Published[float]:
    row = _table()[name]
    return Published(float(row["value"]), "between people", row["population"], row["source"])


def _row(group: str, name: str) -> dict[str, Any]:
    known = _table()[group]
    if name not in known:
        raise BadInput("unknown_number", f"the library has no {group} called {name}", f"one of {', '.join(known)}")
    return known[name]


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    return {key: _si(item["value"], item["unit"]) for key, item in row.items() if isinstance(item, dict)}


def _si(value: float, unit: str) -> float:
    return value if unit == "1" else float(parse(f"{value} {unit}", _SI[unit]))


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
