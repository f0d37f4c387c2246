"""Contours and segmentations as series of their own: one mask a region, on the grid of the image it was drawn on."""

from collections.abc import Sequence

import numpy as np

from pipeline.ingest.problems import refusal
from pipeline.ingest.regions import CONTOURS, SEGMENTATION
from pipeline.ingest.series import Series, named
from pipeline.ingest.split import Head
from solvers.errors import BadInput

CLASSES = {CONTOURS: "RTSTRUCT", SEGMENTATION: "SEG"}


def with_masks(images: Sequence[Series], heads: Sequence[Head]) -> list[Series]:
    """The series of a scan and, after them, the regions of files that hold regions instead of an image."""
    found = [s for i, head in enumerate(heads) if head.get("regions") is not None for s in _of_file(i, head, images)]
    return named([*images, *found])


def _of_file(number: int, head: Head, images: Sequence[Series]) -> list[Series]:
    """A series for each region of one file, usable or refused."""
    kind = CLASSES[head["sop_class"]]
    name = f"{kind}-s{head.get('series_number') or 0:03d}"
    try:
        if head["problem"]:
            raise refusal(head["problem"])
        regions = [r for r in head["regions"] if r["n_parts"]]
        if not regions:
            raise BadInput("empty_mask", "the file lists no region with contours or voxels", "at least one region",
                           "Export the structures again.")
        drawn_on = _image_of(head, images)
        return [_region(name, kind, number, head, region, drawn_on) for region in regions]
    except BadInput as problem:
        return [Series(name, head.get("patient", ""), kind, (number,), head, problem)]


def _image_of(head: Head, images: Sequence[Series]) -> Series | None:
    """The usable volume that the file refers to by series, else the only one in its frame of reference."""
    usable = [s for s in images if s.problem is None and len(s.size) >= 3 and s.patient == head["patient"] and s.rows]
    by_series = [s for s in usable if s.facts["series"] in head["refers_to"]]
    here = [s for s in usable if head["frame_of_reference"] and
            s.facts["frame_of_reference"] == head["frame_of_reference"]]
    found = by_series or (here if len(here) == 1 else [])
    return found[0] if found else None


def _region(name: str, kind: str, number: int, head: Head, region: Head, image: Series | None) -> Series:
    """One region with the grid for it."""
    name = f"{name}-r{region['number']}"
    try:
        affine, size = _grid(kind, head, image)
    except BadInput as problem:
        return Series(name, head["patient"], kind, (number,), head, problem)
    told = dict(region, of=image.name if image is not None else "")
    return Series(name, head["patient"], kind, (number,), head, affine=affine, size=size, region=told)


def _grid(kind: str, head: Head, image: Series | None) -> tuple[np.ndarray, tuple[int, ...]]:
    """The image's grid; a segmentation that lies on no image has one of its own."""
    if image is not None and image.affine is not None and (kind == "RTSTRUCT" or _fits(head, image.affine)):
        return image.affine, image.size[:3]
    if kind == "RTSTRUCT":
        raise BadInput("image_missing", "the image that the contours were drawn on is not in the scan, or was refused",
                       "the contours together with their image", "Put the image's series beside the structure set.")
    return _own_grid(head)


def _axes(head: Head) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Direction of columns, rows and normal (3, 3), pixel edges along them (2,), and first pixels (frames, 3)."""
    frames = head["frames"]
    if not frames or any(f[part] is None for f in frames for part in ("position", "orientation", "spacing")):
        raise BadInput("missing_position", "frames of the segmentation have no position, orientation or spacing",
                       "where each frame lies", "Export the segmentation again.")
    pair = np.array(frames[0]["orientation"]).reshape(2, 3)
    axes = np.vstack([pair, np.cross(*pair)])
    if any(not np.allclose(f["orientation"], frames[0]["orientation"], atol=1e-3) for f in frames):
        raise BadInput("mixed_orientation", "frames of the segmentation differ in orientation", "one orientation",
                       "Export the segmentation again.")
    return axes, np.array(frames[0]["spacing"])[::-1], np.array([f["position"] for f in frames])


def _fits(head: Head, affine: np.ndarray) -> bool:
    """Whether the image's grid has voxels where the segmentation has pixels."""
    axes, edges, places = _axes(head)
    along = axes[:2].T * edges
    at = (places - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    return np.allclose(along, affine[:3, :2], atol=1e-3) and bool(np.abs(at - np.rint(at)).max() < 0.05)


def _own_grid(head: Head) -> tuple[np.ndarray, tuple[int, ...]]:
    """The grid of the frames; planes that are empty in a segmentation are not stored, so steps may be skipped."""
    axes, edges, places = _axes(head)
    if not head["columns"] or not head["rows"]:
        raise BadInput("corrupt", "the segmentation does not say how many rows and columns it has", "a segmentation",
                       "Export the segmentation again.")
    height = np.unique(np.round(places @ axes[2], 3))
    spacing = head["frames"][0].get("between") or head["frames"][0]["thickness"]
    step = float(np.diff(height).min()) if len(height) > 1 else float(spacing or 0)
    if step <= 0 or np.abs((height - height[0]) / step - np.rint((height - height[0]) / step)).max() > 0.05:
        raise BadInput("uneven_slices", "the planes of the segmentation are not evenly spaced", "even steps",
                       "Put the image's series beside the segmentation.")
    affine = np.eye(4)
    affine[:3, :3] = axes.T * [*edges, step]
    affine[:3, 3] = places[int(np.argmin(places @ axes[2]))]
    return affine, (head["columns"], head["rows"], round((height[-1] - height[0]) / step) + 1)
