"""A mask that a person or another program made, as the lumen."""

import csv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from pipeline import formats
from pipeline.segment.result import Lumen
from solvers.errors import BadInput
from solvers.geometry.volume import Volume
from solvers.imaging import distance, edges
from solvers.library import anatomy

MASK_DEVIATION = 0.35
"""Standard deviation of a mask's edge, in voxels: 1/sqrt(12) of sampling and as much of the hand that drew it."""


def lumen(volume: Volume, path: Path, table: Path | None, wanted: tuple[str, ...], refine: bool) -> Lumen:
    """The lumen as the mask has it; with `refine`, its edge moved to the half-maximum of the image."""
    share = _on_grid(_chosen(formats.read_volume(path), path, table, wanted), volume, path)
    limit = 3 * float(volume.spacing.max())
    mask = _largest(share > 0.5)
    if refine:
        edge = edges.solve(volume.values, mask, volume.spacing, edges.noise_of(volume.values[_box(mask)]),
                           edges.HalfMaximum(limit=limit))
        return Lumen("given mask, refined", edge.field, edge.deviation, edge.calcium, limit, 0.95, blur=edge.blur,
                     noise=edge.noise, n_tubes=0)
    smooth = ndimage.gaussian_filter(share, 0.7) - 0.5
    smooth = np.where(mask == (smooth > 0), smooth, np.where(mask, 0.02, -0.02))
    field = distance.reinitialise(-smooth, volume.spacing, limit)
    deviation = np.full(field.shape, MASK_DEVIATION * float(np.cbrt(volume.voxel_volume)))
    return Lumen("given mask", field, deviation, np.zeros(field.shape, bool), limit, 1.0)


def _chosen(labels: Volume, path: Path, table: Path | None, wanted: tuple[str, ...]) -> Volume:
    """The mask (0 or 1) of what is arterial lumen in a label map."""
    values = np.round(np.asarray(labels.values, float)).astype(int)
    if values.ndim != 3:
        raise BadInput("mask_not_3d", f"{path.name} has {values.ndim} axes", "a mask with three axes",
                       "Give one volume.")
    present = [int(v) for v in np.unique(values) if v != 0]
    if not present:
        raise BadInput("empty_mask", f"{path.name} is empty", "a mask of the lumen", "Give another file.")
    names = _names(path, table)
    if wanted:
        index = [v for v in present if str(v) in wanted or names.get(v) in wanted]
    elif names:
        index = [v for v in present if anatomy.is_artery(names.get(v, ""))]
    else:
        index = present if len(present) == 1 else []
    if not index:
        raise BadInput("labels_without_artery", f"{path.name} has the labels {_listed(present, names)}, none an artery",
                       "one label, or names such as arterial_lumen or aorta beside several",
                       "Give the table too (--use segment.table=labels.tsv), or name the labels in the setting "
                       "segment.lumen_labels.")
    return labels.but(np.isin(values, index).astype(np.float32))


def _listed(present: list[int], names: dict[int, str]) -> str:
    words = [names.get(v, str(v)) for v in present]
    return ", ".join(words[:6]) + (", ..." if len(words) > 6 else "")


def _names(path: Path, table: Path | None) -> dict[int, str]:
    """Label number to name: from the table, else from the file's own header (as TotalSegmentator writes it)."""
    if table is not None:
        with table.open(newline="", encoding="utf-8") as file:
            return {int(row["index"]): row["name"] for row in csv.DictReader(file, delimiter="\t")}
    header: object = getattr(nibabel.load(path), "header", None)
    for extension in getattr(header, "extensions", []):
        content = extension.get_content()
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
        try:
            root = ElementTree.fromstring(text.strip("\0 \n"))
        except ElementTree.ParseError:
            continue
        return {int(label.get("Key", -1)): str(label.text) for label in root.iter("Label")}
    return {}


def _on_grid(mask: Volume, volume: Volume, path: Path) -> np.ndarray:
    """The mask's share in each voxel of the image (trilinear), refused when most of it lies elsewhere."""
    if mask.values.shape == volume.values.shape and np.allclose(mask.affine, volume.affine, atol=1e-2):
        return np.asarray(mask.values, np.float32)
    to_mask = np.linalg.inv(mask.affine) @ volume.affine
    share = ndimage.affine_transform(np.asarray(mask.values, np.float32), to_mask[:3, :3], to_mask[:3, 3],
                                     volume.values.shape, order=1)
    here, whole = float(share.sum()) * volume.voxel_volume, float(mask.values.sum()) * mask.voxel_volume
    if here < 0.5 * whole:
        raise BadInput("mask_outside_image", f"Only {100 * here / whole:.0f} % of {path.name} lies inside the image",
                       "a mask of the same scan", "Check that mask and scan share one frame (RAS or LPS).")
    return share


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count == 0:
        raise BadInput("empty_mask", "The mask has no voxel left on the image's grid", "a lumen of several voxels",
                       "Give a finer mask.")
    size = np.bincount(labels.ravel())
    size[0] = 0
    return ndimage.binary_fill_holes(labels == int(np.argmax(size)))


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    return ndimage.find_objects(mask.astype(int))[0]
