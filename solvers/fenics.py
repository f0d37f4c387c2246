"""The one door to DOLFINx: right import order, and a form cache that a kill cannot spoil.

FFCx marks a form as being compiled by a file that a killed process leaves
behind, and every later process then waits for it in vain. So each process
compiles in a folder of its own, which starts with links to the finished forms
of the shared cache; what it finished is published, whole, when it ends.
Ranks of one MPI job share the folder that their launcher names.
"""

import atexit
import contextlib
import os
import shutil
from pathlib import Path

if "PMI_SIZE" not in os.environ:  # one process needs no shared memory, and must start where files are limited in size
    os.environ.setdefault("UCX_TLS", "self")

with contextlib.suppress(ModuleNotFoundError):  # the Linux wheel; conda's fenics-dolfinx needs no such order
    import dolfinx_solver  # noqa: F401

import basix
import basix.ufl
import dolfinx
import dolfinx.fem.petsc
import dolfinx.jit
import ufl
from dolfinx import fem, la, mesh
from dolfinx.fem import petsc
from mpi4py import MPI
from petsc4py import PETSc

__all__ = ["MPI", "PETSc", "basix", "dolfinx", "fem", "la", "mesh", "petsc", "ufl"]

RANKS_FOLDER = "ANATWIN_FORMS_OF_RANKS"
"""Environment variable by which a launcher gives all ranks one folder."""


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "anatwin" / "forms"


def _finished(folder: Path) -> list[str]:
    """Modules in `folder` whose compilation came to its end."""
    return [p.name.removesuffix(".c.cached") for p in folder.glob("*.c.cached")]


def _link(name: str, source: Path, target: Path) -> None:
    """Link a finished module's files into `target`, the one that says "finished" last."""
    files = sorted(source.glob(f"{name}.*"), key=lambda p: p.name.endswith(".cached"))
    for file in (f for f in files if f.suffix != ".o"):
        temporary = target / f".{os.getpid()}-{file.name}"
        try:
            os.link(file, temporary)
        except OSError:
            shutil.copy2(file, temporary)
        temporary.replace(target / file.name)


def _open(cache: Path) -> Path:
    """This process's own folder, seeded with what is finished."""
    _sweep(cache)
    own = cache / f"of-{os.getpid()}"
    own.mkdir(parents=True, exist_ok=True)
    for name in _finished(cache):
        _link(name, cache, own)
    return own


def _sweep(cache: Path) -> None:
    """Remove the folders of processes that are gone."""
    for folder in cache.glob("of-*"):
        if not Path(f"/proc/{folder.name.removeprefix('of-')}").exists() and Path("/proc/self").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _close(cache: Path, own: Path, owner: int) -> None:
    if os.getpid() != owner:
        return
    for name in set(_finished(own)) - set(_finished(cache)):
        with contextlib.suppress(OSError):
            _link(name, own, cache)
    shutil.rmtree(own, ignore_errors=True)


def _install() -> None:
    given = os.environ.get(RANKS_FOLDER)
    own = Path(given) if given else _open(_cache())
    default, text = dolfinx.jit.DOLFINX_DEFAULT_JIT_OPTIONS["cache_dir"]
    dolfinx.jit.DOLFINX_DEFAULT_JIT_OPTIONS["cache_dir"] = (own, text)
    if not given:
        atexit.register(_close, _cache(), own, os.getpid())


_install()
