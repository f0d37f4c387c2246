"""Five synthetic patients that nobody tuned on: lumen, centreline, lesion against what they were made from (README)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from pytest import approx
from scipy.spatial import cKDTree

from pipeline import formats
from tests.scans import Traced, apart, dice, surface_of, traced

SEEDS = (101, 102, 103, 104, 105)

pytestmark = pytest.mark.verify


def maker(samples: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("seed_maker", samples / "make.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["seed_maker"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=SEEDS)
def patient(request: pytest.FixtureRequest, samples: Path,
            tmp_path_factory: pytest.TempPathFactory) -> tuple[Traced, Path]:
    """What was found in the scan of one seed, and the folder of its truth."""
    home, make = tmp_path_factory.mktemp(f"seed_{request.param}"), maker(samples)
    make.make(request.param, home / "scan", home / "truth", with_lesion=make.VERIFY_SEEDS[request.param])
    return traced(home / "scan", home), home / "truth"


def test_lumen(patient: tuple[Traced, Path]) -> None:
    found, truth = patient
    mask = formats.read_volume(found.labels.lumen).values < 0
    score = dice(mask, formats.read_volume(truth / "mask.nii.gz").values > 0)
    distance = apart(surface_of(found.surfaces.lumen), surface_of(truth / "surface.vtp"))
    print(f"Dice {score:.3f}, surfaces {distance:.3f} mm apart")
    assert score >= 0.93
    assert distance <= 0.4


def test_centrelines_and_names(patient: tuple[Traced, Path]) -> None:
    found, truth = patient
    told = formats.read_tree(truth / "centreline.vtp")
    points = np.vstack([b.points[np.isfinite(b.area)] for b in found.tree.branches])
    error = cKDTree(np.vstack([b.points for b in told.branches])).query(points)[0]
    print(f"{found.report['n_ends']} ends; centreline {error.mean():.2f} mm off, at most {error.max():.2f} mm")
    assert {b.name for b in found.tree.branches} == {b.name for b in told.branches}
    assert found.report["n_ends"] == 7
    assert found.report["side_verified"]
    assert error.mean() <= 0.5


def test_lesion(patient: tuple[Traced, Path]) -> None:
    found, truth = patient
    wanted = formats.read_json(truth / "truth.json")["lesion"]
    if wanted is None:
        assert found.lesions == []
        return
    [lesion] = found.lesions
    branch = found.tree.branches[lesion.branch]
    place = branch.points[int(np.argmin(np.abs(branch.abscissa - lesion.abscissa)))]
    print(f"minimal diameter {lesion.minimal_diameter:.2f} mm (truth {wanted['minimal_diameter']:.2f}), reference "
          f"{lesion.reference_diameter:.2f} ({wanted['reference_diameter']:.2f}), stenosis "
          f"{lesion.percent_diameter_stenosis:.1f} % ({wanted['percent_diameter_stenosis']:.1f})")
    assert lesion.branch_name == wanted["branch"]
    assert np.linalg.norm(place - wanted["position_lps"]) <= 3.0
    assert lesion.minimal_diameter == approx(wanted["minimal_diameter"], abs=0.3)
    assert lesion.reference_diameter == approx(wanted["reference_diameter"], abs=0.5)
    assert lesion.percent_diameter_stenosis == approx(wanted["percent_diameter_stenosis"], abs=5)
