"""Phase-contrast MR: what a frame's values mean as a velocity, by the standard and by vendors' own elements.

Runs in the limited child. A velocity is positive along `direction_lps`. What no
element says (the sign of an axis, the scale of a phase image) follows the
vendor's custom and stands in `assumed`.

Sources: DICOM PS3.3 C.8.13.5.13 (MR Velocity Encoding) and C.7.6.16.2.11 (Real World Value Mapping),
https://dicom.nema.org/medical/dicom/current/output/html/part03.html. Private elements as their users read them, not as
a vendor documents them: Siemens (0051,1014), SequenceName; GE (0019,10CC) in mm/s, (0043,1030), (0043,1032);
Philips (2001,101A) in cm/s.
"""

import re
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from pipeline.ingest.elements import number, numbers_of, raw_text, short, text, texts, vector

TAGS: list[Any] = [
    "MRVelocityEncodingSequence", "VelocityEncodingDirection", "VelocityEncodingMinimumValue",
    "VelocityEncodingMaximumValue", "RealWorldValueMappingSequence", "ComplexImageComponent", "NominalInterval",
    "HeartRate", "CardiacRRIntervalSpecified", 0x001910CC, 0x00431030, 0x00431032, 0x2001101A]
PER_M_S = {"m/s": 1.0, "cm/s": 100.0, "mm/s": 1000.0}
_AXES = {"rl": [1.0, 0, 0], "lr": [-1.0, 0, 0], "ap": [0, 1.0, 0], "pa": [0, -1.0, 0], "fh": [0, 0, 1.0],
         "hf": [0, 0, -1.0]}
_GE = {3: "rl", 4: "ap", 5: "hf"}
"""Kind of a GE image to its axis; older software adds 6, magnitude is 2."""
_PHASE, _MAGNITUDE = {"P", "PHASE", "VELOCITY", "VELOCITY MAP", "PHASE MAP", "PHASE CONTRAST P"}, {
    "M", "MAGNITUDE", "PHASE CONTRAST M", "M_PCA", "M_FFE"}
Flow = dict[str, Any]


def of_frame(data: Dataset, places: list[Dataset]) -> Flow | None:
    """The velocity encoding of a frame, None when it has none.

    places: where its elements may be, nearest first. `component` is phase,
    magnitude or empty; `venc_m_s`; `direction_lps` a unit vector or None;
    `scale` = (a, b): a times the rescaled value plus b is in m/s, None when not
    known; `assumed`: sentences.
    """
    found = _standard(places) or _siemens(data, places) or _ge(data) or _philips(data)
    if found is None or not 0 < (found["venc_m_s"] or 0) < 20:
        return None
    component = found.pop("component", "") or _component(places)
    found["scale"], said = _scale(data, places, found, component)
    return found | {"component": component, "assumed": [*found["assumed"], *said]}


def beat_ms(data: Dataset, places: list[Dataset]) -> float | None:
    """Length of a heart beat, ms."""
    for tag in ("NominalInterval", "CardiacRRIntervalSpecified"):
        place = next((p for p in places if tag in p), None)
        value = number(place, tag)
        if value and 200 < value < 3000:
            return value
    rate = number(data, "HeartRate")
    return 60_000 / rate if rate and 20 < rate < 300 else None


def _standard(places: list[Dataset]) -> Flow | None:
    """The sequence of the standard, or its elements where a vendor wrote them without it."""
    for place in places:
        inside = (place.get("MRVelocityEncodingSequence") or [place])[0]
        ends = [number(inside, f"VelocityEncoding{end}Value") for end in ("Minimum", "Maximum")]
        largest = max(abs(v) for v in ends if v is not None) if any(v is not None for v in ends) else 0.0
        if largest:
            along = vector(inside, "VelocityEncodingDirection", 3)
            return {"venc_m_s": largest / 100, "direction_lps": _unit(along), "assumed": []}
    return None


def _siemens(data: Dataset, places: list[Dataset]) -> Flow | None:
    """Text such as v150in_throughplane, or a sequence name such as fl3d1_v150fh."""
    if "SIEMENS" not in text(data, "Manufacturer").upper():
        return None
    said = raw_text(data.get_item(0x00511014)) if 0x00511014 in data else ""
    match = re.match(r"v(\d+(?:\.\d+)?)(.*)", said.lower()) or re.search(
        r"_v(\d+)([a-z]*)", text(data, "SequenceName").lower())
    if match is None:
        return None
    axis = re.search(r"rl|lr|ap|pa|fh|hf", match[2].replace("throughplane", ""))
    along = _AXES[axis[0]] if axis else _normal(places) if re.search(r"in|th", match[2]) else None
    told = [] if axis else ["velocity through the plane is taken as positive along the slice normal"]
    return {"venc_m_s": float(match[1]) / 100, "direction_lps": along, "assumed": told if along else []}


def _ge(data: Dataset) -> Flow | None:
    """Values are mm/s unless a flag says that they are weighted by magnitude, which has no scale here."""
    venc = vector(data, 0x001910CC, 1)
    if venc is None or "GE" not in text(data, "Manufacturer").upper():
        return None
    kind = int((vector(data, 0x00431030, 1) or [0])[0])
    axis = _GE.get(kind - 6 if kind in (9, 10, 11) else kind)
    weighted = int((vector(data, 0x00431032, 1) or [0])[0]) & 2
    component = "phase" if axis else "magnitude" if kind in (2, 8) else ""
    told = ["velocity is taken as positive from right to left, front to back and head to foot"] if axis else []
    return {"venc_m_s": venc[0] / 1000, "direction_lps": _AXES[axis] if axis else None, "assumed": told,
            "component": component, "unit": "" if weighted else "mm/s", "weighted": bool(weighted)}


def _philips(data: Dataset) -> Flow | None:
    """Encoding velocities in cm/s, one for each direction that is encoded; rescaled values of a phase are cm/s."""
    velocities = vector(data, 0x2001101A, 3)
    if velocities is None or "PHILIPS" not in text(data, "Manufacturer").upper():
        return None
    along = _unit(vector(data, "VelocityEncodingDirection", 3))
    encoded = [n for n, v in enumerate(velocities) if abs(v) > 1e-3]
    told = []
    if along is None and len(encoded) == 1:
        along = [float(n == encoded[0]) for n in range(3)]
        told = ["the encoded direction is taken from the order right-left, front-back, foot-head"]
    venc = abs(np.array(velocities) @ along) if along else max(abs(v) for v in velocities)
    return {"venc_m_s": float(venc) / 100, "direction_lps": along, "assumed": told, "unit": "cm/s"}


def _component(places: list[Dataset]) -> str:
    """phase or magnitude by the standard's element, else by the image's type."""
    said = next((text(p, "ComplexImageComponent") for p in places if "ComplexImageComponent" in p), "")
    types = {t.upper() for p in places for tag in ("FrameType", "ImageType") for t in texts(p, tag)[2:]}
    if said == "PHASE" or types & _PHASE:
        return "phase"
    return "magnitude" if said == "MAGNITUDE" or types & _MAGNITUDE else ""


def _scale(data: Dataset, places: list[Dataset], found: Flow, component: str) -> tuple[list[float] | None, list[str]]:
    """From rescaled values to m/s: by the real-world map, by a named unit, else by the range of a phase image."""
    unit, weighted = found.pop("unit", ""), found.pop("weighted", False)
    if component != "phase" or weighted:
        return None, []
    slope, shift = (next((number(p, t) for p in places if t in p), None)
                    for t in ("RescaleSlope", "RescaleIntercept"))
    slope, shift = slope or 1.0, shift or 0.0
    real = _real_world(places)
    if real is not None:
        return [real[0] / slope, real[1] - real[0] * shift / slope], []
    unit = next((text(p, "RescaleType") for p in places if text(p, "RescaleType") in PER_M_S), unit)
    if unit:
        return [1 / PER_M_S[unit], 0.0], []
    return _by_range(data, slope, shift, found["venc_m_s"])


def _real_world(places: list[Dataset]) -> list[float] | None:
    """Slope and intercept in m/s of stored values."""
    for place in places:
        for item in [*(place.get("RealWorldValueMappingSequence") or []), place]:
            codes = item.get("MeasurementUnitsCodeSequence") or []
            unit = text(codes[0], "CodeValue") if codes else ""
            slope, shift = number(item, "RealWorldValueSlope"), number(item, "RealWorldValueIntercept")
            if unit in PER_M_S and slope:
                return [slope / PER_M_S[unit], (shift or 0.0) / PER_M_S[unit]]
    return None


def _by_range(data: Dataset, slope: float, shift: float, venc: float) -> tuple[list[float] | None, list[str]]:
    """All that the stored bits can hold is one turn of the phase, from -VENC to VENC."""
    bits = short(data, "BitsStored")
    if not bits:
        return None, []
    lowest = -(2 ** (bits - 1)) if short(data, "PixelRepresentation") else 0
    ends = [slope * lowest + shift, slope * (lowest + 2**bits) + shift]
    half, middle = (ends[1] - ends[0]) / 2, (ends[1] + ends[0]) / 2
    return [venc / half, -venc * middle / half], [
        "the scale of the velocity is taken from the range of the stored values, which the header does not say"]


def _unit(along: list[float] | None) -> list[float] | None:
    length = float(np.linalg.norm(along)) if along else 0.0
    return [float(x) / length for x in along] if along and length > 0.5 else None


def _normal(places: list[Dataset]) -> list[float] | None:
    place = next((p for p in places if "ImageOrientationPatient" in p), None)
    cosines = numbers_of(place, "ImageOrientationPatient", 6) if place is not None else None
    return [float(x) for x in np.cross(cosines[:3], cosines[3:])] if cosines else None
