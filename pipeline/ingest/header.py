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
from pydicom.dataset import Dataset

from pipeline.ingest import encoding, regions, vendor
from pipeline.ingest.elements import integer, number, numbers_of, short, text, texts
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
    "InPlanePhaseEncodingDirection", 0x70531000, 0x70531009, *vendor.TAGS, *encoding.TAGS, *regions.TAGS,
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


_MODALITIES = {"CT", "MR", "PT", "US", "CR", "DX", "MG", "XA", "RF", "NM", "OT", "SEG", "RTSTRUCT", "RTDOSE", "RTPLAN",
               "RTIMAGE", "SR", "KO", "PR", "SC", "SM", "ECG", "DOC", "REG", "IVUS", "IVOCT", "OCT", "OP", "ES", "XC"}
_COUNTS = ("series_number", "announced", "announced_slices")


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
            facts |= _regions(data, key)
            if _is_cut(facts):
                facts |= {"series": "", "patient": "", "problem": ["truncated", _CUT]}
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


_CUT = "the file ends inside its header, before any image: it is truncated, or an element has an invalid length"
DIRECTORY = "1.2.840.10008.1.3.10"
"""Class of a DICOMDIR, which lists files and holds no image."""
_IMAGES = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(1|2|4|6|7|12|20|128|130|77)(\.|$)")


def _is_cut(facts: dict[str, Any]) -> bool:
    """Whether a file should hold an image by its class and holds none, or does not even say what it is of."""
    if facts["problem"] is not None or facts["rows"] is not None or facts["regions"] is not None:
        return False
    return bool(_IMAGES.match(facts["sop_class"])) or not facts["series"] and facts["sop_class"] != DIRECTORY


def _ids(data: Dataset, key: bytes) -> dict[str, Any]:
    """Whose file it is, and of which series: keyed hashes only. A file that names nobody belongs to its study."""
    ids: dict[str, Any] = {name: keyed(key, text(data, tag)) for name, tag in (
        ("sop", "SOPInstanceUID"), ("series", "SeriesInstanceUID"), ("study", "StudyInstanceUID"),
        ("frame_of_reference", "FrameOfReferenceUID"), ("patient", "PatientID"))}
    ids["identity"] = [keyed(key, text(data, t)) for t in ("PatientID", "PatientName", "PatientBirthDate")]
    if not ids["patient"]:
        other = "\x1f".join(text(data, t) for t in ("PatientName", "PatientBirthDate"))
        ids["patient"] = keyed(key, other.strip("\x1f")) or ids["study"] or ids["series"]
    return ids


def _facts(data: Dataset) -> dict[str, Any]:
    """All else that the parent needs to group, place and judge the file."""
    facts: dict[str, Any] = {
        "sop_class": text(data, "SOPClassUID") or text(getattr(data, "file_meta", None), "MediaStorageSOPClassUID"),
        "transfer_syntax": _transfer_syntax(data),
        "modality": _modality(data), "photometric": text(data, "PhotometricInterpretation"),
        "image_type": [t for t in texts(data, "ImageType") if re.fullmatch(r"[A-Z0-9_ ]{1,16}", t)],
        "lossy": text(data, "LossyImageCompression") == "01", "has_lut": "ModalityLUTSequence" in data,
        "burned_in": text(data, "BurnedInAnnotation") == "YES", "tilt": number(data, "GantryDetectorTilt")}
    for name, tag in (("series_number", "SeriesNumber"), ("announced", "ImagesInAcquisition"),
                      ("announced_slices", "NumberOfSlices"), ("n_frames", "NumberOfFrames")):
        facts[name] = integer(data, tag)
    facts |= {name: None for name in _COUNTS if facts[name] is not None and not 0 <= facts[name] < 100_000}
    for name, tag in (("rows", "Rows"), ("columns", "Columns"), ("samples", "SamplesPerPixel"),
                      ("allocated", "BitsAllocated"), ("stored", "BitsStored"), ("high", "HighBit"),
                      ("signed", "PixelRepresentation")):
        facts[name] = short(data, tag)
    facts |= _person(data) | _hints(data) | {"pet": _pet(data), "assumed": vendor.assumed(data)}
    facts["mosaic"] = vendor.mosaic(data)
    if facts["mosaic"]:
        facts |= {name: facts["mosaic"][name] for name in ("rows", "columns")}
        facts |= {"n_frames": facts["mosaic"]["n_slices"], "announced": None, "announced_slices": None}
    facts["frames"] = _frames(data, facts["mosaic"])
    flow = facts["frames"][0]["flow"] if facts["frames"] else None
    return facts | {"venc_cm_s": round(100 * flow["venc_m_s"], 6) if flow else None}


def _modality(data: Dataset) -> str:
    """A defined term of DICOM; any other text is `OT`, for it might name somebody."""
    said = text(data, "Modality")
    return said if said in _MODALITIES or not said else "OT"


def _regions(data: Dataset, key: bytes) -> dict[str, Any]:
    """What contours and segmentations have beside; `regions` is None for an image."""
    found = regions.listed(data)
    if found is None:
        return {"regions": None}
    series, frame = regions.refers_to(data)
    return {"regions": found, "refers_to": [keyed(key, s) for s in series], "frame_of_reference": keyed(key, frame),
            "segmentation": text(data, "SegmentationType"), "fraction": number(data, "MaximumFractionalValue")}


def keyed(key: bytes, name: str) -> str:
    """A keyed hash of an identifier; empty stays empty."""
    return hmac.new(key, name.encode(), "sha256").hexdigest()[:32] if name else ""


def _person(data: Dataset) -> dict[str, Any]:
    """Sex, age in years (90 stands for 90 and more), weight, height."""
    sex = text(data, "PatientSex")
    age = re.fullmatch(r"(\d{1,3})([DWMY])", text(data, "PatientAge"))
    years = int(age[1]) / {"Y": 1, "M": 12, "W": 52.18, "D": 365.25}[age[2]] if age else None
    if years is None:
        born, seen = _moment(text(data, "PatientBirthDate"), "0"), _moment(text(data, "StudyDate"), "0")
        years = (seen - born).days / 365.25 if born and seen and seen >= born else None
    if years is not None:
        years = min(90.0, float(int(years)) if years >= 2 else round(years, 2))
    return {"sex": sex if sex in ("M", "F", "O") else None, "age_years": years,
            "weight_kg": _within(number(data, "PatientWeight"), 0.3, 500),
            "height_m": _within(number(data, "PatientSize"), 0.2, 2.6)}


def _hints(data: Dataset) -> dict[str, Any]:
    """Contrast, phase, body part and MR facts, each from a closed vocabulary or a number."""
    free = " ".join(text(data, t) for t in ("SeriesDescription", "ProtocolName")).lower()
    words = [name for name, pattern in _WORDS.items() if re.search(pattern, free)]
    agent = bool(text(data, "ContrastBolusAgent")) or "ContrastBolusAgentSequence" in data
    part = text(data, "BodyPartExamined").upper().replace(" ", "")
    return {"words": words, "agent": agent, "body_part": part if part in _BODY else None,
            "kvp": number(data, "KVP"),
            "localizer": "LOCALIZER" in [t.upper() for t in texts(data, "ImageType")]
            or bool(re.search(r"locali[sz]er|\bscout|topogram|surview", free))}


def _pet(data: Dataset) -> dict[str, Any] | None:
    """What body-weight SUV needs, times as seconds between injection and scan."""
    if text(data, "Modality") != "PT":
        return None
    items = data.get("RadiopharmaceuticalInformationSequence") or []
    drug = items[0] if items else Dataset()
    series = _moment(text(data, "SeriesDate"), text(data, "SeriesTime"))
    acquired = _moment(text(data, "AcquisitionDate"), text(data, "AcquisitionTime"))
    injected = _moment(text(drug, "RadiopharmaceuticalStartDateTime")[:8],
                       text(drug, "RadiopharmaceuticalStartDateTime")[8:])
    if injected is None and (series or acquired):
        injected = _moment(f"{series or acquired:%Y%m%d}", text(drug, "RadiopharmaceuticalStartTime"))
    reference = min(t for t in (series, acquired) if t) if series or acquired else None
    code = (drug.get("RadionuclideCodeSequence") or [Dataset()])[0]
    return {"units": text(data, "Units"), "suv_type": text(data, "SUVType"),
            "decay": text(data, "DecayCorrection"), "corrected": texts(data, "CorrectedImage"),
            "dose_bq": number(drug, "RadionuclideTotalDose"), "half_life_s": number(drug, "RadionuclideHalfLife"),
            "nuclide": re.sub(r"[^0-9A-Za-z^-]", "", text(code, "CodeMeaning"))[:20],
            "delay_s": (reference - injected).total_seconds() if reference and injected else None,
            "philips_scale": number(data, 0x70531000)}


def _frames(data: Dataset, mosaic: dict[str, Any] | None) -> list[dict[str, Any]]:
    """One entry per frame: place, scale and what tells frames at one place apart."""
    if mosaic:
        one = _frame(data, [data])
        return [one | {"position": place} for place in mosaic["positions"]]
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
        return numbers_of(place, tag, n) if place is not None else None

    def one(tag: str) -> float | None:
        place = find(tag)
        return number(place, tag) if place is not None else None

    holder = find("ImagePositionPatient")
    frame: dict[str, Any] = {
        "position": numbers("ImagePositionPatient", 3), "orientation": numbers("ImageOrientationPatient", 6),
        "spacing": numbers("PixelSpacing", 2), "thickness": one("SliceThickness"), "slope": one("RescaleSlope"),
        "intercept": one("RescaleIntercept"), "trigger_ms": one("TriggerTime"),
        "temporal": one("TemporalPositionIdentifier") or one("TemporalPositionIndex"),
        "echo_ms": one("EchoTime") or one("EffectiveEchoTime"), "echo": one("EchoNumbers"),
        "acquisition": one("AcquisitionNumber"), "instance": one("InstanceNumber") or 0,
        "segment": one("ReferencedSegmentNumber"), "between": one("SpacingBetweenSlices"),
        "decimals": max((len(t.partition(".")[2]) for t in texts(holder, "ImagePositionPatient")), default=0)}
    frame["b_value"], frame["gradient"] = vendor.diffusion(data, places)
    frame["flow"] = encoding.of_frame(data, places) if text(data, "Modality") == "MR" else None
    frame["beat_ms"] = encoding.beat_ms(data, places)
    if frame["trigger_ms"] is None:
        frame["trigger_ms"] = one("NominalCardiacTriggerDelayTime")
    times = find("FrameAcquisitionDateTime")
    frame["moment"] = text(data, "AcquisitionTime") if times is None else text(times, "FrameAcquisitionDateTime")
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
