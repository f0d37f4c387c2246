"""The header of one DICOM file as plain JSON types, identifiers replaced by keyed hashes.

Runs in the limited child. Text is taken raw from the file and parsed here, so
that a malformed number is a named problem and not a surprise deep in a library.
What could name a person (free text, dates) is turned into flags, ages and
intervals on the spot and goes no further.
"""

import hmac
import re
import struct
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import pydicom
from pydicom import config as pydicom_config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from pipeline.ingest.problems import Problem

pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE

_TAGS: list[Any] = [
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate", "SeriesDate", "AcquisitionDate",
    "SeriesTime", "AcquisitionTime", "Modality", "Manufacturer", "SeriesDescription", "ProtocolName",
    "StudyDescription", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "PatientSize", "PatientWeight", "ContrastBolusAgent", "BodyPartExamined", "SliceThickness", "KVP",
    "EchoTime", "EchoNumbers", "SpacingBetweenSlices", "TriggerTime", "GantryDetectorTilt", "SequenceName",
    "DiffusionBValue", "DiffusionGradientOrientation", "PatientPosition", "StudyInstanceUID", "SeriesInstanceUID",
    "SeriesNumber", "AcquisitionNumber", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient",
    "FrameOfReferenceUID", "TemporalPositionIdentifier", "ImagesInAcquisition", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "ImagerPixelSpacing",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "BurnedInAnnotation", "CorrectedImage",
    "RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence", "LossyImageCompression",
    "RadiopharmaceuticalInformationSequence", "Units", "SUVType", "DecayCorrection", "NumberOfSlices",
    "FrameReferenceTime", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "ContrastBolusAgentSequence",
    0x00190010, 0x0019100A, 0x0019100C, 0x00291010, 0x00430010, 0x00431039, 0x00510010, 0x00511014, 0x00511016,
    0x20010010, 0x20011003, 0x70531000, 0x70531009,
]
_WORDS = {
    "arterial": r"arterial|arteriell|angio|\bcta\b|\bart\b|\bmra\b", "portal": r"portal|portven|\bpv\b",
    "venous": r"venous|venoes|ven[oö]s", "delayed": r"delayed|late phase|sp[aä]t",
    "native": r"native?|\bnon.?contrast|without contrast|unenhanced|\bw/?o\b",
    "contrast": r"contrast|\bc\+|\bk\.?m\b|\bgd\b|\bce\b|enhanced|angio|\bcta\b|\bmra\b",
}
_BODY = {"ABDOMEN", "ABDOMENPELVIS", "ANKLE", "AORTA", "ARM", "BRAIN", "BREAST", "CAROTID", "CHEST", "CHESTABDOMEN",
         "CHESTABDPELVIS", "CSPINE", "EAR", "ELBOW", "EXTREMITY", "FOOT", "HAND", "HEAD", "HEADNECK", "HEART", "HIP",
         "KIDNEY", "KNEE", "LEG", "LIVER", "LSPINE", "LUNG", "NECK", "PELVIS", "SHOULDER", "SKULL", "SPINE", "THORAX",
         "TSPINE", "WHOLEBODY", "WRIST"}


def describe(path: Path, key: bytes) -> dict[str, Any]:
    """The file's header; `problem` = [code, sentence] when it cannot be used as an image.

    A file with a problem still says its series and patient where they can be read.
    """
    facts: dict[str, Any] = {"kind": "dicom", "problem": None, "pixels": None, "series": "", "patient": ""}
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=_TAGS)
            facts |= _ids(data, key)
            facts |= _pixels(data, path, file.tell(), path.stat().st_size)
            facts |= _facts(data)
    except Problem as problem:
        facts["problem"] = [problem.code, problem.happened]
    except RecursionError:
        facts["problem"] = ["corrupt", "sequences are nested too deeply; the file is corrupt or hostile"]
    except MemoryError:
        facts["problem"] = ["corrupt", "an element claims a length that this file cannot have"]
    except EOFError:
        facts["problem"] = ["truncated", "the header is truncated: unexpected end of file"]
    except Exception as error:
        facts["problem"] = ["corrupt", f"the header could not be parsed, it is corrupt or has an invalid length "
                                       f"({type(error).__name__})"]
    return facts


def _ids(data: Dataset, key: bytes) -> dict[str, Any]:
    """Whose file it is, and of which series: keyed hashes only. A file that names nobody belongs to its study."""
    ids: dict[str, Any] = {name: keyed(key, _text(data, tag)) for name, tag in (
        ("sop", "SOPInstanceUID"), ("series", "SeriesInstanceUID"), ("study", "StudyInstanceUID"),
        ("frame_of_reference", "FrameOfReferenceUID"), ("patient", "PatientID"))}
    ids["identity"] = [keyed(key, _text(data, t)) for t in ("PatientID", "PatientName", "PatientBirthDate")]
    if not ids["patient"]:
        other = "\x1f".join(_text(data, t) for t in ("PatientName", "PatientBirthDate"))
        ids["patient"] = keyed(key, other.strip("\x1f")) or ids["study"] or ids["series"]
    return ids


def _facts(data: Dataset) -> dict[str, Any]:
    """All else that the parent needs to group, place and judge the file."""
    facts: dict[str, Any] = {
        "sop_class": _text(data, "SOPClassUID"), "transfer_syntax": _transfer_syntax(data),
        "modality": _text(data, "Modality"), "photometric": _text(data, "PhotometricInterpretation"),
        "image_type": [t for t in _texts(data, "ImageType") if re.fullmatch(r"[A-Z0-9_ ]{1,16}", t)],
        "lossy": _text(data, "LossyImageCompression") == "01", "has_lut": "ModalityLUTSequence" in data,
        "burned_in": _text(data, "BurnedInAnnotation") == "YES", "tilt": _number(data, "GantryDetectorTilt")}
    for name, tag in (("series_number", "SeriesNumber"), ("announced", "ImagesInAcquisition"),
                      ("announced_slices", "NumberOfSlices"), ("n_frames", "NumberOfFrames")):
        facts[name] = _integer(data, tag)
    for name, tag in (("rows", "Rows"), ("columns", "Columns"), ("samples", "SamplesPerPixel"),
                      ("allocated", "BitsAllocated"), ("stored", "BitsStored"), ("high", "HighBit"),
                      ("signed", "PixelRepresentation")):
        facts[name] = _short(data, tag)
    facts |= _person(data) | _hints(data) | {"pet": _pet(data)}
    return facts | {"frames": _frames(data)}


def keyed(key: bytes, text: str) -> str:
    """A keyed hash of an identifier; empty stays empty."""
    return hmac.new(key, text.encode(), "sha256").hexdigest()[:32] if text else ""


def _person(data: Dataset) -> dict[str, Any]:
    """Sex, age in years (90 stands for 90 and more), weight, height."""
    sex = _text(data, "PatientSex")
    age = re.fullmatch(r"(\d{1,3})([DWMY])", _text(data, "PatientAge"))
    years = int(age[1]) / {"Y": 1, "M": 12, "W": 52.18, "D": 365.25}[age[2]] if age else None
    if years is None:
        born, seen = _moment(_text(data, "PatientBirthDate"), "0"), _moment(_text(data, "StudyDate"), "0")
        years = (seen - born).days / 365.25 if born and seen and seen >= born else None
    if years is not None:
        years = min(90.0, float(int(years)) if years >= 2 else round(years, 2))
    return {"sex": sex if sex in ("M", "F", "O") else None, "age_years": years,
            "weight_kg": _within(_number(data, "PatientWeight"), 0.3, 500),
            "height_m": _within(_number(data, "PatientSize"), 0.2, 2.6)}


def _hints(data: Dataset) -> dict[str, Any]:
    """Contrast, phase, body part and MR facts, each from a closed vocabulary or a number."""
    free = " ".join(_text(data, t) for t in ("SeriesDescription", "ProtocolName")).lower()
    words = [name for name, pattern in _WORDS.items() if re.search(pattern, free)]
    agent = bool(_text(data, "ContrastBolusAgent")) or "ContrastBolusAgentSequence" in data
    part = _text(data, "BodyPartExamined").upper().replace(" ", "")
    return {"words": words, "agent": agent, "body_part": part if part in _BODY else None,
            "kvp": _number(data, "KVP"), "venc_cm_s": _venc(data),
            "localizer": "LOCALIZER" in [t.upper() for t in _texts(data, "ImageType")]
            or bool(re.search(r"locali[sz]er|\bscout|topogram|surview", free))}


def _venc(data: Dataset) -> float | None:
    """Velocity encoding in cm/s from Siemens' private text such as v120in_throughplane."""
    for tag in (0x00511014,):
        match = re.match(r"v(\d+(?:\.\d+)?)", _raw_text(data.get_item(tag)) if tag in data else "")
        if match:
            return float(match[1])
    return None


def _b_value(data: Dataset) -> float | None:
    """Diffusion weighting in s/mm2; GE adds 1e9 to it."""
    value = _number(data, "DiffusionBValue")
    for tag in (0x0019100C, 0x00431039):
        if value is None and tag in data:
            match = re.match(r"\s*(\d+(?:\.\d+)?)", _raw_text(data.get_item(tag)))
            value = float(match[1]) if match else None
    if value is None:
        return None
    return value % 100_000 if value > 1e8 else value


def _pet(data: Dataset) -> dict[str, Any] | None:
    """What body-weight SUV needs, times as seconds between injection and scan."""
    if _text(data, "Modality") != "PT":
        return None
    items = data.get("RadiopharmaceuticalInformationSequence") or []
    drug = items[0] if items else Dataset()
    series = _moment(_text(data, "SeriesDate"), _text(data, "SeriesTime"))
    acquired = _moment(_text(data, "AcquisitionDate"), _text(data, "AcquisitionTime"))
    injected = _moment(_text(drug, "RadiopharmaceuticalStartDateTime")[:8],
                       _text(drug, "RadiopharmaceuticalStartDateTime")[8:])
    if injected is None and (series or acquired):
        injected = _moment(f"{series or acquired:%Y%m%d}", _text(drug, "RadiopharmaceuticalStartTime"))
    reference = min(t for t in (series, acquired) if t) if series or acquired else None
    code = (drug.get("RadionuclideCodeSequence") or [Dataset()])[0]
    return {"units": _text(data, "Units"), "suv_type": _text(data, "SUVType"),
            "decay": _text(data, "DecayCorrection"), "corrected": _texts(data, "CorrectedImage"),
            "dose_bq": _number(drug, "RadionuclideTotalDose"), "half_life_s": _number(drug, "RadionuclideHalfLife"),
            "nuclide": re.sub(r"[^0-9A-Za-z^-]", "", _text(code, "CodeMeaning"))[:20],
            "delay_s": (reference - injected).total_seconds() if reference and injected else None,
            "philips_scale": _number(data, 0x70531000)}


def _frames(data: Dataset) -> list[dict[str, Any]]:
    """One entry per frame: place, scale and what tells frames at one place apart."""
    per_frame = data.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None:
        return [_frame(data, [data])]
    shared = (data.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    return [_frame(data, [*_groups(item), *_groups(shared), data]) for item in per_frame]


def _groups(item: Dataset) -> list[Dataset]:
    """The functional groups of a frame: first items of its sequences."""
    return [element.value[0] for element in item if element.VR == "SQ" and element.value]


def _frame(data: Dataset, places: list[Dataset]) -> dict[str, Any]:
    def find(*tags: str) -> Dataset | None:
        return next((p for p in places for t in tags if t in p), None)

    def numbers(tag: str, n: int) -> list[float] | None:
        place = find(tag)
        return _numbers(place, tag, n) if place is not None else None

    def one(tag: str) -> float | None:
        place = find(tag)
        return _number(place, tag) if place is not None else None

    holder = find("ImagePositionPatient")
    frame: dict[str, Any] = {
        "position": numbers("ImagePositionPatient", 3), "orientation": numbers("ImageOrientationPatient", 6),
        "spacing": numbers("PixelSpacing", 2), "thickness": one("SliceThickness"), "slope": one("RescaleSlope"),
        "intercept": one("RescaleIntercept"), "trigger_ms": one("TriggerTime"),
        "temporal": one("TemporalPositionIdentifier") or one("TemporalPositionIndex"),
        "echo_ms": one("EchoTime") or one("EffectiveEchoTime"), "echo": one("EchoNumbers"),
        "acquisition": one("AcquisitionNumber"), "b_value": _b_value(data),
        "decimals": max((len(t.partition(".")[2]) for t in _texts(holder, "ImagePositionPatient")), default=0)}
    if frame["b_value"] is None and (place := find("DiffusionBValue")) is not None:
        frame["b_value"] = _number(place, "DiffusionBValue")
    if frame["trigger_ms"] is None:
        frame["trigger_ms"] = one("NominalCardiacTriggerDelayTime")
    times = find("FrameAcquisitionDateTime")
    frame["moment"] = _text(data, "AcquisitionTime") if times is None else _text(times, "FrameAcquisitionDateTime")
    frame["moment"] = _seconds(frame["moment"])
    return frame


def _pixels(data: Dataset, path: Path, offset: int, size: int) -> dict[str, Any]:
    """Where the pixel data lie, and whether as many bytes are there as the header claims."""
    if "Rows" not in data:
        return {"pixels": None, "problem": None}
    implicit, little = data.original_encoding
    if _transfer_syntax(data) == "1.2.840.10008.1.2.1.99":
        return {"pixels": {"deflated": True, "implicit": False, "little": True}}
    with path.open("rb") as file:
        file.seek(offset)
        head = file.read(12)
    found = _pixel_element(head, bool(little))
    if found is None:
        return {"pixels": None, "problem": ["truncated", "the file ends before its pixel data: truncated or corrupt "
                                                         "(end of file, or an element with an invalid length)"]}
    element, skip, length = found
    pixels = {"deflated": False, "implicit": implicit, "little": little, "element": element, "offset": offset + skip,
              "length": length, "present": size - offset - skip}
    return {"pixels": pixels, "problem": None if length == 0xFFFFFFFF or length <= size - offset - skip else [
        "truncated", f"pixel data are truncated: {size - offset - skip} bytes present, the header claims {length}"]}


def _pixel_element(head: bytes, little: bool) -> tuple[int, int, int] | None:
    """Element number, bytes of its header and length of a pixel data element, if it is one.

    Told explicit or implicit by its own bytes: a meta header may lie about it.
    """
    order = "<" if little else ">"
    if len(head) < 8:
        return None
    group, element = struct.unpack(order + "HH", head[:4])
    if group != 0x7FE0 or element not in (8, 9, 0x10):
        return None
    if head[4:6] not in (b"OB", b"OW", b"OF", b"OD", b"UN"):
        return element, 8, struct.unpack(order + "I", head[4:8])[0]
    return (element, 12, struct.unpack(order + "I", head[8:12])[0]) if len(head) == 12 else None


def _transfer_syntax(data: Dataset) -> str:
    meta = getattr(data, "file_meta", None)
    said = str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""
    if said:
        return said
    implicit, little = data.original_encoding
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def _raw_text(element: Any) -> str:
    value = getattr(element, "value", None)
    if isinstance(value, bytes):
        return value.decode("latin-1").strip(" \0")
    if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
        return "\\".join(str(v) for v in value)
    return "" if value is None else str(value).strip(" \0")


def _texts(data: Dataset | None, tag: Any) -> list[str]:
    """The values of an element as the file writes them, stripped."""
    if data is None or tag not in data:
        return []
    element = data.get_item(tag)
    value = getattr(element, "value", None)
    if isinstance(element, RawDataElement) and not isinstance(value, bytes):
        return []
    return [t.strip(" \0") for t in _raw_text(element).split("\\")]


def _text(data: Dataset | None, tag: Any) -> str:
    return "\\".join(_texts(data, tag))


def _short(data: Dataset, tag: str) -> int | None:
    """A US element as an integer."""
    try:
        value = data.get(tag)
        return int(value) if value is not None else None
    except (TypeError, ValueError, struct.error):
        return None


def _integer(data: Dataset, tag: str) -> int | None:
    value = data.get_item(tag) if tag in data else None
    if value is None:
        return None
    if isinstance(value.value, bytes) and getattr(value, "VR", None) in ("US", None) and len(value.value) == 2 \
            and tag == "NumberOfSlices":
        return int.from_bytes(value.value, "little")
    try:
        return int(float(_texts(data, tag)[0]))
    except (ValueError, IndexError, OverflowError):
        return None


def _number(data: Dataset | None, tag: Any) -> float | None:
    """One number; an empty element is None, a malformed one too."""
    if data is None or tag not in data:
        return None
    element = data.get_item(tag)
    vr = getattr(element, "VR", None)
    if vr in ("FD", "FL", "US", "UL", "SS", "SL") or vr is None:
        try:
            value = data[tag].value
            return float(value) if value is not None else None
        except (TypeError, ValueError, struct.error):
            return None
    try:
        return float(_texts(data, tag)[0])
    except (ValueError, IndexError):
        return None


def _numbers(data: Dataset, tag: str, n: int) -> list[float] | None:
    """Exactly `n` finite numbers, None when empty, else a Problem that names the element."""
    texts = [t for t in _texts(data, tag) if t]
    if not texts:
        return None
    try:
        values = [float(t) for t in texts]
    except ValueError:
        values = []
    if len(values) != n or not all(abs(v) < 1e6 for v in values):
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", tag).lower()
        raise Problem("invalid_geometry", f"{tag} ({name}) has an invalid value: not {n} finite decimal numbers")
    return values


def _within(value: float | None, low: float, high: float) -> float | None:
    return value if value is not None and low <= value <= high else None


def _moment(date: str, time: str) -> datetime | None:
    """A point in time, or None when date or time are not valid."""
    clock = re.fullmatch(r"(\d{2})(\d{2})?(\d{2})?(\.\d{1,6})?.*", time) if time != "0" else None
    digits = "".join((clock[i] or "00") for i in (1, 2, 3)) if clock else "000000"
    if time != "0" and clock is None:
        return None
    try:
        return datetime.strptime(date.replace(".", "") + digits, "%Y%m%d%H%M%S")
    except ValueError:
        return None


def _seconds(time: str) -> float | None:
    """Seconds of the day of a DICOM time or date-time."""
    match = re.search(r"(\d{2})(\d{2})(\d{2}(?:\.\d+)?)(?:[+-]\d{4})?$", time)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None
