"""The 72 hard scan folders: none silently wrong, and at least as many right as were reached."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import judge  # noqa: E402

FAST = ["geo_missing_every_other_tail", "mf_enhanced_mr_shuffled", "codec_j2k_sign_mismatch", "pt_dose_mbq",
        "file_truncated_middle", "sec_j2k_bomb", "sec_fifo"]
REACHED = 72


def verdicts(shared: Path, scratch: Path, names: list[str] | None) -> list[judge.Verdict]:
    folder = shared / "scans" / "hard_inputs"
    chosen = [c for c in judge.cases(folder) if names is None or c["name"] in names]
    results = []
    for case in chosen:
        (scratch / case["name"]).mkdir()
        results.append(judge.judge(case, folder, scratch / case["name"]))
    return results


def report(results: list[judge.Verdict]) -> str:
    return "\n".join(f"{v.name}: {v.why}" for v in results if not v.right)


def test_a_few_of_each_family(shared, tmp_path):
    results = verdicts(shared, tmp_path, FAST)
    assert len(results) == len(FAST)
    assert all(v.right for v in results), report(results)


@pytest.mark.verify
def test_all_cases(shared, tmp_path):
    results = verdicts(shared, tmp_path, None)
    print(f"{sum(v.right for v in results)} of {len(results)} right\n{report(results)}")
    assert not [v for v in results if v.silent], report(results)
    assert sum(v.right for v in results) >= REACHED, report(results)


def test_the_judge_can_say_no(shared, tmp_path):
    """A probe elsewhere, another value, a refusal wanted: each is a silent fault."""
    folder = shared / "scans" / "hard_inputs"
    case = next(c for c in judge.cases(folder) if c["name"] == "ctl_nifti")
    volume = case["volumes"][0]
    moved = dict(case, volumes=[dict(volume, origin_lps=[x + 0.5 for x in volume["origin_lps"]])])
    other = dict(case, volumes=[dict(volume, probes=[dict(volume["probes"][0], value=99.0)])])
    outcomes = judge.ingest_all(folder / case["path"], tmp_path, judge.KEY)
    assert judge.verdict(case, outcomes, tmp_path).right
    for changed in (moved, other, dict(case, outcome="refuse")):
        assert judge.verdict(changed, outcomes, tmp_path).silent
