"""What scanners put into elements of their own: diffusion weighting, mosaics of slices (velocity: encoding.py).

Runs in the limited child. A direction of diffusion is given in the patient's
frame (LPS) or not at all: where a vendor's frame is documented for some
acquisitions only, the others stay without.

Sources: DICOM PS3.3 C.8.13.5.9 (MR diffusion), https://dicom.nema.org/medical/dicom/current/output/html/part03.html;
GE: frequency, phase and slice axes, https://github.com/rordenlab/dcm2niix/blob/master/GE/README.md; Siemens: private
elements of "SIEMENS MR HEADER" and the protocol text "ASCCONV"; United Imaging: "Image Private Header".
"""

import re
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from pipeline.ingest.elements import number, numbers_of, text, texts, vector
from pipeline.ingest.problems import Problem

TAGS: list[Any] = [
    0x00190010, 0x0019100A, 0x0019100C, 0x0019100E, 0x001910BB, 0x001910BC, 0x001910BD, 0x00290010, 0x00291010,
    0x00291020, 0x00430010, 0x00431039, 0x00510010, 0x0051100B, 0x00511014, 0x00511016, 0x00650010, 0x00651009,
    0x00651037, 0x00651050, 0x00651051, 0x20010010, 0x20011003, 0x20050010, 0x200510B0, 0x200510B1, 0x200510B2]
Direction = list[float] | None


def diffusion(data: Dataset, places: list[Dataset]) -> tuple[float | None, Direction]:
    """b-value in s/mm2 and the direction in LPS (unit; zeros at b = 0); None for what is not said.

    places: where the frame's elements may be, the nearest first.
    """
    holder = next((p for p in places if "DiffusionBValue" in p), None)
    b_value = number(holder, "DiffusionBValue")
    if holder is not None and b_value is not None:
        b_value = b_value % 100_000 if b_value > 1e8 else b_value
        return _checked(b_value, _standard_direction(holder, places))
    found = (read(data) for read in (_siemens, _ge, _philips, _united_imaging))
    return next((_checked(b, direction) for b, direction in found if b is not None), (None, None))


def _checked(b_value: float, direction: list[float] | None) -> tuple[float | None, Direction]:
    """Both where they are plausible, the direction as a unit vector."""
    if not 0 <= b_value < 1e6:
        return None, None
    length = float(np.linalg.norm(direction)) if direction else 0.0
    if b_value == 0 or (direction is not None and length < 1e-3):
        return b_value, [0.0, 0.0, 0.0]
    return b_value, [float(x) / length for x in direction] if direction and 0.5 < length < 1.5 else None


def _standard_direction(holder: Dataset, places: list[Dataset]) -> list[float] | None:
    nested = holder.get("DiffusionGradientDirectionSequence") or [None]
    found = next((p for p in (nested[0], *places) if p is not None and "DiffusionGradientOrientation" in p), None)
    if found is None:
        return _united_imaging(places[-1])[1] or _siemens(places[-1])[1] or _ge(places[-1])[1]
    return vector(found, "DiffusionGradientOrientation", 3)


def _siemens(data: Dataset) -> tuple[float | None, list[float] | None]:
    if 0x0019100C not in data or not _made_by(data, "SIEMENS"):
        return None, None
    return _first(data, 0x0019100C), vector(data, 0x0019100E, 3)


def _ge(data: Dataset) -> tuple[float | None, list[float] | None]:
    """GE: the length of the vector scales b; its frame is documented for axial, supine, head first, phase by columns.

    What the header does not say of these is taken to be so, and `assumed` tells it.
    """
    b_value = _first(data, 0x00431039)
    if b_value is None or not _made_by(data, "GE"):
        return None, None
    b_value %= 1e8
    along = [_first(data, tag) for tag in (0x001910BB, 0x001910BC, 0x001910BD)]
    if None in along:
        return b_value, None
    length = float(np.linalg.norm(np.array(along, float)))
    if length < 0.03:
        return b_value, [0.0, 0.0, 0.0]
    axes = _axes(data)
    usual = text(data, "PatientPosition") in ("", "HFS") and text(data, "InPlanePhaseEncodingDirection") in ("", "COL")
    scaled = b_value if length > 0.97 else 5.0 * round(b_value * length**2 / 5)
    if axes is None or not usual or abs(axes[2, 2]) < 0.7:
        return scaled, None
    return scaled, list(np.array(along, float) / length * [-1, -1, 1] @ axes)


def assumed(data: Dataset) -> str:
    """What was taken for granted about directions of diffusion; empty when nothing was."""
    if 0x001910BB not in data or not _made_by(data, "GE") or text(data, "InPlanePhaseEncodingDirection"):
        return ""
    return "directions of diffusion assume that phase was encoded by columns, which the header does not say"


def _philips(data: Dataset) -> tuple[float | None, list[float] | None]:
    if 0x20011003 not in data or not _made_by(data, "PHILIPS"):
        return None, None
    along = [_first(data, tag) for tag in (0x200510B0, 0x200510B1, 0x200510B2)]
    return _first(data, 0x20011003), None if None in along else [float(v or 0) for v in along]


def _united_imaging(data: Dataset) -> tuple[float | None, list[float] | None]:
    """United Imaging: the direction is along the image's column index, row index and normal."""
    if 0x00651009 not in data or not _made_by(data, "UIH"):
        return None, None
    axes, along = _axes(data), vector(data, 0x00651037, 3)
    return _first(data, 0x00651009), None if axes is None or along is None else list(np.array(along) @ axes)


def _made_by(data: Dataset, maker: str) -> bool:
    return maker in text(data, "Manufacturer").upper()


def _first(data: Dataset, tag: int) -> float | None:
    """The first number of a private element, however it is encoded."""
    found = vector(data, tag, 1)
    return None if found is None else found[0]


def _axes(data: Dataset) -> np.ndarray | None:
    """Unit vectors along column index, row index and their normal, (3, 3), rows."""
    cosines = numbers_of(data, "ImageOrientationPatient", 6)
    if cosines is None:
        return None
    pair = np.array(cosines).reshape(2, 3)
    return np.vstack([pair, np.cross(*pair)])


# Mosaics

def mosaic(data: Dataset) -> dict[str, Any] | None:
    """Tiles of an image that holds all slices of a volume side by side; None when it is no such image.

    `n_slices`, `rows`, `columns` of a tile, `whole` (rows, columns), and `positions` (n, 3) of the tiles'
    first pixels, LPS mm. Raises Problem `unsupported_mosaic` when they cannot be had.
    """
    if "MOSAIC" in texts(data, "ImageType"):
        return _siemens_mosaic(data)
    if 0x00651050 in data and 0x00651051 in data and _made_by(data, "UIH"):
        return _united_imaging_mosaic(data)
    return None


def _tiles(data: Dataset, n_slices: int | None, *, square: bool) -> dict[str, Any]:
    """Tiles fill rows of ceil(sqrt(n)), as many rows as there are in a row (`square`) or as are needed."""
    rows, columns = int(data.Rows), int(data.Columns)
    if not n_slices or not 1 < n_slices < 4096:
        raise _unreadable("how many slices it holds is not said")
    across = int(np.ceil(np.sqrt(n_slices)))
    down = across if square else -(-n_slices // across)
    if rows % down or columns % across:
        raise _unreadable("its size is no multiple of its tiles")
    return {"n_slices": n_slices, "rows": rows // down, "columns": columns // across, "whole": [rows, columns]}


def _unreadable(why: str) -> Problem:
    return Problem("unsupported_mosaic", f"the image is a mosaic of slices and cannot be taken apart: {why}")


def _siemens_mosaic(data: Dataset) -> dict[str, Any]:
    """Siemens centres the whole mosaic where a slice would be; the protocol says where the slices lie."""
    protocol = _slices_of_protocol(data)
    count = _first(data, 0x0019100A) or (len(protocol) if protocol is not None else None)
    tiles = _tiles(data, int(count) if count else None, square=True)
    axes, corner = _axes(data), numbers_of(data, "ImagePositionPatient", 3)
    spacing = numbers_of(data, "PixelSpacing", 2)
    if axes is None or corner is None or spacing is None:
        raise _unreadable("position, orientation or spacing is absent")
    size = np.array([tiles["columns"], tiles["rows"]])
    whole, step = np.array([int(data.Columns), int(data.Rows)]), np.array([spacing[1], spacing[0]])
    first = np.array(corner) + ((whole - size) / 2 * step) @ axes[:2]
    along = _step_of_protocol(protocol, first + (size / 2 * step) @ axes[:2], axes[2])
    if along is None:
        along = _step_of_header(data, axes[2])
    positions = first + np.outer(np.arange(tiles["n_slices"]), along)
    return tiles | {"positions": positions.tolist()}


def _slices_of_protocol(data: Dataset) -> np.ndarray | None:
    """Centres of the slices in the protocol's order, LPS mm, (n, 3); the text leaves out zeros."""
    raw = getattr(data.get_item(0x00291020), "value", b"") if 0x00291020 in data else b""
    said = raw.decode("latin-1") if isinstance(raw, bytes) else str(raw)
    count = re.search(r"sSliceArray\.lSize\s*=\s*(\d{1,4})\b", said)
    if count is None or not 1 < int(count[1]) < 4096:
        return None
    centres = np.zeros((int(count[1]), 3))
    pattern = r"sSliceArray\.asSlice\[(\d{1,4})\]\.sPosition\.d(Sag|Cor|Tra)\s*=\s*([-+.\deE]{1,32})"
    for index, axis, value in re.findall(pattern, said):
        if int(index) < len(centres):
            centres[int(index), ("Sag", "Cor", "Tra").index(axis)] = float(value)
    return centres


def _step_of_protocol(centres: np.ndarray | None, first: np.ndarray, normal: np.ndarray) -> np.ndarray | None:
    """From tile to tile (3,), when the first tile's centre is one end of the protocol's slices."""
    if centres is None:
        return None
    whole = centres[-1] - centres[0]
    apart = [float(np.abs((end - first) @ normal)) for end in (centres[0], centres[-1])]
    if min(apart) > 0.1 * np.linalg.norm(whole) / len(centres):
        return None
    along = float(whole @ normal) / (len(centres) - 1)
    return normal * (along if apart[0] < apart[1] else -along)


def _step_of_header(data: Dataset, normal: np.ndarray) -> np.ndarray:
    """From tile to tile by the slice normal of the vendor's own header, which says the order of the tiles."""
    from nibabel.nicom import csareader

    spacing = number(data, "SpacingBetweenSlices")
    raw = getattr(data.get_item(0x00291010), "value", None) if 0x00291010 in data else None
    try:
        found = csareader.get_slice_normal(csareader.read(raw)) if isinstance(raw, bytes) else None
    except Exception:
        found = None
    if spacing is None or found is None:
        raise _unreadable("neither the protocol nor the vendor's header says where its slices lie")
    return normal * spacing * np.sign(float(np.asarray(found, float) @ normal))


def _united_imaging_mosaic(data: Dataset) -> dict[str, Any]:
    """United Imaging lists the position of each tile."""
    items = data[0x00651051].value
    tiles = _tiles(data, len(items), square=False)
    positions = [numbers_of(item, "ImagePositionPatient", 3) for item in items]
    if None in positions or _first(data, 0x00651050) != len(items):
        raise _unreadable("the positions of its slices are incomplete")
    return tiles | {"positions": positions}
