"""Reads one case of the set and says whether what came out is right, refused rightly, or silently wrong."""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from pipeline import formats
from pipeline.ingest import Outcome, ingest_all

KEY = b"a key for tests, nobody's secret"


@dataclass(frozen=True)
class Verdict:
    """`right`; or what is wrong. `silent`: a wrong image came out without a word."""

    name: str
    right: bool
    silent: bool = False
    why: str = ""


def cases(folder: Path) -> list[dict[str, Any]]:
    """The rows of the manifest."""
    return json.loads((folder / "manifest.json").read_text())["cases"]


def judge(case: dict[str, Any], folder: Path, scratch: Path) -> Verdict:
    """Ingest one case in `scratch` and compare with what the manifest expects."""
    scan = folder / case["path"]
    if case["name"] == "sec_fifo":
        scan = _with_pipe(scan, scratch / "scan")
    return verdict(case, ingest_all(scan, scratch / "out", KEY), scratch / "out")


def verdict(case: dict[str, Any], outcomes: list[Outcome], out: Path) -> Verdict:
    """What the manifest says of these outcomes, whose files are in `out`."""
    read = [o for o in outcomes if o.volume is not None]
    text = " | ".join([str(o.refusal) for o in outcomes if o.refusal] + [w for o in outcomes for w in o.warnings])
    leak = _leak(case, out, text)
    if leak:
        return Verdict(case["name"], False, True, f"leaks {leak}")
    wanted = case["outcome"]
    told = any(re.search(m, text, re.IGNORECASE) for m in case["mention"])
    if not read:
        refused_well = "refuse" in wanted and told
        return Verdict(case["name"], refused_well, False, "" if refused_well else f"refused: {text}")
    if wanted == "refuse":
        return Verdict(case["name"], False, True, f"accepted what must be refused; said: {text}")
    wrong = _compare(case["volumes"], read)
    if wrong:
        return Verdict(case["name"], False, True, wrong)
    if "warn" in wanted and not told:
        return Verdict(case["name"], False, wanted != "refuse_or_ok", f"no warning; said: {text}")
    return Verdict(case["name"], True)


def _with_pipe(scan: Path, copy: Path) -> Path:
    """A copy of the scan with a named pipe in it, which a repository cannot hold."""
    shutil.copytree(scan, copy)
    os.mkfifo(copy / "pipe.dcm")
    return copy


def _leak(case: dict[str, Any], out: Path, text: str) -> str:
    """A string that must not come out but did."""
    bad = list(case.get("must_not_contain_raw", []))
    bad += [b for v in case.get("volumes", []) for b in v.get("must_not_contain", [])]
    bad += ["Zoo^Subject", "ZOO001", "20240301", "19700101", str(out)]
    import gzip

    blobs = [text.encode()] + [gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes()
                               for p in out.rglob("*") if p.is_file()]
    return next((b for b in bad for blob in blobs if b.encode() in blob), "")


def _compare(wanted: list[dict[str, Any]], read: list[Outcome]) -> str:
    """The first difference between expected and written volumes; empty when none."""
    if len(wanted) != len(read):
        return f"{len(read)} volumes where {len(wanted)} are expected"
    left = list(read)
    for want in wanted:
        results = [(_differs(want, got), got) for got in left]
        good = next((got for difference, got in results if not difference), None)
        if good is None:
            return results[0][0]
        left.remove(good)
    return ""


def _differs(want: dict[str, Any], got: Outcome) -> str:
    assert got.volume is not None and got.sidecar is not None
    volume = formats.read_volume(got.volume)
    facts = json.loads(got.sidecar.read_text())
    if facts["modality"] != want["modality"]:
        return f"modality {facts['modality']}"
    values = np.asarray(volume.values, float)
    if "size" in want and want.get("geometry") != "probes_only":
        wrong = _corners_differ(want, volume)
        if wrong:
            return wrong
        if want["mean"] is not None and abs(values.mean() - want["mean"]) > want.get("mean_tol", want.get(
                "values_tol", 0.01) + 1e-4 * abs(want["mean"])):
            return f"mean {values.mean():.4f} where {want['mean']:.4f} is expected"
    for probe in want["probes"]:
        first = values[..., 0] if values.ndim == 4 else values
        value = map_coordinates(first, volume.index(np.array([probe["lps"]])).T, order=0, mode="nearest")[0]
        if abs(value - probe["value"]) > probe["tol"]:
            return f"{probe['name']} is {value:.2f} where {probe['value']} is expected"
    return _facts_differ(want, facts, values)


def _corners_differ(want: dict[str, Any], volume: Any) -> str:
    """World positions of the eight corners, whatever the order of the array."""
    direction = np.array(want["direction_lps"]).reshape(3, 3)
    size = np.array(want["size"]) - 1
    unit = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T
    expected = (unit * size * want["spacing"]) @ direction.T + want["origin_lps"]
    got = volume.position(unit * (np.array(volume.values.shape[:3]) - 1))
    apart = np.linalg.norm(expected[:, None] - got[None], axis=2).min(axis=1).max()
    return f"corners are {apart:.3f} mm off" if apart > want.get("geometry_tol_mm", 0.01) else ""


def _facts_differ(want: dict[str, Any], facts: dict[str, Any], values: np.ndarray) -> str:
    """What the sidecar must say: SUV, times, velocity, diffusion."""
    if want.get("suv") == "must_be_refused" and facts["suv_bw_scale"] is not None:
        return "an SUV factor where none can be had"
    if "suvbw_scale" in want and abs((facts["suv_bw_scale"] or 0) / want["suvbw_scale"] - 1) > 1e-3:
        return f"SUV factor {facts['suv_bw_scale']} where {want['suvbw_scale']} is expected"
    if "n_times" in want and (values.shape[3:] != (want["n_times"],)
                              or not np.allclose(np.diff(facts["times_ms"]), want["dt_ms"])):
        return f"times {facts['times_ms']}"
    meta = want.get("meta", {})
    if "venc_cm_s" in meta and facts["venc_cm_s"] != meta["venc_cm_s"]:
        return f"velocity encoding {facts['venc_cm_s']}"
    if "bvalue" in meta and set(facts["b_values_s_per_mm2"]) != {meta["bvalue"]}:
        return f"b-values {facts['b_values_s_per_mm2']}"
    return ""
