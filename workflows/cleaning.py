"""A scan made fit to leave, and what became of each part of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import deidentify as stage
from pipeline import formats
from pipeline.stage import tell
from solvers.errors import BadInput
from workflows.intake import key_file
from workflows.settings import BadSettings


def deidentify(scans: Path, out: Path, accept: Sequence[str]) -> int:
    """Every series cleaned or refused, one line each; `deidentify.json` has the same and the account of all files.

    The exit code: 0 when all was written, 3 when some was, 1 when nothing was. The key stays outside OUT.
    """
    _check_places(scans, out)
    outputs = stage.DeidentifyOutputs().within(out)
    done = stage.deidentify(stage.DeidentifyInputs(scan=scans, key=key_file()),
                            stage.DeidentifyConfig(accept=tuple(accept)), outputs)  # type: ignore[arg-type]
    account = formats.read_json(outputs.account)
    for row in account["series"]:
        tell(_line(row))
    for refusal in account["refused"]:
        tell(f"not used: [{refusal['code']}] {refusal['happened']}")
    tell(f"{done.n_files} files: {_counts(account['files'])}")
    n_refused = done.n_series_refused + len(account["refused"])
    return 1 if not done.n_written else 3 if n_refused else 0


def checked(accept: Sequence[str]) -> tuple[str, ...]:
    """Codes of refusals that may be overruled; any other is a wrong setting."""
    odd = [code for code in accept if code not in stage.ACCEPTABLE]
    if odd:
        raise BadSettings("not_acceptable", f"--accept {odd[0]}: this is no refusal that can be overruled",
                          "; or ".join(f"{code} ({what})" for code, what in sorted(stage.ACCEPTABLE.items())))
    return tuple(accept)


def _check_places(scans: Path, out: Path) -> None:
    """The scan is there; what is written is not beneath it, nor among what was written before; nor is the key."""
    if not scans.exists():
        raise BadInput("no_such_scan", "the scan does not exist", "a file or folder with a scan", "Check the path.")
    if out.resolve().is_relative_to(scans.resolve()):
        raise BadInput("out_within_scan", "OUT lies within the scan", "a folder elsewhere", "Choose another OUT.")
    if any(out.iterdir()):
        raise BadInput("out_not_empty", "OUT holds files already", "a new folder, so that nothing of it is unaccounted",
                       "Choose another OUT.")
    if key_file().resolve().is_relative_to(out.resolve()):
        raise BadInput("key_within_out", "the key would lie within OUT", "a key that does not leave with the images",
                       "Set ANATWIN_KEY to a file elsewhere.")


def _line(row: dict[str, Any]) -> str:
    who = f"sub-{row['subject']} {row['series']}" if row["subject"] else row["series"]
    if row["refusal"] is None:
        return f"{who}: {row['n_written']} files written"
    refusal = BadInput(**{k: row["refusal"][k] for k in ("code", "happened", "wanted", "hint")})
    return f"{who}: refused [{refusal.code}] {refusal}"


def _counts(files: dict[str, Any]) -> str:
    said = [f"{files['used']} written", f"{files['duplicate']} duplicate" if files["duplicate"] else "",
            *(f"{n} refused [{code}]" for code, n in sorted(files["refused"].items())),
            *(f"{n} passed over ({why})" for why, n in sorted(files["ignored"].items()))]
    return ", ".join(s for s in said if s)
