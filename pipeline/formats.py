"""Files at the border: NIfTI is RAS, we are LPS; the flip lives here and nowhere else.

Every VTK file carries `SPACE` (LPS) and `UNIT` (mm or m) as field data, and a
reader that expects another unit refuses it. The library of meshes is imported
where one is read or written: a scan is read in a fraction of the time without.
"""

import json
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np

from solvers.errors import BadInput
from solvers.geometry.centrelines import Branch, Lesion, Tree
from solvers.geometry.volume import Volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_POINT_ARRAYS = ("radius", "area", "area_inner", "area_outer")


def read_volume(path: Path) -> Volume:
    """A NIfTI file as a `Volume` in LPS mm; scaling of the header is applied."""
    try:
        image: Any = nibabel.load(path)
        values = np.asanyarray(image.dataobj)
    except Exception as error:
        raise BadInput("unreadable_volume", f"{path.name} could not be read as NIfTI", "a .nii.gz volume",
                       f"The reader said: {type(error).__name__}.") from error
    return Volume(values, RAS_TO_LPS @ image.affine)


def write_volume(path: Path, volume: Volume, dtype: Any = None) -> None:
    """A `Volume` as NIfTI (RAS header), the same bytes for the same volume."""
    values = np.asarray(volume.values, dtype=dtype)
    image = nibabel.Nifti1Image(values, RAS_TO_LPS @ volume.affine)
    image.header.set_xyzt_units("mm", "sec")
    if path.name.endswith(".gz"):
        path.write_bytes(imagecodecs.gzip_encode(image.to_bytes(), level=1))
    else:
        nibabel.save(image, path)


def write_vectors(path: Path, volume: Volume) -> None:
    """A field of vectors (i, j, k, 3) in LPS, written in the file's frame (RAS)."""
    turned = np.asarray(volume.values) @ RAS_TO_LPS[:3, :3]
    write_volume(path, volume.but(turned), np.float32)


def read_vectors(path: Path) -> Volume:
    """A field that `write_vectors` wrote, in LPS."""
    found = read_volume(path)
    return found.but(np.asarray(found.values) @ RAS_TO_LPS[:3, :3])


def write_mesh(path: Path, mesh: Any, unit: str) -> None:
    """Any pyvista data set, marked with its frame and unit (`mm` or `m`)."""
    mesh.field_data["SPACE"] = np.array(["LPS"])
    mesh.field_data["UNIT"] = np.array([unit])
    mesh.save(path)


def read_mesh(path: Path, unit: str) -> Any:
    """A pyvista data set in LPS and in `unit`; refused when it says otherwise."""
    import pyvista

    mesh: Any = pyvista.read(path)
    for name, wanted in (("SPACE", "LPS"), ("UNIT", unit)):
        found = str(mesh.field_data[name][0]) if name in mesh.field_data else "nothing"
        if found != wanted:
            raise BadInput("wrong_frame", f"{path.name} says {name} = {found}", f"{name} = {wanted}",
                           "Set the field data after checking the frame, or convert the file.")
    return mesh


def write_tree(path: Path, tree: Tree) -> None:
    """centrelines.vtp: one polyline per branch, in flow direction, mm."""
    import pyvista

    points = np.vstack([b.points for b in tree.branches])
    ends = np.cumsum([0] + [len(b.points) for b in tree.branches])
    lines = np.hstack([np.r_[n - m, np.arange(m, n)] for m, n in zip(ends[:-1], ends[1:], strict=True)])
    poly = pyvista.PolyData(points, lines=lines)
    for name in _POINT_ARRAYS:
        poly.point_data[name] = np.concatenate([getattr(b, name) for b in tree.branches])
    poly.point_data["abscissa"] = np.concatenate([b.abscissa for b in tree.branches])
    poly.point_data["branch"] = np.repeat(np.arange(len(tree.branches)), np.diff(ends))
    poly.cell_data["branch"] = np.arange(len(tree.branches))
    poly.cell_data["parent"] = np.array([b.parent for b in tree.branches])
    poly.cell_data["name"] = np.array([b.name for b in tree.branches])
    write_mesh(path, poly, "mm")


def read_tree(path: Path) -> Tree:
    poly = read_mesh(path, "mm")
    return Tree(tuple(_branch(poly, i) for i in range(poly.n_lines)))


def _branch(poly: Any, index: int) -> Branch:
    here = poly.point_data["branch"] == index
    arrays = {name: np.asarray(poly.point_data[name][here], float) for name in _POINT_ARRAYS}
    return Branch(np.asarray(poly.points[here], float), parent=int(poly.cell_data["parent"][index]),
                  name=str(poly.cell_data["name"][index]), **arrays)


def write_json(path: Path, content: Any) -> None:
    """Stable JSON: sorted keys, dataclasses as objects, numpy numbers as numbers."""
    path.write_text(json.dumps(content, indent=1, sort_keys=True, default=_plain, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} does not go into JSON")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def write_lesions(path: Path, lesions: list[Lesion]) -> None:
    """lesions.json; an empty list is an answer ("none found")."""
    write_json(path, {"unit": "mm", "lesions": lesions})


def read_lesions(path: Path) -> list[Lesion]:
    return [Lesion(**item) for item in read_json(path)["lesions"]]
