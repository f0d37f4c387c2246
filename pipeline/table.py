"""The one table of results, long form, one header for ever."""

import csv
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One number of a result with its unit, interval and quality.

    `low, high`: the interval at confidence `level` (0.683 for one standard
    deviation) from the `sources` of uncertainty that were propagated, e.g.
    "segmentation;mesh"; all empty when none was. `quality`: ok, screening,
    not_resolved, refused. Stages leave subject, session and variant empty;
    the measure stage fills them.
    """

    subject: str = ""
    session: str = ""
    variant: str = ""
    stage: str = ""
    region: str = ""
    lesion: str = ""
    measure: str = ""
    statistic: str = ""
    time_s: float | None = None
    value: float | None = None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    level: float | None = None
    sources: str = ""
    quality: str = "ok"
    method: str = ""

    def but(self, **changes: object) -> "Row":
        return replace(self, **changes)  # type: ignore[arg-type]


HEADER = [f.name for f in fields(Row)]
_NUMBERS = ("time_s", "value", "low", "high", "level")


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.10g}"
    return "" if value is None else str(value)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows([_text(v) for v in asdict(row).values()] for row in rows)


def read_rows(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return [_row(line) for line in csv.DictReader(file)]


def _row(line: dict[str, str]) -> Row:
    numbers = {k: float(line[k]) if line[k] else None for k in _NUMBERS}
    return Row(**(line | numbers))  # type: ignore[arg-type]
