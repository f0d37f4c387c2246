"""Every structure that is sought on a CT of the trunk, in the order in which one finding leads to the next."""

from dataclasses import dataclass

import numpy as np

from solvers.imaging.organs import abdomen, bones, heart, lungs, skeleton, tissue, wall
from solvers.imaging.organs.found import Found, Missing
from solvers.imaging.organs.scan import Scan

WHOLE = {"liver": (500.0, 4000.0), "spleen": (40.0, 2500.0), "kidney_left": (60.0, 500.0),
         "kidney_right": (60.0, 500.0)}
"""Volume of an organ that is whole in the image, ml, of adults (also large spleens and single kidneys)."""
HEIGHT = {"liver": (100.0, 300.0), "spleen": (50.0, 250.0), "kidney_left": (65.0, 160.0),
          "kidney_right": (65.0, 160.0)}
"""Extent along the body of an organ that is whole, mm; one that is cut may be less high."""
CUT = 20.0
"""ml: less of an organ that the image cuts is not named."""
METHOD = {"skeleton": 0.9, "lung_left": 0.95, "lung_right": 0.95, "lung_airways": 0.7, "subcutaneous_fat": 0.85,
          "torso_fat": 0.8, "skeletal_muscle": 0.75, "heart": 0.5, "hip": 0.7, "femur": 0.6, "vertebrae": 0.6}
"""Confidence of what thresholds and landmarks tell; that of the organs comes from their edge."""
ORGANS = tuple(WHOLE)
OTHERS = ("skeleton", "lung_left", "lung_right", "lung_airways", "subcutaneous_fat", "torso_fat", "skeletal_muscle",
          "heart", "hip_left", "hip_right", "femur_left", "femur_right")


@dataclass(frozen=True)
class Census:
    """What was found, what was not and why; n_vertebrae: seen over their whole height."""

    found: tuple[Found, ...]
    missing: tuple[Missing, ...]
    n_vertebrae: int = 0


def solve(scan: Scan) -> Census:
    """A structure that is not seen, or seen but not as it should be, is missing: nothing is guessed."""
    reason = _outside_domain(scan)
    if reason:
        return Census((), tuple(Missing(n, reason) for n in (*ORGANS, *OTHERS)))
    bone = bones.find(scan)
    if bone.spine is None:
        return Census((), tuple(Missing(n, "no spine is seen") for n in (*ORGANS, *OTHERS)))
    around, lung = wall.find(scan, bone), lungs.find(scan, bone.spine)
    parts = skeleton.find(scan, bone, lung)
    organs, missing = abdomen.find(scan, bone, around, lung, parts.pelvis)
    fat = tissue.find(scan, bone, around)
    masks = {"skeleton": bone.mask, "lung_left": lung.left, "lung_right": lung.right, "lung_airways": lung.airways,
             "subcutaneous_fat": fat.subcutaneous_fat, "torso_fat": fat.torso_fat,
             "skeletal_muscle": fat.skeletal_muscle} | parts.masks
    beat = heart.find(scan, bone, lung, organs.get("liver", np.zeros(scan.body.shape, bool)))
    if isinstance(beat, Missing):
        missing.append(beat)
    else:
        masks["heart"] = beat
    found = [Found(n, m, METHOD[_kind(n)], not scan.touches_border(m)) for n, m in masks.items() if m.any()]
    known = {f.name for f in found} | {m.name for m in missing}
    missing += [Missing(n, "not in the image, or not as it usually is") for n in OTHERS if n not in known]
    for name, mask in organs.items():
        one = _judged(scan, name, mask)
        (found if isinstance(one, Found) else missing).append(one)  # type: ignore[attr-defined]
    return Census(tuple(found), tuple(missing), parts.n_vertebrae)


def _kind(name: str) -> str:
    return name if name in METHOD else name.split("_")[0]


def _outside_domain(scan: Scan) -> str:
    """Why nothing can be said; empty where the image holds whole sections of an adult's body."""
    if not scan.body.any() or not np.any(scan.body.any(1).sum(0) * scan.spacing[0] > 200.0):
        return "no section of the body is 200 mm wide, as an adult's trunk is"
    if scan.body.shape[2] * scan.spacing[2] < 30.0:
        return "the image covers less than 30 mm along the body"
    sides = np.concatenate([scan.body[n].ravel() for n in (0, -1)] + [scan.body[:, n].ravel() for n in (0, -1)])
    if sides.mean() > 0.2:
        return "the image cuts the body at its sides: the outline is needed"
    return ""


def _judged(scan: Scan, name: str, mask: np.ndarray) -> Found | Missing:
    """An organ is kept when its volume is one of its kind; confidence grows with the share of its edge that is seen."""
    ml, is_whole = scan.ml(mask), not scan.touches_border(mask)
    low, high = WHOLE[name] if is_whole else (CUT, WHOLE[name][1])
    if not low <= ml <= high:
        return Missing(name, f"what lies in its place has {ml:.0f} ml, wanted {low:g} to {high:g} ml")
    height = float(mask.any((0, 1)).sum() * scan.spacing[2])
    if height > HEIGHT[name][1] or (is_whole and height < HEIGHT[name][0]):
        return Missing(name, f"what lies in its place is {height:.0f} mm high")
    median = float(np.median(scan.smooth[mask]))
    shell = scan.dilated(mask, 1.5 * float(scan.spacing.max())) & ~mask
    seen = float((np.abs(scan.smooth[shell] - median) > 20.0).mean())
    return Found(name, mask, round(0.4 + 0.5 * seen, 2), is_whole)
