"""Private elements that are known to be safe, by the name of their block: numbers, or text of a fixed form.

Sources: DICOM PS3.15 table E.3.10-1 (safe private attributes); for United Imaging and the protocol of Siemens, what
`pipeline.ingest.vendor` reads and says where it has it from.
"""

import re
from dataclasses import dataclass

from pydicom.dataset import Dataset

from pipeline.ingest.elements import raw_text, vector


@dataclass(frozen=True)
class Safe:
    """An element of the block `creator`: where it usually lies, its VR, how many numbers it holds."""

    tag: int
    creator: str
    vr: str
    count: int


_MR, _ACQU, _PARM = "SIEMENS MR HEADER", "GEMS_ACQU_01", "GEMS_PARM_01"
_UIH = "Image Private Header"
NUMBERS = (
    Safe(0x70531000, "Philips PET Private Group", "DS", 1), Safe(0x70531009, "Philips PET Private Group", "DS", 1),
    Safe(0x0019100A, _MR, "US", 1), Safe(0x0019100C, _MR, "IS", 1), Safe(0x0019100E, _MR, "FD", 3),
    Safe(0x001910BB, _ACQU, "DS", 1), Safe(0x001910BC, _ACQU, "DS", 1), Safe(0x001910BD, _ACQU, "DS", 1),
    Safe(0x00431039, _PARM, "IS", 4), Safe(0x20011003, "Philips Imaging DD 001", "FL", 1),
    Safe(0x200510B0, "Philips MR Imaging DD 001", "FL", 1), Safe(0x200510B1, "Philips MR Imaging DD 001", "FL", 1),
    Safe(0x200510B2, "Philips MR Imaging DD 001", "FL", 1), Safe(0x00651009, _UIH, "FD", 1),
    Safe(0x00651037, _UIH, "FD", 3), Safe(0x00651050, _UIH, "DS", 1))
TILES = Safe(0x00651051, _UIH, "SQ", 0)
VENC = Safe(0x00511014, _MR, "SH", 0)
PROTOCOL = Safe(0x00291020, "SIEMENS CSA HEADER", "OB", 0)


def kept(data: Dataset) -> list[tuple[int, str, str, object]]:
    """(tag, creator, VR, value) of what stays: all but the tiles, whose items are cleaned as any other's."""
    found: list[tuple[int, str, str, object]] = []
    for one in NUMBERS:
        values = _numbers(data, one) if is_there(data, one) else None
        if values is not None:
            found.append((one.tag, one.creator, one.vr, values))
    if is_there(data, VENC) and (match := re.match(r"v(\d{1,4}(?:\.\d{1,3})?)_", raw_text(data.get_item(VENC.tag)))):
        found.append((VENC.tag, VENC.creator, VENC.vr, f"v{match[1]}_throughplane"))
    if is_there(data, PROTOCOL) and (text := _slices_of_protocol(data)):
        found.append((PROTOCOL.tag, PROTOCOL.creator, PROTOCOL.vr, text))
    return found


def is_there(data: Dataset, one: Safe) -> bool:
    """Whether the element is in the block of its maker."""
    creator = one.tag & 0xFFFF0000 | (one.tag >> 8) & 0xFF
    return one.tag in data and creator in data and raw_text(data.get_item(creator)).strip() == one.creator


def _numbers(data: Dataset, one: Safe) -> object:
    """Its numbers, as whole ones where the VR wants them."""
    values = vector(data, one.tag, one.count) or vector(data, one.tag, 1)
    if values is None or not all(abs(v) < 1e10 and (v == 0 or abs(v) > 1e-12) for v in values):
        return None
    if one.vr in ("IS", "US"):
        return [int(v) for v in values] if all(v.is_integer() for v in values) else None
    return [_decimal(v) for v in values] if one.vr == "DS" else values


def _decimal(value: float) -> str:
    """At most 16 characters, as DS wants, and as many digits as fit."""
    return next(text for n in range(16, 0, -1) if len(text := f"{value:.{n}g}") <= 16)


_SLICES = re.compile(r"sSliceArray\.(?:lSize\s*=\s*(\d{1,4})\b|asSlice\[(\d{1,4})\]\.sPosition\.d(Sag|Cor|Tra)\s*=\s*"
                     r"([-+]?\d{1,5}(?:\.\d{1,12})?))")


def _slices_of_protocol(data: Dataset) -> bytes:
    """Of Siemens' protocol the number and the centres of the slices alone, which place the tiles of a mosaic."""
    raw = getattr(data.get_item(PROTOCOL.tag), "value", b"")
    said = raw.decode("latin-1") if isinstance(raw, bytes) else ""
    lines = dict.fromkeys(f"sSliceArray.lSize = {m[1]}" if m[1] else
                          f"sSliceArray.asSlice[{m[2]}].sPosition.d{m[3]} = {m[4]}" for m in _SLICES.finditer(said))
    text = "\n".join(["### ASCCONV BEGIN ###", *lines, "### ASCCONV END ###", ""]).encode() if lines else b""
    return text + b"\0" * (len(text) % 2)
