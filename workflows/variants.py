"""A file of variants: by name, the settings in which each differs from the baseline."""

import re
from pathlib import Path
from typing import Any

from workflows import settings
from workflows.recipe import Recipe
from workflows.settings import BadSettings

CHANGEABLE = ("intervene", "simulate_tissue", "dose")
"""Sections that a variant may set. Scan, vessel and flow conditions are the baseline's, else nothing is compared."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def read(path: Path, baseline: Recipe) -> dict[str, dict[str, Any]]:
    """Name to nested settings, each checked on top of the baseline's; BadSettings names file and line."""
    content = settings.read(path)
    found = content.get("variants")
    if not isinstance(found, dict) or not found or set(content) != {"variants"}:
        raise BadSettings("no_variants", f"{path}: no variants", "`variants:` with a name and settings for each",
                          "For example  variants: {stent: {intervene: {length: 20 mm}}}.")
    for name, changes in found.items():
        _check(path, str(name), changes, baseline)
    return {str(name): _plain(changes) for name, changes in found.items()}


def _check(path: Path, name: str, changes: Any, baseline: Recipe) -> None:
    if not NAME.fullmatch(name) or name == "baseline":
        raise BadSettings("bad_variant_name", f"{path}: a variant is called {name!r}",
                          "letters, digits, - and _; not baseline (it is a folder's name)")
    if not isinstance(changes, dict) or not changes:
        raise BadSettings("empty_variant", f"{path}: {name} changes nothing", f"a section {_listed()}")
    wrong = [section for section in changes if section not in CHANGEABLE]
    if wrong:
        raise BadSettings("not_of_a_variant", f"{path}: {name}: {', '.join(map(str, wrong))} cannot be set in a "
                          f"variant: what is compared shares scan, vessel and flow conditions", _listed())
    settings.merge(changes, baseline, str(path))


def _listed() -> str:
    return f"one of {', '.join(CHANGEABLE)}"


def _plain(value: Any) -> Any:
    """The content of YAML without its lines."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value
