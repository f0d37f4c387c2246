"""One case in a process of its own, so that a crash takes nobody with it.

`python -P -m workflows.case` reads what to do from standard input and writes
`case.json`: status, failing stage, code, reason, hint, CPU seconds, memory.
"""

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.formats import write_json
from pipeline.stage import read_record, tell
from solvers.errors import AnatwinError, BadInput
from workflows.line import Line, StageFailed, Stop

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
           "VTK_SMP_MAX_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


@dataclass(frozen=True)
class Case:
    """What to do for one subject (and session); recipe: settings as written.

    scan: what to read, empty to build on what was read before; use: a person's own
    file by "stage.output"; variants: none, or the changes to the recipe by name.
    """

    home: str
    subject: str
    session: str
    recipe: dict[str, Any]
    scan: str = ""
    use: dict[str, str] = field(default_factory=dict)
    until: str = ""
    dry: bool = False
    variants: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"sub-{self.subject}" + (f" ses-{self.session}" if self.session else "")


def start(case: Case, jobs: int) -> dict[str, Any]:
    """Do `case` in a child process; the content of its case.json."""
    home = Path(case.home)
    threads = dict.fromkeys(THREADS, str(jobs)) | {"OMP_WAIT_POLICY": "PASSIVE"}  # idle threads sleep
    result = home / "case.json"
    before = result.stat().st_mtime_ns if result.exists() else 0
    child = subprocess.run([sys.executable, "-P", "-m", "workflows.case"], input=json.dumps(asdict(case)), text=True,
                           env=os.environ | threads, check=False)
    if case.dry:
        return {"status": "ok"}
    is_fresh = result.exists() and result.stat().st_mtime_ns != before
    outcome = json.loads(result.read_text()) if is_fresh else _crashed(case, child.returncode)
    if outcome["status"] != "ok":
        _put_aside(home)
    return outcome


def _put_aside(home: Path) -> None:
    """An earlier run's table and page are not this run's: they are kept under another name."""
    for name in ("report.html", "measurements.csv"):
        with contextlib.suppress(OSError):
            (home / name).replace(home / f"outdated.{name}")


def _crashed(case: Case, code: int) -> dict[str, Any]:
    """The case's process died without a word: say so, and write it down if there is where."""
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    error = AnatwinError("crashed", f"the process of this case ended {how}", "",
                         "Finished stages are kept; run the same command again, with more memory if it was killed.")
    outcome = _failure("", error)
    try:
        Path(case.home).mkdir(parents=True, exist_ok=True)
        write_json(Path(case.home) / "case.json", outcome)
    except OSError as problem:
        return _failure("", BadInput("cannot_write", f"{Path(case.home).name}: {problem.strerror}", "room to write"))
    return outcome


def main() -> int:
    case = Case(**json.loads(sys.stdin.read()))
    home = Path(case.home)
    outcome = perform(case, home)
    if not case.dry:
        home.mkdir(parents=True, exist_ok=True)
        draft = home / ".case.json"
        write_json(draft, outcome | _costs(home) | {"subject": case.subject, "session": case.session,
                                                    "recipe": case.recipe, "until": case.until,
                                                    "used": sorted(case.use)})
        draft.replace(home / "case.json")
    return 0 if outcome["status"] == "ok" else 1


def perform(case: Case, home: Path) -> dict[str, Any]:
    """Run the workflow; every failure becomes an outcome with a code and a hint."""
    from workflows import twin
    from workflows.recipe import Recipe

    line = Line(home, {}, case.until, case.dry)
    lost: dict[str, StageFailed] = {}
    try:
        line.use |= {k: Path(v) for k, v in case.use.items()} if case.dry else _kept(case, home)
        recipe = Recipe.model_validate(case.recipe)
        lost = twin.build(case, recipe, line)
    except Stop:
        pass
    except StageFailed as failed:
        return _failure(failed.stage, failed.error)
    except AnatwinError as error:
        return _failure("", error)
    except MemoryError:
        return _failure(_next(line), AnatwinError("out_of_memory", "this case needs more memory than there is", "",
                                                  "Choose a coarser mesh: --set mesh.cells_across=3."))
    except Exception as error:  # an error of ours: kept for the developers, told as one line
        _keep_traceback(home, error)
        return _failure(_next(line), AnatwinError("internal", f"an error of the program: {type(error).__name__}", "",
                                                  "Please report it with the file traceback.txt in .work."))
    return {"status": "ok", "stages": line.done} | _variants(case, lost) | _left_out(line)


def _left_out(line: Line) -> dict[str, Any]:
    """Stages whose numerics gave up while the rest went on, by folder."""
    return {"left_out": {n: _failure(f.stage, f.error) for n, f in line.lost.items()}} if line.lost else {}


def _variants(case: Case, failed: dict[str, StageFailed]) -> dict[str, Any]:
    """What became of each variant, by name."""
    if not case.variants:
        return {}
    return {"variants": {name: _failure(failed[name].stage, failed[name].error) if name in failed else {"status": "ok"}
                         for name in case.variants}}


def again(home: Path) -> tuple[Case, Any]:
    """A case as it was run before, to be built upon, and its recipe; BadInput when there is none in `home`."""
    from workflows.recipe import Recipe

    try:
        known = json.loads((home / "case.json").read_text())
        recipe = Recipe.model_validate(known["recipe"])
    except (OSError, ValueError, KeyError) as error:
        raise BadInput("no_case", f"{home} is not the folder of a case", "a folder OUT/sub-... that anatwin run made",
                       "Run `anatwin run SCANS OUT` first.") from error
    case = Case(home=str(home.absolute()), subject=known["subject"], session=known["session"],
                recipe=known["recipe"], use=given_files(home))
    return case, recipe


def given_files(home: Path) -> dict[str, str]:
    """The person's own files that a case was built with, by "stage.output"."""
    return {p.name: str(next(p.iterdir())) for p in sorted((home / "used").glob("*")) if p.is_dir()}


def _kept(case: Case, home: Path) -> dict[str, Path]:
    """Copies of the person's own files inside the case, so that later work finds them."""
    folder = home / "used"
    files = {name: Path(path).read_bytes() for name, path in case.use.items()}
    shutil.rmtree(folder, ignore_errors=True)
    kept = {}
    for name, content in files.items():
        suffix = "".join(Path(case.use[name]).suffixes[-2:])
        kept[name] = folder / name / f"given{suffix}"
        kept[name].parent.mkdir(parents=True)
        kept[name].write_bytes(content)
    return kept


def _next(line: Line) -> str:
    return f"after {line.done[-1]}" if line.done else "the first stage"


def _failure(stage: str, error: AnatwinError) -> dict[str, Any]:
    return {"status": "failed", "stage": stage} | error.as_dict()


def _keep_traceback(home: Path, error: Exception) -> None:
    try:
        (home / ".work").mkdir(parents=True, exist_ok=True)
        (home / ".work" / "traceback.txt").write_text("".join(traceback.format_exception(error)))
    except OSError:
        tell("".join(traceback.format_exception(error)))


def _costs(home: Path) -> dict[str, Any]:
    """CPU seconds and peak memory of this run, and what it stands on."""
    use = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    records = [read_record(p.parent) for p in sorted(home.rglob("record.json")) if ".work" not in p.parts]
    return {"cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in use), 1),
            "peak_memory_mb": max(u.ru_maxrss for u in use) // 1024,
            "citations": sorted({source for record in records for source in record.get("sources", [])})}


if __name__ == "__main__":
    sys.exit(main())
