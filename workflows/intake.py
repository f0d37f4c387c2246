"""Who is in a scan: one person per patient, by a label that is never the identifier."""

import contextlib
import csv
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import formats
from pipeline import ingest as reading
from pipeline.stage import tell
from solvers.errors import BadInput
from workflows.settings import BadSettings


@dataclass(frozen=True)
class Person:
    """A participant: label, and a folder with this person's files alone."""

    label: str
    scan: Path


def key_file() -> Path:
    """The secret behind labels, outside every result: $ANATWIN_KEY, else in the user's configuration."""
    given = os.environ.get("ANATWIN_KEY")
    folder = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"))
    return Path(given) if given else folder / "anatwin" / "key"


@contextlib.contextmanager
def people(scans: Path, labels: Path | None, wanted: Sequence[str]) -> Iterator[list[Person]]:
    """The participants of SCANS, with their files for as long as the context lasts."""
    if not scans.exists():
        raise BadInput("no_such_scan", f"{scans} does not exist", "a file or folder with a scan", "Check the path.")
    key = reading.read_or_make_key(key_file())
    with tempfile.TemporaryDirectory(prefix="anatwin-") as scratch:
        found = reading.subjects(scans, key, Path(scratch) / "unpacked", _labels(labels))
        _tell_refused(found)
        chosen = [s for s in found.subjects if not wanted or s.label in {w.removeprefix("sub-") for w in wanted}]
        if not chosen:
            raise BadInput("no_such_participant", f"none of the labels {', '.join(wanted)} is in the scan",
                           f"one of {', '.join(s.label for s in found.subjects)}")
        yield [Person(s.label, s.gather(Path(scratch) / "people" / s.label)) for s in chosen]


def _tell_refused(found: reading.Discovery) -> None:
    """Refusals are told; when nobody is left, the first one is the answer."""
    if not found.subjects:
        ignored = sum(found.ignored.values())
        raise found.refused[0] if found.refused else BadInput(
            "nothing_found", f"no image was found ({ignored} other files were passed over)",
            "DICOM, NIfTI, MetaImage or NRRD files", "Point at the folder of the scan.")
    for refusal in found.refused:
        tell(f"not used: [{refusal.code}] {refusal}")


def _labels(table: Path | None) -> Mapping[str, str]:
    """The user's map from patient identifier to label, as a TSV with a header."""
    if table is None:
        return {}
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if not rows or not {"patient_id", "participant_id"} <= set(rows[0]):
        raise BadInput("bad_labels", f"{table.name} lacks its columns", "patient_id and participant_id, tab-separated",
                       "Add the line of column names.")
    return {row["patient_id"]: row["participant_id"].removeprefix("sub-") for row in rows}


def ingest_all(scans: Path, out: Path, accept: Sequence[str]) -> int:
    """Every series read or refused, one line each; `ingest.json` has the same and what became of every file.

    The exit code: 0 when all was read, 3 when some was, 1 when nothing was.
    """
    if not scans.exists():
        raise BadInput("no_such_scan", f"{scans} does not exist", "a file or folder with a scan",
                       "Check the path.")
    done = reading.read_all(scans, out, reading.read_or_make_key(key_file()), reading.Options(accept=checked(accept)))
    formats.write_json(out / "ingest.json", done.as_dict())
    for outcome in done.outcomes:
        tell(_line(outcome, out))
    tell(str(done.ledger))
    wanted = [o for o in done.outcomes if not o.unwanted]
    n_read = sum(o.volume is not None for o in wanted)
    return 0 if n_read == len(wanted) else 3 if n_read else 1


def checked(accept: Sequence[str]) -> tuple[str, ...]:
    """Codes of refusals that may be overruled; any other is a wrong setting."""
    odd = [code for code in accept if code not in reading.ACCEPTABLE]
    if odd:
        raise BadSettings("not_acceptable", f"--accept {odd[0]}: this is no refusal that can be overruled",
                          "; or ".join(f"{code} ({what})" for code, what in sorted(reading.ACCEPTABLE.items())))
    return tuple(accept)


def _line(outcome: reading.Outcome, out: Path) -> str:
    who = f"sub-{outcome.subject} {outcome.series}" if outcome.subject else outcome.series or "scan"
    warnings = "".join(f"; warning: {w}" for w in outcome.warnings)
    if outcome.volume is not None:
        return f"{who}: {outcome.volume.relative_to(out)}{warnings}"
    assert outcome.refusal is not None
    return f"{who}: refused [{outcome.refusal.code}] {outcome.refusal}{warnings}"
