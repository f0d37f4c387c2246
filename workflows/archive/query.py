"""What is asked of an archive, and what it must offer."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from pydicom import Dataset
from pydicom.uid import UID

from solvers.errors import BadInput

CREDENTIALS = "ANATWIN_PACS_AUTH"


@dataclass(frozen=True)
class Query:
    """Matched exactly; empty matches all. `checked` refuses a query that would fetch the whole archive."""

    patient_id: str = ""
    study: str = ""
    series: str = ""
    modality: str = ""

    def checked(self) -> "Query":
        text = "".join(getattr(self, f.name) for f in fields(self))
        if set(text) & set("*?\\"):
            raise BadInput("bad_query", "a query holds one of * ? \\", "whole identifiers", "Name each study.")
        if not (self.patient_id or self.study):
            raise BadInput("bad_query", "neither a patient nor a study is named", "--patient-id or --study",
                           "A query without either would fetch the whole archive.")
        return self

    def of_study(self) -> dict[str, str]:
        return _filled({"PatientID": self.patient_id, "StudyInstanceUID": self.study})

    def of_series(self) -> dict[str, str]:
        return _filled({"SeriesInstanceUID": self.series, "Modality": self.modality})


@dataclass(frozen=True)
class Series:
    """A series in an archive."""

    study: str
    uid: str
    modality: str


class Archive(Protocol):
    """Raises BadInput: archive_unreachable, archive_refused, nothing_matches."""

    def find(self, query: Query) -> list[Series]: ...

    def get(self, series: Series, folder: Path) -> int: ...

    def store(self, files: Sequence[Path]) -> None: ...


def found(series: Sequence[Series]) -> list[Series]:
    """Those series in a stable order; a refusal when there are none."""
    if not series:
        raise BadInput("nothing_matches", "the archive holds nothing that matches", "a study that it holds",
                       "Check the identifiers.")
    return sorted(series, key=lambda s: (s.study, s.uid))


def credentials() -> str:
    """USER:PASSWORD from the environment, where no list of processes shows it; empty when there is none."""
    return os.environ.get(CREDENTIALS, "")


def save(data: Dataset, folder: Path) -> int:
    """One instance under its UID; 1. An archive that sends anything else as a UID names no file of ours."""
    uid = UID(str(data.SOPInstanceUID))
    if not uid.is_valid:
        raise BadInput("archive_refused", "the archive sent an instance without a valid UID", "DICOM instances")
    folder.mkdir(parents=True, exist_ok=True)
    data.save_as(folder / f"{uid}.dcm", enforce_file_format=True)
    return 1


def unreachable(address: str, why: str) -> BadInput:
    return BadInput("archive_unreachable", f"the archive {address} does not answer ({why})", "an archive that runs",
                    "Check host, port and name.")


def refused(what: str, why: str) -> BadInput:
    return BadInput("archive_refused", f"the archive refused {what} ({why})", "that it agrees",
                    "Its log says more; it may have to know this machine.")


def _filled(words: Mapping[str, str]) -> dict[str, Any]:
    return {k: v for k, v in words.items() if v}
