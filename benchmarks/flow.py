"""Accuracy of 3D flow for processor time and memory beside OpenFOAM, all in one run.

    .venv/bin/python -m benchmarks.flow [--quick] [--keep]

Every run is a process of its own, one after the other. A fine solution is made by
both codes first; where they differ by more than `AGREEMENT`, nothing is compared.
--quick stops after a few runs on one rank;
--keep puts the tables into README.md and draws flow.png.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import openfoam, stenosis
from benchmarks.openfoam import Case
from benchmarks.setting import Setting
from benchmarks.stenosis import Seen
from solvers.errors import DidNotConverge, MissingTool

HERE = Path(__file__).parent
AGREEMENT = 0.005
REPEATS, SHORT = 3, 2.0
"""How often a run is made that takes less than so many CPU-s."""
LEVELS = (0.02, 0.01, 0.007)
"""Errors at which the cheapest runs are put side by side."""

FINE = (Case("pimpleFoam", "wedge", 0, 40, 0.0004, 400, pressure="PCG"),
        Setting(4, 4, 0.0012, 200, growth=2.0, tolerance=1e-5))
OURS = [Setting(2, 2, 0.006, 20), Setting(2, 2, 0.005, 20), Setting(2, 2, 0.004, 25, tolerance=3e-4),
        Setting(2, 3, 0.004, 30, tolerance=2e-4), Setting(2, 3, 0.004, 40, tolerance=1e-4),
        Setting(2, 3, 0.003, 50, tolerance=1e-4), Setting(3, 3, 0.003, 50, tolerance=1e-4),
        Setting(3, 3, 0.002, 50, tolerance=1e-4), Setting(3, 4, 0.0015, 100, tolerance=3e-5)]
BOXES = [Case("pimpleFoam", "hexahedra", *rest) for rest in (
    (3, 6, 0.003, 20), (3, 6, 0.002, 25), (4, 6, 0.002, 25), (4, 8, 0.0015, 50), (6, 12, 0.0015, 50),
    (6, 12, 0.001, 100), (8, 16, 0.001, 100))]
TETS = [Case("pimpleFoam", "tetrahedra", *rest, correctors=2, div="linearUpwind grad(U)") for rest in (
    (3, 3, 0.003, 50), (4, 4, 0.002, 100), (6, 6, 0.0015, 200))]


@dataclass(frozen=True)
class Row:
    """What one run showed: its name, ranks, cells and steps; errors of drop and velocity; processor time of solving
    and of the whole process, s; elapsed time, s; peak memory, MiB."""

    name: str
    ranks: int
    cells: int
    steps: int
    drop: float
    speed: float
    cpu: float
    process: float
    wall: float
    memory: float

    @property
    def error(self) -> float:
        """The larger of the two."""
        return max(self.drop, self.speed)


@dataclass(frozen=True)
class Cost:
    """Of a process and those it started: processor and elapsed time, s; the largest one's peak memory, MiB."""

    cpu: float
    wall: float
    memory: float


LAUNCHER = """
import os, sys
_, status, used = os.wait4(os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ), 0)
open(sys.argv[1], "w").write(f"{used.ru_utime + used.ru_stime} {used.ru_maxrss}")
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""A process's peak memory counts from its parent's size at the fork, so the parent must be small."""


def launched(words: list[str], folder: Path, settings: dict[str, str]) -> Cost:
    """Its output goes to log.txt. Raises DidNotConverge when it fails."""
    begin, told = time.perf_counter(), folder / "cost.txt"
    with (folder / "log.txt").open("w") as log:
        code = subprocess.call([sys.executable, "-I", "-S", "-c", LAUNCHER, str(told), *words], cwd=folder,
                               env=settings, stdout=log, stderr=log)
    wall = time.perf_counter() - begin
    if code:
        end = (folder / "log.txt").read_text()[-1500:]
        raise DidNotConverge("peer_failed", f"{words[0]} ended with {code}: {end}", "0")
    cpu, memory = map(float, told.read_text().split())
    return Cost(cpu, wall, memory / 1024)


def run_ours(setting: Setting) -> tuple[Seen, Row]:
    """threads stand for ranks; one that waits sleeps: on a busy machine it would spend more than the others work."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "seen.npz"
        threads = {"NUMBA_NUM_THREADS": str(setting.threads), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
                   "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(HERE.parent)}
        cost = launched([sys.executable, "-m", "benchmarks.ours", json.dumps(asdict(setting)), str(file)], Path(name),
                        os.environ | threads)
        data = np.load(file)
        own = json.loads(str(data["cost"]))
        seen = Seen(data["time"], data["drop"], data["velocity"])
    return seen, Row("anatwin", setting.threads, own["cells"], setting.steps, 0, 0, own["cpu"], cost.cpu, own["wall"],
                     cost.memory)


def run_openfoam(case: Case) -> tuple[Seen, Row]:
    """Time of solving is OpenFOAM's own ExecutionTime on one rank, the processes' on several; memory is the largest
    rank's times the ranks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cells = openfoam.write(case, folder)
        cost = launched(openfoam.line(case), folder, openfoam.environment(folder))
        own = float(re.findall(r"ExecutionTime = (\S+) s", (folder / "log.txt").read_text())[-1])
        seen = openfoam.seen(case, folder)
    on = "" if case.mesh == "hexahedra" else f", {case.mesh}"
    solving = own if case.ranks == 1 else cost.cpu
    return seen, Row(case.solver + on, case.ranks, cells, case.steps, 0, 0, solving, cost.cpu, cost.wall,
                     case.ranks * cost.memory)


def run(what: Case | Setting) -> tuple[Seen, Row]:
    return run_ours(what) if isinstance(what, Setting) else run_openfoam(what)


def fine(pair: tuple[Case, Setting], most: float) -> tuple[Seen, str]:
    """The mean of both codes' solutions, and how they differ. Raises DidNotConverge."""
    (theirs, one), (ours, two) = (run(what) for what in pair)
    apart = stenosis.difference(theirs, ours)
    text = (f"Fine solutions: {one.name}, {one.cells} cells, {one.steps} steps ({one.cpu:.0f} CPU-s), and {two.name}, "
            f"{two.cells} cells, {two.steps} steps ({two.cpu:.0f} CPU-s), differ by {100 * apart[0]:.2f} % in the drop "
            f"and {100 * apart[1]:.2f} % in velocity; errors are from their mean.")
    if max(apart) > most:
        raise DidNotConverge("fine_solutions_differ", text, f"at most {100 * most:.1f} %")
    return stenosis.mean(theirs, ours), text


def plan(quick: bool) -> Iterator[Case | Setting]:
    """All runs on one rank, then every third one on two; the quick plan has only the latter, on one."""
    some = slice(1, None, 3)
    yield from _on(1, some if quick else slice(None))
    yield from TETS[:1] if quick else TETS
    if not quick:
        yield from _on(2, some)


def _on(ranks: int, part: slice) -> Iterator[Case | Setting]:
    yield from (replace(s, threads=ranks) for s in OURS[part])
    for solver in ("pimpleFoam", "icoFoam"):
        yield from (replace(c, solver=solver, ranks=ranks) for c in BOXES[part])


def compared(what: Case | Setting, truth: Seen) -> Row:
    seen, row = run(what)
    drop, speed = stenosis.difference(seen, truth)
    return replace(row, drop=drop, speed=speed)


def measured(runs: list[Case | Setting], truth: Seen) -> dict[Case | Setting, Row]:
    """Short runs are made `REPEATS` times, all of them before any again, as a busy machine slows now one, now another;
    the fastest counts."""
    best: dict[Case | Setting, Row] = {}
    for turn in range(REPEATS):
        for what in runs:
            if turn and best[what].cpu > SHORT:
                continue
            row = compared(what, truth)
            best[what] = min(best.get(what, row), row, key=lambda r: r.cpu)
            print(table([row]).splitlines()[-1], flush=True)
    return best


# What is printed


def table(rows: list[Row]) -> str:
    head = ("| solver | ranks | cells | steps | error of drop, % | of velocity, % | CPU-s, solving | CPU-s, process "
            "| s elapsed | MiB |\n|---|---|---|---|---|---|---|---|---|---|\n")
    return head + "\n".join(
        f"| {r.name} | {r.ranks} | {r.cells} | {r.steps} | {100 * r.drop:.2f} | {100 * r.speed:.2f} | {r.cpu:.2f} "
        f"| {r.process:.2f} | {r.wall:.1f} | {r.memory:.0f} |" for r in rows)


def cheapest(rows: list[Row], name: str, level: float) -> Row | None:
    """Of those on one rank within an error."""
    good = [r for r in rows if r.name == name and r.ranks == 1 and r.error <= level]
    return min(good, key=lambda r: r.cpu) if good else None


def summary(rows: list[Row]) -> str:
    """The cheapest run of each solver within each error, and ours over it."""
    lines = ["| error at most | solver | error, % | CPU-s, solving | ours over it | MiB | ours over it |",
             "|---|---|---|---|---|---|---|"]
    for level in LEVELS:
        ours = cheapest(rows, "anatwin", level)
        for name in dict.fromkeys(r.name for r in rows):
            best = cheapest(rows, name, level)
            if best is None or ours is None:
                lines.append(f"| {100 * level:.1f} % | {name} | not reached | | | | |")
                continue
            lines.append(f"| {100 * level:.1f} % | {name} | {100 * best.error:.2f} | {best.cpu:.2f} "
                         f"| {ours.cpu / best.cpu:.2f} | {best.memory:.0f} | {ours.memory / best.memory:.2f} |")
    return "\n".join(lines)


def draw(rows: list[Row], file: Path) -> None:
    """Error against processor time and against memory, one rank."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for name in dict.fromkeys(r.name for r in rows):
        some = sorted((r for r in rows if r.name == name and r.ranks == 1), key=lambda r: r.cpu)
        for axis, values in zip(axes, ([r.cpu for r in some], [r.memory for r in some]), strict=True):
            axis.loglog(values, [100 * r.error for r in some], "o-", markersize=4, label=name)
    axes[0].set(xlabel="CPU-s, solving", ylabel="error, %")
    axes[1].set(xlabel="peak memory, MiB")
    axes[0].legend(fontsize=8)
    for axis in axes:
        axis.grid(True, which="both", alpha=0.3)
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_formatter("{x:g}")
            side.set_minor_formatter(lambda x, _place: f"{x:g}" if f"{x:e}"[0] in "25" else "")
    axes[1].set_xscale("linear")
    axes[1].set_xlim(left=0)
    figure.savefig(file, dpi=110)


def keep(text: str, rows: list[Row]) -> None:
    """Put into README.md between its two marks, and drawn."""
    page = HERE / "README.md"
    start, end = "<!-- measured -->\n", "<!-- end -->"
    before, rest = page.read_text().split(start)
    page.write_text(before + start + text + "\n" + end + rest.split(end)[1])
    draw(rows, HERE / "flow.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few runs on one rank")
    parser.add_argument("--keep", action="store_true", help="write the tables into README.md and draw flow.png")
    options = parser.parse_args()
    if not shutil.which("pimpleFoam"):
        raise MissingTool("openfoam", "OpenFOAM was not found", "pimpleFoam on the path",
                          "apt-get install --no-install-recommends openfoam")
    truth, text = fine(FINE, AGREEMENT)
    print(text, table([]), sep="\n\n", end="", flush=True)
    rows = list(measured(list(plan(options.quick)), truth).values())
    if options.quick:
        return
    text = f"{text}\n\n{summary(rows)}\n\n{table(rows)}"
    print("\n" + text)
    if options.keep:
        keep(text, rows)


if __name__ == "__main__":
    try:
        main()
    except (MissingTool, DidNotConverge) as problem:
        sys.exit(str(problem))
