"""The parent's side of the limited child: give it files, survive whatever happens to it.

One child serves a scan, header index and decoding alike, because starting it
costs more than most of its work. When it dies, that is the fault of the file it
was at; the next request finds a new one.
"""

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pipeline
from pipeline.ingest.discover import Found
from pipeline.ingest.problems import refusal
from solvers.errors import AnatwinError, BadInput

INDEX_MEMORY = 2 * 2**30
BASE_MEMORY = 3 * 2**30 // 2
"""Address space of a child that holds no image yet, bytes."""
SECONDS = 8
"""Processor time of a child for a small file; large ones get more by their size."""
MAX_DEATHS = 20
"""Files that may kill the child before the scan is given up."""
_ENVIRONMENT = ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "LANG", "PYTHONDONTWRITEBYTECODE")


class Reader:
    """A child process for foreign bytes; starts when first asked, ends with its `with` block.

    module: what it runs; another than ingest's has the same tasks and more.
    """

    def __init__(self, module: str = "pipeline.ingest.child") -> None:
        self._module = module
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._end(kill=error is not None)

    def ask(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """The answers that the child gave before it was done, or died, or ran out of time."""
        child = self._child = self._child or _start(self._module)
        assert child.stdin and child.stdout
        timer = threading.Timer(10 * request["seconds"], child.kill)
        timer.start()
        answers: list[dict[str, Any]] = []
        try:
            child.stdin.write(json.dumps(request) + "\n")
            child.stdin.flush()
            for line in child.stdout:
                answer = json.loads(line)
                if answer.get("end"):
                    return answers
                answers.append(answer)
        except (BrokenPipeError, json.JSONDecodeError):
            pass
        finally:
            timer.cancel()
        self._end(kill=True)
        if child.returncode == 1 and not answers:
            raise AnatwinError("reader_failed", "the reading process could not start", "a complete installation",
                               "Run `anatwin doctor`.")
        return answers

    def _end(self, kill: bool) -> None:
        """Let the child go, at once if need be, and wait for it (its CPU time counts as ours)."""
        child, self._child = self._child, None
        if child is None:
            return
        if kill:
            child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        child.wait()


def _start(module: str) -> "subprocess.Popen[str]":
    environment = {k: v for k, v in os.environ.items() if k in _ENVIRONMENT}
    environment |= {"PYTHONPATH": str(Path(pipeline.__file__).parents[1]), "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-P", "-m", module], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True)


def describe(files: Sequence[Found], key: bytes, reader: Reader) -> list[dict[str, Any]]:
    """The header of each file; one that kills its reader is a problem of that file alone."""
    answers: list[dict[str, Any]] = []
    deaths = 0
    while len(answers) < len(files):
        rest = files[len(answers):]
        request = {"task": "index", "key": key.hex(), "memory": INDEX_MEMORY,
                   "seconds": SECONDS + len(rest) // 10 + sum(f.path.stat().st_size for f in rest) // 2_000_000,
                   "files": [{"path": str(f.path), "kind": f.kind} for f in rest]}
        answers += [_plain(a) for a in reader.ask(request)[: len(rest)]]
        if len(answers) < len(files):
            deaths += 1
            if deaths > MAX_DEATHS:
                raise BadInput("hostile_scan", f"more than {MAX_DEATHS} files stopped their reader", "readable files",
                               "Point at one series; take the damaged files out.")
            answers.append({"kind": files[len(answers)].kind, "pixels": None, "series": "", "patient": "",
                            "problem": ["corrupt", "reading the header stopped the reader: the file is corrupt, "
                                                   "or needs more time or memory than allowed"]})
    return answers


def decode(files: Sequence[Path], heads: Sequence[dict[str, Any]], plan: list[tuple[int, int, float, float]],
           shape: tuple[int, ...], out: Path, reader: Reader) -> int:
    """Decode one series into the .npy file `out`; how many voxels were not finite.

    plan: per frame in order (file, frame in file, slope, intercept). shape:
    (times, slices, rows, columns). Raises BadInput.
    """
    n_voxels = math.prod(shape)
    request = {"task": "decode", "files": [str(f) for f in files], "heads": list(heads), "plan": plan,
               "shape": list(shape), "out": str(out), "memory": BASE_MEMORY + 24 * n_voxels,
               "seconds": SECONDS + n_voxels // 500_000}
    return int(_answer(request, reader)["not_finite"])


def mask(file: Path, head: dict[str, Any], region: int, affine: list[list[float]], size: Sequence[int], out: Path,
         reader: Reader) -> list[str]:
    """Draw one region of a file on a grid into the .npy file `out`; what a person should know. Raises BadInput."""
    n_voxels = math.prod(size)
    request = {"task": "mask", "file": str(file), "head": head, "region": region, "affine": affine, "size": list(size),
               "out": str(out), "memory": BASE_MEMORY + 4 * n_voxels,
               "seconds": SECONDS + (file.stat().st_size + n_voxels) // 500_000}
    return list(_answer(request, reader)["said"])


def _answer(request: dict[str, Any], reader: Reader) -> dict[str, Any]:
    """What the child says when done; its problem, or its death, as BadInput."""
    answers = reader.ask(request)
    answer = answers[-1] if answers else {"problem": ["decoder_died", "decoding stopped the decoder: pixel data are "
                                                      "corrupt, or need more time or memory than allowed"]}
    if answer.get("problem"):
        raise refusal(answer["problem"])
    return _plain(answer)


def _plain(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, unless it says that the system refused something."""
    if "os_error" in answer:
        raise OSError(answer["os_error"], os.strerror(answer["os_error"] or 0))
    return answer
