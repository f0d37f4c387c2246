"""Many cases: one process each, a failure is an outcome, the tables are built from what succeeded."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import table
from pipeline.stage import tell
from solvers.errors import BadInput
from workflows import case as cases
from workflows.case import Case

STATUS_HEADER = ["subject", "session", "status", "stage", "code", "reason", "hint", "cpu_seconds", "peak_memory_mb"]


def perform(todo: Sequence[Case], out: Path, jobs: int) -> int:
    """Every case in its turn; the exit code: 0 all done, 1 none, 3 some, some variants or some stages failed."""
    outcomes = []
    for case in todo:
        tell(f"{case.label}")
        outcome = cases.start(case, jobs)
        outcomes.append(outcome)
        tell(f"  {sentence(outcome, Path(case.home))}")
    if not any(case.dry for case in todo):
        gather(out)
    return exit_code(outcomes)


def exit_code(outcomes: Sequence[dict[str, Any]]) -> int:
    failed = [o for o in outcomes if o["status"] != "ok"]
    partly = any(_lost(o) for o in outcomes)
    return 1 if failed and len(failed) == len(outcomes) else 3 if failed or partly else 0


def sentence(outcome: dict[str, Any], home: Path) -> str:
    """What became of a case, as one line."""
    if outcome["status"] == "ok":
        report = home / "report.html"
        lost = _lost(outcome)
        return f"done{f', but not {', '.join(lost)}' if lost else ''}{f'; report: {report}' if report.exists() else ''}"
    where = f"{outcome['stage']}: " if outcome.get("stage") else ""
    wanted = f" (wanted {outcome['wanted']})" if outcome.get("wanted") else ""
    hint = f" {outcome['hint']}" if outcome.get("hint") else ""
    return f"failed [{outcome['code']}] {where}{outcome['happened']}{wanted}.{hint}"


def _lost(outcome: dict[str, Any]) -> list[str]:
    """Variants that failed and stages that were left out."""
    failed = [name for name, v in outcome.get("variants", {}).items() if v["status"] != "ok"]
    return failed + list(outcome.get("left_out", {}))


def homes(out: Path) -> list[Path]:
    """Folders of cases in OUT, those that failed included."""
    found = [p.parent for pattern in ("sub-*/case.json", "sub-*/ses-*/case.json") for p in out.glob(pattern)]
    return sorted(found)


def cohort_of(home: Path) -> Path:
    """The OUT that a case's folder lies in."""
    return home.parent.parent if home.name.startswith("ses-") else home.parent


def read_case(home: Path) -> dict[str, Any]:
    return json.loads((home / "case.json").read_text())


def gather(out: Path) -> None:
    """Write the cohort's tables: dataset_description.json, participants.tsv, status.tsv, measurements.csv."""
    found = homes(out)
    if not found:
        return
    contents = [read_case(home) for home in found]
    _description(out)
    _participants(out, contents)
    _status(out, contents)
    rows = [row for home, content in zip(found, contents, strict=True) for row in _rows(home, content)]
    table.write_rows(out / "measurements.csv", rows)


def _rows(home: Path, content: dict[str, Any]) -> list[table.Row]:
    """A case's measurements; a failed case or variant has a row too."""
    path = home / "measurements.csv"
    rows = table.read_rows(path) if path.is_file() else []
    outcomes = {"baseline": content} | content.get("variants", {})
    who = table.Row(subject=f"sub-{content.get('subject', home.name.removeprefix('sub-'))}",
                    session=content.get("session", ""), measure="case", statistic="status", quality="refused")
    rows += [who.but(variant=name, stage=o.get("stage", ""), method=o["code"])
             for name, o in outcomes.items() if o["status"] != "ok"]
    return rows + [who.but(variant=name.split("/")[1] if "/" in name else "baseline", stage=o["stage"],
                           method=o["code"]) for name, o in content.get("left_out", {}).items()]


def _description(out: Path) -> None:
    from importlib.metadata import version

    description = {"Name": "anatwin", "BIDSVersion": "1.10.0", "DatasetType": "derivative",
                   "GeneratedBy": [{"Name": "anatwin", "Version": version("anatwin")}]}
    (out / "dataset_description.json").write_text(json.dumps(description, indent=1) + "\n")


def _tsv(path: Path, header: list[str], lines: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)


def _participants(out: Path, contents: list[dict[str, Any]]) -> None:
    labels = sorted({c.get("subject", "") for c in contents} - {""})
    _tsv(out / "participants.tsv", ["participant_id"], [[f"sub-{label}"] for label in labels])


def _status(out: Path, contents: list[dict[str, Any]]) -> None:
    _tsv(out / "status.tsv", STATUS_HEADER, [[_cell(c, name) for name in STATUS_HEADER] for c in contents])


def _cell(content: dict[str, Any], name: str) -> Any:
    return content.get({"reason": "happened"}.get(name, name), "")


def show_status(out: Path) -> str:
    """Who is done and who failed, where and why, as text."""
    if not homes(out):
        raise BadInput("no_cases", f"{out} holds no case", "a folder that anatwin run wrote")
    lines = [f"{home.relative_to(out)}: {sentence(read_case(home), home)}" for home in homes(out)]
    return "\n".join(lines)
