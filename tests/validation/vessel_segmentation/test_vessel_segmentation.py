"""The automatic lumen against synthetic truth and against references of real scans (see README)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvista
import SimpleITK
from pytest import approx
from scipy import ndimage
from scipy.spatial import cKDTree

from pipeline import formats
from pipeline.segment import SegmentConfig, SegmentInputs, SegmentOutputs, segment
from pipeline.stage import run
from solvers.errors import BadInput
from solvers.geometry.volume import Volume
from solvers.library import anatomy
from tests.scans import Traced, dice, inside, traced, turned


def volume_of(image: Any) -> Volume:
    """A SimpleITK image (LPS) as a Volume."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return Volume(SimpleITK.GetArrayFromImage(image).T, affine)


def segmented(volume: Volume, home: Path) -> SegmentOutputs:
    formats.write_volume(home / "volume.nii.gz", volume)
    return run(segment, SegmentInputs(volume=home / "volume.nii.gz"), SegmentConfig(), home / "segment")


def at(field: Volume, points: np.ndarray) -> np.ndarray:
    return ndimage.map_coordinates(field.values, field.index(points).T, order=1, mode="nearest")


def diameter_across(field: Volume, centre: np.ndarray, along: np.ndarray) -> float:
    """Area-equivalent diameter of the lumen's section through `centre`, mm."""
    along = along / np.linalg.norm(along)
    u = np.cross(along, np.eye(3)[int(np.argmin(np.abs(along)))])
    u /= np.linalg.norm(u)
    w = np.cross(along, u)
    g = np.arange(-8, 8.01, 0.2)
    plane = (centre + g[:, None, None] * u + g[None, :, None] * w).reshape(-1, 3)
    labels, _ = ndimage.label(at(field, plane).reshape(len(g), len(g)) < 0)
    reach = np.hypot(*np.meshgrid(g, g, indexing="ij"))
    nearest = labels.ravel()[int(np.argmin(np.where(labels > 0, reach, np.inf)))]
    return float(np.sqrt(4 / np.pi * np.sum(labels == nearest) * 0.04))


def check_against_truth(out: SegmentOutputs, truth: Path) -> None:
    field, inner, outer = (formats.read_volume(p) for p in (out.lumen, out.inner, out.outer))
    score = dice(field.values < 0, formats.read_volume(truth / "mask.nii.gz").values > 0)
    points = np.asarray(formats.read_mesh(truth / "surface.vtp", "mm").points, float)
    index = field.index(points)
    points = points[np.all((index > 1) & (index < np.array(field.values.shape) - 2), axis=1)]
    error = np.abs(at(field, points))
    share = float(np.mean((at(inner, points) > 0) & (at(outer, points) < 0)))
    print(f"Dice {score:.3f}, mean distance {error.mean():.3f} mm, between the contours {share:.2f}")
    assert score >= 0.95
    assert error.mean() <= 0.2
    assert 0.5 <= share <= 0.95
    lesion = formats.read_json(truth / "truth.json")["lesion"]
    branch = next(b for b in formats.read_tree(truth / "centreline.vtp").branches if b.name == lesion["branch"])
    places = np.flatnonzero(np.abs(branch.abscissa - lesion["abscissa"]) < 5)
    found = min(diameter_across(field, branch.points[n], branch.tangent[n]) for n in places)
    print(f"narrowest {found:.2f} mm, truth {lesion['minimal_diameter']:.2f} mm")
    assert found == approx(lesion["minimal_diameter"], abs=0.3)


def test_sample_mra(samples: Path, tmp_path: Path) -> None:
    volume = formats.read_volume(next((samples / "aorta_mra").glob("*.nii.gz")))
    check_against_truth(segmented(volume, tmp_path), samples / "aorta_mra_truth")


@pytest.mark.verify
def test_sample_ct(samples: Path, tmp_path: Path) -> None:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(samples / "aorta_ct")))
    check_against_truth(segmented(volume_of(reader.Execute()), tmp_path), samples / "aorta_ct_truth")


@pytest.fixture(scope="module")
def mra(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """The real MRA from its file to centrelines, no other help."""
    return traced(shared / "scans" / "vmtk-aorta-mra" / "input" / "aorta.mha", tmp_path_factory.mktemp("mra"))


@pytest.mark.verify
def test_real_mra(mra: Traced, shared: Path) -> None:
    field, inner, outer = (formats.read_volume(p) for p in (mra.labels.lumen, mra.labels.inner, mra.labels.outer))
    surface = turned(pyvista.read(shared / "scans" / "vmtk-aorta-mra" / "input" / "aorta-surface.vtp"))
    reference = inside(surface, field)
    along = field.index(np.asarray(surface.points))[:, 1]
    between = slice(int(np.ceil(along.min())) + 4, int(along.max()) - 4)
    near = ndimage.distance_transform_edt(~reference, field.spacing) < 6
    score = dice(((field.values < 0) & near)[:, between], reference[:, between])
    points = np.asarray(surface.points)[(along > between.start) & (along < between.stop)]
    error = at(field, points)
    volumes = [float(np.sum((f.values < 0) & near, where=_slab(field, between))) for f in (inner, field, outer)]
    whole = float(reference[:, between].sum())
    print(f"Dice {score:.3f}, mean distance {np.abs(error).mean():.2f} mm, volume of the reference "
          f"{whole / volumes[1]:.3f} of ours, inner {volumes[0] / volumes[1]:.3f}, outer {volumes[2] / volumes[1]:.3f}")
    assert score >= 0.93
    assert np.abs(error).mean() <= 0.7
    assert volumes[0] < whole < volumes[2]


def _slab(field: Volume, between: slice) -> np.ndarray:
    inside = np.zeros(field.values.shape, bool)
    inside[:, between] = True
    return inside


@pytest.mark.verify
def test_real_mra_tree(mra: Traced, shared: Path) -> None:
    """The aorta with both renals and all iliacs, sides not told; its line against the reference's."""
    names = {b.name for b in mra.tree.branches}
    print(f"{mra.report['n_ends']} ends, {sorted(names)}, {mra.report['side_note']}")
    assert mra.report["n_ends"] - 1 >= 6
    assert mra.report["side_note"] == "side unverified"
    limbs = ("renal_artery", "iliac_artery", "external_iliac_artery", "internal_iliac_artery")
    assert names >= {"abdominal_aorta", *(f"{limb}_{side}" for limb in limbs for side in "ab")}
    found = np.vstack([b.points for b in mra.tree.branches])
    reference = turned(pyvista.read(shared / "scans" / "vmtk-aorta-mra" / "input" / "aorta-centerline.vtp"))
    error = cKDTree(found).query(np.asarray(reference.points))[0]
    print(f"centreline {error.mean():.2f} mm from the reference's, at most {error.max():.2f} mm")
    assert error.mean() <= 1.0
    assert mra.lesions == []


@pytest.mark.verify
def test_real_cta_with_stent_graft(shared: Path, tmp_path: Path) -> None:
    folder = shared / "scans" / "ts-aorta-cta" / "aorta_report" / "test_result" / "models"
    done = traced(folder / "ct_cropped.nii.gz", tmp_path)
    aorta = formats.read_volume(done.labels.aorta).values
    lumens = {"aorta": aorta > 0, "aorta_true_lumen": aorta == anatomy.structure("arterial_lumen").index,
              "aorta_false_lumen": aorta == anatomy.structure("false_lumen").index}
    score = {name: dice(mask, formats.read_volume(folder / f"{name}.nii.gz").values > 0)
             for name, mask in lumens.items()}
    print(f"Dice (tuned) {score}; {done.report['n_ends']} ends")
    assert score["aorta"] >= 0.88
    assert score["aorta_true_lumen"] >= 0.85
    assert score["aorta_false_lumen"] >= 0.80
    assert 2 <= done.report["n_ends"] <= 12


def test_native_ct_is_refused(shared: Path, tmp_path: Path) -> None:
    volume = formats.read_volume(shared / "scans" / "ts-abdomen-ct" / "example_ct_sm.nii.gz")
    with pytest.raises(BadInput) as error:
        segmented(volume, tmp_path)
    assert error.value.code == "no_contrast_vessel"
