"""VMTK's centrelines in a child process with limits of time and memory (VMTK may crash).

`centrelines` starts `python -P -m pipeline.vmtk_child FOLDER`; the child reads
surface.npz there and writes lines.npz. A crash, a time-out or nonsense is None.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from solvers.geometry.surface import Surface

Line = tuple[np.ndarray, np.ndarray]
"""Points (n, 3) from the inlet to an end, and the maximal inscribed radius there (n,)."""


def centrelines(surface: Surface, inlet: np.ndarray, ends: list[np.ndarray], seconds: float,
                memory_gb: float) -> tuple[list[Line] | None, str]:
    """One line per end, in order; or None and why. `inlet` and `ends` lie on the closed surface."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "surface.npz", points=surface.points, triangles=surface.triangles, inlet=inlet,
                 ends=np.array(ends), memory_gb=memory_gb, seconds=seconds)
        command = [sys.executable, "-P", "-m", "pipeline.vmtk_child", str(folder)]
        try:
            done = subprocess.run(command, timeout=2 * seconds, env=_environment(), capture_output=True, check=False)
        except subprocess.TimeoutExpired:
            return None, f"VMTK took longer than {2 * seconds:g} s"
        if done.returncode != 0 or not (folder / "lines.npz").exists():
            return None, f"VMTK ended with code {done.returncode}"
        return _read(folder / "lines.npz")


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[1])
    path = os.environ.get("PYTHONPATH")
    return dict(os.environ) | {"PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root, "OMP_NUM_THREADS": "1"}


def _read(path: Path) -> tuple[list[Line] | None, str]:
    with np.load(path) as found:
        lines = [(found[f"points{i}"], found[f"radius{i}"]) for i in range(int(found["n"]))]
    if any(len(p) < 10 or not np.isfinite(p).all() or not np.isfinite(r).all() for p, r in lines):
        return None, "VMTK gave a broken line"
    return lines, "vmtk"


def main(folder: Path) -> None:
    """In the child."""
    import resource

    from vmtk import vtkvmtk

    given = np.load(folder / "surface.npz")
    seconds, limit = int(given["seconds"]), int(float(given["memory_gb"]) * 2**30)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    lines = _vmtk(vtkvmtk, given["points"], given["triangles"], np.vstack([given["inlet"], given["ends"]]))
    arrays: dict[str, Any] = {f"points{i}": p for i, (p, _) in enumerate(lines)}
    arrays |= {f"radius{i}": r for i, (_, r) in enumerate(lines)}
    np.savez(folder / "lines.npz", n=len(lines), **arrays)


def _vmtk(vtkvmtk: Any, points: np.ndarray, triangles: np.ndarray, seeds: np.ndarray) -> list[Line]:
    """Lines from seed 0 to each other seed."""
    import pyvista
    from scipy.spatial import cKDTree
    from vtkmodules.vtkCommonCore import vtkIdList
    from vtkmodules.vtkFiltersCore import vtkPolyDataNormals

    normals = vtkPolyDataNormals()
    normals.SetInputData(pyvista.PolyData.from_regular_faces(points, triangles))
    normals.SplittingOff()
    normals.AutoOrientNormalsOff()
    normals.ConsistencyOn()
    normals.Update()
    surface = pyvista.wrap(normals.GetOutput())
    ids = cKDTree(surface.points).query(seeds)[1]
    source, target = vtkIdList(), vtkIdList()
    source.InsertNextId(int(ids[0]))
    for i in ids[1:]:
        target.InsertNextId(int(i))
    tracer = vtkvmtk.vtkvmtkPolyDataCenterlines()
    tracer.SetInputData(surface)
    tracer.SetSourceSeedIds(source)
    tracer.SetTargetSeedIds(target)
    tracer.SetRadiusArrayName("radius")
    tracer.SetCostFunction("1/R")
    tracer.SetAppendEndPointsToCenterlines(0)
    tracer.SetSimplifyVoronoi(0)
    tracer.SetCenterlineResampling(0)
    tracer.SetFlipNormals(0)
    tracer.Update()
    return _in_order(pyvista.wrap(tracer.GetOutput()), points[ids[0]], points[ids[1:]])


def _in_order(found: Any, inlet: np.ndarray, ends: np.ndarray) -> list[Line]:
    """Each line from the inlet to its end, in the order of the ends."""
    lines: list[Line] = []
    for i in range(found.n_cells):
        ids = found.get_cell(i).point_ids
        points, radius = np.asarray(found.points, float)[ids], np.asarray(found.point_data["radius"], float)[ids]
        flip = np.linalg.norm(points[0] - inlet) > np.linalg.norm(points[-1] - inlet)
        lines.append((points[::-1], radius[::-1]) if flip else (points, radius))
    if len(lines) != len(ends):
        raise SystemExit(3)
    tips = np.array([points[-1] for points, _ in lines])
    order = [int(np.linalg.norm(tips - end, axis=1).argmin()) for end in ends]
    return [lines[i] for i in order]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
