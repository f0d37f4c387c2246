"""The shape of the code: import directions, one door to DOLFINx, contracts, licences."""

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.stage import Config, Files, hints

ROOT = Path(__file__).parents[1]
LAYERS = {"solvers": 0, "pipeline": 1, "workflows": 2}
SHARED = {"stage", "formats", "table", "provenance", "lumen_mesh", "uids"}
BUILDS_ON = {"deidentify": {"ingest"}}
"""The one stage that reads foreign bytes beside ingest does it by ingest's limited reader: one such door is enough."""
SOURCES = sorted(p for layer in LAYERS for p in (ROOT / layer).rglob("*.py"))
STAGES = tuple(sorted(p.stem for p in (ROOT / "pipeline").iterdir()
                      if (p.suffix == ".py" or (p / "__init__.py").is_file())
                      and p.stem not in SHARED | {"__init__", "vmtk_child"}))


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    plain = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    froms = {f"{n.module}.{a.name}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module
             for a in n.names}
    return plain | froms


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    mine = LAYERS[layer_of(path)]
    above = [name for name in imported(path) if LAYERS.get(name.split(".")[0], -1) > mine]
    assert not above, f"{layer_of(path)} must not import {above}"


def test_a_stage_imports_no_other_stage() -> None:
    for path in (p for p in SOURCES if layer_of(p) == "pipeline"):
        own = path.relative_to(ROOT / "pipeline").parts[0].removesuffix(".py")
        if own in SHARED or own == "__init__":
            continue
        others = {n.split(".")[1] for n in imported(path) if n.startswith("pipeline.")} - SHARED - {own}
        private = {o for o in others if o in STAGES} - BUILDS_ON.get(own, set())
        assert not private, f"{path.name} imports the stages {private}"


def test_dolfinx_is_imported_in_one_place() -> None:
    names = {"dolfinx", "dolfinx_solver", "petsc4py", "mpi4py", "basix", "ufl"}
    for path in SOURCES:
        if path.name != "fenics.py":
            found = {n for n in imported(path) if n.split(".")[0] in names}
            assert not found, f"{path}: import {found} through solvers.fenics"


def test_solvers_touch_no_screen_and_no_scan() -> None:
    for path in (p for p in SOURCES if layer_of(p) == "solvers"):
        readers = {n.split(".")[0] for n in imported(path)} & {"pydicom", "nibabel", "matplotlib", "rich", "csv"}
        assert not readers, f"{path} imports {readers}"
        prints = [n for n in ast.walk(ast.parse(path.read_text()))
                  if isinstance(n, ast.Call) and getattr(n.func, "id", "") in ("print", "open", "input")]
        assert not prints, f"{path}: a solver neither prints nor opens a file"


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_has_the_same_shape(name: str) -> None:
    module = importlib.import_module(f"pipeline.{name}")
    stage: Any = getattr(module, name)
    types: Any = hints(stage)
    assert set(types) == {"inputs", "config", "outputs", "return"}
    assert issubclass(types["config"], Config)
    assert issubclass(types["inputs"], Files)
    assert issubclass(types["outputs"], Files)
    assert isinstance(module.VERSION, int)
    outputs = types["outputs"]()
    assert len(set(outputs.paths().values())) == len(outputs.paths()), "two outputs share a file name"


def test_no_package_with_a_copyleft_licence_is_installed_by_default() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    names = {line.split("==")[0].lower() for line in lock.splitlines() if "==" in line and not line.startswith(" ")}
    assert names, "the lock is empty"
    assert not names & {"pymeshfix", "pylibjpeg-libjpeg", "gmsh", "tetgen", "pyqt5", "pyqt6"}


def test_the_lock_names_no_address() -> None:
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_nothing_of_one_machine_is_in_the_sources() -> None:
    pattern = re.compile(r"/(work|home|root|Users)/[a-z]")
    for path in SOURCES:
        assert not pattern.search(path.read_text()), f"{path} names a folder of one machine"
