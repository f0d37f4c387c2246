"""Damaged files of every kind: the parent lives, and each is read or refused by code within limits."""

import os
import sys
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest

from pipeline.ingest import Outcome, read_all
from pipeline.ingest.worker import Reader

sys.path.insert(0, str(Path(__file__).parent))
import corpus  # noqa: E402

KEY = b"a key for tests, nobody's secret"
SEED = 20_240_506
MAX_SECONDS, MAX_MEMORY_KB = 10, 1024 * 1024
TICK = os.sysconf("SC_CLK_TCK")


class Watched(Reader):
    """A reader whose child's CPU time and peak memory are looked at after each answer; deaths are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds, self.peak_kb, self.deaths = 0.0, 0, 0
        self._before: tuple[int, float] = (0, 0.0)

    def ask(self, request):
        try:
            return super().ask(request)
        finally:
            if self._child is None:
                self.deaths += 1
            else:
                self._look(self._child.pid)

    def _look(self, pid: int) -> None:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / TICK
        before = self._before[1] if self._before[0] == pid else 0.0
        self.seconds, self._before = max(self.seconds, seconds - before), (pid, seconds)
        status = Path(f"/proc/{pid}/status").read_text()
        self.peak_kb = max(self.peak_kb, int(status.partition("VmHWM:")[2].split()[0]))


def read(files: corpus.Files, folder: Path, reader: Reader) -> list[Outcome]:
    (folder / "scan").mkdir(parents=True)
    for name, content in files.items():
        (folder / "scan" / name).write_bytes(content)
    done = read_all(folder / "scan", folder / "out", KEY, reader=reader)
    assert done.ledger.explained == done.ledger.total
    return list(done.outcomes)


def fault(outcomes: list[Outcome], folder: Path) -> str:
    """What is wrong with the outcomes of one mutant; empty when nothing is."""
    if not outcomes:
        return "no outcome"
    for one in outcomes:
        if (one.volume is None) == (one.refusal is None):
            return "neither volume nor refusal"
        if one.refusal is not None and not (one.refusal.code.isidentifier() and one.refusal.happened
                                            and one.refusal.hint):
            return f"a refusal without code, sentence or hint: {one.refusal!r}"
        if one.volume is not None and (wrong := _unfit(nibabel.load(one.volume))):
            return wrong
        said = f"{one.refusal} {one.warnings} {one.series}"
        if any(word in said for word in ("Quetzalcoatl", "CANARY", str(folder), "Traceback")):
            return f"a leak: {said}"
    return ""


def _unfit(image: nibabel.Nifti1Image) -> str:
    """What keeps a volume from being used: values that are no numbers, axes that span no space; empty if nothing."""
    if not np.isfinite(np.asarray(image.dataobj, float)).all():
        return "values that are not finite"
    volume = abs(np.linalg.det(image.affine[:3, :3]))
    return "" if np.isfinite(volume) and volume > 0 else f"voxels of {volume} mm3"


def survey(n_mutants: int, tmp_path: Path, seed: int = SEED) -> Counter[str]:
    """Read mutants one by one with one reader; how often which code came out."""
    codes: Counter[str] = Counter()
    with Watched() as reader:
        for number in range(n_mutants):
            folder = tmp_path / f"m{number}"
            outcomes = read(corpus.mutant(seed, number), folder, reader)
            wrong = fault(outcomes, folder)
            assert not wrong, f"mutant({seed}, {number}): {wrong}"
            codes.update(o.refusal.code if o.refusal else "read" for o in outcomes)
        print(dict(codes), f"slowest {reader.seconds:.1f} s, peak {reader.peak_kb // 1024} MB, {reader.deaths} deaths")
        assert reader.seconds <= MAX_SECONDS and reader.peak_kb <= MAX_MEMORY_KB
    return codes


def test_the_files_are_good_before_they_are_damaged(tmp_path):
    with Reader() as reader:
        for number, files in enumerate(corpus.seeds()):
            outcomes = read(files, tmp_path / str(number), reader)
            assert all(o.volume is not None for o in outcomes), (number, outcomes)


def test_a_hundred_mutants(tmp_path):
    codes = survey(100, tmp_path)
    assert codes["read"] > 10 and len(codes) > 6


@pytest.mark.verify
def test_two_thousand_mutants(tmp_path):
    codes = survey(2000, tmp_path, SEED + 1)
    assert codes["read"] > 200 and len(codes) > 15
