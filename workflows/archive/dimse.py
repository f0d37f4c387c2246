"""An archive by the DICOM network (PS3.4, PS3.7): C-FIND, C-GET or C-MOVE, C-STORE."""

import contextlib
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, StoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made when it is loaded
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from solvers.errors import BadInput
from workflows.archive import query as asked
from workflows.archive.query import Query, Series

TITLE = "ANATWIN"
_ADDRESS = re.compile(r"dicom://(?P<title>[\x21-\x3f\x41-\x5b\x5d-\x7e]{1,16})@(?P<host>[^:/@]+):(?P<port>\d{1,5})/?")


@dataclass(frozen=True)
class Dimse:
    """title: the archive's. move_port: where C-MOVE's images come in; 0 is C-GET."""

    title: str
    host: str
    port: int
    move_port: int = 0

    @classmethod
    def at(cls, address: str, move_port: int = 0) -> "Dimse":
        known = _ADDRESS.fullmatch(address)
        if not known or not 0 < int(known["port"]) < 65536:
            raise BadInput("bad_address", f"{address} is not the address of an archive",
                           "https://HOST/dicom-web or dicom://TITLE@HOST:PORT")
        return cls(known["title"], known["host"], int(known["port"]), move_port)

    def find(self, query: Query) -> list[Series]:
        with self._associated([StudyRootQueryRetrieveInformationModelFind]) as link:
            studies = [str(s.StudyInstanceUID) for s in _ask(link, "STUDY", query.of_study(), ("StudyInstanceUID",))]
            return asked.found([
                Series(study, str(one.SeriesInstanceUID), str(one.get("Modality", ""))) for study in studies
                for one in _ask(link, "SERIES", {"StudyInstanceUID": study} | query.of_series(),
                                ("SeriesInstanceUID", "Modality"))])

    def get(self, series: Series, folder: Path) -> int:
        kept = _Kept(folder)
        wanted = _level("SERIES", {"StudyInstanceUID": series.study, "SeriesInstanceUID": series.uid})
        (self._move if self.move_port else self._get)(wanted, kept)
        return kept.n

    def store(self, files: Sequence[Path]) -> None:
        kinds = {(str(h.SOPClassUID), str(h.file_meta.TransferSyntaxUID)) for h in map(_head, files)}
        with self._associated(sorted(kinds)) as link:
            for path in files:
                _check(link.send_c_store(dcmread(path)), "to store")

    def _get(self, wanted: Dataset, kept: "_Kept") -> None:
        storage = [str(c.abstract_syntax) for c in StoragePresentationContexts]
        roles = [build_role(kind, scp_role=True) for kind in storage]
        with self._associated([StudyRootQueryRetrieveInformationModelGet, *storage], kept, roles) as link:
            for status, _ in link.send_c_get(wanted, StudyRootQueryRetrieveInformationModelGet):
                _check(status, "to send a series")

    def _move(self, wanted: Dataset, kept: "_Kept") -> None:
        taker = AE(ae_title=TITLE)
        for kind in StoragePresentationContexts:
            taker.add_supported_context(str(kind.abstract_syntax), ALL_TRANSFER_SYNTAXES)
        taker.require_calling_aet = [self.title]
        server = taker.start_server((self._facing(), self.move_port), block=False,
                                    evt_handlers=[(evt.EVT_C_STORE, kept.take)])
        try:
            with self._associated([StudyRootQueryRetrieveInformationModelMove]) as link:
                for status, _ in link.send_c_move(wanted, TITLE, StudyRootQueryRetrieveInformationModelMove):
                    _check(status, "to send a series")
        finally:
            if server is not None:
                server.shutdown()

    def _facing(self) -> str:
        """The address of ours that faces the archive: nobody else is listened to. Nothing is sent."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((self.host, self.port))
            except OSError as error:
                raise asked.unreachable(f"{self.title}@{self.host}:{self.port}", "no route") from error
            return str(probe.getsockname()[0])

    @contextlib.contextmanager
    def _associated(self, contexts: Sequence[Any], kept: "_Kept | None" = None,
                    roles: Sequence[Any] = ()) -> Iterator[Any]:
        """An open association for SOP classes, or for pairs of SOP class and transfer syntax."""
        me = AE(ae_title=TITLE)
        me.acse_timeout = me.connection_timeout = 10
        for one in contexts:
            me.add_requested_context(*(one if isinstance(one, tuple) else (one,)))
        handlers: list[Any] = [(evt.EVT_C_STORE, kept.take)] if kept else []
        link = me.associate(self.host, self.port, ae_title=self.title, ext_neg=list(roles), evt_handlers=handlers)
        if not link.is_established:
            why = "it rejected the association" if link.is_rejected else "no association"
            raise asked.unreachable(f"{self.title}@{self.host}:{self.port}", why)
        try:
            yield link
        except ValueError as error:
            raise asked.refused("a service", "it does not offer what was asked") from error
        finally:
            link.release()


class _Kept:
    """Takes instances as they come in."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.n = folder, 0

    def take(self, event: Any) -> int:
        """Keep one; the status for the archive: success, or out of resources."""
        data = event.dataset
        data.file_meta = event.file_meta
        try:
            self.n += asked.save(data, self.folder)
        except (OSError, BadInput):
            return 0xA700
        return 0x0000


def _ask(link: Any, level: str, matched: dict[str, str], wanted: Sequence[str]) -> list[Dataset]:
    answers = link.send_c_find(_level(level, dict.fromkeys(wanted, "") | matched),
                               StudyRootQueryRetrieveInformationModelFind)
    found = []
    for status, data in answers:
        _check(status, "the search")
        if data is not None:
            found.append(data)
    return found


def _level(level: str, words: dict[str, str]) -> Dataset:
    data = Dataset()
    data.QueryRetrieveLevel = level
    for name, value in words.items():
        setattr(data, name, value)
    return data


def _head(path: Path) -> Dataset:
    return dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True)


def _check(status: Dataset, what: str) -> None:
    """Success, pending and warnings pass, unless an instance was lost; PS3.7 annex C."""
    code = status.get("Status")
    if code is None:
        raise asked.refused(what, "the connection ended")
    if status.get("NumberOfFailedSuboperations"):
        raise asked.refused(what, f"{status.NumberOfFailedSuboperations} instances were lost")
    if not (code in (0x0000, 0xFF00, 0xFF01, 0x0001) or 0xB000 <= code <= 0xBFFF):
        raise asked.refused(what, f"status {code:#06x}")
