"""Frames of one series told apart where positions repeat: echoes, phases, times, diffusion weightings."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.errors import BadInput

Head = dict[str, Any]


@dataclass(frozen=True)
class Frame:
    """One slice at one time: where it is, how it scales, what tells it from another at the same place."""

    file: int
    index: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    slope: float
    intercept: float
    facts: Head


_ECHO: tuple[str, Callable[[Head], Any]] = ("echo", lambda f: (f["echo"], f["echo_ms"]))
_PHASE: tuple[str, Callable[[Head], Any]] = ("acquisition", lambda f: f["acquisition"])
_FLOW: tuple[str, Callable[[Head], Any]] = ("flow", lambda f: _encoded(f["flow"]))
_TIMES: list[tuple[str, Callable[[Head], Any]]] = [
    ("temporal", lambda f: f["temporal"]), ("trigger_ms", lambda f: f["trigger_ms"]),
    ("b_value", lambda f: None if f["b_value"] is None else (f["b_value"], tuple(f["gradient"] or ()))),
    ("acquisition", lambda f: f["acquisition"]), ("moment", lambda f: f["moment"]),
]


def split(frames: list[Frame], modality: str) -> list[tuple[str, list[list[Frame]]]]:
    """Volumes of a series, each a list of time points; told apart only where positions repeat.

    Echoes, encodings of velocity, and acquisitions of a CT (its contrast phases), are volumes of their own. A time
    series of MR may be of one slice.
    """
    if _repeats(frames) == 1:
        return [("", [frames])]
    for label, of in [_ECHO, _PHASE] if modality == "CT" else [_ECHO, _FLOW]:
        parts = _partition(frames, of)
        if len(parts) > 1 and all(len(p) > 1 and _repeats(p) < _repeats(frames) for p in parts):
            return [(f"-{label}{i + 1}{more}", part) for i, p in enumerate(parts)
                    for more, part in split(p, modality)]
    for label, of in _TIMES:
        parts = _partition(frames, of)
        if label == "b_value" and len(parts) > 1:
            parts = _in_time([again for part in parts for again in _again(part)])
        if _are_times(parts, 1 if modality == "MR" and label in ("temporal", "trigger_ms") else 2):
            return [(f"-{label.partition('_')[0]}", parts)]
    parts = _by_turn(frames)
    if _are_times(parts, 1):
        return [("-trigger", parts)]
    raise BadInput("duplicate_positions", "several slices lie at the same position, and nothing in their headers "
                   "(echo, time, b-value) tells them apart", "one slice per position",
                   "Separate echoes, phases or repeats into series of their own.")


def _are_times(parts: list[list[Frame]], fewest: int) -> bool:
    """fewest: slices at one time."""
    return len(parts) > 1 and all(fewest <= len(p) == len(parts[0]) and _repeats(p) == 1 for p in parts)


def _encoded(flow: Head | None) -> tuple[Any, ...]:
    """What kind of image of a velocity a frame is, and along what."""
    return ("",) if flow is None else (flow["component"], *np.round(flow["direction_lps"] or (), 2).tolist())


def _by_turn(frames: list[Frame]) -> list[list[Frame]]:
    """Frames of a velocity by the rank of their trigger time at each place: slices of one phase may differ a little."""
    if any(f.facts["flow"] is None or f.facts["trigger_ms"] is None for f in frames):
        return [frames]
    seen: Counter[tuple[float, ...]] = Counter()
    turns: dict[int, list[Frame]] = defaultdict(list)
    for frame in sorted(frames, key=lambda f: f.facts["trigger_ms"]):
        place = tuple(np.round(frame.position, 3))
        turns[seen[place]].append(frame)
        seen[place] += 1
    return list(turns.values())


def _partition(frames: list[Frame], of: Callable[[Head], Any]) -> list[list[Frame]]:
    groups: dict[Any, list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[of(frame.facts)].append(frame)
    if any(v is None for v in groups):
        return [frames]
    return [groups[k] for k in sorted(groups)]


def _again(part: list[Frame]) -> list[list[Frame]]:
    """Repeats of one diffusion weighting, in the order of acquisition at each place."""
    counts: Counter[tuple[float, ...]] = Counter()
    turns: dict[int, list[Frame]] = defaultdict(list)
    for frame in sorted(part, key=_turn):
        place = tuple(np.round(frame.position, 3))
        turns[counts[place]].append(frame)
        counts[place] += 1
    return list(turns.values())


def _in_time(parts: list[list[Frame]]) -> list[list[Frame]]:
    """Volumes as they were acquired."""
    return sorted(parts, key=lambda part: min(_turn(f) for f in part))


def _turn(frame: Frame) -> tuple[float, int, int]:
    return frame.facts["instance"], frame.file, frame.index


def _repeats(frames: list[Frame]) -> int:
    """The most frames that share one place (and orientation)."""
    places = Counter((*np.round(f.position, 3), *np.round(f.orientation, 2)) for f in frames)
    return max(places.values())
