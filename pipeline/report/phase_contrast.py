"""Flow by phase contrast on the page: where it was measured, its curves over the beat, and the numbers."""

import base64
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.report.charts import COLOURS, Chart, Line
from pipeline.report.files import CaseFiles
from pipeline.report.tables import region_name, results_table
from pipeline.table import Row

STAGE = "measure_flow"


def phase_contrast_html(files: CaseFiles, rows: Sequence[Row]) -> str:
    """The picture, flow with one standard deviation, and the table."""
    if files.measured_flow is None:
        return ""
    picture = "" if files.flow_preview is None else \
        '<figure><img alt="Magnitude with the vessels, velocity, and flow over the beat" src="data:image/png;base64,' \
        f'{base64.b64encode(files.flow_preview.read_bytes()).decode()}"></figure>'
    chart = Chart("Measured flow, with one standard deviation", "time, s", "mL/s", _lines(files.measured_flow),
                  height=320)
    return picture + f'<div class="charts">{chart.svg()}</div>' + \
        results_table([r for r in rows if r.stage == STAGE], "Flow through each plane")


def _lines(path: Path) -> list[Line]:
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    made = []
    for name, colour in zip(dict.fromkeys(line["plane"] for line in lines), COLOURS * 20, strict=False):
        mine = [line for line in lines if line["plane"] == name]
        time, flow, spread = (np.array([float(line[key]) for line in mine]) for key in (
            "time_s", "flow_m3_per_s", "flow_deviation_m3_per_s"))
        made.append(Line(region_name(name), time, 1e6 * flow, colour, low=1e6 * (flow - spread),
                         high=1e6 * (flow + spread)))
    return made
