"""A case's labels and measurements for other programs: DICOM segmentation, DICOM report, `.seg.nrrd`.

    codes         our words as SNOMED CT and UCUM
    source        the images that results cite, as de-identified headers
    segmentation  DICOM SEG
    measurements  DICOM SR, TID 1500
    nrrd          3D Slicer's segmentation

Results cite the de-identified images: a UID here is a keyed hash of the hospital's. Where the slices of the volume are
not one image of DICOM each, they cite none.
"""

import csv
import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from pipeline import formats
from pipeline.export import measurements, nrrd, segmentation
from pipeline.export.segmentation import UNKNOWN, Label, Maker
from pipeline.export.source import source
from pipeline.stage import Config, Files, Report
from pipeline.table import read_rows
from solvers.errors import BadInput
from solvers.geometry.volume import Volume

VERSION = 1
SOURCES = ["DICOM PS3.3 A.51 (segmentation), PS3.16 TID 1500 (measurement report), https://www.dicomstandard.org/current"]


class ExportConfig(Config):
    """subject: what stands for the patient. is_drawn: the mask is a person's own."""

    subject: str = "sub-unnamed"
    is_drawn: bool = False


class ExportInputs(Files):
    volume: Path
    sidecar: Path
    labels: Path
    table: Path
    measurements: Path | None = None


class ExportOutputs(Files):
    segmentation: Path = Path("segmentation.dcm")
    report: Path = Path("measurements.dcm")
    labels: Path = Path("labels.seg.nrrd")


class ExportReport(Report):
    """is_cited: the results refer to images. n_left_out: numbers of lesions that are not `ok` or have no coded unit."""

    n_segments: int
    n_lesions: int
    n_measurements: int
    n_left_out: int
    is_cited: bool


def export(inputs: ExportInputs, config: ExportConfig, outputs: ExportOutputs) -> ExportReport:
    """Segmentation, report and `.seg.nrrd` of the same labels."""
    labels = _whole_numbers(formats.read_volume(inputs.labels))
    present = _present(labels, _table(inputs.table))
    facts = formats.read_json(inputs.sidecar)
    all_rows = [r for r in read_rows(inputs.measurements) if r.lesion] if inputs.measurements else []
    rows = measurements.writable(all_rows)
    image = source(facts, labels.affine, labels.values.shape, config.subject, _digest(inputs.volume))
    maker = Maker(version("anatwin"), _digest(*inputs.paths().values(), words=(config.subject, str(config.is_drawn))))
    seg = segmentation.segmentation(labels, present, image, config.is_drawn, maker)
    volumes = [float(np.count_nonzero(labels.values == one.index)) * labels.voxel_volume / 1000 for one in present]
    seg.save_as(outputs.segmentation)
    measurements.report(volumes, present, rows, seg, image, maker).save_as(outputs.report)
    nrrd.write(outputs.labels, labels, present)
    return ExportReport(n_segments=len(present), n_lesions=len({r.lesion for r in rows}), n_measurements=len(rows),
                        n_left_out=len(all_rows) - len(rows), is_cited=image.is_cited)


def _whole_numbers(labels: Volume) -> Volume:
    return labels.but(np.rint(np.asarray(labels.values)).astype(np.uint8))


def _table(path: Path) -> dict[int, Label]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {int(r["index"]): Label(int(r["index"]), r["name"], r.get("colour") or UNKNOWN) for r in rows}


def _present(labels: Volume, table: dict[int, Label]) -> list[Label]:
    """The labels that have voxels, by number."""
    found = [int(v) for v in np.unique(labels.values) if v]
    if not found:
        raise BadInput("empty_mask", "the label map is empty", "at least one label", "Segment the case again.")
    return [table.get(v, Label(v, f"label_{v}", UNKNOWN)) for v in found]


def _digest(*paths: Path, words: Sequence[str] = ()) -> str:
    """Of the contents of files, and of words."""
    each = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    return hashlib.sha256("\x1f".join([*each, *words]).encode()).hexdigest()
