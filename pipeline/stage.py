"""What a stage is, and the one way to run it.

A stage is a function `(inputs: Files, config: Config, outputs: Files) -> Report`
in a module of the same name. `run` does it in a draft folder and renames the
folder when all is there: a folder that exists is complete. `record.json`, beside
the outputs, holds the key (inputs' hashes, settings, a digest of the code, the
libraries' versions) and the hashes of the outputs; while both match, `run`
returns at once.
"""

import contextlib
import contextvars
import errno
import fcntl
import importlib
import inspect
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, get_type_hints

from pydantic import BaseModel, ConfigDict

from pipeline import provenance
from solvers.errors import AnatwinError, BadInput


class Config(BaseModel):
    """Settings of a stage or a recipe: frozen, checked, with units."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def but(self, **changes: Any) -> Self:
        """The same settings with `changes`, checked again."""
        current = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**(current | changes))


class Files(BaseModel):
    """Paths that a stage reads or writes; outputs' defaults are their names.

    A field that may be None is optional: absent from disk, it reads as None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def paths(self) -> dict[str, Path]:
        """Field name to path, without those that are None."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: Path(path) for name, path in found.items() if path is not None}

    def within(self, folder: Path) -> Self:
        """The same files inside `folder`."""
        return type(self)(**{name: folder / path for name, path in self.paths().items()})


class Report(BaseModel):
    """A few numbers worth seeing, kept in the record."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Stage = Callable[[Any, Any, Any], Report]

_checkpoints: contextvars.ContextVar[Path | None] = contextvars.ContextVar("checkpoints", default=None)


def checkpoints() -> Path:
    """The folder of the running stage that outlives a killed process."""
    folder = _checkpoints.get()
    if folder is None:
        raise RuntimeError("checkpoints() is only there while a stage runs")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def hints(stage: Stage) -> dict[str, type]:
    """The stage's types: inputs, config, outputs, return."""
    return get_type_hints(stage)


def name_of(stage: Stage) -> str:
    return stage.__name__


def run(stage: Stage, inputs: Files, config: Config, folder: Path) -> Any:
    """Do `stage` in `folder`, or find it done there; its outputs with full paths.

    One process at a time works on a folder; the others wait and find it done.
    """
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    outputs = hints(stage)["outputs"]()
    hashes = provenance.HashCache(folder.parent / ".work" / "hashes.json")
    with _locked(folder):
        key, parts = provenance.key(stage, inputs.paths(), config, hashes)
        _recover(folder)
        if not _is_done(folder, key, hashes):
            _keep_edited(folder, hashes)
            _work(stage, inputs, config, folder, key, parts)
        hashes.save()
    return _present(outputs, folder)


def is_done(stage: Stage, inputs: Files, config: Config, folder: Path) -> bool:
    """Whether `run` would return at once."""
    hashes = provenance.HashCache(folder.parent / ".work" / "hashes.json")
    return _is_done(folder, provenance.key(stage, inputs.paths(), config, hashes)[0], hashes)


def read_record(folder: Path) -> dict[str, Any]:
    """record.json of a finished stage, or an empty dict."""
    try:
        return json.loads((folder / "record.json").read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}


def _present(outputs: Files, folder: Path) -> Files:
    """The outputs as they stand on disk; optional ones that are absent become None."""
    found = {name: folder / path for name, path in outputs.paths().items() if (folder / path).exists()}
    absent = {name: None for name in type(outputs).model_fields if name not in found}
    return type(outputs)(**(found | absent))


def _is_done(folder: Path, key: str, hashes: provenance.HashCache) -> bool:
    record = read_record(folder)
    return record.get("key") == key and not _edited(folder, record, hashes)


def _edited(folder: Path, record: dict[str, Any], hashes: provenance.HashCache) -> list[str]:
    """Outputs that are gone or no longer what the stage wrote."""
    return [name for name, digest in record.get("outputs", {}).items()
            if not (folder / name).is_file() or hashes.of(folder / name) != digest]


def _keep_edited(folder: Path, hashes: provenance.HashCache) -> None:
    """Put files that a person changed beside the stage before it is built again."""
    changed = [n for n in _edited(folder, read_record(folder), hashes) if (folder / n).is_file()]
    if not changed:
        return
    aside = _free_name(folder.with_name(f"{folder.name}.edited"))
    for name in changed:
        (aside / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / name, aside / name)
    tell(f"{folder.name}: {', '.join(changed)} was changed by hand; kept in {aside.name}, the stage is built anew. "
         f"To use your own file: --use {folder.name}.<output>=<file>.")


def _free_name(path: Path) -> Path:
    names = [path, *(path.with_name(f"{path.name}-{n}") for n in range(2, 1000))]
    return next(p for p in names if not p.exists())


def tell(message: str) -> None:
    """One line for the person who watches, on standard error."""
    print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; it dies with its process."""
    work = folder.parent / ".work"
    work.mkdir(parents=True, exist_ok=True)
    with (work / f"{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _recover(folder: Path) -> None:
    """Clear what a killed process left: drafts, and a folder caught between two renames."""
    old, drafts = _old(folder), folder.parent.glob(f".{folder.name}.draft-*")
    if old.exists() and not folder.exists():
        old.rename(folder)
    for rest in [old, *drafts]:
        shutil.rmtree(rest, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _work(stage: Stage, inputs: Files, config: Config, folder: Path, key: str, parts: dict[str, Any]) -> None:
    draft = folder.with_name(f".{folder.name}.draft-{os.getpid()}")
    work = folder.parent / ".work" / f"{folder.name}-{key[:16]}"
    draft.mkdir(parents=True)
    token = _checkpoints.set(work)
    try:
        started = _cpu_seconds()
        report = stage(inputs, config, hints(stage)["outputs"]().within(draft))
        _check_outputs(stage, draft)
        _write_record(draft, stage, key, parts, config, report, _cpu_seconds() - started)
        _publish(draft, folder)
        shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise _disk_error(error, folder) from error
    finally:
        _checkpoints.reset(token)
        shutil.rmtree(draft, ignore_errors=True)


def _disk_error(error: OSError, folder: Path) -> Exception:
    """A full disk or a file-size limit as a message; other errors as they are."""
    known = {errno.ENOSPC: "the disk is full", errno.EFBIG: "a file reached the size limit of this session",
             errno.EROFS: "the file system is read-only", errno.EACCES: "permission was denied",
             errno.EDQUOT: "the disk quota is used up"}
    if error.errno not in known:
        return error
    return BadInput("cannot_write", f"{known[error.errno]} (writing {folder.name})", "room to write",
                    "Finished stages are kept; make room and run the same command again.")


def _check_outputs(stage: Stage, draft: Path) -> None:
    """Every output that is not optional must be there."""
    model: Any = hints(stage)["outputs"]
    wanted = [str(f.default) for f in model.model_fields.values() if f.annotation is Path]
    missing = [name for name in wanted if not (draft / name).exists()]
    if missing:
        raise AnatwinError("stage_incomplete", f"{name_of(stage)} did not write {', '.join(missing)}")


def _cpu_seconds() -> float:
    use = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in use)


def _write_record(draft: Path, stage: Stage, key: str, parts: dict[str, Any], config: Config, report: Report,
                  cpu_seconds: float) -> None:
    """record.json, written last."""
    outputs = {str(p.relative_to(draft)): provenance.file_hash(p) for p in sorted(draft.rglob("*")) if p.is_file()}
    peak = max(resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    record = {"stage": name_of(stage), "key": key, "settings": config.model_dump(mode="json"), "outputs": outputs,
              "report": report.model_dump(mode="json"), "cpu_seconds": round(cpu_seconds, 2),
              "peak_memory_mb": peak // 1024, "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
              "sources": list(getattr(sys.modules[stage.__module__], "SOURCES", []))} | parts
    (draft / "record.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def _publish(draft: Path, folder: Path) -> None:
    """Make the draft the stage's folder; a kill at any moment leaves the old or the new."""
    for path in [*draft.rglob("*"), draft]:
        _fsync(path)
    if folder.exists():
        folder.replace(_old(folder))
    draft.replace(folder)
    _fsync(folder.parent)
    shutil.rmtree(_old(folder), ignore_errors=True)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load(name: str) -> Stage:
    """The stage called `name`: `pipeline.<name>.<name>`."""
    stage = getattr(importlib.import_module(f"pipeline.{name}"), name)
    assert inspect.isfunction(stage)
    return stage
