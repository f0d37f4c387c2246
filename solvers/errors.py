"""What can go wrong, written for the person who reads it.

Code raises; only the command line prints. Every error has a stable `code` (a
script may match on it), says what happened, what was wanted and what to try.
"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(eq=False)
class AnatwinError(Exception):
    """An error with a stable code; `str()` is the one line a person reads."""

    code: str
    happened: str
    wanted: str = ""
    hint: str = ""

    def __post_init__(self) -> None:
        super().__init__(self.code, self.happened, self.wanted, self.hint)

    def __str__(self) -> str:
        wanted = f" (wanted {self.wanted})" if self.wanted else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.happened}{wanted}.{hint}"

    def as_dict(self) -> dict[str, Any]:
        """The error as plain JSON types: kind, code, happened, wanted, hint."""
        text = {k: v for k, v in asdict(self).items() if isinstance(v, str)}
        return {"kind": type(self).__name__} | text


class BadInput(AnatwinError):
    """The person can fix it: a scan, a file, a setting."""


@dataclass(eq=False)
class DidNotConverge(AnatwinError):
    """The numerics gave up; `state` is the last good state, for a restart."""

    state: Any = None


class MissingTool(AnatwinError):
    """This machine lacks something; the hint is the line to type."""
