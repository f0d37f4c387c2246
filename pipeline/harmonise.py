"""One image of a person laid on another: registered, on its grid, its intensities on a known scale, its error told.

The reference stays untouched. Where scanner and files say that both share one frame (a hybrid PET/CT), that holds
unless the registration moves the image by more than twice its own error and mutual information says that it should.
CT stays HU, PET becomes SUV where its header allows, MR loses the shading of its coil and gets a named scale.

The error joins the spread of repeats from other starts with half of the longest voxel edge: repeats share their bias
(a lung breathes in PET and holds still in CT), which no spread shows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import hypot
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk

from pipeline import formats
from pipeline.stage import Config, Files, Report
from pipeline.table import Row, write_rows
from solvers.errors import BadInput, DidNotConverge
from solvers.geometry.volume import Volume
from solvers.registration import agreement, grids, intensity, outline, rigid, warp
from solvers.registration.agreement import Agreement, Scene
from solvers.units import Angle, Length

VERSION = 1
SOURCES = ["Mattes et al. 2003 (mutual information), doi:10.1109/TMI.2003.809072",
           "Lowekamp et al. 2013 (SimpleITK), doi:10.3389/fninf.2013.00045",
           "Rueckert et al. 1999 (B-spline deformation), doi:10.1109/42.796284",
           "Tustison et al. 2010 (N4 bias correction), doi:10.1109/TMI.2010.2046908"]
LEAST_FIELD = 0.05
"""Of the reference's body: less in common and nothing can be said of the rest."""


class HarmoniseConfig(Config):
    """`transform`: none lays the image where its header says, without asking whether that is right."""

    transform: Literal["none", "rigid", "deformable"] = "rigid"
    finest: Length = "2 mm"
    """The optimiser sees no finer voxels."""
    control_spacing: Length = "50 mm"
    """Between control points of the deformable part."""
    repeats: int = 4
    """Registrations from other starts, for the error."""
    start_shift: Length = "8 mm"
    start_turn: Angle = "4 deg"
    """How far these starts are moved and turned at most, along and about each axis."""
    seed: int = 1
    least_dice: float = 0.8
    """Of the two bodies within the field that both images hold: below it refused, or marked where one frame holds."""
    interpolator: Literal["linear", "cubic"] = "linear"
    """Labels always take the nearest voxel."""
    correct_bias: bool = True
    """N4, of MR only."""
    scale: intensity.Scale = "robust_z"
    """Of MR only."""


class HarmoniseInputs(Files):
    """The image to lay and the one to lay it on, with their sidecars; labels drawn on the image's own grid."""

    volume: Path
    sidecar: Path
    reference: Path
    reference_sidecar: Path
    labels: Path | None = None


class HarmoniseOutputs(Files):
    volume: Path = Path("volume.nii.gz")
    """On the reference's grid, float; not a number where the image holds nothing."""
    sidecar: Path = Path("volume.json")
    transform: Path = Path("transform.tfm")
    """Points of the reference to points of the image, LPS mm."""
    moved: Path | None = Path("moved.nii.gz")
    """The image's own voxels laid on the reference: a rigid transform changes only their header. Absent where the
    frame was kept."""
    labels: Path | None = Path("labels.nii.gz")
    """On the reference's grid."""
    measurements: Path = Path("measurements.csv")


class HarmoniseReport(Report):
    transform: str
    """identity, rigid or deformable."""
    why: str
    shift_mm: float
    error_mm: float | None
    dice: tuple[float, float]
    """Before and after, as are the next two."""
    overlap: tuple[float, float]
    mutual_information: tuple[float, float]
    quality: str


@dataclass(frozen=True)
class Image:
    """A volume with what its sidecar knows and the mask of its body."""

    volume: Volume
    facts: dict[str, Any]
    body: np.ndarray

    @property
    def modality(self) -> str:
        return str(self.facts["modality"])


@dataclass(frozen=True)
class Laid:
    """What was decided. shift, error, spread: mm over the reference's body, of what the registration found."""

    transform: sitk.Transform
    kind: str
    why: str
    before: Agreement
    after: Agreement
    shift: float = 0.0
    spread: float | None = None
    error: float | None = None
    quality: str = "ok"


def harmonise(inputs: HarmoniseInputs, config: HarmoniseConfig, outputs: HarmoniseOutputs) -> HarmoniseReport:
    """The image on the reference, with the evidence that it lies there."""
    fixed, raw = _read(inputs.reference, inputs.reference_sidecar), _read(inputs.volume, inputs.sidecar)
    moving, done = _intensities(raw, config)
    laid = _checked(_laid(fixed, moving, config), fixed, moving, config)
    _write(inputs, outputs, config, fixed, moving, laid)
    formats.write_json(outputs.sidecar, _facts(fixed, moving, laid, config, done))
    write_rows(outputs.measurements, _rows(laid, fixed, moving))
    return HarmoniseReport(
        transform=laid.kind, why=laid.why, shift_mm=round(laid.shift, 3),
        error_mm=None if laid.error is None else round(laid.error, 3), dice=_pair(laid, "dice"),
        overlap=_pair(laid, "overlap"), mutual_information=_pair(laid, "mutual_information"), quality=laid.quality)


def _pair(laid: Laid, name: str) -> tuple[float, float]:
    return round(getattr(laid.before, name), 4), round(getattr(laid.after, name), 4)


# What is given


def _read(path: Path, sidecar: Path) -> Image:
    volume, facts = formats.read_volume(path), formats.read_json(sidecar)
    if volume.values.ndim != 3:
        raise BadInput("not_one_volume", f"{path.name} holds a series of volumes", "one volume",
                       "Take one time point or echo of it.")
    if facts.get("modality") not in ("CT", "MR", "PT"):
        raise BadInput("no_registration", f"{path.name} is {facts.get('modality')}", "CT, MR or PT")
    body = outline.body(volume, facts["modality"])
    if not body.any():
        raise BadInput("no_body", f"no body was found on {path.name}", "an image of a body")
    return Image(volume, facts, body)


def _intensities(image: Image, config: HarmoniseConfig) -> tuple[Image, dict[str, Any]]:
    """The image on the scale it is written in, and what was done, by name with its numbers."""
    if image.modality == "PT":
        return _suv(image)
    if image.modality == "CT":
        return image, {"intensity": "HU, untouched"}
    told: dict[str, Any] = {"bias_correction": "none"}
    volume = image.volume
    if config.correct_bias:
        flat = intensity.unshade(volume, image.body)
        volume, told = flat.image, {"bias_correction": "N4", "bias_variation": round(flat.variation, 4)}
    scaled = intensity.scaled(volume, image.body, config.scale)
    told |= {"intensity": config.scale, "intensity_offset": scaled.offset, "intensity_unit": scaled.unit}
    return Image(scaled.image, image.facts, image.body), told


def _suv(image: Image) -> tuple[Image, dict[str, Any]]:
    scale = image.facts.get("suv_bw_scale")
    if scale is None:
        return image, {"intensity": "as given: the header allows no SUV"}
    suv = image.volume.but(np.asarray(image.volume.values, np.float32) * np.float32(scale))
    return Image(suv, image.facts | {"suv_bw_scale": 1.0, "units": "g/mL"}, image.body), {"intensity": "SUV, g/mL"}


def _share_frame(fixed: Image, moving: Image) -> bool:
    frames = [i.facts.get("frame_of_reference", "") for i in (fixed, moving)]
    return bool(frames[0]) and frames[0] == frames[1]


# What is decided


def _laid(fixed: Image, moving: Image, config: HarmoniseConfig) -> Laid:
    scene = Scene(fixed.volume, fixed.body, moving.volume, moving.body)
    still = rigid.identity(scene)
    before = agreement.judge(scene, still)
    if config.transform == "none":
        return Laid(still, "identity", "no registration was asked for", before, before)
    starts = [still] if _share_frame(fixed, moving) else [still, rigid.centred(scene)]
    modalities, scheme = (fixed.modality, moving.modality), _scheme(config)
    try:
        found = rigid.solve(scene, modalities, scheme, starts)
    except DidNotConverge as error:
        if not _share_frame(fixed, moving):
            raise
        return Laid(still, "identity", f"one frame of reference, kept: {error.happened}", before, before,
                    quality="screening")
    laid = _rigid(scene, found, before, _shares(fixed, moving, found))
    if config.transform == "deformable":
        bent = warp.solve(scene, modalities, scheme, warp.Bend(control=1000 * float(config.control_spacing)), found)
        return _deformable(scene, bent, laid)
    return laid


def _shares(fixed: Image, moving: Image, found: rigid.Rigid) -> float | None:
    """Spread of mutual information where one frame is to be kept; None where there is none to keep."""
    return found.gain_spread if _share_frame(fixed, moving) else None


def _scheme(config: HarmoniseConfig) -> rigid.Scheme:
    return rigid.Scheme(finest=1000 * float(config.finest), repeats=config.repeats, seed=config.seed,
                        shift=1000 * float(config.start_shift), turn=float(config.start_turn))


def _rigid(scene: Scene, found: rigid.Rigid, before: Agreement, kept: float | None) -> Laid:
    """The rigid transform, or the frame as it was. kept: the spread that a gain must pass; None without a frame."""
    after = agreement.judge(scene, found.transform)
    shift, error = _shift(scene, found.transform), _error(scene, found.spread)
    laid = Laid(found.transform, "rigid", "found by mutual information", before, after, shift, found.spread, error)
    if kept is None:
        return laid
    why = _reason_to_stay(laid, kept)
    return replace(laid, transform=rigid.identity(scene), kind="identity", why=f"one frame of reference, kept: {why}",
                   after=before) if why else laid


def _reason_to_stay(laid: Laid, gain_spread: float) -> str:
    assert laid.error is not None
    if laid.shift <= 2 * laid.error:
        return f"the registration moves it by {laid.shift:.1f} mm, its error is {laid.error:.1f} mm"
    if laid.after.mutual_information <= laid.before.mutual_information + 2 * gain_spread:
        return "mutual information does not rise beyond its spread"
    return "the bodies overlap less" if laid.after.dice < laid.before.dice - warp.DICE_LOST else ""


def _deformable(scene: Scene, bent: warp.Warp, laid: Laid) -> Laid:
    """The spline where it earns its place, else what there was, and why."""
    if bent.refused:
        return replace(laid, why=f"{laid.why}; the deformable part is left out: {bent.refused}")
    why = f"found by mutual information; volume changes by {bent.jacobian[0]:.2f} to {bent.jacobian[1]:.2f}"
    return Laid(bent.transform, "deformable", why, laid.before, agreement.judge(scene, bent.transform),
                _shift(scene, bent.transform), bent.spread, _error(scene, bent.spread))


def _shift(scene: Scene, transform: sitk.Transform) -> float:
    """Mean distance in mm by which the transform moves the reference's body."""
    points = agreement.body_points(scene.fixed, scene.fixed_body)
    return float(np.linalg.norm(grids.mapped(transform, points) - points, axis=1).mean())


def _error(scene: Scene, spread: float) -> float:
    return hypot(spread, 0.5 * float(max(scene.fixed.spacing.max(), scene.moving.spacing.max())))


def _checked(laid: Laid, fixed: Image, moving: Image, config: HarmoniseConfig) -> Laid:
    """Marked where the frame says so although the bodies do not fit; refused where only the registration did."""
    fault = _fault(laid, config)
    if not fault:
        return laid
    if laid.kind != "identity" and not _share_frame(fixed, moving):
        raise fault
    still = sitk.Euler3DTransform()
    return replace(laid, transform=still, kind="identity", why=f"the frame of the header, kept: {fault.happened}",
                   after=laid.before, quality="screening")


def _fault(laid: Laid, config: HarmoniseConfig) -> BadInput | None:
    after = laid.after
    if after.field < LEAST_FIELD:
        return BadInput("no_common_field", f"the images share {100 * after.field:.0f} % of the reference's body",
                        f"{100 * LEAST_FIELD:.0f} %", "Give two scans of the same part of the body.")
    if after.dice < config.least_dice:
        return BadInput("poor_overlap", f"the bodies overlap poorly after registration (Dice {after.dice:.2f})",
                        f"{config.least_dice:g}", "Look at both scans; --set harmonise.least_dice=0.6 allows more.")
    if after.mutual_information < laid.before.mutual_information and laid.before.field > 0.5:
        return BadInput("registration_worse", "the images agree less after registration than before it",
                        "more mutual information", "Lay them by their headers: --set harmonise.transform=none.")
    return None


# What is written


def _write(inputs: HarmoniseInputs, outputs: HarmoniseOutputs, config: HarmoniseConfig, fixed: Image, moving: Image,
           laid: Laid) -> None:
    on_grid = grids.resample(moving.volume, fixed.volume, laid.transform, config.interpolator)
    formats.write_volume(outputs.volume, on_grid, np.float32)
    assert outputs.moved is not None and outputs.labels is not None
    if laid.kind != "identity":
        formats.write_volume(outputs.moved, _moved(moving, laid, config), np.float32)
    if inputs.labels is not None:
        labels = grids.resample(_labels(inputs.labels, moving), fixed.volume, laid.transform, "nearest", 0.0)
        formats.write_volume(outputs.labels, labels, np.uint16)
    sitk.WriteTransform(laid.transform, str(outputs.transform))


def _labels(path: Path, moving: Image) -> Volume:
    given = formats.read_volume(path)
    if given.values.shape != moving.volume.values.shape or not np.allclose(given.affine, moving.volume.affine,
                                                                           atol=1e-2):
        raise BadInput("mask_of_another_grid", f"{path.name} is not on the grid of the image to move",
                       "labels voxel by voxel of that image", "Resample the labels onto it.")
    return given.but(np.round(np.asarray(given.values, float)))


def _moved(moving: Image, laid: Laid, config: HarmoniseConfig) -> Volume:
    """The image's own grid carried onto the reference, the deformable part resampled there."""
    if laid.kind == "rigid":
        return Volume(moving.volume.values, np.linalg.inv(grids.matrix(laid.transform)) @ moving.volume.affine)
    assert isinstance(laid.transform, sitk.CompositeTransform)
    stiff = laid.transform.GetNthTransform(0)
    there = Volume(moving.volume.values, np.linalg.inv(grids.matrix(stiff)) @ moving.volume.affine)
    return grids.resample(moving.volume, there, laid.transform, config.interpolator)


def _facts(fixed: Image, moving: Image, laid: Laid, config: HarmoniseConfig, done: dict[str, Any]) -> dict[str, Any]:
    """The sidecar of the image in its new place: what it was, its new grid and frame, and the evidence."""
    evidence = {"transform": laid.kind, "why": laid.why, "shift_mm": round(laid.shift, 4), "error_mm": laid.error,
                "spread_mm": laid.spread, "before": laid.before, "after": laid.after, "quality": laid.quality,
                "interpolator": config.interpolator, "reference_modality": fixed.modality, "outside": "NaN"} | done
    units = "arbitrary" if moving.modality == "MR" else moving.facts.get("units", "arbitrary")
    grid = {"size": list(fixed.volume.values.shape), "spacing_mm": [round(float(s), 6) for s in fixed.volume.spacing],
            "frame_of_reference": fixed.facts.get("frame_of_reference", ""), "slice_ids": [], "resampled": True}
    return moving.facts | grid | {"units": units, "harmonised": evidence}


def _rows(laid: Laid, fixed: Image, moving: Image) -> Iterator[Row]:
    base = Row(stage="harmonise", region="body", quality=laid.quality,
               method=f"{moving.modality} on {fixed.modality}, {laid.kind}: {laid.why}")
    for statistic, found in (("before", laid.before), ("after", laid.after)):
        yield base.but(measure="body_dice", statistic=statistic, value=found.dice, unit="1")
        yield base.but(measure="body_overlap", statistic=statistic, value=found.overlap, unit="1")
        yield base.but(measure="mutual_information", statistic=statistic, value=found.mutual_information, unit="nat")
    if laid.error is not None and laid.spread is not None:
        how = f"spread of repeats {laid.spread:.2f} mm and half of the longest voxel edge"
        yield base.but(measure="registration_shift", statistic="mean", value=laid.shift, unit="mm")
        yield base.but(measure="registration_error", statistic="rms", value=laid.error, unit="mm",
                       method=f"{base.method}; {how}")
