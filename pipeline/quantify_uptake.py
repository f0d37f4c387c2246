"""From a PET to the places of high uptake, each by several rules, with the liver as reference where there is a mask.

Every region above a threshold is listed: healthy uptake (brain, heart, bladder)
is not told from disease. A region keeps its name (U1 is the hottest) in all
rules. PERCIST's threshold needs the liver: without a mask of it, there is none,
and a row says so.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from pipeline import formats
from pipeline.stage import Config, Files, Report
from pipeline.table import Row, write_rows
from solvers.errors import BadInput
from solvers.geometry.volume import Volume
from solvers.imaging import pet
from solvers.units import Length

VERSION = 1
SOURCES = ["Boellaard et al. 2015 (PET: thresholds), doi:10.1007/s00259-014-2961-x",
           "Wahl et al. 2009 (PERCIST), doi:10.2967/jnumed.108.057307",
           "Janmahasatian et al. 2005 (lean body mass), doi:10.2165/00003088-200544100-00004"]
ADULT = 18.0
LIVER = "liver"


class QuantifyUptakeConfig(Config):
    thresholds: tuple[float, ...] = (2.5, 4.0)
    """Fixed thresholds, SUV by body weight in g/mL."""
    share_of_maximum: float = 0.41
    smallest: Length = "8 mm"
    """Regions smaller than a sphere of this diameter are left out."""


class QuantifyUptakeInputs(Files):
    """PET with its sidecar; a CT of the same frame; a label map with its table (or a mask of the liver alone)."""

    volume: Path
    sidecar: Path
    ct: Path | None = None
    ct_sidecar: Path | None = None
    labels: Path | None = None
    table: Path | None = None


class QuantifyUptakeOutputs(Files):
    suv: Path = Path("suv.nii.gz")
    regions: Path = Path("regions.nii.gz")
    """Number n of each region Un by the lowest fixed threshold."""
    uptake: Path = Path("uptake.json")
    measurements: Path = Path("measurements.csv")


class QuantifyUptakeReport(Report):
    n_regions: int
    suv_scale: float
    liver: str
    """Its mean SUV, or why there is none."""
    threshold_percist_suv: float | None


@dataclass(frozen=True)
class Person:
    """What the scan's sidecar knows of the person; `sul` is SUL per SUV, None with `why` where it cannot be had."""

    sul: float | None
    why: str


@dataclass(frozen=True)
class Scene:
    """All that is measured on: SUV, the rules, the regions' hottest voxels, organs (numbers, names), CT on the PET."""

    suv: Volume
    rules: tuple[pet.Rule, ...]
    seeds: list[tuple[int, int, int]]
    smallest_ml: float
    organs: np.ndarray | None
    names: dict[int, str]
    ct: np.ndarray | None


def quantify_uptake(inputs: QuantifyUptakeInputs, config: QuantifyUptakeConfig,
                    outputs: QuantifyUptakeOutputs) -> QuantifyUptakeReport:
    """SUV, the regions by each rule, their measures as rows."""
    facts = formats.read_json(inputs.sidecar)
    suv = _suv(formats.read_volume(inputs.volume), facts)
    organs, names = _organs(inputs, suv)
    reference, why = _liver(suv, organs, names, facts)
    person = _person(facts)
    scene = _scene(inputs, config, suv, reference, organs, names)
    regions = np.zeros(suv.values.shape, np.uint16)
    rows = [*_reference_rows(reference, why, person), *_rows(scene, person, regions)]
    formats.write_volume(outputs.suv, suv, np.float32)
    formats.write_volume(outputs.regions, suv.but(regions), np.uint16)
    formats.write_json(outputs.uptake, _summary(scene, reference, why, person))
    write_rows(outputs.measurements, rows)
    return QuantifyUptakeReport(n_regions=len(scene.seeds), suv_scale=facts["suv_bw_scale"],
                                liver=f"mean SUV {reference.mean:.2f}" if reference else why,
                                threshold_percist_suv=round(reference.threshold, 3) if reference else None)


# What is given


def _suv(image: Volume, facts: dict[str, Any]) -> Volume:
    """The image in SUV by body weight; refused with the header's missing fact."""
    if facts.get("modality") != "PT":
        raise BadInput("not_pet", f"the volume is {facts.get('modality')}, not PET", "a PET",
                       "Choose the series with --set ingest.series=NAME.")
    if facts.get("suv_bw_scale") is None:
        said = next((w for w in facts.get("warnings", []) if w.startswith("no SUV")), "no SUV: its facts are missing")
        raise BadInput("no_suv", said, "dose, its time, weight and decay correction in the header",
                       "Export the original PET series.")
    return image.but(np.asarray(image.values, np.float32) * np.float32(facts["suv_bw_scale"]))


def _organs(inputs: QuantifyUptakeInputs, suv: Volume) -> tuple[np.ndarray | None, dict[int, str]]:
    """Organ numbers on the PET's grid (nearest voxel), and their names; without a table, one label is the liver."""
    if inputs.labels is None:
        return None, {}
    given = formats.read_volume(inputs.labels)
    numbers = _resampled(given.but(np.round(np.asarray(given.values, float))), suv, order=0).astype(int)
    if not numbers.any():
        raise BadInput("mask_outside_image", f"no voxel of {inputs.labels.name} lies in the PET", "a mask of this scan",
                       "Check that mask and scan share one frame (RAS or LPS).")
    if inputs.table is None:
        if len(np.unique(numbers)) > 2:
            raise BadInput("labels_without_names", f"{inputs.labels.name} has several labels and no table",
                           "one label (the liver), or a table with index and name",
                           "Give the table too: --use segment.table=labels.tsv.")
        return numbers, {int(numbers.max()): LIVER}
    with inputs.table.open(newline="", encoding="utf-8") as file:
        return numbers, {int(row["index"]): row["name"] for row in csv.DictReader(file, delimiter="\t")}


def _resampled(image: Volume, grid: Volume, order: int, outside: float = 0.0) -> np.ndarray:
    """`image` at the voxels of `grid`."""
    there = np.linalg.inv(image.affine) @ grid.affine
    return ndimage.affine_transform(np.asarray(image.values, np.float32), there[:3, :3], there[:3, 3],
                                    grid.values.shape, order=order, cval=outside)


def _liver(suv: Volume, organs: np.ndarray | None, names: dict[int, str],
           facts: dict[str, Any]) -> tuple[pet.Liver | None, str]:
    """The reference in the liver, or why there is none."""
    number = next((n for n, name in names.items() if name == LIVER), None)
    if organs is None:
        return None, "no liver: no mask of it was given"
    if number is None or not (organs == number).any():
        return None, "no liver: the labels hold none"
    if not facts.get("anatomical", False):
        return None, "no liver: the scan does not tell which side is right"
    right = -(suv.affine[:3, :3] / suv.spacing)[0]
    found = pet.liver(suv.values, organs == number, suv.spacing, right)
    return found, "" if found else "no liver: a sphere of 3 cm does not fit into its right lobe"


def _person(facts: dict[str, Any]) -> Person:
    weight, height, sex, age = (facts.get(k) for k in ("weight_kg", "height_m", "sex", "age_years"))
    missing = [name for name, value in (("weight", weight), ("height", height)) if value is None]
    missing += ["sex"] if sex not in ("F", "M") else []
    if missing:
        return Person(None, f"no lean body mass: {', '.join(missing)} missing in the header")
    if age is not None and age < ADULT:
        return Person(None, "no lean body mass: its formula is for adults")
    assert weight is not None and height is not None and sex is not None
    return Person(pet.lean_body_mass(weight, height, sex) / weight, "")


def _scene(inputs: QuantifyUptakeInputs, config: QuantifyUptakeConfig, suv: Volume, reference: pet.Liver | None,
           organs: np.ndarray | None, names: dict[int, str]) -> Scene:
    rules = [pet.Rule(f"suv_{t:g}", t) for t in sorted(config.thresholds)]
    rules += [pet.Rule(f"max_{100 * config.share_of_maximum:g}_percent", share=config.share_of_maximum)]
    rules += [pet.Rule("percist", reference.threshold)] if reference else []
    smallest = 4 / 3 * np.pi * (500 * float(config.smallest)) ** 3 / 1000
    fixed = [r.threshold for r in rules if r.threshold is not None]
    seeds = pet.seeds(suv.values, fixed, suv.spacing, smallest)
    return Scene(suv, tuple(rules), seeds, smallest, organs, names, _ct(inputs, suv))


def _ct(inputs: QuantifyUptakeInputs, suv: Volume) -> np.ndarray | None:
    """The CT on the PET's grid, NaN beyond it; None without one, or where its frame is another."""
    if inputs.ct is None or inputs.ct_sidecar is None:
        return None
    frames = [formats.read_json(p).get("frame_of_reference", "") for p in (inputs.sidecar, inputs.ct_sidecar)]
    if frames[0] != frames[1]:
        return None
    return _resampled(formats.read_volume(inputs.ct), suv, order=1, outside=np.nan)


# Rows


def _reference_rows(reference: pet.Liver | None, why: str, person: Person) -> Iterator[Row]:
    """The liver and PERCIST's threshold, or that there is none and why."""
    base = Row(stage="quantify_uptake", region=LIVER, unit="g/mL", statistic="percist")
    if reference is None:
        yield base.but(measure="percist_threshold", quality="refused", method=why)
        return
    how = f"sphere of 3 cm in the right lobe, {reference.n_voxels} voxels"
    yield base.but(measure="liver_suv", statistic="mean", value=reference.mean, method=how)
    yield base.but(measure="liver_suv", statistic="sd", value=reference.deviation, method=how)
    yield base.but(measure="percist_threshold", value=reference.threshold, method="1.5 mean + 2 SD of the liver, SUV")
    yield base.but(measure="percist_threshold_sul", value=person.sul and person.sul * reference.threshold,
                   quality="ok" if person.sul else "refused", method=person.why or "the same by lean body mass")


def _rows(scene: Scene, person: Person, regions: np.ndarray) -> Iterator[Row]:
    """All rules' rows; the first rule's regions are drawn into `regions`."""
    for rule in scene.rules:
        found = []
        for number, region in pet.delineate(scene.suv.values, rule, scene.seeds, scene.suv.spacing, scene.smallest_ml):
            if region is None:
                yield _base(rule, number).but(measure="mtv", unit="mL", quality="not_resolved",
                                              method="the contour runs into hotter uptake")
                continue
            if rule is scene.rules[0]:
                regions[region] = number
            found.append(pet.measures(scene.suv.values, region, scene.suv.spacing))
            yield from _region_rows(scene, rule, number, region, found[-1], person)
        yield from _totals(rule, found)


def _base(rule: pet.Rule, number: int = 0) -> Row:
    how = f"SUV >= {rule.threshold:.3g}" if rule.threshold is not None else f">= {100 * rule.share:g} % of its maximum"
    return Row(stage="quantify_uptake", lesion=f"U{number}" if number else "", statistic=rule.name,
               method=f"PERCIST, {how}" if rule.name == "percist" else how)


def _region_rows(scene: Scene, rule: pet.Rule, number: int, region: np.ndarray, found: pet.Measures,
                 person: Person) -> Iterator[Row]:
    base = _base(rule, number).but(region=_place(scene, region))
    yield base.but(measure="mtv", value=found.mtv, unit="mL")
    yield base.but(measure="tlg", value=found.tlg, unit="g")
    yield base.but(measure="suv_max", value=found.suv_max, unit="g/mL")
    yield base.but(measure="suv_mean", value=found.suv_mean, unit="g/mL")
    yield base.but(measure="suv_peak", value=found.suv_peak, unit="g/mL",
                   quality="ok" if found.suv_peak is not None else "not_resolved")
    if rule.name == "percist" and found.suv_peak is not None and person.sul:
        assert rule.threshold is not None
        yield base.but(measure="sul_peak", value=person.sul * found.suv_peak, unit="g/mL")
        yield base.but(measure="sul_peak_over_threshold", value=found.suv_peak / rule.threshold, unit="1",
                       method=f"{base.method}; measurable from 1 on")
    if rule is scene.rules[0] and scene.ct is not None and np.isfinite(scene.ct[region]).all():
        yield base.but(measure="ct_number", value=float(scene.ct[region].mean()), unit="HU")


def _place(scene: Scene, region: np.ndarray) -> str:
    """The organ that holds more than half of a region; empty when none does or none is known."""
    if scene.organs is None:
        return ""
    numbers, counts = np.unique(scene.organs[region], return_counts=True)
    most = int(np.argmax(counts))
    return scene.names.get(int(numbers[most]), "") if 2 * counts[most] > counts.sum() else ""


def _totals(rule: pet.Rule, found: list[pet.Measures]) -> Iterator[Row]:
    base = _base(rule).but(region="all_regions")
    yield base.but(measure="n_regions", value=float(len(found)), unit="1")
    yield base.but(measure="mtv", value=float(sum(m.mtv for m in found)), unit="mL")
    yield base.but(measure="tlg", value=float(sum(m.tlg for m in found)), unit="g")


def _summary(scene: Scene, reference: pet.Liver | None, why: str, person: Person) -> dict[str, Any]:
    """uptake.json: where the regions are hottest (LPS mm), and the reference."""
    values, where = scene.suv.values, scene.suv.position(np.array(scene.seeds, float).reshape(-1, 3))
    return {"unit": "mm", "rules": [{"name": r.name, "suv": r.threshold} for r in scene.rules],
            "regions": [{"id": f"U{n}", "hottest_lps": p, "suv_max": float(values[s])}
                        for n, (s, p) in enumerate(zip(scene.seeds, where.tolist(), strict=True), start=1)],
            "liver": reference and {"centre_lps": scene.suv.position(np.array([reference.centre]))[0],
                                    "suv_mean": reference.mean, "suv_sd": reference.deviation},
            "no_liver": why, "sul_per_suv": person.sul, "no_sul": person.why, "has_ct": scene.ct is not None}
