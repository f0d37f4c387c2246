"""The reference adult from body.toml: organs, blood, flows, tissue composition, territories of arteries."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Sex = Literal["male", "female"]
SIDES = ("left", "right", "a", "b")
LITRE = 1e-3
LITRE_PER_MINUTE = 1e-3 / 60

SOURCES = ["ICRP Publication 89 (organs and flows), doi:10.1016/S0146-6453(03)00002-2",
           "Brown et al. 1997 (scaling by weight), doi:10.1177/074823379701300401",
           "Brandfonbrener, Landowne & Shock 1955 (cardiac output and age), doi:10.1161/01.CIR.12.4.557",
           "Janssen et al. 2000 (muscle of the lower body), doi:10.1152/jappl.2000.89.1.81"]


@dataclass(frozen=True)
class Reference:
    """The reference man or woman: kg, years, m^3, m^3/s. `flows` include `liver` (all) and `liver_arterial`."""

    sex: Sex
    weight: float
    age: float
    cardiac_output: float
    blood_volume: float
    volumes: dict[str, float]
    flows: dict[str, float]


@dataclass(frozen=True)
class Composition:
    """What a tissue is made of: fractions of its wet mass, acidic phospholipid in mg/g, albumin and lipoprotein over
    plasma's."""

    extracellular_water: float
    intracellular_water: float
    neutral_lipid: float
    neutral_phospholipid: float
    acidic_phospholipid: float
    albumin_ratio: float
    lipoprotein_ratio: float


def reference(sex: Sex) -> Reference:
    row, density = table()[sex], table()["density"]
    output = row["cardiac_output"]["value"] * LITRE_PER_MINUTE
    volumes = {name: mass / density.get(name, density["other"]) for name, mass in row["mass"].items()}
    flows = {name: share / 100 * output for name, share in row["flow"].items()}
    return Reference(sex, row["weight"]["value"], table()["reference"]["age"]["value"], output,
                     row["blood_volume"]["value"] * LITRE, volumes, flows)


def composition(tissue: str) -> Composition:
    return Composition(*table()["composition"][tissue])


def number(group: str, name: str) -> float:
    """A single published number of the table."""
    return float(table()[group][name]["value"])


def territory(artery: str) -> str:
    """What an artery feeds, kidney, leg, viscera or rest, whatever its side."""
    return str(table()["territories"].get(plain(artery), "rest"))


def plain(artery: str) -> str:
    """The name without its side, and without the number that tells branches of one name apart."""
    parts = artery.split("_")
    while parts and (parts[-1].isdigit() or parts[-1] in SIDES):
        parts.pop()
    return "_".join(parts)


def side(artery: str) -> str:
    """left, right, a or b at the end of a name; empty where it has none."""
    parts = artery.split("_")
    while parts and parts[-1].isdigit():
        parts.pop()
    return parts[-1] if parts and parts[-1] in SIDES else ""


@cache
def table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("body.toml").read_text(encoding="utf-8"))
