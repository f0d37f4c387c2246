"""Elements of a DICOM data set as plain values, taken raw, so that a malformed one is a named problem."""

import re
import struct
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from pipeline.ingest.problems import Problem


def raw_text(element: Any) -> str:
    value = getattr(element, "value", None)
    if isinstance(value, bytes):
        return value.decode("latin-1").strip(" \0")
    if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
        return "\\".join(str(v) for v in value)
    return "" if value is None else str(value).strip(" \0")


def texts(data: Dataset | None, tag: Any) -> list[str]:
    """The values of an element as the file writes them, stripped."""
    if data is None or tag not in data:
        return []
    element = data.get_item(tag)
    value = getattr(element, "value", None)
    if isinstance(element, RawDataElement) and not isinstance(value, bytes):
        return []
    return [t.strip(" \0") for t in raw_text(element).split("\\")]


def text(data: Dataset | None, tag: Any) -> str:
    return "\\".join(texts(data, tag))


def short(data: Dataset, tag: str) -> int | None:
    """A US element as an integer."""
    try:
        value = data.get(tag)
        return int(value) if value is not None else None
    except (TypeError, ValueError, struct.error):
        return None


def integer(data: Dataset, tag: str) -> int | None:
    value = data.get_item(tag) if tag in data else None
    if value is None:
        return None
    if isinstance(value.value, bytes) and getattr(value, "VR", None) in ("US", None) and len(value.value) == 2 \
            and tag == "NumberOfSlices":
        return int.from_bytes(value.value, "little")
    try:
        return int(float(texts(data, tag)[0]))
    except (ValueError, IndexError, OverflowError):
        return None


def number(data: Dataset | None, tag: Any) -> float | None:
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
        return float(texts(data, tag)[0])
    except (ValueError, IndexError):
        return None


def numbers_of(data: Dataset, tag: str, n: int) -> list[float] | None:
    """Exactly `n` finite numbers, None when empty, else a Problem that names the element."""
    said = [t for t in texts(data, tag) if t]
    if not said:
        return None
    try:
        values = [float(t) for t in said]
    except ValueError:
        values = []
    if len(values) != n or not all(abs(v) < 1e6 for v in values):
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", tag).lower()
        raise Problem("invalid_geometry", f"{tag} ({name}) has an invalid value: not {n} finite decimal numbers")
    return values


_LETTERS = {"FD": "d", "FL": "f", "US": "H", "UL": "I", "SS": "h", "SL": "i"}


def vector(data: Dataset, tag: Any, n: int) -> list[float] | None:
    """The first `n` numbers of an element, text or binary (told by its length where a copy lost the VR), else None."""
    element = data.get_item(tag) if tag in data else None
    value = getattr(element, "value", None)
    if value is None:
        return None
    vr = getattr(element, "VR", None)
    letter = _LETTERS.get(str(vr)) or ("" if _is_text(value) else {8 * n: "d", 4 * n: "f", 2 * n: "H"}.get(len(value)))
    try:
        if isinstance(value, bytes) and letter:
            order = "<" if getattr(element, "is_little_endian", True) else ">"
            values = list(struct.unpack_from(f"{order}{n}{letter}", value))
        else:
            values = [float(t) for t in raw_text(element).split("\\")[:n]]
    except (ValueError, struct.error):
        return None
    return values if len(values) == n and all(abs(v) < 1e12 for v in values) else None


def _is_text(value: Any) -> bool:
    return not isinstance(value, bytes) or all(32 <= b < 127 or b == 0 for b in value.rstrip(b"\0"))
