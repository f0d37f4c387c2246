"""From headers to series: frames grouped, checked and placed, each series usable or refused with its reason.

Nothing is decoded here. A series with a doubt is refused whole: a volume that
exists is one whose every slice is accounted for.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.ingest import suv
from pipeline.ingest.codecs import plain_uid
from pipeline.ingest.discover import Found
from pipeline.ingest.problems import refusal
from pipeline.ingest.split import Frame, Head, split
from solvers.errors import BadInput
from solvers.geometry import frames as geometry

_NO_IMAGE = {"1.2.840.10008.1.3.10"}
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_LOSSY = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81"}
_MAYBE_LOSSY = {"1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203"}
_SYNTAXES = {"1.2.840.10008.1.2" + s for s in (
    "", ".1", ".2", ".1.99", ".5", ".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91", ".4.201",
    ".4.202", ".4.203")}
MODALITIES = ("CT", "MR", "PT")


@dataclass(frozen=True)
class Series:
    """A volume (or a time series of it) that can be read, or the reason why not.

    `rows[t][k]`: frames by time and slice. `affine`: LPS mm. `facts`: header of
    the first file. `files`: numbers of all files that belong to it. `gradients`:
    directions of diffusion by time, LPS. `shifts`: how its slices are resampled.
    `copies`: numbers of files that are copies of others. `region`: of a mask, its
    number, name and the series that it was drawn on.
    """

    name: str
    patient: str
    modality: str
    files: tuple[int, ...]
    facts: Head
    problem: BadInput | None = None
    rows: tuple[tuple[Frame, ...], ...] = ()
    affine: np.ndarray | None = None
    size: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    times_ms: tuple[float, ...] = ()
    b_values: tuple[float, ...] = ()
    gradients: tuple[tuple[float, ...], ...] = ()
    residual_mm: float = 0.0
    shifts: geometry.Shifts | None = None
    region: Head | None = None
    copies: tuple[int, ...] = ()

    @property
    def is_volume(self) -> bool:
        """Usable, and one volume, not a time series."""
        return self.problem is None and len(self.size) == 3 and self.region is None

    @property
    def spacing(self) -> list[float]:
        """Voxel edge lengths, mm."""
        return [] if self.affine is None else np.linalg.norm(self.affine[:3, :3], axis=0).tolist()


def build(files: Sequence[Found], heads: Sequence[Head], doubtful: Sequence[Found] = (),
          accept: Collection[str] = ()) -> list[Series]:
    """All series of the scan, usable or refused, in a stable order.

    doubtful: files that should be slices by their name and are not DICOM.
    accept: codes of refusals that the person overrules.
    """
    groups, loose = _by_series(files, heads)
    found: list[Series] = []
    for numbers in groups.values():
        doubts = [heads[i]["problem"] for i in loose if _near(i, numbers, files)]
        found += _dicom(numbers, files, heads, doubts, accept)
    found = [_with_doubt(s, files, {d.folder for d in doubtful}) for s in found]
    alone = [i for i in loose if not any(_near(i, numbers, files) for numbers in groups.values())]
    found += [_refused(f"file-{i + 1:03d}", [i], heads, refusal(heads[i]["problem"])) for i in alone]
    found += [_grid(i, files, heads[i], accept) for i, f in enumerate(files) if f.kind != "dicom"]
    return named(sorted(found, key=lambda s: (s.patient, s.name, min(s.files))))


def _by_series(files: Sequence[Found], heads: Sequence[Head]) -> tuple[dict[str, list[int]], list[int]]:
    """DICOM files by series; files with a problem and no series are loose."""
    groups: dict[str, list[int]] = defaultdict(list)
    loose = []
    for i, (found, head) in enumerate(zip(files, heads, strict=True)):
        if found.kind != "dicom" or head.get("sop_class") in _NO_IMAGE or head.get("regions") is not None:
            continue
        if head["series"]:
            groups[head["series"]].append(i)
        elif head["problem"] is None:
            groups[f"without-uid-{found.folder}"].append(i)
        else:
            loose.append(i)
    return dict(groups), loose


def _near(loose: int, numbers: list[int], files: Sequence[Found]) -> bool:
    """Whether a broken file lies in a folder of the series: it may be one of its slices."""
    return any(files[n].folder == files[loose].folder for n in numbers)


def _with_doubt(one: Series, files: Sequence[Found], doubtful: Collection[str]) -> Series:
    if not any(files[n].folder in doubtful for n in one.files):
        return one
    return replace(one, warnings=(*one.warnings, "the series may be incomplete: beside its slices lie files named "
                                                 "like DICOM that are not"))


def _refused(name: str, numbers: Sequence[int], heads: Sequence[Head], problem: BadInput,
             warnings: Sequence[str] = ()) -> Series:
    head = heads[numbers[0]]
    return Series(name, head.get("patient", ""), head.get("modality") or "", tuple(numbers), head, problem,
                  warnings=tuple(warnings))


def named(found: list[Series]) -> list[Series]:
    """The same series with names that are unique."""
    seen: Counter[str] = Counter()
    result = []
    for series in found:
        seen[series.name] += 1
        again = seen[series.name]
        result.append(series if again == 1 else replace(series, name=f"{series.name}-{again}"))
    return result


# One file, one volume

ACCEPTABLE = geometry.ACCEPTABLE | {"conflicting_geometry": "the sform of a NIfTI is believed, not its qform"}
"""Refusals that a person may overrule, and what is done then."""


def _grid(number: int, files: Sequence[Found], head: Head, accept: Collection[str]) -> Series:
    name = f"file-{number + 1:03d}"
    if head["problem"]:
        return _refused(name, [number], [head] * (number + 1), refusal(head["problem"]))
    if head.get("conflict"):
        if "conflicting_geometry" not in accept:
            problem = BadInput("conflicting_geometry", head["conflict"], "one place for the image",
                               "Correct the header. To believe its sform: --accept conflicting_geometry.")
            return _refused(name, [number], [head] * (number + 1), problem)
        head["warnings"].append(f"{head['conflict']}; overruled: {ACCEPTABLE['conflicting_geometry']}")
    n_times = head["shape"][3] if len(head["shape"]) == 4 else 0
    times = tuple(1000.0 * (head["step_s"] or 0) * k for k in range(n_times))
    return Series(name, f"file:{files[number].name}", "", (number,), head, affine=np.array(head["affine"]),
                  size=tuple(head["shape"]), warnings=tuple(head["warnings"]), times_ms=times)


# DICOM

def _dicom(numbers: list[int], files: Sequence[Found], heads: Sequence[Head], doubts: list[list[str]],
           accept: Collection[str]) -> list[Series]:
    """The volumes of one SeriesInstanceUID, or its refusal."""
    first = heads[numbers[0]]
    name = f"{first.get('modality') or 'XX'}-s{first.get('series_number') or 0:03d}"
    warnings: list[str] = []
    given = numbers
    try:
        numbers = _without_copies(given, files, heads, warnings)
        _check_files(numbers, heads, doubts)
        _check_one_patient(numbers, heads)
        frames = [f for n in numbers for f in _frames_of(n, heads[n])]
        _check_frames(frames, heads)
        found = [_placed(f"{name}{suffix}", part, heads, [*warnings, *_doubtful(numbers, part, heads)], accept)
                 for suffix, part in split(frames, first["modality"])]
    except BadInput as problem:
        found = [_refused(name, numbers, heads, problem, warnings)]
    copies = tuple(n for n in given if n not in set(numbers))
    return [replace(found[0], copies=copies), *found[1:]]


def _without_copies(numbers: list[int], files: Sequence[Found], heads: Sequence[Head],
                    warnings: list[str]) -> list[int]:
    """Files whose SOP instance appears once; exact copies are dropped, contradicting ones refused."""
    seen: dict[str, int] = {}
    kept = []
    for n in numbers:
        sop = heads[n].get("sop") or f"none-{n}"
        if sop in seen and files[n].path.read_bytes() == files[seen[sop]].path.read_bytes():
            continue
        if sop in seen:
            raise BadInput("contradicting_copies", "two files carry the same instance UID but differ (duplicates that "
                           "contradict each other)", "one file per instance", "Remove the wrong copy.")
        seen[sop] = n
        kept.append(n)
    if len(kept) < len(numbers):
        warnings.append(f"{len(numbers) - len(kept)} duplicate files were left out")
    return kept


def _check_files(numbers: list[int], heads: Sequence[Head], doubts: list[list[str]]) -> None:
    problems = [heads[n]["problem"] for n in numbers if heads[n]["problem"]]
    for problem in problems:
        raise _of_n(problem, len(problems), len(numbers))
    first = heads[numbers[0]]
    if all(heads[n]["rows"] is None for n in numbers):
        raise BadInput("no_image", "the series holds no image (a report or the like)", "images",
                       "Add the series of the images themselves.")
    if any(str(heads[n]["sop_class"]).startswith(_CAPTURE) for n in numbers):
        raise BadInput("not_a_volume", "secondary capture images (screenshots) are not a volume", "CT, MR or PET",
                       "Export the original series.")
    if first["modality"] not in MODALITIES:
        known = ("US", "CR", "DX", "MG", "XA", "NM", "OT", "SEG")
        modality = first["modality"] if first["modality"] in known else "other"
        raise BadInput("unsupported_modality", f"modality {modality} is not a volume that can be read here",
                       "CT, MR or PT", "Give another series of the patient.")
    if any(heads[n]["samples"] not in (1, None) or heads[n]["photometric"] not in ("MONOCHROME1", "MONOCHROME2")
           for n in numbers):
        raise BadInput("not_a_volume", "colour (RGB) images are not a volume of measured values", "grey values",
                       "Give the series that was measured.")
    odd = sorted({heads[n]["transfer_syntax"] for n in numbers} - _SYNTAXES)
    if odd:
        raise BadInput("unsupported_transfer_syntax", f"transfer syntax {plain_uid(odd[0])} is unsupported",
                       "a standard syntax", "Export the series uncompressed.")
    if doubts:
        raise _of_n(doubts[0], len(doubts), len(numbers) + len(doubts))
    if any(heads[n]["has_lut"] for n in numbers):
        raise BadInput("unsupported_lut", "a modality lookup table instead of a rescale slope is not supported",
                       "RescaleSlope and RescaleIntercept", "Export the series with a linear scale.")


def _of_n(problem: Sequence[str], n_bad: int, n_all: int) -> BadInput:
    return refusal(problem, f"{n_bad} of {n_all} files: ")


def _check_one_patient(numbers: list[int], heads: Sequence[Head]) -> None:
    for which in range(3):
        if len({heads[n]["identity"][which] for n in numbers}) > 1:
            raise BadInput("mixed_patients", "slices of one series carry the identity of more than one patient",
                           "one patient per series", "Find out whose images these are before going on.")


def _frames_of(number: int, head: Head) -> list[Frame]:
    n_frames = head["n_frames"] or 1
    if n_frames != len(head["frames"]):
        raise BadInput("missing_position", f"the file has {n_frames} frames but positions for {len(head['frames'])}: "
                       "geometry is missing", "a position for each frame", "Export the original series.")
    _check_place(head)
    return [Frame(number, i, tuple(f["position"]), tuple(f["orientation"]), tuple(f["spacing"]),
                  1.0 if f["slope"] is None else f["slope"], f["intercept"] or 0.0, f)
            for i, f in enumerate(head["frames"])]


def _check_place(head: Head) -> None:
    """Each frame needs position, orientation, spacing and a scale that means something."""
    for frame in head["frames"]:
        for part, said in (("position", "ImagePositionPatient"), ("orientation", "ImageOrientationPatient"),
                           ("spacing", "PixelSpacing")):
            if frame[part] is None:
                raise BadInput("missing_position", f"{said} is absent in a slice: its geometry is not known",
                               "position, orientation and spacing of each slice", "Export the original series.")
        if min(frame["spacing"]) <= 1e-3 or max(frame["spacing"]) > 100:
            raise BadInput("invalid_geometry", "PixelSpacing is zero or implausible: invalid spacing",
                           "0.001 to 100 mm", "Export the original series.")
        if frame["slope"] is not None and not 0 < abs(frame["slope"]) < float("inf"):
            raise BadInput("invalid_rescale", "RescaleSlope is zero or not finite: values cannot be had",
                           "a slope other than 0", "Export the original series.")


def _check_frames(frames: list[Frame], heads: Sequence[Head]) -> None:
    """Size, spacing, scale and frame of reference are one for the series."""
    def differ(of: Callable[[Frame], Any]) -> bool:
        return len({of(f) for f in frames}) > 1

    if any(heads[f.file]["localizer"] for f in frames):
        raise BadInput("localizer_only", "the series is a localizer (scout): a few planning slices, not a volume",
                       "a volume scan", "Add the series of the scan itself.")
    if differ(lambda f: (heads[f.file]["rows"], heads[f.file]["columns"])):
        raise BadInput("inconsistent_slices", "slices differ in size (rows and columns)", "one size for all slices",
                       "Two series may be mixed.")
    geometry.in_plane_axes(np.array([f.orientation for f in frames]))
    spacing = np.array([f.spacing for f in frames])
    if np.ptp(spacing, axis=0).max() > 1e-4 * spacing.min():
        raise BadInput("inconsistent_slices", "slices differ in pixel spacing", "one pixel spacing for all slices",
                       "Two series may be mixed.")
    if differ(lambda f: heads[f.file]["modality"]) or differ(lambda f: heads[f.file]["frame_of_reference"]):
        raise BadInput("inconsistent_slices", "slices differ in modality or frame of reference", "one of each",
                       "Two series may be mixed.")
    if differ(lambda f: f.facts["slope"] is None):
        raise BadInput("invalid_rescale", "some slices have a rescale slope and others none", "one convention",
                       "Two series may be mixed: export the series again.")


def _placed(name: str, times: list[list[Frame]], heads: Sequence[Head], warnings: list[str],
            accept: Collection[str]) -> Series:
    """Frames sorted into a grid, or the refusal of this volume."""
    first = heads[times[0][0].file]
    numbers = tuple(sorted({f.file for part in times for f in part}))
    try:
        stacks = [_stack(part, accept, is_series=len(times) > 1) for part in times]
    except BadInput as problem:
        return _refused(name, numbers, heads, problem, warnings)
    one = stacks[0]
    if any(not np.allclose(s.affine, one.affine, atol=0.02) for s in stacks):
        return _refused(name, numbers, heads, BadInput("inconsistent_slices", "time points lie at different places",
                                                       "the same slices at each time", "Export the series again."),
                        warnings)
    rows = tuple(tuple(part[i] for i in stack.order) for part, stack in zip(times, stacks, strict=True))
    return Series(name, first["patient"], first["modality"], numbers, first, None, rows, one.affine,
                  _size(first, rows, one.shifts), (*warnings, *_said_of_tilt(first, one)), _times_ms(rows),
                  *_diffusion(rows), max(s.residual for s in stacks), one.shifts)


def _size(first: Head, rows: tuple[tuple[Frame, ...], ...], shifts: geometry.Shifts | None) -> tuple[int, ...]:
    """Columns, rows, slices (and times) of the volume that comes out."""
    wider, n_slices = (shifts.wider, shifts.n_slices) if shifts else ((0, 0), len(rows[0]))
    times = [len(rows)] if len(rows) > 1 else []
    return (first["columns"] + wider[0], first["rows"] + wider[1], n_slices, *times)


def _said_of_tilt(first: Head, stack: geometry.Stack) -> tuple[str, ...]:
    if stack.shifts is None and first["tilt"] and abs(first["tilt"]) > 0.1:
        return (f"the header says gantry tilt {first['tilt']:.1f} degrees; positions show an upright stack",)
    return stack.corrected


def _stack(part: list[Frame], accept: Collection[str], *, is_series: bool) -> geometry.Stack:
    """The grid of the slices at one time; one slice is enough where it was imaged over time."""
    if is_series and len(part) == 1 and (part[0].facts["thickness"] or 0) > 0:
        one = part[0]
        return geometry.single(np.array(one.position), np.array(one.orientation), one.spacing, one.facts["thickness"])
    if len(part) < 2:
        raise BadInput("too_few_slices", "a single slice is not a volume: too few slices", "several slices",
                       "Give the folder of the whole series.")
    decimals = max(f.facts["decimals"] for f in part)
    rounding = min(0.05, 0.5 * 10.0**-decimals) if decimals else 0.0
    thickness = [f.facts["thickness"] for f in part]
    return geometry.stack(np.array([f.position for f in part]), np.array([f.orientation for f in part]),
                          part[0].spacing, None if None in thickness else np.array(thickness, float), rounding, accept)


def _times_ms(rows: tuple[tuple[Frame, ...], ...]) -> tuple[float, ...]:
    """Times of the time points from the first, ms: by trigger, else by acquisition time."""
    if len(rows) == 1:
        return ()
    for name, scale in (("trigger_ms", 1.0), ("moment", 1000.0)):
        values = [part[0].facts[name] for part in rows]
        if None not in values and len(set(values)) == len(values):
            return tuple(scale * (v - values[0]) for v in values)
    return ()


def _diffusion(rows: tuple[tuple[Frame, ...], ...]) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """b-value and direction of each time point, each only where all are known."""
    b_values = [part[0].facts["b_value"] for part in rows]
    gradients = [part[0].facts["gradient"] for part in rows]
    if None in b_values:
        return (), ()
    return tuple(b_values), () if None in gradients else tuple(tuple(g) for g in gradients)


def _doubtful(numbers: list[int], times: list[list[Frame]], heads: Sequence[Head]) -> list[str]:
    """What a person should know of a series that can be read."""
    first, said = heads[numbers[0]], []
    n_slices = sum(len(part) for part in times)
    announced = first["announced"] or 0
    if announced > sum(heads[n]["n_frames"] or 1 for n in numbers):
        said.append(f"the series may be incomplete: ImagesInAcquisition says {announced}, {n_slices} are present")
    if first["modality"] == "PT" and (first["announced_slices"] or 0) > len(times[0]):
        said.append(f"the series may be incomplete: NumberOfSlices says {first['announced_slices']}, {len(times[0])} "
                    "are present")
    if any(heads[n]["lossy"] or heads[n]["transfer_syntax"] in _LOSSY for n in numbers):
        said.append("the images were compressed with loss (lossy): values are approximate")
    elif any(heads[n]["transfer_syntax"] in _MAYBE_LOSSY for n in numbers):
        said.append("the images are JPEG 2000 of the kind that may be lossy: values may be approximate")
    if first["assumed"]:
        said.append(first["assumed"])
    if first["burned_in"]:
        said.append("the header says that text is burned into the images")
    if first["modality"] == "PT":
        said += suv.body_weight(first["pet"], first["weight_kg"]).warnings
    return said
