"""What a result depends on: the key of a stage.

Key = hashes of the inputs + the settings + a digest of the project modules that
the stage imports (and their tables) + the versions of the libraries that those
import. Threads, ranks and paths do not count.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

_PROJECT = ("solvers", "pipeline", "workflows")
_TABLES = {".toml", ".css", ".js"}
_RUNNER = {"pipeline", "pipeline.stage", "pipeline.provenance"}


def key(stage: Any, inputs: dict[str, Path], config: Any, hashes: "HashCache") -> tuple[str, dict[str, Any]]:
    """The key, and the parts of it that the record shows."""
    parts = {
        "version": getattr(sys.modules[stage.__module__], "VERSION", 1),
        "inputs": {name: hashes.of(path) for name, path in inputs.items()},
        "code": code_digest(stage.__module__),
        "libraries": libraries(stage.__module__),
    }
    text = json.dumps([stage.__name__, config.model_dump(mode="json"), parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest(), parts


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class HashCache:
    """Content hashes, each file read once for its (device, inode, size, mtime)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] = {}
        if path.is_file():
            try:
                self._known = json.loads(path.read_text())
            except json.JSONDecodeError:
                self._known = {}

    def of(self, path: Path) -> str:
        """The hash of a file, or of all files in a folder whatever their names."""
        if path.is_dir():
            inside = sorted(self.of(p) for p in path.rglob("*") if p.is_file())
            return hashlib.sha256("".join(inside).encode()).hexdigest()
        state = path.stat()
        name = f"{state.st_dev}:{state.st_ino}:{state.st_size}:{state.st_mtime_ns}"
        if name not in self._known:
            self._known[name] = file_hash(path)
        return self._known[name]

    def save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(self._known))
        draft.replace(self._path)


def code_digest(module: str) -> str:
    """Digest of the project modules that `module` imports, and of the tables beside them."""
    digest = hashlib.sha256()
    for path in sorted({p for m in closure(module) for p in _files(m)}):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def libraries(module: str) -> dict[str, str]:
    """Versions of the distributions that the modules of the closure import."""
    tops = {name.split(".")[0] for m in closure(module) for name in _imports(m)}
    owners = _distributions()
    found = {d for top in tops - set(_PROJECT) for d in owners.get(top, [])}
    return {name: importlib.metadata.version(name) for name in sorted(found)}


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


@cache
def closure(module: str) -> frozenset[str]:
    """Project modules that `module` reaches by import, itself included, the runner apart."""
    found: set[str] = set()
    todo = [module, *_submodules(module)]
    while todo:
        name = todo.pop()
        if name in found or name in _RUNNER:
            continue
        found.add(name)
        todo += [m for m in _imports(name) if m.split(".")[0] in _PROJECT]
    return frozenset(found)


def _submodules(module: str) -> list[str]:
    source = _source(module)
    if source is None or source.name != "__init__.py":
        return []
    return [f"{module}.{p.stem}" for p in source.parent.glob("*.py") if p.stem != "__init__"]


@cache
def _source(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _files(module: str) -> list[Path]:
    """The module's own source, and tables (TOML) and web files in its folder when it is a package."""
    source = _source(module)
    if source is None:
        return []
    beside = [p for p in sorted(source.parent.iterdir()) if p.suffix in _TABLES] if source.name == "__init__.py" else []
    return [source, *beside]


@cache
def _imports(module: str) -> frozenset[str]:
    """Names of modules that the source of `module` imports, anywhere in it."""
    source = _source(module)
    if source is None or source.suffix != ".py":
        return frozenset()
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {m for a in node.names if _is_module(m := f"{node.module}.{a.name}")}
    parents = {name.rpartition(".")[0] for name in found}
    return frozenset(found | {p for p in parents if p.split(".")[0] in _PROJECT})


def _is_module(name: str) -> bool:
    return name.split(".")[0] in _PROJECT and _source(name) is not None
