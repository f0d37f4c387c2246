"""The one table of anatomical names: index, SNOMED CT code, words to show, colour.

A structure with sides stands in the table once; `left` and `right` follow it with the next two indices and the name
`<name>_left`, `<name>_right` (renal_artery 16, renal_artery_left 17, renal_artery_right 18).
"""

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

SIDES = {"left": "7771000", "right": "24028007"}
"""SNOMED CT qualifiers of side."""


@dataclass(frozen=True)
class Structure:
    """One row. `laterality` is the SNOMED code of the side, empty when there is none; `colour` is #rrggbb."""

    name: str
    index: int
    snomed: str
    display: str
    colour: str
    is_artery: bool = False
    laterality: str = ""

    @property
    def rgb(self) -> tuple[float, float, float]:
        """The colour as three numbers from 0 to 1."""
        red, green, blue = (int(self.colour[i:i + 2], 16) / 255 for i in (1, 3, 5))
        return red, green, blue


@cache
def structures() -> dict[str, Structure]:
    """Name to structure, sides included."""
    table = tomllib.loads(Path(__file__).with_name("anatomy.toml").read_text(encoding="utf-8"))
    found: dict[str, Structure] = {}
    for name, row in table.items():
        has_sides = row.pop("has_sides", False)
        one = Structure(name, laterality=_side_of(name), **row)
        found[name] = one
        if has_sides:
            for step, (side, code) in enumerate(SIDES.items(), start=1):
                found[f"{name}_{side}"] = replace(one, name=f"{name}_{side}", index=one.index + step, laterality=code,
                                                  display=f"{side.capitalize()} {one.display.lower()}")
    return found


def structure(name: str) -> Structure:
    """The row called `name`; KeyError when the table has none."""
    return structures()[name]


def is_artery(name: str) -> bool:
    """Whether a label of this name, ours or TotalSegmentator's, is the lumen of an artery."""
    known = structures().get(name)
    if known is not None:
        return known.is_artery
    words = name.lower().split("_")
    return not {"wall", "calcification", "false", "pulmonary"} & set(words) and bool({"artery", "aorta"} & set(words))


def _side_of(name: str) -> str:
    return next((code for side, code in SIDES.items() if name.endswith(f"_{side}")), "")
