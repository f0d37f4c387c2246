"""One DICOM file: read, looked at, made anew, and read again to see that it still says what an image needs.

Runs in the limited child. Pixel data are copied byte for byte in their transfer syntax; what could hide among them
(bytes beyond the image, bits beyond those stored, comments in a codestream) makes a file refused.
"""

import re
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from pipeline.deidentify import rules
from pipeline.deidentify.clean import Person, cleaned
from pipeline.ingest import codecs, header, suv
from pipeline.ingest.elements import text, texts
from pipeline.ingest.problems import Problem
from solvers.imaging.lettering import is_lettered

_NEEDED = ("rows", "columns", "n_frames", "samples", "allocated", "stored", "high", "signed", "photometric", "modality",
           "transfer_syntax", "sop_class", "has_lut", "frames", "mosaic", "localizer", "agent", "venc_cm_s", "tilt",
           "sex", "age_years", "weight_kg", "height_m", "lossy", "assumed")
"""Facts of the header that must be the same before and after."""
_COMMENTS = re.compile(rb"(?:Created by (?:GDCM/)?OpenJPEG version |Kakadu-v?s?|JasPer Version |Lavc)[\d.]{0,12}|"
                       rb"Kdu-Layer-Info: log_2\{Delta-D\(squared-error\)/Delta-L\(bytes\)\}, L\(bytes\)"
                       rb"[\s\d.,e+-]{0,400}")
RLE = "1.2.840.10008.1.2.5"
_PICTURED = (b"JFIF\0", b"Adobe", b"SPIFF", b"mrfx")


@dataclass(frozen=True)
class Look:
    """What was seen of a file. head: its header names a head. lettered: why text is thought to be in its pixels."""

    head: bool
    lettered: str


def cleanse(path: Path, out: Path, person: Person, *, accept: tuple[str, ...]) -> Look:
    """Write the clean file to `out`, which is to be used only where what was seen allows it. Raises Problem."""
    facts = header.describe(path, person.key)
    if facts["problem"]:
        raise Problem(*facts["problem"])
    if facts["sop_class"] not in rules.CLASSES or facts["pixels"] is None:
        raise Problem("unsupported_class", "the file is no image of a class that can be cleaned (CT, MR, PET, NM)")
    data, body = _read(path, facts)
    look = Look(_names_a_head(data), _lettered(data, path, facts))
    new = cleaned(data, person, has_head="shows_head" in accept and look.head)
    _add_pixels(new, body, facts)
    _save(new, out, facts["transfer_syntax"])
    _check_same(facts, header.describe(out, person.key))
    return look


# Reading

def _read(path: Path, facts: dict[str, Any]) -> tuple[Dataset, tuple[int, str, bytes]]:
    """The header, and the pixel data: element, VR and bytes. What comes after them is not read."""
    pixels = facts["pixels"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if pixels["deflated"]:
            data = pydicom.dcmread(path, force=True)
            return data, (0x10, data["PixelData"].VR, data.PixelData)
        data = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    with path.open("rb") as file:
        file.seek(pixels["offset"] - 12)
        vr = file.read(12)[4:6]
        body = file.read(pixels["length"] if pixels["length"] != 0xFFFFFFFF else -1)
    if pixels["length"] == 0xFFFFFFFF:
        body = body[:_end_of_items(body)]
    known = vr.decode("latin-1") if vr in (b"OB", b"OW", b"OF", b"OD") else ""
    return data, (pixels["element"], known or {8: "OF", 9: "OD"}.get(pixels["element"], "OW"), body)


def _end_of_items(body: bytes) -> int:
    """Where the fragments of encapsulated pixel data end, before the delimiter."""
    at = 0
    while at + 8 <= len(body):
        group, element, length = struct.unpack("<HHI", body[at:at + 8])
        if (group, element) == (0xFFFE, 0xE0DD):
            return at
        if (group, element) != (0xFFFE, 0xE000) or length == 0xFFFFFFFF:
            break
        at += 8 + length
    raise Problem("truncated", "the compressed pixel data have no end: truncated or corrupt")


# Looking

def _names_a_head(data: Dataset) -> bool:
    part = re.sub(r"[^A-Z]", "", text(data, "BodyPartExamined").upper())
    regions = [text(i, "CodeMeaning") for i in data.get("AnatomicRegionSequence") or []]
    said = " ".join([*(text(data, t) for t in rules.DESCRIBED), *regions]).lower().replace("_", " ")
    return part in rules.HEADS or re.search(rules.HEAD_WORDS, said) is not None


def _lettered(data: Dataset, path: Path, facts: dict[str, Any]) -> str:
    """Why text is thought to be in the pixels: the header says so, such images have it, or it was seen; else empty."""
    if text(data, "BurnedInAnnotation").upper() == "YES":
        return "the header says that text is burned in"
    if facts["sop_class"] in rules.WRITTEN_IN:
        return "radiographs, ultrasound and pictures of a screen usually have text in them"
    if {t.upper() for t in texts(data, "ImageType")} & rules.CAPTURED_TYPES:
        return "the header calls it a picture of a screen"
    _check_hidden(path, facts)
    whole = facts["mosaic"]["whole"] if facts["mosaic"] else (facts["rows"], facts["columns"])
    plain = facts | {"mosaic": None, "rows": whole[0], "columns": whole[1]}
    plain |= {"n_frames": 1} if facts["mosaic"] else {}
    return "letters were seen in the image" if any(is_lettered(f) for f in codecs.frames(path, plain)) else ""


def _check_hidden(path: Path, facts: dict[str, Any]) -> None:
    """Nothing but the image is in the pixel data."""
    pixels = facts["pixels"]
    if pixels["deflated"]:
        return
    with path.open("rb") as file:
        file.seek(pixels["offset"])
        body = file.read(pixels["length"] if pixels["length"] != 0xFFFFFFFF else -1)
    n_frames = 1 if facts["mosaic"] else facts["n_frames"] or 1
    if pixels["length"] == 0xFFFFFFFF:
        items = body[:_end_of_items(body)]
        if len(items) < 8 or struct.unpack("<I", items[4:8])[0] not in (0, 4 * n_frames):
            raise Problem("hidden_data", "the table of offsets of the compressed image does not fit its frames")
        if facts["transfer_syntax"] != RLE:
            for code in codecs.fragments(body, n_frames):
                _check_codestream(code)
    elif facts["allocated"] in (8, 16, 32) and pixels["element"] == 0x10:
        _check_bits(body, facts)


def _check_codestream(code: bytes) -> None:
    """Comments and application data of JPEG and JPEG 2000 hold a maker's name at most."""
    if not code.rstrip(b"\0").rstrip(b"\xff").endswith(b"\xff\xd9"):
        raise Problem("hidden_data", "something follows the end of the compressed image")
    at = 2
    while at + 4 <= len(code) and code[at] == 0xFF and code[:1] == b"\xff":
        marker, length = code[at + 1], int.from_bytes(code[at + 2:at + 4], "big")
        said = code[at + 4:at + 2 + length]
        if marker in (0xDA, 0x90):
            return
        if marker in (0xFE, 0x64) and not _COMMENTS.fullmatch(said.lstrip(b"\0\1").rstrip(b"\0")):
            raise Problem("hidden_data", "the compressed image carries a comment")
        if 0xE0 <= marker <= 0xEF and not (said.startswith(_PICTURED) and len(said) <= 32):
            raise Problem("hidden_data", "the compressed image carries data of an application")
        at += 2 + length


def _check_bits(body: bytes, facts: dict[str, Any]) -> None:
    """Bits above those stored are the sign or nothing: an old overlay may lie there."""
    kind = np.dtype(f"{'<' if facts['pixels']['little'] else '>'}u{facts['allocated'] // 8}")
    values = np.frombuffer(body[: len(body) // kind.itemsize * kind.itemsize], kind)
    bits = (facts["high"] if facts["high"] is not None else facts["stored"] - 1) + 1
    above = values >> bits if bits < facts["allocated"] else np.zeros(1, kind)
    full = (1 << (facts["allocated"] - bits)) - 1
    sign = (values >> (bits - 1)) & 1 if facts["signed"] else 0
    if np.any(above != sign * np.asarray(full, above.dtype)) and np.any(above):
        raise Problem("hidden_data", "bits beyond those of the image are set: an overlay may lie there")


# Writing

def _add_pixels(new: Dataset, body: tuple[int, str, bytes], facts: dict[str, Any]) -> None:
    element, vr, raw = body
    new.add_new(0x7FE00000 | element, vr, raw)
    new[0x7FE00000 | element].is_undefined_length = facts["pixels"].get("length") == 0xFFFFFFFF


def _save(new: Dataset, out: Path, syntax: str) -> None:
    """A new file: preamble of zeros, file meta of ours."""
    new.file_meta = FileMetaDataset()
    new.file_meta.TransferSyntaxUID = UID(syntax)
    new.file_meta.MediaStorageSOPClassUID = new.SOPClassUID
    new.file_meta.MediaStorageSOPInstanceUID = new.SOPInstanceUID
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            new.save_as(out, enforce_file_format=True)
    except OSError:
        raise
    except Exception as error:
        raise Problem("would_change", f"the file cannot be written anew ({type(error).__name__})") from error


def _check_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Geometry, scale, person and dose are what they were."""
    same = [{**facts, "frames": _placed(facts)} for facts in (before, after)] if not after["problem"] else []
    odd = [name for name in _NEEDED if same[0][name] != same[1].get(name)] if same else ["header"]
    if not odd and _suv(before) != _suv(after):
        odd = ["dose"]
    if odd:
        raise Problem("would_change", f"cleaning would lose or change what the image needs ({odd[0]})")


def _placed(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Frames without the numbers that an enhanced file may have from private groups only; place and time tell them."""
    frames = facts["frames"]
    loose = ("echo", "acquisition", "instance") if len(frames) > 1 and not facts["mosaic"] else ()
    return [{k: v for k, v in frame.items() if k not in loose} for frame in frames]


def _suv(facts: dict[str, Any]) -> float | None:
    return suv.body_weight(facts["pet"], facts["weight_kg"]).scale if facts["pet"] else None
