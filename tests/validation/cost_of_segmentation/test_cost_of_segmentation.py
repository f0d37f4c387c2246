"""512 x 512 x 300 to all labels, vessels and organs: processor time and memory of the segment stage (see README)."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trunk
from scipy import ndimage

from pipeline import formats
from solvers.geometry.volume import Volume

ROOT = Path(__file__).parents[3]
SHAPE, SPACING = (512, 512, 300), (0.75, 0.75, 2.0)
ARTERIAL = 350
"""Blood, HU."""
SECONDS, PEAK_MB = 300.0, 6 * 1024

STAGE = """
import sys
from pathlib import Path
from pipeline.segment import SegmentConfig, SegmentInputs, SegmentOutputs, segment
from pipeline.stage import run
run(segment, SegmentInputs(volume=Path(sys.argv[1])), SegmentConfig(organs=True), Path(sys.argv[2]))
"""


def large_ct() -> Volume:
    """A made trunk from thighs to chest, on a fine grid in air, with noise of its own in every voxel."""
    coarse = 3.0
    height = SHAPE[2] * SPACING[2] / 2
    small = trunk.make(seed=3, noise=0.0, spacing=(coarse,) * 3, z=(-height, height)).values
    fine = ndimage.zoom(small, coarse / np.array(SPACING), order=1, grid_mode=True, mode="nearest")
    values = np.full(SHAPE, -1000, np.float32)
    some = tuple(slice(min(n, m)) for n, m in zip(fine.shape, SHAPE, strict=True))
    values[some] = fine[some]
    values = np.roll(values, (SHAPE[1] - fine.shape[1]) // 2, axis=1)
    values += np.random.default_rng(0).normal(0, 20, SHAPE).astype(np.float32)
    return Volume(np.round(values).astype(np.int16), np.diag([*SPACING, 1.0]))


@pytest.mark.verify
def test_five_minutes_and_six_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trunk.PORTAL, "blood", ARTERIAL)
    formats.write_volume(tmp_path / "ct.nii.gz", large_ct())
    subprocess.run([sys.executable, "-c", STAGE, str(tmp_path / "ct.nii.gz"), str(tmp_path / "segment")],
                   env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    record = formats.read_json(tmp_path / "segment" / "record.json")
    report = record["report"]
    print(f"{record['cpu_seconds']:.0f} CPU-s, {record['peak_memory_mb']} MB, aorta {report['aorta_volume_ml']} ml, "
          f"found {report['organs_found']}")
    assert {"liver", "spleen", "kidney_left", "kidney_right", "heart"} <= set(report["organs_found"])
    assert record["peak_memory_mb"] <= PEAK_MB
    assert record["cpu_seconds"] <= SECONDS
