"""The label map as `.seg.nrrd`: NRRD in LPS with the names that 3D Slicer shows.

Source: NRRD, http://teem.sourceforge.net/nrrd/format.html; the keys of a segmentation,
https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html#segmentations-file-format-seg-nrrd.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import imagecodecs
import numpy as np

from pipeline.export import codes
from pipeline.export.segmentation import Label
from solvers.geometry.volume import Volume


def write(path: Path, labels: Volume, present: Sequence[Label]) -> None:
    """Voxels keep the numbers of the label map."""
    values = np.asarray(labels.values, np.uint8)
    header = "\n".join([*_geometry(labels), *_segments(values, present)]) + "\n\n"
    path.write_bytes(header.encode() + imagecodecs.gzip_encode(values.tobytes(order="F"), level=6))


def _geometry(labels: Volume) -> Iterator[str]:
    yield "NRRD0004"
    yield "type: uint8"
    yield "dimension: 3"
    yield "space: left-posterior-superior"
    yield "sizes: " + " ".join(map(str, labels.values.shape))
    yield "space directions: " + " ".join(_vector(axis) for axis in labels.affine[:3, :3].T)
    yield "kinds: domain domain domain"
    yield "encoding: gzip"
    yield f"space origin: {_vector(labels.affine[:3, 3])}"


def _segments(values: np.ndarray, present: Sequence[Label]) -> Iterator[str]:
    yield "Segmentation_ContainedRepresentationNames:=Binary labelmap|"
    yield "Segmentation_MasterRepresentation:=Binary labelmap"
    yield "Segmentation_ReferenceImageExtentOffset:=0 0 0"
    for n, one in enumerate(present):
        yield f"Segment{n}_ID:={one.name}"
        yield f"Segment{n}_Name:={one.display}"
        yield f"Segment{n}_Color:=" + " ".join(f"{c:.6g}" for c in one.rgb)
        yield f"Segment{n}_LabelValue:={one.index}"
        yield f"Segment{n}_Layer:=0"
        yield f"Segment{n}_Extent:=" + " ".join(f"{a} {b}" for a, b in _extent(values == one.index))
        yield f"Segment{n}_Tags:={_terms(one.name)}"


def _terms(name: str) -> str:
    """Category, type and side as Slicer writes them; the anatomic region stays empty."""
    side = codes.side(name)
    parts = [codes.category(name), codes.structure(name), *([side] if side else [])]
    triples = ["^".join((p.scheme_designator, p.value, p.meaning)) for p in parts] + ([] if side else ["^^"])
    context = "DICOM master list"
    return f"TerminologyEntry:Segmentation category and type - {context}~{'~'.join(triples)}~" \
           f"Anatomic codes - {context}~^^~^^|"


def _extent(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last index along each axis where the mask is set."""
    spans = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return [(int(s[0]), int(s[-1])) for s in spans]


def _vector(values: np.ndarray) -> str:
    return "(" + ",".join(f"{v + 0.0:.12g}" for v in values) + ")"
