"""The synthetic patients: the same from the same seed, and their truth agrees with itself."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pipeline import formats
from sample_scans import diffusion, make, pet_ct


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    path = Path(__file__).parents[2] / "sample_scans" / "make.py"
    spec = importlib.util.spec_from_file_location("sample_maker", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["sample_maker"] = module
    spec.loader.exec_module(module)
    return module


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_seed_gives_the_same_bytes(maker: ModuleType, tmp_path: Path) -> None:
    for name in ("a", "b"):
        maker.make(7, tmp_path / name / "scan", tmp_path / name / "truth", size="small")
    first, second = files(tmp_path / "a"), files(tmp_path / "b")
    assert {n for n in first if not n.endswith(".vtp")} == {n for n in second if not n.endswith(".vtp")}
    assert [n for n in first if first[n] != second[n]] == []
    maker.make(8, tmp_path / "c" / "scan", tmp_path / "c" / "truth", size="small")
    assert files(tmp_path / "c")["truth/mask.nii.gz"] != first["truth/mask.nii.gz"]


@pytest.mark.parametrize(("name", "module", "seed"), [("trunk_pet_ct", pet_ct, make.PET_SEED),
                                                      ("brain_dwi", diffusion, make.DIFFUSION_SEED)])
def test_the_images_that_travel_are_what_their_makers_make(
        samples: Path, tmp_path: Path, name: str, module: ModuleType, seed: int) -> None:
    module.make(seed, tmp_path / name, tmp_path / f"{name}_truth")
    for folder in (name, f"{name}_truth"):
        assert files(tmp_path / folder) == files(samples / folder)


@pytest.mark.parametrize("name", ["aorta_ct", "aorta_mra"])
def test_the_truth_agrees_with_itself(samples: Path, name: str) -> None:
    folder = samples / f"{name}_truth"
    truth = formats.read_json(folder / "truth.json")
    mask = formats.read_volume(folder / "mask.nii.gz")
    surface = formats.read_mesh(folder / "surface.vtp", "mm")
    volume = np.count_nonzero(mask.values) * mask.voxel_volume / 1000
    assert volume == pytest.approx(truth["lumen_volume_ml"], rel=0.01)
    assert surface.volume / 1000 == pytest.approx(truth["lumen_volume_ml"], rel=0.01)
    assert surface.is_manifold
    corners = np.asarray(surface.points, float)[surface.regular_faces]
    parts = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    centroid = (corners.sum(axis=1) / 4 * parts[:, None]).sum(axis=0) / parts.sum()
    assert centroid == pytest.approx(mask.position(np.argwhere(mask.values > 0)).mean(axis=0), abs=0.2)


def test_the_lesion_is_what_it_says(samples: Path) -> None:
    lesion = formats.read_json(samples / "aorta_ct_truth" / "truth.json")["lesion"]
    tree = formats.read_tree(samples / "aorta_ct_truth" / "centreline.vtp")
    branch = next(b for b in tree.branches if b.name == lesion["branch"])
    assert np.min(branch.area) == pytest.approx(lesion["minimal_area"], rel=0.02)
    assert lesion["percent_diameter_stenosis"] == pytest.approx(60, abs=0.1)
    surface = formats.read_mesh(samples / "aorta_ct_truth" / "surface.vtp", "mm")
    nearest = np.linalg.norm(np.asarray(surface.points) - lesion["position_lps"], axis=1).min()
    assert nearest == pytest.approx(lesion["minimal_diameter"] / 2, abs=0.15)


def test_the_verify_seeds_are_others(maker: ModuleType) -> None:
    assert not set(maker.VERIFY_SEEDS) & set(maker.SAMPLE_SEEDS.values())
    assert sorted(maker.VERIFY_SEEDS.values()) == [False, True, True, True, True]
