"""From a contrast scan to the lumen of its large arteries, with how sure its edge is, and to body, lung and bone.

Given the weights of a network for it, from T1-weighted MR to the brain instead.

One method a file: `arteries` (automatic), `given` (a mask that someone made), `body` (CT), `organs` (CT), `brain`
(T1-weighted MR), `labels` (the label map and its table), `preview` (a picture to look at).
"""

from pathlib import Path

import numpy as np

from pipeline import formats
from pipeline.segment import arteries, body, brain, given, labels, organs, preview
from pipeline.segment.result import Lumen
from pipeline.stage import Config, Files, Report
from solvers.errors import BadInput
from solvers.geometry.volume import Volume
from solvers.units import Length

VERSION = 3
SOURCES = ["Sethian 1999 (fronts), doi:10.1137/S0036144598347059",
           "Hoogeveen, Bakker & Viergever 1998 (limits of width measurement), doi:10.1002/jmri.1880080523",
           "Wasserthal et al. 2023 (names of labels), doi:10.1148/ryai.230024"]


class SegmentConfig(Config):
    shortest_tube: Length = "40 mm"
    """The main artery must be seen over this length (or over three times its radius, if that is more)."""
    smallest_tube: Length = "4.5 mm"
    """The main artery's least radius."""
    thinnest_branch: Length = "3 mm"
    """Far ends of branches below this diameter are left out."""
    shortest_branch: Length = "6 mm"
    refine_given: bool = False
    """Move the edge of a given mask to the half-maximum of the image (needs contrast)."""
    lumen_labels: tuple[str, ...] = ()
    """Names or numbers of the labels in a given mask that are arterial lumen; none: every artery by name."""
    organs: bool = False
    """Look for organs, lungs, fat, muscle and bones too (CT only); what is not found is named in the report. Not asked
    for by itself, as their limits are known from few scans."""
    brain_memory_gib: float = 2.0
    """Held at once, at most, where a network finds the brain."""


class SegmentInputs(Files):
    volume: Path
    sidecar: Path | None = None
    labels_given: Path | None = None
    table_given: Path | None = None
    brain_model: Path | None = None
    """A folder with the weights of a MeshNet: then the brain is looked for, and no vessel."""


class SegmentOutputs(Files):
    labels: Path = Path("labels.nii.gz")
    table: Path = Path("labels.tsv")
    lumen: Path | None = Path("lumen.nii.gz")
    inner: Path | None = Path("inner.nii.gz")
    outer: Path | None = Path("outer.nii.gz")
    aorta: Path | None = Path("aorta.nii.gz")
    """The aorta's trunk, where found: the table's numbers for its lumen, a false lumen, and what lies between."""
    preview: Path | None = Path("preview.png")


class SegmentReport(Report):
    method: str
    lumen_volume_ml: float
    lumen_intensity: float | None
    blur_sigma_mm: float | None
    noise: float | None
    edge_sd_median_mm: float | None
    edge_sd_p95_mm: float | None
    n_tubes: int
    n_branches: int
    n_leaks_stopped: int
    calcification_ml: float
    leaves_image: bool
    aorta_volume_ml: float | None = None
    false_lumen_ml: float | None = None
    second_lumen: str = ""
    """`none`, `contrast`, or `no contrast`: something fills the aorta beside its lumen, clot perhaps; not segmented."""
    valve_seen: bool = False
    organs_found: tuple[str, ...] = ()
    """Names; `(part)` where the image cuts it."""
    organs_not_found: tuple[str, ...] = ()
    """Names, and why."""
    n_vertebrae: int = 0


def segment(inputs: SegmentInputs, config: SegmentConfig, outputs: SegmentOutputs) -> SegmentReport:
    volume = _checked(formats.read_volume(inputs.volume))
    if inputs.brain_model:
        return _of_brain(volume, inputs.brain_model, config, outputs)
    is_ct = _is_ct(volume, inputs.sidecar)
    if inputs.labels_given:
        lumen = given.lumen(volume, inputs.labels_given, inputs.table_given, config.lumen_labels, config.refine_given)
    else:
        lumen = arteries.lumen(volume, is_ct, arteries.Limits(
            *(1000 * float(v) for v in (config.shortest_tube, config.smallest_tube, config.thinnest_branch,
                                        config.shortest_branch))))
    told = _labelled(volume, lumen, is_ct, config.organs, outputs)
    _write_fields(outputs, volume, lumen)
    if outputs.aorta and lumen.aorta is not None:
        formats.write_volume(outputs.aorta, volume.but(labels.aorta(lumen)), np.uint8)
    if outputs.preview:
        preview.write(outputs.preview, volume, lumen)
    return _report(volume, lumen).model_copy(update=told)


def _labelled(volume: Volume, lumen: Lumen, is_ct: bool, with_organs: bool, outputs: SegmentOutputs
              ) -> dict[str, object]:
    """Writes the label map and its table; what the report says of organs. Their masks, a byte a voxel each, end here.
    """
    masks = body.masks(volume, lumen) if is_ct else {}
    others = organs.find(volume, lumen) if is_ct and with_organs else organs.Organs({}, {})
    found = labels.compose(volume, lumen, masks, others)
    formats.write_volume(outputs.labels, volume.but(found.values), np.uint8)
    labels.write_table(outputs.table, found)
    return _told(others)


def _of_brain(volume: Volume, model: Path, config: SegmentConfig, outputs: SegmentOutputs) -> SegmentReport:
    """Regions of the brain by a network."""
    regions = brain.find(volume, model, int(config.brain_memory_gib * 2**30))
    found = labels.of_regions(volume, regions)
    formats.write_volume(outputs.labels, volume.but(found.values), np.uint8)
    labels.write_table(outputs.table, found)
    if outputs.preview:
        preview.write_regions(outputs.preview, volume, found.values)
    return SegmentReport(method="MeshNet", lumen_volume_ml=0.0, lumen_intensity=None, blur_sigma_mm=None, noise=None,
                         edge_sd_median_mm=None, edge_sd_p95_mm=None, n_tubes=0, n_branches=0, n_leaks_stopped=0,
                         calcification_ml=0.0, leaves_image=any(not o.is_whole for o in regions.found.values()),
                         ).model_copy(update=_told(regions))


def _checked(volume: Volume) -> Volume:
    """One scalar volume of finite numbers, thick enough to hold a vessel."""
    values = np.asarray(volume.values)
    if values.ndim != 3 or min(values.shape) < 8:
        raise BadInput("volume_too_thin", f"The volume has the shape {values.shape}", "three axes of 8 voxels or more",
                       "Choose another series.")
    return volume.but(np.nan_to_num(values.astype(np.float32)))


def _is_ct(volume: Volume, sidecar: Path | None) -> bool:
    """By the sidecar; without one, by fat and air: no other modality is negative there."""
    modality = formats.read_json(sidecar).get("modality") if sidecar else None
    return modality == "CT" if modality else bool(np.percentile(volume.values, 2) < -50)


def _write_fields(outputs: SegmentOutputs, volume: Volume, lumen: Lumen) -> None:
    fields = ((outputs.lumen, lumen.field), (outputs.inner, lumen.inner), (outputs.outer, lumen.outer))
    for path, field in fields:
        if path:
            formats.write_volume(path, volume.but(np.round(field, 3)), np.float32)


def _report(volume: Volume, lumen: Lumen) -> SegmentReport:
    at_edge = lumen.deviation[np.abs(lumen.field) < volume.spacing.max() / 2]
    ml = volume.voxel_volume / 1000
    inside = lumen.field < 0
    faces = any(inside.take(n, axis).any() for axis in range(3) for n in (0, -1))
    return SegmentReport(
        method=lumen.method, lumen_volume_ml=round(float(inside.sum()) * ml, 3),
        lumen_intensity=_short(lumen.intensity), blur_sigma_mm=_short(lumen.blur), noise=_short(lumen.noise),
        leaves_image=faces, edge_sd_median_mm=round(float(np.median(at_edge)), 4),
        edge_sd_p95_mm=round(float(np.percentile(at_edge, 95)), 4), n_tubes=lumen.n_tubes,
        n_branches=lumen.n_branches, n_leaks_stopped=lumen.n_leaks,
        calcification_ml=round(float(lumen.calcium.sum()) * ml, 4), aorta_volume_ml=_volume(lumen.aorta, ml),
        false_lumen_ml=_volume(lumen.false_lumen, ml), second_lumen=lumen.second_lumen,
        valve_seen=lumen.valve is not None)


def _told(found: organs.Organs) -> dict[str, object]:
    """What the report says of organs."""
    names = tuple(n if o.is_whole else f"{n} (part)" for n, o in sorted(found.found.items()))
    return {"organs_found": names, "n_vertebrae": found.n_vertebrae,
            "organs_not_found": tuple(f"{n}: {why}" for n, why in sorted(found.missing.items()))}


def _volume(mask: np.ndarray | None, ml: float) -> float | None:
    return None if mask is None else round(float(mask.sum()) * ml, 3)


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
