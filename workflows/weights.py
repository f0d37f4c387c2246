"""Weights of networks: fetched when a person asks for them, checked by their SHA-256, kept in the user's own folder."""

import hashlib
import os
import shutil
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import requests

from solvers.errors import BadInput, MissingTool

TIMEOUT = (10, 60)
"""Seconds to connect, and between two bytes."""
MOST_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Weights:
    """files: name here, name at the source, SHA-256."""

    summary: str
    licence: str
    source: str
    files: tuple[tuple[str, str, str], ...]


def known() -> dict[str, Weights]:
    """Name to weights that can be fetched."""
    table = tomllib.loads(Path(__file__).with_name("weights.toml").read_text(encoding="utf-8"))
    return {name: Weights(row["summary"], row["licence"], row["source"], tuple(tuple(f) for f in row["files"]))
            for name, row in table.items()}


def home() -> Path:
    """Where weights are kept: $ANATWIN_WEIGHTS, else in the user's data."""
    given = os.environ.get("ANATWIN_WEIGHTS")
    folder = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))
    return Path(given) if given else folder / "anatwin" / "weights"


def find(name: str) -> Path:
    """The folder of weights that were fetched, or that a person names by its path.

    Raises BadInput `no_model` without a name, `checksum_differs` where files were changed, MissingTool `no_weights`.
    """
    if not name:
        raise BadInput("no_model", "no network is named", f"one of {', '.join(known())}, or a folder of your own",
                       "--set brain_model=NAME")
    if name not in known():
        if Path(name).is_dir():
            return Path(name)
        raise BadInput("no_model", f"{name} is neither a folder nor the name of weights",
                       f"one of {', '.join(known())}, or a folder of your own", "--set brain_model=NAME")
    folder = home() / name
    if not folder.is_dir():
        raise MissingTool("no_weights", f"the weights {name} are not on this machine", "weights",
                          f"Get them with: anatwin fetch {name}")
    for here, _, digest in known()[name].files:
        _check(folder / here, digest)
    return folder


def fetch(name: str, source: str = "") -> Path:
    """Get weights into the user's folder; complete and right, or not there. source: another address of the files.

    Raises BadInput `unknown_weights`, `cannot_fetch`, `checksum_differs`.
    """
    if name not in known():
        raise BadInput("unknown_weights", f"there are no weights {name!r}", f"one of {', '.join(known())}",
                       "anatwin fetch lists them.")
    wanted, target = known()[name], home() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as scratch:
        draft = Path(scratch) / name
        draft.mkdir()
        for here, there, digest in wanted.files:
            _download(f"{(source or wanted.source).rstrip('/')}/{there}", draft / here)
            _check(draft / here, digest)
        shutil.rmtree(target, ignore_errors=True)
        draft.replace(target)
    return target


def _download(url: str, path: Path) -> None:
    try:
        with requests.get(url, timeout=TIMEOUT, stream=True) as answer, path.open("wb") as file:
            answer.raise_for_status()
            size = 0
            for part in answer.iter_content(2**16):
                size += len(part)
                if size > MOST_BYTES:
                    raise BadInput("cannot_fetch", f"{path.name} is larger than {MOST_BYTES} bytes", "weights",
                                   "Check the address.")
                file.write(part)
    except requests.RequestException as error:
        raise BadInput("cannot_fetch", f"{path.name} could not be fetched ({type(error).__name__})",
                       "an answer of the source", "Check the network, or name another source with --source.") from error


def _check(path: Path, digest: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != digest:
        raise BadInput("checksum_differs", f"{path.name} has the SHA-256 {found[:12]}...", f"{digest[:12]}...",
                       "Fetch it again; if it differs again, do not use this source.")
