"""Regions that a person or a program drew: contours (RT Structure Set) and DICOM segmentations, as masks of 0 and 1.

Runs in the limited child. The name of a region is free text and might name a
patient: only words of anatomy and of radiotherapy go further.
Source: DICOM PS3.3 C.8.8.6 (ROI contour) and C.8.20 (segmentation).
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from pipeline.ingest.elements import number, text, texts
from pipeline.ingest.problems import Problem

CONTOURS, SEGMENTATION = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.66.4"
TAGS: list[Any] = ["StructureSetROISequence", "ROIContourSequence", "ReferencedFrameOfReferenceSequence",
                   "ReferencedSeriesSequence", "SegmentSequence", "SegmentationType", "MaximumFractionalValue"]
_WORDS = {"gtv", "ctv", "ptv", "itv", "oar", "prv", "mass", "tumor", "tumour", "lesion", "node", "nodes", "nodal",
          "primary", "boost", "margin", "external", "body", "skin", "couch", "left", "right", "upper", "lower",
          "inner", "outer", "ct", "mr", "mri", "pet", "t1", "t2", "manual", "auto", "roi", "lumen", "wall", "vessel",
          "artery", "vein", "aneurysm", "stent", "thrombus", "plaque", "calcification", "segment", "region", "organ",
          "neoplasm"}


def listed(data: Dataset) -> list[dict[str, Any]] | None:
    """The regions of a file: `number`, `name`, `n_parts`; None when it is no such file."""
    sop_class = text(data, "SOPClassUID")
    if sop_class == CONTOURS:
        parts = {number(item, "ReferencedROINumber"): len(item.get("ContourSequence") or [])
                 for item in data.get("ROIContourSequence") or []}
        return [_region(item, "ROINumber", "ROIName") | {"n_parts": parts.get(number(item, "ROINumber"), 0)}
                for item in data.get("StructureSetROISequence") or []]
    if sop_class == SEGMENTATION:
        return [_region(item, "SegmentNumber", "SegmentLabel") | {"n_parts": 1}
                for item in data.get("SegmentSequence") or []]
    return None


def _region(item: Dataset, counted: str, named: str) -> dict[str, Any]:
    which = number(item, counted)
    return {"number": int(which) if which is not None and 0 <= which < 65536 else 0, "name": plain(text(item, named))}


def plain(name: str) -> str:
    """The words of a name that are anatomy's or radiotherapy's, in snake case; `region` when none is."""
    kept = [w for w in re.split(r"[^a-z0-9]+", name.lower()) if w in _vocabulary()]
    return "_".join(kept[:6]) or "region"


@cache
def _vocabulary() -> set[str]:
    from solvers.library.anatomy import structures

    known = [*structures(), *(s.display.lower() for s in structures().values())]
    return _WORDS | {w for name in known for w in re.split(r"[^a-z0-9]+", name) if len(w) > 1} - {"of", "the", "and"}


def refers_to(data: Dataset) -> tuple[list[str], str]:
    """UIDs of the series that the regions were drawn on, and of their frame of reference."""
    items = data.get("ReferencedFrameOfReferenceSequence") or []
    series = [one for item in items for study in item.get("RTReferencedStudySequence") or []
              for one in study.get("RTReferencedSeriesSequence") or []]
    series += list(data.get("ReferencedSeriesSequence") or [])
    drawn = [text(item, "ReferencedFrameOfReferenceUID") for item in data.get("StructureSetROISequence") or []]
    frame = next((f for f in [*drawn, text(data, "FrameOfReferenceUID")] if f), "")
    return sorted({text(one, "SeriesInstanceUID") for one in series} - {""}), frame


def mask(request: dict[str, Any]) -> tuple[np.ndarray, list[str]]:
    """One region on a grid, (i, j, k) of 0 and 1, and what a person should know. Raises Problem.

    request: `file`, `head` (as `header.describe`), `region`, `affine` (LPS mm) and
    `size` of the grid.
    """
    grid = np.zeros(request["size"], np.uint8)
    inverse = np.linalg.inv(np.array(request["affine"]))
    if request["head"]["sop_class"] == CONTOURS:
        said = _draw(grid, inverse, _contours(Path(request["file"]), request["region"]))
    else:
        said = _copy(grid, inverse, request)
    if not grid.any():
        raise Problem("empty_mask", "no voxel of the image lies in the region")
    return grid, said


# Contours

def _contours(path: Path, region: int) -> list[np.ndarray]:
    """Closed planar contours of one region, each (points, 3), LPS mm."""
    data = pydicom.dcmread(path, specific_tags=["ROIContourSequence"], force=True)
    found = [_points(part) for item in data.get("ROIContourSequence") or []
             if number(item, "ReferencedROINumber") == region for part in item.get("ContourSequence") or []
             if text(part, "ContourGeometricType") in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")]
    if not found:
        raise Problem("empty_mask", "the region has no closed contours (points and lines have no inside)")
    return found


def _points(part: Dataset) -> np.ndarray:
    try:
        values = np.array([float(t) for t in texts(part, "ContourData")])
        points = values.reshape(-1, 3)
    except ValueError as error:
        raise Problem("corrupt", "a contour is no list of points") from error
    if len(points) < 3 or not np.isfinite(points).all():
        raise Problem("corrupt", "a contour has fewer than three points, or one that is not finite")
    return points


def _draw(grid: np.ndarray, inverse: np.ndarray, contours: list[np.ndarray]) -> list[str]:
    """Fill contours into `grid`: even-odd within a plane (holes), joined between planes of one slice."""
    planes: dict[float, np.ndarray] = {}
    beyond = 0
    for points in contours:
        index = points @ inverse[:3, :3].T + inverse[:3, 3]
        if np.ptp(index[:, 2]) > 0.2:
            raise Problem("oblique_contours", "contours do not lie in the slices of the image that they are drawn on")
        height = float(np.round(index[:, 2].mean(), 2))
        if not -0.5 <= height <= grid.shape[2] - 0.5:
            beyond += 1
            continue
        inside = planes.setdefault(height, np.zeros(grid.shape[:2], bool))
        inside ^= filled(index[:, :2], grid.shape[:2])
    for height, inside in planes.items():
        grid[:, :, min(max(round(height), 0), grid.shape[2] - 1)] |= inside
    return _said(planes, beyond)


def _said(planes: dict[float, np.ndarray], beyond: int) -> list[str]:
    slices = sorted({round(h) for h in planes})
    skipped = slices[-1] - slices[0] + 1 - len(slices) if slices else 0
    said = [f"{beyond} contours lie beyond the image and were left out"] if beyond else []
    return said + ([f"{skipped} slices between contours have none: the mask is empty there"] if skipped else [])


def filled(polygon: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels whose centres lie within a closed polygon (points, 2) by the even-odd rule; index coordinates."""
    inside = np.zeros(shape, bool)
    ahead = np.roll(polygon, -1, axis=0)
    low = max(int(np.ceil(polygon[:, 1].min())), 0)
    high = min(int(np.floor(polygon[:, 1].max())), shape[1] - 1)
    columns = np.arange(shape[0])
    for j in range(low, high + 1):
        crosses = (polygon[:, 1] <= j) != (ahead[:, 1] <= j)
        a, b = polygon[crosses], ahead[crosses]
        at = np.sort(a[:, 0] + (j - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0]))
        inside[:, j] = np.searchsorted(at, columns, side="right") % 2 == 1
    return inside


# Segmentations

def _copy(grid: np.ndarray, inverse: np.ndarray, request: dict[str, Any]) -> list[str]:
    """Put the frames of one segment where they lie on `grid`; its axes are the segmentation's."""
    from pipeline.ingest import codecs

    head = request["head"]
    wanted = [i for i, f in enumerate(head["frames"]) if f["segment"] == request["region"]]
    if not wanted:
        raise Problem("empty_mask", "the segment has no frame")
    frames = codecs.frames(Path(request["file"]), head)
    least = 0.5 * (head["fraction"] or 255) if head["segmentation"] == "FRACTIONAL" else 0.5
    for i in wanted:
        at = inverse[:3, :3] @ np.array(head["frames"][i]["position"]) + inverse[:3, 3]
        if np.abs(at - np.rint(at)).max() > 0.05:
            raise Problem("grid_mismatch", "the segmentation lies between the voxels of the grid")
        inside = least <= frames[i].T
        _put(grid, np.rint(at).astype(int), inside)
    return ["fractions of one half and more count as inside"] if head["segmentation"] == "FRACTIONAL" else []


def _put(grid: np.ndarray, at: np.ndarray, plane: np.ndarray) -> None:
    """A plane (columns, rows) from index `at` on; what lies beyond the grid must be empty."""
    low = np.maximum(at, 0)
    high = np.minimum(at + [*plane.shape, 1], grid.shape)
    part = plane[low[0] - at[0]:high[0] - at[0], low[1] - at[1]:high[1] - at[1]] if (low < high).all() else plane[:0]
    if part.sum() != plane.sum():
        raise Problem("grid_mismatch", "the segmentation reaches beyond the image that it was drawn on")
    if part.size:
        grid[low[0]:high[0], low[1]:high[1], at[2]] |= part
