"""An archive by DICOMweb (PS3.18): QIDO-RS, WADO-RS, STOW-RS."""

import base64
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset, dcmread

from solvers.errors import BadInput
from workflows.archive import query as asked
from workflows.archive.query import Query, Series

TIMEOUT = (10, 600)
"""Seconds to connect, and between two bytes."""


@dataclass(frozen=True)
class DicomWeb:
    """url without what could be secret, for messages."""

    url: str
    client: DICOMwebClient

    @classmethod
    def at(cls, url: str) -> "DicomWeb":
        """USER:PASSWORD, if needed, in the environment variable ANATWIN_PACS_AUTH."""
        secret = asked.credentials()
        if secret and not url.startswith("https://") and urlsplit(url).hostname not in _HERE:
            raise BadInput("unsafe_address", "a password would be sent in the clear", "an https:// address")
        token = base64.b64encode(secret.encode()).decode()
        headers = {"Authorization": f"Basic {token}"} if secret else {}
        return cls(url, DICOMwebClient(url, headers=headers, timeout=TIMEOUT))

    def find(self, query: Query) -> list[Series]:
        with _told(self.url, "the search"):
            studies = [_read(s).StudyInstanceUID
                       for s in self.client.search_for_studies(search_filters=query.of_study())]
            return asked.found([
                Series(study, one.SeriesInstanceUID, one.get("Modality", "")) for study in studies
                for one in map(_read, self.client.search_for_series(study, search_filters=query.of_series()))])

    def get(self, series: Series, folder: Path) -> int:
        with _told(self.url, "to send a series"):
            return sum(asked.save(data, folder)
                       for data in self.client.iter_series(series.study, series.uid, _AS_STORED))

    def store(self, files: Sequence[Path]) -> None:
        with _told(self.url, "to store"):
            for path in files:
                answer = self.client.store_instances([dcmread(path)])
                if answer.get("FailedSOPSequence"):
                    reason = answer.FailedSOPSequence[0].get("FailureReason", 0)
                    raise asked.refused("to store", f"reason {reason:#06x}")


_HERE = ("localhost", "127.0.0.1", "::1")
_AS_STORED = (("application/dicom", "*"),)


def _read(answer: dict[str, Any]) -> Dataset:
    return Dataset.from_json(answer)


@contextlib.contextmanager
def _told(url: str, what: str) -> Iterator[None]:
    """Errors of the network as ours, without what the archive said, which may name a patient."""
    try:
        yield
    except requests.HTTPError as error:
        raise asked.refused(what, f"HTTP {getattr(error.response, 'status_code', 'error')}") from error
    except requests.RequestException as error:
        raise asked.unreachable(url, type(error).__name__) from error
