"""All rows of a case in one table, with who they are of, their intervals and their quality.

Intervals come from two sources. `segmentation`: the 0D network on the lumen's
nominal edge and on the contours one standard deviation inside and outside; the
full model's value is moved as the network's moves, by ratio for pressure drops
and shear, by difference for pressures and ratios of pressures; so is the 1D
model's. `mesh`: the same flow on a coarser mesh. Given the baseline's files, the
differences to it become rows too. Both share the edge of the lumen, and mostly
the cells of their meshes, so the interval is taken from the difference on each
edge and on each mesh, not from the two intervals.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import hypot
from pathlib import Path
from typing import Any, Literal

from pipeline.formats import read_json
from pipeline.lumen_mesh import follows, read_quality
from pipeline.stage import Config, Files, Report, tell
from pipeline.table import Row, read_rows, write_rows
from solvers.errors import BadInput
from solvers.statistics.uncertainty import (
    LEAST_REFINEMENT,
    ONE_SIGMA,
    Contours,
    Interval,
    Spread,
    combine,
    difference_spread,
    edge_spread,
    independent,
    is_resolved,
    mesh_spread,
    on_full_model,
)

VERSION = 2
SOURCES = ["Roache 1994 (grid convergence index), doi:10.1115/1.2910291"]

Key = tuple[str, str, str, str]  # region, lesion, measure, statistic


@dataclass(frozen=True)
class Rule:
    """How the interval of a measure is made: on which scale its edge acts, the mesh's order, its bounds."""

    scale: Literal["ratio", "difference"]
    order: float
    bounds: tuple[float, float] = (float("-inf"), float("inf"))


RULES = {
    "pressure_drop": Rule("ratio", 2.0),
    "distal_to_proximal_ratio": Rule("difference", 2.0, (0.0, float("inf"))),
    "peripheral_ffr": Rule("difference", 2.0, (0.0, float("inf"))),
    "hyperaemic_ratio": Rule("difference", 2.0, (0.0, float("inf"))),
    "pressure": Rule("difference", 2.0),
    "pressure_drop_to_outlet": Rule("difference", 2.0),
    "residence_time": Rule("ratio", 2.0, (0.0, float("inf"))),
    "energy_loss": Rule("ratio", 2.0),
    "viscous_dissipation": Rule("ratio", 1.0, (0.0, float("inf"))),
    "velocity": Rule("ratio", 2.0, (0.0, float("inf"))),
    "tawss": Rule("ratio", 1.0, (0.0, float("inf"))),
    "wss": Rule("ratio", 1.0, (0.0, float("inf"))),
    "osi": Rule("difference", 1.0, (0.0, 0.5)),
    "rrt": Rule("ratio", 1.0, (0.0, float("inf"))),
    "ecap": Rule("difference", 1.0, (0.0, float("inf"))),
    "transverse_wss": Rule("ratio", 1.0, (0.0, float("inf"))),
}
"""Measures that have an interval. Orders of the mesh's error: pressure and velocity second, shear at the wall first,
for the wall's triangles are flat whatever the order of the velocity."""

BESIDE = ("_network", "_pulse_wave")
"""Ends the name of a measure of the 0D or 1D model, which have edges but no mesh."""
RATIOS = ("distal_to_proximal_ratio", "peripheral_ffr", "hyperaemic_ratio")
"""Read at several places by the full model, at one by the network, whose edges serve for all."""
SHEAR = ("tawss", "wss", "osi", "rrt", "ecap", "transverse_wss")
EVIDENCE = ("mass_imbalance", "cycle_change", "wall_shear_change", "energy_unaccounted")
ON_EDGES = "Difference to baseline; segmentation: difference on each of the three edges of the lumen, which both share"
ON_SHARED_CELLS = f"{ON_EDGES}; mesh: difference on the fine and on the coarse cells, which both share."
ON_OWN_CELLS = f"{ON_EDGES}; mesh: both meshes' half-widths in quadrature."


class MeasureConfig(Config):
    subject: str = ""
    session: str = ""
    variant: str = "baseline"
    level: float = ONE_SIGMA
    largest_grid_error: float = 0.10
    """Shear whose half-width by the mesh is a larger part of it is marked screening."""


class MeasureInputs(Files):
    """Rows of the stages; the flow on the coarse mesh; the baseline's, for a variant."""

    labels: Path | None = None  # labels.tsv
    geometry: Path | None = None  # of trace_centrelines, or of intervene for a treated vessel
    flow: Path | None = None
    tissue: Path | None = None
    dose: Path | None = None
    harmonised: Path | None = None
    uptake: Path | None = None
    diffusion: Path | None = None
    phase_contrast: Path | None = None
    haemodynamics: Path | None = None
    boundaries: Path | None = None
    flow_coarse: Path | None = None
    boundaries_coarse: Path | None = None
    baseline: Path | None = None  # the baseline's gathered measurements.csv
    baseline_haemodynamics: Path | None = None
    baseline_flow_coarse: Path | None = None
    baseline_boundaries: Path | None = None
    baseline_boundaries_coarse: Path | None = None


class MeasureOutputs(Files):
    measurements: Path = Path("measurements.csv")


class MeasureReport(Report):
    n_rows: int
    n_with_interval: int
    n_screening: int
    n_differences: int
    n_not_resolved: int
    refinement: float | None
    """Edge length of the coarse mesh over that of the fine one."""


@dataclass(frozen=True)
class Evidence:
    """What is known of a flow beside its values: the 0D edges, the coarse values, the meshes' ratio, whether pressure
    and flow repeat, and the wall's mean shear; whether both meshes have the cells of the baseline's."""

    edges: Mapping[Key, Contours]
    coarse: Mapping[Key, float]
    refinement: float | None
    is_periodic: bool
    wall_repeats: bool = True
    shares_cells: bool = False


def measure(inputs: MeasureInputs, config: MeasureConfig, outputs: MeasureOutputs) -> MeasureReport:
    """Gather, add identity and intervals, judge quality, and compare with the baseline when there is one."""
    known = _evidence(inputs.haemodynamics, inputs.flow_coarse, inputs.boundaries, inputs.boundaries_coarse)
    rows = [judged(row, known, config) for row in _gathered(inputs)]
    rows += _compared(inputs, config, rows, known)
    named = [r.but(subject=config.subject, session=config.session, variant=config.variant) for r in rows]
    write_rows(outputs.measurements, named)
    differences = [r for r in named if r.statistic.endswith("difference")]
    return MeasureReport(n_rows=len(named), n_with_interval=sum(r.low is not None for r in named),
                         n_screening=sum(r.quality == "screening" for r in named), n_differences=len(differences),
                         n_not_resolved=sum(r.quality == "not_resolved" for r in differences),
                         refinement=known.refinement)


def _gathered(inputs: MeasureInputs) -> list[Row]:
    """The stages' rows in the order of the line."""
    stages = (inputs.geometry, inputs.flow, inputs.tissue, inputs.dose, inputs.harmonised, inputs.uptake,
              inputs.diffusion, inputs.phase_contrast)
    return _volumes(inputs.labels) + [row for path in stages if path is not None for row in read_rows(path)]


def _volumes(labels: Path | None) -> list[Row]:
    """Volumes of the labels that were found."""
    if labels is None:
        return []
    with labels.open(newline="", encoding="utf-8") as file:
        return [Row(stage="segment", region=line["name"], measure="volume", statistic="value",
                    value=float(line["volume_ml"]), unit="mL", method="voxels of the label")
                for line in csv.DictReader(file, delimiter="\t") if line.get("volume_ml")]


# Intervals


def judged(row: Row, known: Evidence, config: MeasureConfig) -> Row:
    """A row with its interval, if its measure has one, and marked screening where grid or cycle are not at rest."""
    rule = RULES.get(_quantity(row))
    if row.stage != "simulate_flow" or rule is None or row.value is None or row.time_s is not None:
        return row
    spreads = _spreads(row, rule, known)
    row = with_interval(row, combine(row.value, spreads, config.level, rule.bounds))
    bearable = config.largest_grid_error * abs(row.value or 0.0)
    is_rough = any(s.source == "mesh" and s.above > bearable for s in spreads)
    is_untold = bool(known.coarse) and known.refinement is None
    is_open = row.measure in SHEAR and (is_rough or is_untold or not known.wall_repeats)
    if row.quality == "ok" and (is_open or not known.is_periodic):
        return row.but(quality="screening")
    return row


def with_interval(row: Row, interval: Interval | None) -> Row:
    """The row with `interval`, or with none and no sources."""
    if interval is None:
        return row.but(low=None, high=None, level=None, sources="")
    return row.but(low=interval.low, high=interval.high, level=interval.level, sources=";".join(interval.sources))


def _spreads(row: Row, rule: Rule, known: Evidence) -> list[Spread]:
    full = _on_edges(row, rule, known)
    mesh = _mesh(row, rule, known)
    return ([] if full is None else [edge_spread(full)]) + ([] if mesh is None else [mesh])


def _on_edges(row: Row, rule: Rule, known: Evidence) -> Contours | None:
    statistic = "mean" if _quantity(row) in RATIOS else row.statistic
    edges = known.edges.get((*_key(row)[:2], _quantity(row), statistic))
    return None if edges is None or row.value is None else on_full_model(row.value, edges, rule.scale)


def _mesh(row: Row, rule: Rule, known: Evidence) -> Spread | None:
    coarse = None if row.measure.endswith(BESIDE) else known.coarse.get(_key(row))
    if coarse is None or known.refinement is None or row.value is None:
        return None
    return mesh_spread(row.value, coarse, known.refinement, rule.order)


def _quantity(row: Row) -> str:
    """The measure without the mark of the model."""
    for mark in BESIDE:
        if row.measure.endswith(mark):
            return row.measure.removesuffix(mark)
    return row.measure


def _key(row: Row) -> Key:
    """What is measured where; a lesion's name alone places it."""
    return "" if row.lesion else row.region, row.lesion, row.measure, row.statistic


# Evidence


def _evidence(haemodynamics: Path | None, coarse: Path | None, boundaries: Path | None,
              boundaries_coarse: Path | None) -> Evidence:
    content = read_json(haemodynamics) if haemodynamics else {}
    values = {_key(r): r.value for r in read_rows(coarse) if r.value is not None} if coarse else {}
    refinement, shares = None, False
    if boundaries and boundaries_coarse:
        meshes = [read_quality(p) for p in (boundaries, boundaries_coarse)]
        refinement = (int(meshes[0]["n_tets"]) / int(meshes[1]["n_tets"])) ** (1 / 3)
        shares = follows(boundaries) and follows(boundaries_coarse)
        if refinement < LEAST_REFINEMENT:
            tell(f"  measure: the meshes are too alike ({refinement:.2f}) to tell an error; shear is marked screening")
            refinement = None
    told = content.get("evidence", {})
    is_periodic, wall = (haemodynamics is None or bool(told.get(k, False)) for k in ("is_periodic", "wall_repeats"))
    return Evidence(edges_of(content) if content else {}, values, refinement, is_periodic, wall, shares)


def edges_of(haemodynamics: Mapping[str, Any]) -> dict[Key, Contours]:
    """Each 0D quantity on the three edges, by the key of its row.

    models.0D.{nominal, inner, outer}.{lesions, regions}.<id>.<measure>.<statistic>;
    inner and outer may be absent. A file without models.0D.nominal is refused, so
    that a source of uncertainty is never lost unseen.
    """
    network = haemodynamics.get("models", {}).get("0D", {})
    if "nominal" not in network:
        raise BadInput("no_network", "the haemodynamics hold no models.0D.nominal", "the 0D network's results")
    cases = [_leaves(network.get(case, {})) for case in ("nominal", "inner", "outer")]
    shared = set(cases[0]) & set(cases[1]) & set(cases[2])
    return {key: Contours(*(case[key] for case in cases)) for key in sorted(shared)}


def _leaves(case: Mapping[str, Any]) -> dict[Key, float]:
    found: dict[Key, float] = {}
    for group in ("lesions", "regions"):
        for place, measures in case.get(group, {}).items():
            for name, statistics in measures.items():
                for statistic, value in statistics.items():
                    region, lesion = ("", place) if group == "lesions" else (place, "")
                    found[region, lesion, name, statistic] = float(value)
    return found


# Against the baseline


def _compared(inputs: MeasureInputs, config: MeasureConfig, rows: Iterable[Row], known: Evidence) -> list[Row]:
    if inputs.baseline is None:
        return []
    base = _evidence(inputs.baseline_haemodynamics, inputs.baseline_flow_coarse, inputs.baseline_boundaries,
                     inputs.baseline_boundaries_coarse)
    return compare(read_rows(inputs.baseline), rows, base, known, config.level)


def compare(baseline: Iterable[Row], variant: Iterable[Row], base: Evidence, known: Evidence,
            level: float = ONE_SIGMA) -> list[Row]:
    """Rows of the differences, variant minus baseline, for measures that both have.

    `statistic` is that of the two with `_difference` (`difference` of plain values). A difference whose interval
    holds zero is `not_resolved`.
    """
    before = {(_key(r), r.time_s): r for r in baseline if not r.statistic.endswith("difference")}
    found = []
    for row in variant:
        if row.stage == "segment" or row.measure in EVIDENCE:  # the scan is the same; the evidence is each one's own
            continue
        old = before.get((_key(row), row.time_s))
        if old is None or old.value is None or row.value is None or row.statistic.endswith("difference"):
            continue
        if old.unit != row.unit:
            raise BadInput("unit_changed", f"{row.measure} is in {row.unit}, the baseline's in {old.unit}", "one unit")
        found.append(_difference(old, row, base, known, level))
    return found


def _difference(old: Row, row: Row, base: Evidence, known: Evidence, level: float) -> Row:
    assert old.value is not None and row.value is not None
    value = row.value - old.value
    spreads, method = _difference_spreads(old, row, base, known)
    interval = combine(value, spreads, level)
    made = with_interval(row.but(statistic=difference_of(row.statistic), value=value, method=method,
                                 quality=_worse(old.quality, row.quality)), interval)
    return made if interval is None or is_resolved(interval) else made.but(quality="not_resolved")


def difference_of(statistic: str) -> str:
    """The statistic of a difference: `mean_difference`, `difference` of a plain value."""
    return "difference" if statistic in ("", "value") else f"{statistic}_difference"


def _difference_spreads(old: Row, row: Row, base: Evidence, known: Evidence) -> tuple[list[Spread], str]:
    """Spreads of a difference, and how they were found."""
    rule = RULES.get(_quantity(row))
    if rule is not None and row.stage == "simulate_flow" and row.time_s is None:
        edges = _both(_on_edges(old, rule, base), _on_edges(row, rule, known))
        mesh = _mesh_of_difference(old, row, base, known)
        found = ([] if edges is None else [difference_spread(edges)]) + ([] if mesh is None else [mesh])
        return found, ON_SHARED_CELLS if known.shares_cells else ON_OWN_CELLS
    both = _both(_half_width(old), _half_width(row))
    if both is None:
        return [], "Difference to baseline; no interval."
    sources = sorted({s for r in (old, row) for s in r.sources.split(";")})
    half = hypot(*both)
    return [Spread(half, half, ";".join(sources))], "Difference to baseline; both intervals in quadrature."


def _mesh_of_difference(old: Row, row: Row, base: Evidence, known: Evidence) -> Spread | None:
    rule = RULES[_quantity(row)]
    both = _both(_mesh(old, rule, base), _mesh(row, rule, known))
    if both is None or not known.shares_cells:
        return None if both is None else independent(*both)
    assert old.value is not None and row.value is not None and known.refinement is not None
    coarse = known.coarse[_key(row)] - base.coarse[_key(old)]
    return mesh_spread(row.value - old.value, coarse, known.refinement, rule.order)


def _half_width(row: Row) -> float | None:
    """Half of a row's interval at one standard deviation."""
    return 0.5 * (row.high - row.low) if row.low is not None and row.high is not None and row.level == ONE_SIGMA \
        else None


def _both[T](first: T | None, second: T | None) -> tuple[T, T] | None:
    return None if first is None or second is None else (first, second)


def _worse(first: str, second: str) -> str:
    order = ("ok", "screening", "not_resolved", "refused")
    return max(first, second, key=order.index)
