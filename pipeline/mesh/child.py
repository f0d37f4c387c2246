"""Native meshers in a child process with limits of time and memory (they may crash, or never end).

`call` starts this file by its path (so that nothing else of the project is
imported) with a folder; the child reads given.npz there, does the one task
named in it, and writes made.npz.
"""

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]
OUT_OF_TIME = "ran out of time"
"""Part of what is told of a call that met its limit of seconds."""


@dataclass(frozen=True)
class Limits:
    """CPU seconds and memory of one native call."""

    seconds: float = 60.0
    memory_gb: float = 4.0


def call(task: str, limits: Limits, **given: Any) -> tuple[Arrays | None, str]:
    """The arrays that `task` made from the arrays `given`; or None and why."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "given.npz", task=task, seconds=limits.seconds, memory_gb=limits.memory_gb, **given)
        command = [sys.executable, "-P", str(Path(__file__).resolve()), str(folder)]
        environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(command, timeout=3 * limits.seconds, env=environment, cwd=folder,
                                  capture_output=True, check=False)
        except subprocess.TimeoutExpired:
            return None, f"{task} {OUT_OF_TIME} ({3 * limits.seconds:g} s)"
        if done.returncode == -signal.SIGXCPU:
            return None, f"{task} {OUT_OF_TIME} ({limits.seconds:g} CPU-s)"
        if done.returncode != 0 or not (folder / "made.npz").exists():
            told = done.stderr.decode(errors="replace").strip().splitlines()
            return None, f"{task} ended with code {done.returncode}{': ' + told[-1] if told else ''}"
        with np.load(folder / "made.npz") as made:
            return {key: made[key] for key in made.files}, "done"


def mmg_surface(given: Arrays) -> Arrays:
    """MMGS on an open surface: points, triangles, size (n,); options hausd, hgrad. Rims are kept."""
    from mmgpy import MmgMeshS

    mesh = MmgMeshS(given["points"], given["triangles"].astype(np.int32))
    mesh["metric"] = given["size"].reshape(-1, 1)
    mesh.remesh(hausd=float(given["hausd"]), hgrad=float(given["hgrad"]), ar=60.0, verbose=-1)
    return {"points": mesh.get_vertices(), "triangles": mesh.get_triangles()}


def netgen(given: Arrays) -> Arrays:
    """Netgen's tetrahedra inside a closed surface, which stays as it is; size (k,) at sites (k, 3) inside."""
    from netgen.meshing import Element2D, FaceDescriptor, Mesh, MeshingParameters, MeshPoint, Pnt

    mesh = Mesh()
    mesh.dim = 3
    mesh.Add(FaceDescriptor(surfnr=1, domin=1, domout=0, bc=1))
    ids = [mesh.Add(MeshPoint(Pnt(*p))) for p in given["points"].tolist()]
    for a, b, c in given["triangles"].tolist():
        mesh.Add(Element2D(1, [ids[a], ids[b], ids[c]]))
    options = MeshingParameters(maxh=float(given["size"].max()), grading=float(given["grading"]),
                                optsteps3d=int(given["optimise"]), delaunay=bool(given["delaunay"]))
    for p, h in zip(given["sites"].tolist(), given["size"].tolist(), strict=True):
        mesh.RestrictLocalH(Pnt(*p), h)
    mesh.GenerateVolumeMesh(options)
    if len(mesh.Elements3D()) == 0:
        raise RuntimeError("no cell was made: the surface cuts itself, or is not closed")
    tets = mesh.Elements3D().NumPy()["nodes"][:, :4].astype(np.int64) - 1
    return {"points": np.array(mesh.Coordinates()), "tets": tets}


def mmg_volume(given: Arrays) -> Arrays:
    """MMG3D towards `size` at the points; the boundary triangles stay as they are."""
    from mmgpy import MmgMesh3D

    triangles = np.ascontiguousarray(given["triangles"], np.int32)
    mesh = MmgMesh3D()
    mesh.set_mesh_size(vertices=len(given["points"]), tetrahedra=len(given["tets"]), triangles=len(triangles))
    mesh.set_vertices(np.ascontiguousarray(given["points"]))
    mesh.set_tetrahedra(np.ascontiguousarray(given["tets"], np.int32))
    mesh.set_triangles(triangles)
    mesh.set_required_triangles(np.arange(len(triangles), dtype=np.int32))
    mesh["metric"] = given["size"].reshape(-1, 1)
    mesh.remesh(nosurf=1, hgrad=float(given["hgrad"]), hgradreq=float(given["hgrad"]), angle=0, verbose=-1)
    return {"points": mesh.get_vertices(), "tets": mesh.get_tetrahedra()}


TASKS = {task.__name__: task for task in (mmg_surface, netgen, mmg_volume)}


def _limit(seconds: float, memory_gb: float) -> None:
    import resource

    cpu, memory = int(seconds), int(memory_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(folder: Path) -> None:
    """In the child."""
    with np.load(folder / "given.npz") as file:
        given = {key: file[key] for key in file.files}
    _limit(float(given["seconds"]), float(given["memory_gb"]))
    np.savez(folder / "made.npz", **TASKS[str(given["task"])](given))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
