"""Settings from YAML: every error at once, each with its file, line and a suggestion."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from pipeline.stage import Config
from solvers.errors import BadInput


class BadSettings(BadInput):
    """Settings or usage that cannot be understood; the command ends with 2."""


def load[C: Config](path: Path, base: C) -> C:
    """The settings of a YAML file on top of `base`; BadSettings lists every error."""
    return merge(read(path), base, str(path))


def read(path: Path) -> Any:
    """A YAML mapping that remembers its lines."""
    try:
        content = YAML().load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings("no_settings_file", f"{path} could not be read ({error.strerror})", "a YAML file") from error
    except (MarkedYAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
        raise BadSettings("bad_yaml", f"{path}:{line}: not YAML: {getattr(error, 'problem', 'not text')}") from error
    if content is not None and not isinstance(content, dict):
        raise BadSettings("bad_yaml", f"{path}:1: a list or a single value", "names with values, as `mesh: ...`")
    return content or {}


def merge[C: Config](changes: Any, base: C, where: str) -> C:
    """`base` with nested `changes` (as read from YAML), checked as a whole."""
    try:
        return type(base).model_validate(_deep(base.model_dump(mode="json"), changes))
    except ValidationError as error:
        raise BadSettings("bad_settings", "\n".join(_lines(error, changes, type(base), where))) from error


def assignment(text: str) -> dict[str, Any]:
    """`mesh.edge_length=1 mm` as the nested mapping of a YAML file."""
    name, mark, value = text.partition("=")
    if not mark:
        raise BadSettings("bad_settings", f"--set {text}: no value", "stage.setting=value")
    nested: Any = YAML(typ="safe").load(value)
    for part in reversed(name.strip().split(".")):
        nested = {part: nested}
    return nested


def _deep(base: Any, changes: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return base | {k: _deep(base.get(k), v) for k, v in changes.items()}


def _lines(error: ValidationError, source: Any, model: type[BaseModel], where: str) -> Iterator[str]:
    for item in error.errors():
        place = tuple(part for part in item["loc"] if _exists(source, part) or isinstance(part, str))
        line = _line_of(source, place)
        yield f"{where}{f':{line}' if line else ''}: {'.'.join(map(str, place))}: {_reason(item, place, model)}"


def _exists(source: Any, part: Any) -> bool:
    return isinstance(part, int)


def _reason(item: Any, place: tuple[Any, ...], model: type[BaseModel]) -> str:
    if item["type"] != "extra_forbidden":
        return str(item["msg"]).removeprefix("Value error, ")
    names = _fields(model, place[:-1])
    close = difflib.get_close_matches(str(place[-1]), names, n=1, cutoff=0.5)
    return f"unknown setting; did you mean {close[0]}?" if close else f"unknown setting; there are {', '.join(names)}"


def _fields(model: type[BaseModel], place: tuple[Any, ...]) -> list[str]:
    """Names of the settings at `place` inside `model`."""
    for part in place:
        annotation: Any = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        inside = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not inside:
            return []
        model = inside[0]
    return sorted(model.model_fields)


def _line_of(source: Any, place: tuple[Any, ...]) -> int:
    """The line of a nested name in YAML that remembers its lines; 0 when unknown."""
    line = 0
    for part in place:
        if not (isinstance(source, dict) and part in source and hasattr(source, "lc")):
            return line
        line, source = source.lc.key(part)[0] + 1, source[part]
    return line
