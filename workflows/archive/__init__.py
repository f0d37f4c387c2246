"""Image archives (PACS): find, get and store, by DICOMweb or by the older DICOM network.

    query     what is asked for, and what an archive must offer
    dicomweb  https://HOST/dicom-web: QIDO-RS, WADO-RS, STOW-RS
    dimse     dicom://TITLE@HOST:PORT: C-FIND, C-GET or C-MOVE, C-STORE

Nothing is sent or fetched that the person did not ask for. What an archive holds names its patient: `pull` is
followed by ingest, which takes the names out.
"""

from collections.abc import Sequence
from pathlib import Path

from workflows.archive.query import Archive, Query, Series, refused

__all__ = ["Archive", "Query", "Series", "connect", "pull", "push"]


def connect(address: str, move_port: int = 0) -> Archive:
    """The archive at `address`. move_port: where this machine takes what C-MOVE sends; 0 is C-GET."""
    from workflows.archive.dicomweb import DicomWeb
    from workflows.archive.dimse import Dimse

    if address.startswith(("http://", "https://")):
        return DicomWeb.at(address)
    return Dimse.at(address, move_port)


def push(files: Sequence[Path], archive: Archive) -> int:
    """Store DICOM files; how many. Raises when any was not taken."""
    archive.store(files)
    return len(files)


def pull(query: Query, archive: Archive, folder: Path) -> list[tuple[Series, int]]:
    """Every matching series into `folder`, one sub-folder each; the series with how many files came."""
    found = archive.find(query.checked())
    return [(one, _fetched(one, archive, folder / f"{n:04d}")) for n, one in enumerate(found)]


def _fetched(one: Series, archive: Archive, folder: Path) -> int:
    n = archive.get(one, folder)
    if not n:
        raise refused("to send a series", "nothing came")
    return n
