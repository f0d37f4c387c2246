"""Where cycles of a flow begin and how far they are, in files: a killed run goes on, another flow starts there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from solvers.flow.navier_stokes import State

FIELDS = ("time", "u", "u_before", "p", "potential", "potential_before", "dt")
"""Of a state, what has no outlet."""


@dataclass(frozen=True)
class Start:
    """Where cycles begin: the state, and what the mean shear on the wall changed by over the cycle before, infinite
    where that is not known."""

    state: State
    wall_change: float = np.inf

    def write(self, path: Path) -> None:
        """As one file that appears whole."""
        _write(path, _arrays(self))

    @staticmethod
    def read(path: Path) -> "Start":
        with np.load(path) as a:
            return _start(a)


@dataclass(frozen=True)
class Progress:
    """What a run needs to go on: cycles done, the state, pressure and flow by cap and mean shear on the wall (size and
    vector, (w, 3)) over the last cycle, their changes, and where that cycle began. Before a first cycle the wall's
    change is that of the flow it starts from, infinite without one."""

    n_cycles: int
    state: State
    pressure: dict[int, np.ndarray] = field(default_factory=dict)
    flow: dict[int, np.ndarray] = field(default_factory=dict)
    change: float = np.inf
    shear: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    wall_change: float = np.inf
    before: Start | None = None

    def write(self, path: Path) -> None:
        """As one file that appears whole."""
        arrays = _arrays(Start(self.state, self.wall_change))
        arrays |= _arrays(self.before, "before_") if self.before else {}
        _write(path, arrays | {
            "n_cycles": self.n_cycles, "change": self.change, "shear": self.shear,
            "curve_tags": np.array(list(self.pressure)), "pressure": np.array(list(self.pressure.values())),
            "flow": np.array(list(self.flow.values()))})

    @staticmethod
    def read(path: Path) -> "Progress":
        with np.load(path) as a:
            start, tags = _start(a), a["curve_tags"].tolist()
            return Progress(int(a["n_cycles"]), start.state, dict(zip(tags, a["pressure"], strict=True)),
                            dict(zip(tags, a["flow"], strict=True)), float(a["change"]), a["shear"],
                            start.wall_change, _start(a, "before_") if "before_time" in a else None)


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    draft = path.with_name(f".{path.name}")
    with draft.open("wb") as file:
        np.savez(file, **arrays)
    draft.replace(path)


def _arrays(start: Start, prefix: str = "") -> dict[str, Any]:
    """A start as named arrays."""
    s = start.state
    tags = list(s.stored)
    made = {name: getattr(s, name) for name in FIELDS} | {"tags": np.array(tags), "wall_change": start.wall_change}
    made |= {name: np.array([values[t] for t in tags])
             for name, values in (("cap_pressure", s.pressure), ("cap_flow", s.flow))}
    made |= {f"stored_{tag}": np.asarray(value) for tag, value in s.stored.items()}
    return {prefix + name: value for name, value in made.items()}


def _start(a: Mapping[str, np.ndarray], prefix: str = "") -> Start:
    """A start from named arrays."""
    tags = a[f"{prefix}tags"].tolist()
    time, *fields, dt = (a[prefix + name] for name in FIELDS)
    caps = [dict(zip(tags, a[prefix + name].tolist(), strict=True)) for name in ("cap_pressure", "cap_flow")]
    stored = {t: a[f"{prefix}stored_{t}"][()] for t in tags}
    return Start(State(float(time), *fields, float(dt), stored, *caps), float(a[f"{prefix}wall_change"]))
