"""The process that touches foreign bytes: reads headers, decodes frames, under limits of memory and time.

A request is one line of JSON on standard input; each file is answered by one
line, so that the parent knows which one it died on, and {"end": true} closes.
Limits are set anew for each request. Started as `python -P -m`.
"""

import json
import math
import os
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.ingest.problems import Problem

Say = Callable[[dict[str, Any]], None]
Task = Callable[[dict[str, Any], Say], None]


def main(more: Mapping[str, Task] = {}) -> None:  # noqa: B006
    """Do requests until there are no more; native libraries cannot disturb the answers. more: tasks by name."""
    tasks = {"index": _index, "decode": _decode, "mask": _mask, **more}
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def say(answer: dict[str, Any]) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    for line in sys.stdin:
        _serve(json.loads(line), say, tasks)
        say({"end": True})


def _serve(request: dict[str, Any], say: Say, tasks: Mapping[str, Task]) -> None:
    _limit(request["memory"], request["seconds"])
    try:
        tasks[request["task"]](request, say)
    except Problem as problem:
        say({"problem": [problem.code, problem.happened]})
    except MemoryError:
        say({"problem": ["too_large", "decoding needs more memory than the limit"]})
    except OSError as error:
        say({"os_error": error.errno})


def _limit(memory: int, seconds: int) -> None:
    """Address space in bytes, and CPU seconds from now on; the kernel ends who exceeds them."""
    use = resource.getrusage(resource.RUSAGE_SELF)
    for what, wanted in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0),
                         (resource.RLIMIT_CPU, int(use.ru_utime + use.ru_stime) + 1 + seconds)):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _index(request: dict[str, Any], say: Say) -> None:
    key = bytes.fromhex(request["key"])
    for item in request["files"]:
        say(_describe(Path(item["path"]), item["kind"], key))


def _describe(path: Path, kind: str, key: bytes) -> dict[str, Any]:
    """The header of one file; readers are imported when first needed, a child starts in a fraction of a second."""
    if kind == "dicom":
        from pipeline.ingest import header

        return header.describe(path, key)
    from pipeline.ingest import grids

    return grids.describe(path, kind)


def _decode(request: dict[str, Any], say: Say) -> None:
    """Write the series' values as (i, j, k[, t]) to an .npy file."""
    if request["heads"][0]["kind"] == "dicom":
        values = _dicom_values(request)
    else:
        from pipeline.ingest import grids

        values = grids.values(Path(request["files"][0]), request["heads"][0])
    values, n_odd = _finite(values)
    _save(Path(request["out"]), _small(values))
    say({"done": True, "not_finite": n_odd})


def _mask(request: dict[str, Any], say: Say) -> None:
    """Write one region as 0 and 1 on a grid, (i, j, k), to an .npy file."""
    from pipeline.ingest import regions

    grid, said = regions.mask(request)
    _save(Path(request["out"]), grid)
    say({"done": True, "said": said})


def _save(path: Path, values: np.ndarray) -> None:
    """An .npy file by plain writes: numpy's own lose the reason when the disk is full."""
    whole = np.asfortranarray(values)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(whole))
        file.write(whole.T.data)


def _dicom_values(request: dict[str, Any]) -> np.ndarray:
    """Frames in the planned order, each with its own slope and intercept."""
    from pipeline.ingest import codecs

    n_times, n_slices, rows, columns = request["shape"]
    plan = request["plan"]
    volume = np.zeros((n_times * n_slices, rows, columns), _dtype(plan, request["heads"]))
    wanted: dict[int, list[tuple[int, int, float, float]]] = {}
    for place, (file, frame, slope, intercept) in enumerate(plan):
        wanted.setdefault(file, []).append((place, frame, slope, intercept))
    for file, uses in wanted.items():
        frames = codecs.frames(Path(request["files"][file]), request["heads"][file])
        for place, frame, slope, intercept in uses:
            volume[place] = _scaled(frames[frame], slope, intercept)
    return volume.reshape(request["shape"]).T if n_times > 1 else volume.T


def _scaled(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Values of one frame; whole numbers stay whole numbers where the scale allows."""
    if slope == 1 and float(intercept).is_integer() and stored.dtype.kind == "i":
        return stored + int(intercept) if intercept else stored
    return stored * slope + intercept


def _dtype(plan: list[Any], heads: list[dict[str, Any]]) -> type:
    """The smallest type that holds every value that bits and scales of the headers allow."""
    ends: list[float] = []
    for file, _, slope, intercept in plan:
        bits, signed = heads[file]["stored"] or heads[file]["allocated"] or 64, heads[file]["signed"]
        whole = float(slope).is_integer() and float(intercept).is_integer()
        if not whole or heads[file]["pixels"].get("element", 0x10) != 0x10:
            return np.float32
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        ends += [low * slope + intercept, high * slope + intercept]
    for kind in (np.int16, np.int32, np.int64):
        if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max:
            return kind
    return np.float32


def _finite(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Values without NaN and infinity (replaced by the smallest finite one), and how many there were."""
    if values.dtype.kind != "f":
        return values, 0
    good = np.isfinite(values)
    n_odd = int(values.size - good.sum())
    if n_odd == values.size:
        raise Problem("not_finite", "no voxel has a finite value: all are NaN or infinite")
    return (np.where(good, values, values[good].min()), n_odd) if n_odd else (values, 0)


def _small(values: np.ndarray) -> np.ndarray:
    """int16 where that holds every value, int32 where it must, else float32."""
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind in "iub":
        fits = low >= -32768 and high <= 32767
        kind = np.int16 if fits else np.int32 if abs(high) < 2**31 and low >= -2**31 else np.float32
        return values.astype(kind, copy=False)
    if max(math.fabs(low), math.fabs(high)) > 3e38:
        raise Problem("not_finite", "values exceed what single precision can hold (not finite)")
    return values.astype(np.float32, copy=False)


if __name__ == "__main__":
    main()
