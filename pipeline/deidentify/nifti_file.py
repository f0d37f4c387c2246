"""One NIfTI file: a new header with sizes, places and scale, the voxels byte for byte, and nothing else."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from pipeline.ingest import grids
from pipeline.ingest.problems import Problem
from solvers.imaging.lettering import is_lettered

_KEPT = ("dim", "datatype", "bitpix", "scl_slope", "scl_inter", "qform_code", "sform_code", "quatern_b", "quatern_c",
         "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units")


def cleanse(path: Path, out: Path) -> str:
    """Write the clean file (.nii.gz) to `out`; why text is thought to be in it, else empty. Raises Problem."""
    facts = grids.describe(path, "nifti")
    if facts["problem"]:
        raise Problem(*facts["problem"])
    raw = grids.nifti_body(path, facts)
    header = _header(path, facts)
    out.write_bytes(imagecodecs.gzip_encode(header.binaryblock + b"\0" * 4 + raw, level=1))
    _check_same(facts, grids.describe(out, "nifti"))
    return "letters were seen in the image" if _is_lettered(raw, facts) else ""


def _header(path: Path, facts: dict[str, Any]) -> Any:
    """A header of the same version and byte order that holds what is kept; everything else as in an empty one."""
    old, _ = grids.nifti_header(path)
    new = type(old)(endianness=old.endianness)
    for name in _KEPT:
        new[name] = old[name]
    new["pixdim"] = np.where(np.arange(8) <= min(int(old["dim"][0]), 4), old["pixdim"], 0)
    new["vox_offset"] = new.sizeof_hdr + 4
    if not np.all(np.isfinite(new["pixdim"])):
        raise Problem("invalid_geometry", "the voxel spacing of the header is not finite")
    return new


def _is_lettered(raw: bytes, facts: dict[str, Any]) -> bool:
    """Text in any slice along any axis."""
    values = np.frombuffer(raw, facts["dtype"]).reshape(facts["shape"], order="F")
    first = values if values.ndim == 3 else values[..., 0]
    return any(is_lettered(np.nan_to_num(plane)) for axis in range(3) for plane in np.moveaxis(first, axis, 0))


def _check_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    names = ("shape", "dtype", "affine", "slope", "intercept", "step_s", "anatomical", "conflict")
    odd = [n for n in names if before[n] != after.get(n)] if not after["problem"] else ["header"]
    if odd:
        raise Problem("would_change", f"cleaning would lose or change what the image needs ({odd[0]})")
