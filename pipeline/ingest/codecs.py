"""Frames of a DICOM file as stored integers; every size is checked against the bytes before it is allocated.

Runs in the limited child. Native data are read straight from the file;
compressed frames go to imagecodecs, one codec per family, after the size in
their own header was compared with Rows and Columns. Decoders are imported when
first needed: most series need none, and a child should start fast.
"""

import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.ingest.problems import Problem

MAX_EDGE = 16384
"""Rows or columns beyond which a header is not believed."""

_NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"}
_JPEG = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
_JPEG_LOSSLESS = {"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}
_JPEG_LS = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
_JPEG_2000 = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.201",
              "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"}
_RLE = {"1.2.840.10008.1.2.5"}
LOSSY = _JPEG | {"1.2.840.10008.1.2.4.81"}
"""Syntaxes that always lose; .91 and .203 only where the header says so."""
SUPPORTED = _NATIVE | _JPEG | _JPEG_LOSSLESS | _JPEG_LS | _JPEG_2000 | _RLE


def frames(path: Path, head: dict[str, Any]) -> np.ndarray:
    """All frames of a file as stored numbers, (frames, rows, columns), int32 or float.

    head: what `header.describe` said of the file. The tiles of a mosaic are its frames. Raises Problem.
    """
    mosaic = head.get("mosaic")
    if not mosaic:
        return _images(path, head)
    rows, columns = mosaic["whole"]
    whole = _images(path, head | {"n_frames": 1, "rows": rows, "columns": columns})[0]
    tiles = whole.reshape(-1, mosaic["rows"], columns // mosaic["columns"], mosaic["columns"]).swapaxes(1, 2)
    return tiles.reshape(-1, mosaic["rows"], mosaic["columns"])[:mosaic["n_slices"]]


def _images(path: Path, head: dict[str, Any]) -> np.ndarray:
    """The images of a file as it stores them."""
    shape = (head["n_frames"] or 1, head["rows"], head["columns"])
    _check_claims(shape, head)
    pixels = head["pixels"]
    if pixels["deflated"]:
        return _native(_deflated(path), shape, head)
    syntax = head["transfer_syntax"]
    with path.open("rb") as file:
        file.seek(pixels["offset"])
        if pixels["length"] != 0xFFFFFFFF:
            return _native(file.read(pixels["length"]), shape, head)
        body = file.read()
    return _stored(np.stack([_frame(b, syntax, shape[1:], head) for b in fragments(body, shape[0])]), head)


def _check_claims(shape: tuple[int, int, int], head: dict[str, Any]) -> None:
    if not all(n and n > 0 for n in shape) or max(shape[1:]) > MAX_EDGE:
        raise Problem("too_large", f"the header claims an image of {shape[2]} x {shape[1]} pixels, beyond the limit of "
                                   f"{MAX_EDGE} or without size")
    if head["samples"] not in (1, None):
        raise Problem("not_a_volume", "colour (RGB) pixels are not a volume of measured values")
    if head["allocated"] not in (1, 8, 16, 32, 64):
        raise Problem("unsupported_pixels", f"{head['allocated']} bits per pixel are not supported")
    if head["pixels"] is None:
        raise Problem("truncated", "the file has no pixel data")


def _deflated(path: Path) -> bytes:
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bytes(pydicom.dcmread(path).PixelData)


def _native(body: bytes, shape: tuple[int, int, int], head: dict[str, Any]) -> np.ndarray:
    if head["allocated"] == 1:
        return _bits(body, shape)
    order = "<" if head["pixels"]["little"] else ">"
    element = head["pixels"].get("element", 0x10)
    kind = {8: "f4", 9: "f8"}.get(element, f"u{head['allocated'] // 8}")
    wanted = int(np.prod(shape)) * int(kind[1])
    if len(body) < wanted or len(body) > wanted + 1:
        raise Problem("truncated", f"pixel data have {len(body)} bytes where rows, columns and frames need {wanted}: "
                                   "truncated, or the size in the header is wrong")
    values = np.frombuffer(body[:wanted], order + kind).reshape(shape)
    return values.astype(np.float32) if kind[0] == "f" else _stored(values, head)


def _bits(body: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """One bit a pixel, the lowest bit first, without padding between frames."""
    n_pixels = int(np.prod(shape))
    if not n_pixels <= 8 * len(body) <= n_pixels + 23:
        raise Problem("truncated", f"pixel data have {len(body)} bytes where rows, columns and frames need "
                                   f"{-(-n_pixels // 8)}: truncated, or the size in the header is wrong")
    bits = np.unpackbits(np.frombuffer(body, np.uint8), count=n_pixels, bitorder="little")
    return bits.reshape(shape).astype(np.int32)


def _stored(values: np.ndarray, head: dict[str, Any]) -> np.ndarray:
    """Bits stored out of bits allocated, two's complement where the header says signed."""
    bits = head["stored"] or head["allocated"]
    high = head["high"] if head["high"] is not None else bits - 1
    if not 0 < bits <= 32 or not bits - 1 <= high < head["allocated"]:
        raise Problem("unsupported_pixels", "bits stored and high bit contradict each other")
    wide = values.astype(np.int64) if bits > 30 else values.astype(np.int32)
    wide = (wide >> (high - bits + 1)) & ((1 << bits) - 1)
    if head["signed"]:
        wide -= (wide & (1 << (bits - 1))) << 1
    return wide


def fragments(body: bytes, n_frames: int) -> list[bytes]:
    """The compressed frames of encapsulated pixel data. Raises Problem."""
    from pydicom.encaps import generate_frames

    try:
        found = list(generate_frames(body, number_of_frames=n_frames))
    except Exception as error:
        raise Problem("truncated", "the compressed pixel data are truncated or corrupt") from error
    if len(found) != n_frames:
        raise Problem("truncated", f"{len(found)} compressed frames are present where the header claims {n_frames}")
    return found


def _frame(code: bytes, syntax: str, shape: tuple[int, ...], head: dict[str, Any]) -> np.ndarray:
    """One compressed frame, (rows, columns)."""
    if syntax in _RLE:
        return _rle(code, shape, head)
    decode, size = _codec(syntax)
    claimed = size(code)
    if claimed != shape:
        raise Problem("corrupt", "the compressed frame's own size is not the rows and columns of the header, "
                                 "or it is corrupt: it was not decoded")
    try:
        values = np.asarray(decode(code))
    except MemoryError:
        raise
    except Exception as error:
        raise Problem("corrupt", f"a compressed frame could not be decoded ({type(error).__name__})") from error
    if values.shape != shape:
        raise Problem("corrupt", "a decoded frame has another size than rows and columns of the header")
    return values


def _codec(syntax: str) -> tuple[Callable[[bytes], Any], Callable[[bytes], tuple[int, int] | None]]:
    import imagecodecs

    if syntax in _JPEG_2000:
        return imagecodecs.jpeg2k_decode, _jpeg2000_size
    if syntax in _JPEG_LS:
        return imagecodecs.jpegls_decode, _jpeg_size
    if syntax in _JPEG_LOSSLESS:
        return imagecodecs.ljpeg_decode, _jpeg_size
    if syntax in _JPEG:
        return imagecodecs.jpeg8_decode, _jpeg_size
    raise Problem("unsupported_transfer_syntax", f"transfer syntax {plain_uid(syntax)} is unsupported")


def plain_uid(said: str) -> str:
    """A registered UID as it stands; any other might identify, so it is not shown."""
    from pydicom.uid import UID_dictionary

    return said if said in UID_dictionary else "of a private kind"


def _jpeg_size(code: bytes) -> tuple[int, int] | None:
    """Rows and columns from the start-of-frame marker of JPEG or JPEG-LS."""
    at = 2
    while at + 9 <= len(code) and code[at] == 0xFF:
        marker = code[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7):
            return struct.unpack(">HH", code[at + 5:at + 9])
        at += 2 + int.from_bytes(code[at + 2:at + 4], "big")
    return None


def _jpeg2000_size(code: bytes) -> tuple[int, int] | None:
    """Rows and columns from the SIZ marker of a bare codestream or one in a JP2 box."""
    at = code[:65536].find(b"\xff\x4f\xff\x51")
    if at < 0 or len(code) < at + 24:
        return None
    width, height, left, top = struct.unpack(">IIII", code[at + 8:at + 24])
    return height - top, width - left


def _rle(code: bytes, shape: tuple[int, ...], head: dict[str, Any]) -> np.ndarray:
    import imagecodecs

    dtype = np.dtype(f"<u{head['allocated'] // 8}")
    wanted = int(np.prod(shape)) * dtype.itemsize
    try:
        body = imagecodecs.dicomrle_decode(code, dtype)
    except Exception as error:
        raise Problem("corrupt", "a run-length coded frame could not be decoded") from error
    if len(body) != wanted:
        raise Problem("truncated", f"a run-length coded frame holds {len(body)} bytes where {wanted} are needed")
    return np.frombuffer(body, dtype).reshape(shape)
