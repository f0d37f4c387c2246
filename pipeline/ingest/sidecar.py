"""volume.json: what later stages may know of a volume. Numbers, flags and closed vocabularies; nothing that names.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.ingest import suv
from pipeline.ingest.codecs import plain_uid
from pipeline.ingest.series import Head, Series

_PHASES = ("arterial", "portal", "venous", "delayed", "native")


def content(series: Series, values: np.ndarray, heads: Sequence[Head], n_not_finite: int) -> dict[str, Any]:
    """The sidecar of a series whose decoded values are `values`, (i, j, k[, t])."""
    facts, said = series.facts, list(series.warnings)
    if n_not_finite:
        said.append(f"{n_not_finite} voxels were not finite; they hold the smallest finite value instead")
    modality, inferred = series.modality, False
    if not modality:
        modality, inferred = infer_modality(values), True
        said.append(f"modality {modality} was inferred from the values, the file does not say it")
    is_dicom = facts["kind"] == "dicom"
    contrast, phase = contrast_of(series)
    scale = suv.body_weight(facts["pet"], facts["weight_kg"]).scale if modality == "PT" and is_dicom else None
    return {
        "modality": modality, "modality_inferred": inferred, "anatomical": bool(facts.get("anatomical", is_dicom)),
        "size": list(values.shape), "spacing_mm": [round(s, 6) for s in series.spacing],
        "corner_mm": [] if series.affine is None else np.round(series.affine[:3, 3], 2).tolist(),
        "has_contrast": contrast, "phase": phase, "body_part": facts.get("body_part"),
        "sex": facts.get("sex"), "age_years": facts.get("age_years"), "weight_kg": facts.get("weight_kg"),
        "height_m": facts.get("height_m"), "warnings": said, "format": facts["kind"],
        "units": {"CT": "HU", "PT": _pet_units(facts)}.get(modality, "arbitrary"), "suv_bw_scale": scale,
        "venc_cm_s": facts.get("venc_cm_s"), "velocity": velocity_of(series), "beat_ms": _first(series, "beat_ms"),
        "b_values_s_per_mm2": list(series.b_values),
        "gradients_lps": [[round(x, 6) for x in g] for g in series.gradients],
        "resampled": series.shifts is not None,
        "times_ms": list(series.times_ms), "echo_time_ms": _first(series, "echo_ms"),
        "frame_of_reference": facts.get("frame_of_reference", ""), "slice_ids": _slice_ids(series, heads),
        "study_id": facts.get("study", ""), "series_id": facts.get("series", ""),
        "sop_class": facts["sop_class"] if plain_uid(facts.get("sop_class", "")) == facts.get("sop_class") else "",
        "slice_residual_mm": round(series.residual_mm, 5),
        "values": {"lowest": float(values.min()), "highest": float(values.max())},
    }


def of_mask(series: Series, values: np.ndarray, said: Sequence[str]) -> dict[str, Any]:
    """The sidecar of a region whose mask is `values`, (i, j, k) of 0 and 1. `drawn_on`: the image's series, if any."""
    assert series.region is not None
    n_voxels = int(np.count_nonzero(values))
    return {
        "modality": series.modality, "region": series.region["name"], "region_number": series.region["number"],
        "drawn_on": series.region["of"], "size": list(values.shape), "anatomical": True, "format": "dicom",
        "spacing_mm": [round(s, 6) for s in series.spacing], "n_voxels": n_voxels,
        "volume_ml": round(n_voxels * float(np.prod(series.spacing)) / 1000.0, 6), "warnings": list(said),
        "frame_of_reference": series.facts["frame_of_reference"], "slice_ids": [],
    }


def _pet_units(facts: Head) -> str:
    units = (facts.get("pet") or {}).get("units", "")
    return {"BQML": "Bq/mL", "GML": "g/mL"}.get(units, "arbitrary")


def _first(series: Series, name: str) -> float | None:
    """A fact of the first frame."""
    return series.rows[0][0].facts[name] if series.rows else None


def velocity_of(series: Series) -> dict[str, Any] | None:
    """What the values are as a velocity (see encoding.of_frame); `scale` None where frames differ in it."""
    flows = [f.facts["flow"] for row in series.rows for f in row]
    if not flows or flows[0] is None:
        return None
    return flows[0] | ({} if all(f == flows[0] for f in flows) else {"scale": None})


def _slice_ids(series: Series, heads: Sequence[Head]) -> list[str]:
    """Keyed ids of the source images of each slice (of the first time point)."""
    return [heads[f.file]["sop"][:16] for f in series.rows[0]] if series.rows else []


def contrast_of(series: Series) -> tuple[bool | None, str | None]:
    """Whether a contrast agent was given, and the phase, as far as the header hints; None is unknown."""
    words = series.facts.get("words", [])
    phase = next((p for p in _PHASES if p in words), None)
    if series.facts.get("agent") or "contrast" in words and "native" not in words or phase in _PHASES[:4]:
        return True, phase
    return (False, phase) if "native" in words else (None, phase)


def infer_modality(values: np.ndarray) -> str:
    """CT where there is air at about -1000 HU (or less), or soft tissue around 0 beside -100; else MR."""
    step = max(1, values.size // 500_000)
    sample = values.ravel(order="K")[::step]
    return "CT" if np.percentile(sample, 1) < -90 else "MR"


def fsl_gradients(series: Series) -> tuple[str, str]:
    """The text of .bval and .bvec: directions along the axes of the written image, FSL's convention.

    Where the axes of the NIfTI are right-handed, the first component changes sign;
    source: https://fsl.fmrib.ox.ac.uk/fsl/docs/#/diffusion/dtifit.
    """
    assert series.affine is not None
    axes = series.affine[:3, :3] / series.spacing
    along = np.array(series.gradients) @ axes
    if np.linalg.det(axes) > 0:
        along[:, 0] *= -1
    lines = [" ".join(f"{x + 0.0:.6g}" for x in row) for row in np.where(np.abs(along) < 5e-7, 0.0, along).T]
    return " ".join(f"{b:g}" for b in series.b_values) + "\n", "\n".join(lines) + "\n"
