"""The runner: what it redoes, what it keeps, and what a kill leaves behind.

Each test works in a small project of its own (our runner, two stages, one
solver that compiles a form), so that code can be edited under it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SOLVER = """
from solvers.fenics import MPI, fem, mesh, petsc, ufl
import numpy as np

def solve(n, factor):
    domain = mesh.create_unit_square(MPI.COMM_SELF, n, n)
    space = fem.functionspace(domain, ("P", 3))
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    form = fem.form(factor * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx + 1.0 * u * v * ufl.dx)
    matrix = petsc.assemble_matrix(form)
    matrix.assemble()
    return np.round(matrix.getDiagonal().array, 9)
"""
FIRST = """
from pathlib import Path
from pipeline.stage import Config, Files, Report

class FirstConfig(Config):
    add: int = 1

class FirstInputs(Files):
    number: Path

class FirstOutputs(Files):
    sum: Path = Path("sum.txt")
    note: Path | None = Path("note.txt")

def first(inputs: FirstInputs, config: FirstConfig, outputs: FirstOutputs) -> Report:
    outputs.sum.write_text(str(int(inputs.number.read_text()) + config.add))
    return Report()
"""
SECOND = """
from pathlib import Path
from pipeline.stage import Config, Files, Report, checkpoints
from solvers.toy import solve

class SecondConfig(Config):
    factor: float = 2.0

class SecondInputs(Files):
    sum: Path

class SecondOutputs(Files):
    field: Path = Path("field.txt")

def second(inputs: SecondInputs, config: SecondConfig, outputs: SecondOutputs) -> Report:
    checkpoints().joinpath("begun").touch()
    field = solve(int(inputs.sum.read_text()), config.factor)
    outputs.field.write_text("\\n".join(map(str, field)))
    return Report()
"""
MAIN = """
import json, sys
from pathlib import Path
from pipeline.first import *
from pipeline.second import *
from pipeline.stage import read_record, run

home, options = Path(sys.argv[1]), json.loads(sys.argv[2])
a = run(first, FirstInputs(number=Path("number.txt")), FirstConfig(add=options.get("add", 1)), home / "first")
b = run(second, SecondInputs(sum=a.sum), SecondConfig(factor=options.get("factor", 2.0)), home / "second")
assert a.note is None and b.field.is_file()
"""


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "out"
        for name in ("solvers", "pipeline"):
            (folder / name).mkdir()
            (folder / name / "__init__.py").touch()
        for name in ("pipeline/stage.py", "pipeline/provenance.py", "solvers/errors.py", "solvers/fenics.py"):
            shutil.copy(ROOT / name, folder / name)
        sources = {"solvers/toy.py": SOLVER, "pipeline/first.py": FIRST, "pipeline/second.py": SECOND,
                   "main.py": MAIN, "number.txt": "3"}
        for name, text in sources.items():
            self.write(name, textwrap.dedent(text))

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def start(self, home: Path | None = None, **options: object) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache"),
                                    "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.Popen([sys.executable, "main.py", str(home or self.home), json.dumps(options)],
                                cwd=self.folder, env=environment, text=True, stderr=subprocess.PIPE)

    def go(self, home: Path | None = None, **options: object) -> str:
        process = self.start(home, **options)
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
        return error

    def built(self) -> dict[str, int]:
        """Inode of each stage's record: another one means that the stage ran again."""
        return {s: (self.home / s / "record.json").stat().st_ino for s in ("first", "second")}

    def reran(self, before: dict[str, int]) -> list[str]:
        after = self.built()
        return [s for s in before if before[s] != after[s]]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_it_redoes_exactly_what_a_change_reaches(project: Project) -> None:
    project.go()
    done = project.built()
    project.go()
    assert project.reran(done) == []

    project.go(factor=3.0)
    assert project.reran(done) == ["second"], "a setting reaches its own stage and those below it"
    done = project.built()
    project.go(factor=3.0, add=2)
    assert project.reran(done) == ["first", "second"]

    done = project.built()
    project.write("solvers/toy.py", SOLVER.replace("1.0 * u * v", "2.0 * u * v"))
    project.go(factor=3.0, add=2)
    assert project.reran(done) == ["second"], "a changed line of a solver reaches the stage that uses it"

    done = project.built()
    project.write("number.txt", "4")
    project.go(factor=3.0, add=2)
    assert project.reran(done) == ["first", "second"]


def test_an_edited_output_is_built_anew_and_kept_aside(project: Project) -> None:
    project.go()
    wanted = (project.home / "first/sum.txt").read_text()
    (project.home / "first/sum.txt").write_text("7")
    message = project.go()
    assert "--use first.<output>" in message
    assert (project.home / "first/sum.txt").read_text() == wanted
    assert (project.home / "first.edited/sum.txt").read_text() == "7"


def test_a_kill_at_any_moment_leaves_nothing_half_written(project: Project) -> None:
    project.go(home=project.folder / "unbroken")
    wanted = (project.folder / "unbroken/second/field.txt").read_bytes()
    shutil.rmtree(project.folder / "cache")
    moments = [0.3, 0.9, 1.4, 1.8, 2.2, 2.6, 3.0, 3.5]
    for moment in moments:
        process = project.start()
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for stage in ("first", "second"):
            folder = project.home / stage
            assert not folder.exists() or (folder / "record.json").is_file()
    project.go()
    assert (project.home / "second/field.txt").read_bytes() == wanted
    left = [p.name for p in project.home.iterdir() if p.name not in ("first", "second", ".work")]
    assert left == []


def test_two_processes_on_one_case_give_one_result(project: Project) -> None:
    both = [project.start(), project.start()]
    errors = [p.communicate(timeout=120)[1] for p in both]
    assert [p.returncode for p in both] == [0, 0], errors
    done = project.built()
    project.go()
    assert project.reran(done) == []
