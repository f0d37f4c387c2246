"""Which series a recipe gets, and the sentence that says why; why not for each other one."""

from collections.abc import Sequence
from typing import Any

from pipeline.ingest.series import Series
from pipeline.ingest.sidecar import contrast_of
from solvers.errors import BadInput


def choose(found: Sequence[Series], modalities: Sequence[str], name: str | None,
           min_slices: int, prefer_contrast: bool) -> tuple[Series, list[dict[str, Any]]]:
    """The series for the recipe and a table of all: name, chosen, why. Raises BadInput when none fits."""
    if not found:
        raise BadInput("nothing_found", "no image was found", "DICOM, NIfTI, MetaImage or NRRD files",
                       "Point at the folder of the scan.")
    reasons = {s.name: _why_not(s, modalities, min_slices) for s in found}
    if name is not None:
        chosen = _by_name(found, name, reasons)
        why = "asked for by name"
    else:
        fit = [s for s in found if not reasons[s.name]]
        if not fit:
            raise _none_fits(found, reasons)
        chosen = max(fit, key=lambda s: _score(s, prefer_contrast))
        why = _praise(chosen, fit, prefer_contrast)
    rows = [_row(s, s is chosen, why if s is chosen else reasons[s.name] or _less(s, chosen, prefer_contrast))
            for s in found]
    return chosen, rows


def _by_name(found: Sequence[Series], name: str, reasons: dict[str, str]) -> Series:
    chosen = next((s for s in found if s.name == name), None)
    if chosen is None:
        raise BadInput("unknown_series", "no series has the name that was asked for",
                       "one of " + ", ".join(s.name for s in found), "Correct ingest.series.")
    if chosen.problem is not None:
        raise chosen.problem
    if not chosen.is_volume:
        raise BadInput("not_one_volume", reasons[name], "one volume", "Name another series in ingest.series.")
    return chosen


def _why_not(series: Series, modalities: Sequence[str], min_slices: int) -> str:
    """Why the recipe cannot use it; empty when it can."""
    if series.problem is not None:
        return str(series.problem)
    if series.modality and series.modality not in modalities:
        return f"modality {series.modality} where the recipe wants {' or '.join(modalities)}"
    if not series.is_volume:
        return f"a time series of {series.size[3]} volumes, not one volume"
    if series.size[2] < min_slices and min(series.size[:2]) >= min_slices:
        return f"only {series.size[2]} slices, the recipe wants {min_slices}"
    return ""


def _extent(series: Series) -> float:
    """Length of the longest image axis, mm."""
    return max(n * d for n, d in zip(series.size[:3], series.spacing, strict=True))


def _score(series: Series, prefer_contrast: bool) -> tuple[Any, ...]:
    contrast, phase = contrast_of(series)
    original = "DERIVED" not in series.facts.get("image_type", [])
    volume = 1.0
    for n, d in zip(series.size[:3], series.spacing, strict=True):
        volume *= n * d
    return (prefer_contrast and contrast is True, prefer_contrast and phase == "arterial",
            contrast is not False or not prefer_contrast, original, series.size[2], volume)


def _praise(chosen: Series, fit: Sequence[Series], prefer_contrast: bool) -> str:
    what = f"{chosen.size[2]} slices over {chosen.size[2] * chosen.spacing[2]:.0f} mm"
    if len(fit) == 1:
        return f"the only usable series: {what}"
    contrast, phase = contrast_of(chosen)
    told = ", arterial phase" if phase == "arterial" else ", with contrast" if contrast else ""
    return f"the best of {len(fit)} usable series: {what}{told if prefer_contrast else ''}"


def _less(series: Series, chosen: Series, prefer_contrast: bool) -> str:
    """The first criterion by which it falls behind the chosen one."""
    mine, best = _score(series, prefer_contrast), _score(chosen, prefer_contrast)
    names = ("no contrast agent in its header", "not of the arterial phase", "without contrast", "derived images",
             f"fewer slices ({series.size[2]})", "covers less of the body")
    return next((n for n, a, b in zip(names, mine, best, strict=True) if a < b), "as good, but listed later")


def _row(series: Series, is_chosen: bool, why: str) -> dict[str, Any]:
    return {"name": series.name, "modality": series.modality or "unknown", "chosen": is_chosen, "why": why,
            "code": series.problem.code if series.problem else "", "n_files": len(series.files),
            "size": list(series.size), "spacing_mm": [round(s, 4) for s in series.spacing],
            "warnings": list(series.warnings)}


def _none_fits(found: Sequence[Series], reasons: dict[str, str]) -> BadInput:
    """The reason of the most promising series: the one with most files."""
    refused = [s for s in found if s.problem is not None and s.problem.code != "no_image"]
    best = max(refused or found, key=lambda s: len(s.files))
    usable = [s for s in found if s.problem is None]
    if usable and not refused:
        best = max(usable, key=lambda s: s.size[2])
        return BadInput("no_series_fits", f"none of {len(found)} series fits: {reasons[best.name]}", "a fitting series",
                        "See `anatwin ingest` for the list.")
    problem = best.problem or BadInput("nothing_found", "no image was found", "images",
                                              "Point at the folder of the scan.")
    more = f" ({len(found) - 1} other series do not fit either)" if len(found) > 1 else ""
    return BadInput(problem.code, problem.happened + more, problem.wanted, problem.hint)
