"""Volumes that come as one file: NIfTI, MetaImage and NRRD, header and values.

Runs in the limited child. Every header is parsed here and its claimed size
compared with the bytes that are there before anything is allocated; a detached
data file is opened only when it lies beside its header under a plain name.
"""

import gzip
import io
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.ingest.problems import Problem

MAX_VOXELS = 2**32
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_META_TYPES = {"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
               "MET_UINT": "u4", "MET_LONG_LONG": "i8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"}
_NRRD_TYPES = {"signed char": "i1", "int8": "i1", "int8_t": "i1", "unsigned char": "u1", "uchar": "u1", "uint8": "u1",
               "uint8_t": "u1", "short": "i2", "int16": "i2", "int16_t": "i2", "signed short": "i2",
               "unsigned short": "u2", "ushort": "u2", "uint16": "u2", "uint16_t": "u2", "int": "i4", "int32": "i4",
               "int32_t": "i4", "signed int": "i4", "unsigned int": "u4", "uint": "u4", "uint32": "u4",
               "uint32_t": "u4", "float": "f4", "double": "f8", "int64": "i8", "long long": "i8"}
_NRRD_SPACES = {"left-posterior-superior": (1, 1), "lps": (1, 1), "right-anterior-superior": (-1, -1),
                "ras": (-1, -1), "left-anterior-superior": (1, -1), "las": (1, -1)}


def describe(path: Path, kind: str) -> dict[str, Any]:
    """Shape, affine (LPS mm), and whether the axes are said to be the patient's; or a `problem`."""
    readers = {"nifti": _nifti, "metaimage": _metaimage, "nrrd": _nrrd}
    try:
        facts = readers[kind](path)
        _check(facts)
        return {"kind": kind, "problem": None} | facts
    except Problem as problem:
        return {"kind": kind, "problem": [problem.code, problem.happened]}
    except Exception as error:
        return {"kind": kind, "problem": ["corrupt", f"the {kind} header is corrupt or invalid "
                                                     f"({type(error).__name__})"]}


def _check(facts: dict[str, Any]) -> None:
    """Refuse grids that cannot be a volume of a body."""
    shape, affine = facts["shape"], np.array(facts["affine"])
    if len(shape) not in (3, 4) or min(shape[:3]) < 2:
        raise Problem("not_a_volume", f"the image has {len(shape)} dimensions or a single slice: not a volume")
    if math.prod(shape) > MAX_VOXELS:
        raise Problem("too_large", "the header claims more voxels than can be read")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or spacing.min() <= 1e-6 or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise Problem("invalid_geometry", "the affine is singular or not finite: the voxel spacing is invalid")
    if spacing.max() > 100 or spacing.min() < 1e-3:
        raise Problem("invalid_geometry", f"the voxel spacing {spacing.min():.3g} to {spacing.max():.3g} mm is "
                                          "implausible: check the unit of the header")
    cosines = affine[:3, :3] / spacing
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > 0.01:
        facts["problem_axes"] = True
        raise Problem("sheared_axes", "the image axes are not orthogonal (a shear or a gantry tilt in the affine)")


def values(path: Path, head: dict[str, Any]) -> np.ndarray:
    """The voxels with the header's scaling, (i, j, k[, t]). Raises Problem."""
    raw = nifti_body(path, head) if head["kind"] == "nifti" else _plain_body(path, head)
    dtype, shape = np.dtype(head["dtype"]), tuple(head["shape"])
    array = np.frombuffer(raw, dtype, count=math.prod(shape)).reshape(shape, order="F")
    slope, intercept = head.get("slope", 1.0), head.get("intercept", 0.0)
    if (slope, intercept) == (1.0, 0.0):
        return array
    return (array.astype(np.float64) * slope + intercept).astype(np.float32)


# NIfTI

def _open(path: Path) -> Any:
    """The file's bytes, unpacked when they are gzip whatever the name says."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")


def _nifti(path: Path) -> dict[str, Any]:
    header, magic = nifti_header(path)
    facts: dict[str, Any] = {"detached": magic[:2] == b"ni", "warnings": []}
    facts |= _nifti_shape(header, path, facts["detached"]) | _nifti_scale(header)
    return facts | _nifti_affine(header, facts["warnings"])


def nifti_header(path: Path) -> tuple[Any, bytes]:
    """The header of a NIfTI file as it stands, and its magic. Raises Problem."""
    with _open(path) as file:
        head = file.read(600)
    version = 2 if 540 in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")) else 1
    magic = head[344:348] if version == 1 else head[4:8]
    if magic[:2] not in (b"n+", b"ni"):
        raise Problem("unsupported_analyze", "an Analyze header without the NIfTI magic says nothing about left and "
                                             "right: not NIfTI")
    import nibabel

    kind: Any = nibabel.Nifti2Header if version == 2 else nibabel.Nifti1Header
    return kind.from_fileobj(io.BytesIO(head), check=False), magic


def _nifti_shape(header: Any, path: Path, detached: bool) -> dict[str, Any]:
    dim = [int(d) for d in header["dim"]]
    if not 1 <= dim[0] <= 7 or min(dim[1:dim[0] + 1]) < 1:
        raise Problem("corrupt", "the NIfTI dimensions are invalid")
    shape = dim[1:dim[0] + 1]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    code = int(header["datatype"])
    if code in (128, 2304):
        raise Problem("not_a_volume", "colour (RGB) voxels are not a volume of measured values")
    if code not in (2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280):
        raise Problem("unsupported_pixels", "complex, binary or unknown voxels are not supported")
    dtype = np.dtype(header.get_data_dtype())
    offset = 0 if detached else int(header["vox_offset"])
    body = _image_of(path) if detached else path
    if math.prod(shape) > MAX_VOXELS:
        raise Problem("too_large", "the header claims more voxels than can be read")
    _check_bytes(body, offset + math.prod(shape) * dtype.itemsize)
    return {"shape": shape, "dtype": dtype.str, "offset": offset,
            "step_s": float(header["pixdim"][4]) if len(shape) == 4 else None}


def _image_of(path: Path) -> Path:
    """The .img beside a .hdr."""
    name = path.name.lower()
    stem = path.name[: -len(".hdr.gz")] if name.endswith(".hdr.gz") else path.name[: -len(".hdr")]
    for suffix in (".img", ".img.gz", ".IMG"):
        other = path.with_name(stem + suffix)
        if other.is_file() and not other.is_symlink():
            return other
    raise Problem("image_missing", "the header's .img file is missing beside it")


def _check_bytes(path: Path, wanted: int) -> None:
    """Count the bytes that are there, without keeping them."""
    with _open(path) as file:
        if not isinstance(file, gzip.GzipFile):
            present = path.stat().st_size
        elif wanted > 1100 * path.stat().st_size + 2**20:
            raise Problem("truncated", "the header claims more data than the compressed file can hold: truncated")
        else:
            return
    if present < wanted:
        raise Problem("truncated", f"the file has {present} bytes where its header needs {wanted}: truncated")


def _nifti_scale(header: Any) -> dict[str, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not math.isfinite(slope) or slope == 0:
        return {"slope": 1.0, "intercept": 0.0}
    if not math.isfinite(intercept):
        raise Problem("invalid_rescale", "the scale intercept of the header is not finite")
    return {"slope": slope, "intercept": intercept}


def _nifti_affine(header: Any, said: list[str]) -> dict[str, Any]:
    """LPS mm; qform and sform must agree where both are set."""
    unit = int(header["xyzt_units"]) & 7
    scale = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}.get(unit)
    if scale is None:
        raise Problem("invalid_geometry", "the header's unit of length is unknown: the voxel spacing is not certain")
    if unit == 0:
        said.append("the header names no unit of length: millimetres are assumed")
    qform, sform = int(header["qform_code"]), int(header["sform_code"])
    pixdim = np.abs(np.asarray(header["pixdim"][1:4], float))
    conflict = ""
    if sform > 0:
        affine = header.get_sform()
        conflict = _conflict(affine, header) if qform > 0 else ""
    elif qform > 0:
        affine = header.get_qform()
    else:
        said.append("the header gives no orientation (qform and sform codes are 0): sides are unverified")
        affine = np.diag([*pixdim, 1.0])
    affine = np.array(affine, float)
    affine[:3] *= scale
    return {"affine": (_RAS_TO_LPS @ affine).tolist(), "anatomical": sform > 0 or qform > 0, "conflict": conflict}


def _conflict(sform: np.ndarray, header: Any) -> str:
    """What to say when the transforms put the corners of the grid more than half a voxel apart; else nothing."""
    try:
        qform = header.get_qform()
    except Exception:
        return ""
    size = np.array([max(int(d) - 1, 1) for d in header["dim"][1:4]])
    corners = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T * size
    apart = corners @ (sform[:3, :3] - qform[:3, :3]).T + sform[:3, 3] - qform[:3, 3]
    if np.linalg.norm(apart, axis=1).max() <= 0.5 * np.linalg.norm(sform[:3, :3], axis=0).min():
        return ""
    return "qform and sform of the header put the image at different places (conflicting orientation)"


def nifti_body(path: Path, head: dict[str, Any]) -> bytes:
    """The voxels' bytes, without what precedes and follows them. Raises Problem."""
    body = _image_of(path) if head["detached"] else path
    wanted = math.prod(head["shape"]) * np.dtype(head["dtype"]).itemsize
    try:
        with _open(body) as file:
            file.seek(head["offset"])
            raw = file.read(wanted)
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise
        raise Problem("truncated", "the compressed file is truncated or corrupt") from error
    if len(raw) < wanted:
        raise Problem("truncated", f"the file has {len(raw)} bytes of voxels where its header needs {wanted}")
    return raw


# MetaImage and NRRD

def _metaimage(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        head = file.read(64 * 1024)
    fields, offset = _meta_fields(head)
    low = {k.lower(): v for k, v in fields.items()}
    n = int(low["ndims"])
    if int(low.get("elementnumberofchannels", "1")) != 1:
        raise Problem("not_a_volume", "several channels per voxel (colour or vectors) are not a volume of values")
    if n not in (3, 4) or low["elementtype"] not in _META_TYPES:
        raise Problem("not_a_volume", f"a MetaImage of {n} dimensions and this element type is not a volume")
    shape = _ints(low["dimsize"], n)
    order = ">" if low.get("binarydatabyteordermsb", low.get("elementbyteordermsb", "False")) == "True" else "<"
    spacing = _floats(low.get("elementspacing", low.get("elementsize", " ".join("1" * n))), n)[:3]
    matrix = _floats(low.get("transformmatrix", low.get("rotation", low.get("orientation", _unit(n)))), n * n)
    origin = _floats(low.get("offset", low.get("origin", low.get("position", " ".join("0" * n)))), n)[:3]
    affine = np.eye(4)
    affine[:3, :3] = np.array(matrix).reshape(n, n)[:3, :3].T * spacing
    affine[:3, 3] = origin
    facts = {"shape": shape, "dtype": order + _META_TYPES[low["elementtype"]], "affine": affine.tolist(),
             "anatomical": False, "warnings": ["a MetaImage does not prove that its axes are the patient's: sides are "
                                               "unverified"],
             "packed": "zlib" if low.get("compresseddata", "False") == "True" else "", "step_s": None}
    return facts | _where(path, low["elementdatafile"], offset, int(low.get("headersize", "0")), facts)


def _unit(n: int) -> str:
    return " ".join(str(float(v)) for v in np.eye(n).ravel())


def _meta_fields(head: bytes) -> tuple[dict[str, str], int]:
    """Key = value lines up to ElementDataFile, and where the data begin."""
    fields: dict[str, str] = {}
    at = 0
    while "ElementDataFile" not in fields:
        end = head.find(b"\n", at)
        if end < 0:
            raise Problem("corrupt", "the MetaImage header has no end")
        key, _, value = head[at:end].decode("latin-1").partition("=")
        fields[key.strip()] = value.strip()
        at = end + 1
    return fields, at


def _nrrd(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        head = file.read(256 * 1024)
    end = re.search(rb"\r?\n\r?\n", head)
    text = head[: end.start() if end else len(head)].decode("latin-1")
    fields = {k.strip().lower(): v.strip() for k, v in
              (line.split(":", 1) for line in text.splitlines()[1:]
               if ":" in line and ":=" not in line and not line.startswith("#"))}
    n = int(fields["dimension"])
    space = _NRRD_SPACES.get(fields.get("space", "").lower())
    if n != 3 or fields["type"] not in _NRRD_TYPES:
        raise Problem("not_a_volume", f"a NRRD of {n} dimensions and type is not one volume of values")
    vectors = [_vector(v) for v in re.findall(r"\([^)]*\)|none", fields.get("space directions", ""))]
    said, affine = [], np.eye(4)
    if space and len(vectors) == 3:
        affine[:3, :3] = np.array(vectors).T
        affine[:3, 3] = _vector(fields.get("space origin", "(0,0,0)"))
        affine = np.diag([*space, 1.0, 1.0]) @ affine
    else:
        affine[:3, :3] = np.diag(_floats(fields.get("spacings", "1 1 1"), 3))
        said.append("the header names no anatomical space: sides are unverified")
    packed = {"raw": "", "gzip": "gzip", "gz": "gzip"}.get(fields["encoding"].lower())
    if packed is None:
        raise Problem("unsupported_pixels", "this NRRD encoding is not supported (raw and gzip are)")
    order = ">" if fields.get("endian", "little").lower() == "big" else "<"
    facts = {"shape": _ints(fields["sizes"], 3), "dtype": order + _NRRD_TYPES[fields["type"]],
             "affine": affine.tolist(), "anatomical": bool(space) and len(vectors) == 3, "warnings": said,
             "packed": packed, "step_s": None}
    detached = fields.get("data file", fields.get("datafile", "LOCAL"))
    return facts | _where(path, detached, end.end() if end else len(head), int(fields.get("byte skip", "0")), facts)


def _vector(text: str) -> list[float]:
    return [float(v) for v in text.strip("()").split(",")]


def _ints(text: str, n: int) -> list[int]:
    values = [int(v) for v in text.split()]
    if len(values) != n or min(values) < 1:
        raise Problem("corrupt", "the sizes of the header are invalid")
    return values


def _floats(text: str, n: int) -> list[float]:
    values = [float(v) for v in text.split()]
    if len(values) != n:
        raise Problem("corrupt", "the geometry of the header is invalid")
    return values


def _where(path: Path, said: str, offset: int, skip: int, facts: dict[str, Any]) -> dict[str, Any]:
    """The file and offset of the voxels; the bytes there must do."""
    body = path
    if said.upper() != "LOCAL":
        if "/" in said or "\\" in said or said.startswith(".") or said.upper().startswith("LIST") or "%" in said:
            raise Problem("unsupported_detached", "the data file named by the header is not a plain file beside it "
                                                  "(another path, or a list)")
        body, offset = path.with_name(said), 0
        if body.is_symlink() or not body.is_file():
            raise Problem("image_missing", "the data file named by the header is missing beside it")
    wanted = math.prod(facts["shape"]) * np.dtype(facts["dtype"]).itemsize
    present = body.stat().st_size - offset
    offset = offset + max(skip, 0) if skip != -1 else body.stat().st_size - wanted
    if (not facts["packed"] and present < wanted) or (facts["packed"] and present * 1100 + 2**20 < wanted):
        raise Problem("truncated", f"the file has {present} bytes of voxels where its header needs {wanted}: truncated")
    return {"body": "" if body == path else body.name, "offset": offset}


def _plain_body(path: Path, head: dict[str, Any]) -> bytes:
    wanted = math.prod(head["shape"]) * np.dtype(head["dtype"]).itemsize
    with (path.with_name(head["body"]) if head["body"] else path).open("rb") as file:
        file.seek(head["offset"])
        raw = file.read() if head["packed"] else file.read(wanted)
    if head["packed"]:
        try:
            raw = zlib.decompressobj(wbits=47).decompress(raw, wanted)
        except zlib.error as error:
            raise Problem("corrupt", "the compressed voxels are corrupt") from error
    if len(raw) < wanted:
        raise Problem("truncated", f"truncated: {len(raw)} bytes of voxels where the header needs {wanted}")
    return raw
