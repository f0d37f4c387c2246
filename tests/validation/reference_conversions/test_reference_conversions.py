"""Real series against the conversions published beside them: places, values, diffusion, corrections."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy.ndimage import map_coordinates

from pipeline import formats
from pipeline.ingest import Options, Outcome, ingest_all
from solvers.geometry.volume import Volume
from tests import scans

KEY = b"a key for tests, nobody's secret"
UNIT = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T
AGREE = ["generic/anatomical/001", "generic/anatomical/002_non_isotropic",
         "generic/compressed/001", "generic/compressed_rle/001", "generic/compressed_jpeg/001",
         "generic/compressed_jpegls/001", "generic/compressed_j2k/001", "hitachi/anatomical/001",
         "hyperfine/anatomical/001", "philips_enhanced/anatomical/001", "siemens_multiframe/anatomical/001",
         "ge/dti/001", "siemens/dti_classic/001", "failing/slicecount/001"]
REFUSED = {"generic/rgb/001": "not_a_volume", "failing/notavolume/001": "duplicate_positions",
           "failing/sliceorientation/001": "mixed_orientation", "failing/sliceincrement/001": "missing_slice",
           "failing/sliceincrement/002": "missing_slice"}


@dataclass(frozen=True)
class Read:
    """A volume that came out, with its sidecar and path."""

    volume: Volume
    facts: dict
    path: Path


def read(scan: Path, out: Path, **options: object) -> list[Read]:
    done: list[Outcome] = [o for o in ingest_all(scan, out, KEY, Options(**options)) if o.volume]
    return [Read(formats.read_volume(o.volume), json.loads(o.sidecar.read_text()), o.volume) for o in done]


def truth_of(case: Path) -> Path:
    name = "001_ground_truth" if case.name.startswith("001") else f"{case.name}_ground_truth"
    return case.parent / f"{name}.nii.gz"


def assert_same_place(ours: Volume, truth: Volume, tolerance: float) -> None:
    corners, others = (v.position(UNIT * (np.array(v.values.shape[:3]) - 1)) for v in (ours, truth))
    apart = np.linalg.norm(corners[:, None] - others[None], axis=2)
    assert apart.min(axis=1).max() < tolerance and apart.min(axis=0).max() < tolerance


def assert_same_values(ours: Volume, truth: Volume) -> None:
    """Every voxel of ours holds the value of the voxel of the truth at its place."""
    grid = np.array(np.meshgrid(*(np.arange(n) for n in ours.values.shape[:3]), indexing="ij")).reshape(3, -1).T
    there = np.rint(truth.index(ours.position(grid))).astype(int)
    mine = np.asarray(ours.values).reshape(len(grid), -1)
    other = np.asarray(truth.values)[tuple(there.T)].reshape(len(grid), -1)
    if mine.dtype.kind == other.dtype.kind == "i":
        np.testing.assert_array_equal(mine, other)
    else:
        np.testing.assert_allclose(mine, other, rtol=2e-6, atol=1e-5)


def tolerance_of(truth: Volume) -> float:
    """1e-3 mm, and what single precision keeps of the farthest coordinate of the reference's header."""
    far = np.abs(truth.position(UNIT * (np.array(truth.values.shape[:3]) - 1))).max()
    return 1e-3 + 4 * float(np.spacing(np.float32(far)))


@pytest.mark.parametrize("case", AGREE)
def test_a_cut_out_agrees_with_its_nifti(shared, tmp_path, case):
    folder = shared / "scans" / "dicom-edge-d2n" / case
    one, = read(folder, tmp_path)
    truth = formats.read_volume(truth_of(folder))
    assert_same_place(one.volume, truth, tolerance_of(truth))
    assert_same_values(one.volume, truth)


def test_frames_of_a_diffusion_file_are_told_apart(shared, tmp_path):
    """See README: of this reference only the last direction's values survived, in its first volume."""
    folder = shared / "scans" / "dicom-edge-d2n" / "philips_enhanced" / "dti" / "001"
    one, = read(folder, tmp_path)
    truth = formats.read_volume(truth_of(folder))
    assert_same_place(one.volume, truth, tolerance_of(truth))
    assert one.volume.values.shape == truth.values.shape and not truth.values[..., 1:].any()
    assert_same_values(one.volume.but(one.volume.values[..., 3]), truth.but(truth.values[..., 0]))


@pytest.mark.parametrize("case", REFUSED)
def test_a_failing_series_is_refused_by_its_reason(shared, tmp_path, case):
    outcome, = ingest_all(shared / "scans" / "dicom-edge-d2n" / case, tmp_path, KEY)
    assert outcome.volume is None and outcome.refusal.code == REFUSED[case]
    assert outcome.refusal.hint


def in_patient(directions: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """FSL's directions (3, n) along the axes of an image as LPS (n, 3); affine: LPS."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    turned = directions * ([[-1.0], [1], [1]] if np.linalg.det(axes) > 0 else 1)
    return (axes @ turned).T


def assert_same_diffusion(one: Read, reference: Path, truth: Volume) -> None:
    """b-values and directions of our .bval and .bvec and the reference's, in the patient's frame up to their sign."""
    beside = str(one.path).removesuffix(".nii.gz")
    np.testing.assert_allclose(np.loadtxt(f"{beside}.bval"), np.loadtxt(f"{reference}.bval"), rtol=1e-5)
    ours = in_patient(np.loadtxt(f"{beside}.bvec"), one.volume.affine)
    theirs = in_patient(np.loadtxt(f"{reference}.bvec"), truth.affine)
    assert len(np.unique(np.round(theirs, 3), axis=0)) > 10
    np.testing.assert_allclose(ours * np.sign((ours * theirs).sum(axis=1))[:, None], theirs, atol=1e-4)
    np.testing.assert_allclose(ours, np.array(one.facts["gradients_lps"]), atol=1e-5)


SAID = {"ge/dti/001": [[0, 0, 0], [-1, 0, 0]],
        "siemens/dti_classic/001": [[0, 0, 0], [0.82560241, -0.38902134, -0.40870896]],
        "philips_enhanced/dti/001": [[0, 0, 0], [1, 0, 0], [0, -1, 0], [-0.02599947, -0.64918679, 0.76018453]]}
"""Directions in the patient's frame as the scanners' elements have them (GE: axial, first component turned)."""


@pytest.mark.parametrize("case", SAID)
def test_b_values_and_directions(shared, tmp_path, case):
    """See README: these references keep FSL's rule of handedness in some files only, so sizes are compared."""
    folder = shared / "scans" / "dicom-edge-d2n" / case
    one, = read(folder, tmp_path)
    np.testing.assert_allclose(one.facts["gradients_lps"], SAID[case], atol=1e-5)
    beside = str(one.path).removesuffix(".nii.gz")
    reference = folder.parent / "001_ground_truth"
    np.testing.assert_array_equal(np.loadtxt(f"{beside}.bval"), np.loadtxt(f"{reference}.bval"))
    ours, theirs = np.loadtxt(f"{beside}.bvec"), np.loadtxt(f"{reference}.bvec")
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=5e-4)
    np.testing.assert_allclose(in_patient(ours, one.volume.affine), one.facts["gradients_lps"], atol=1e-5)


def test_a_diffusion_series_in_mosaics(shared, tmp_path):
    folder = shared / "scans" / "dti-uih"
    one, = read(folder / "In", tmp_path)
    reference = next((folder / "Ref").glob("*.bval")).with_suffix("")
    truth = formats.read_volume(reference.with_suffix(".nii"))
    assert_same_place(one.volume, truth, tolerance_of(truth))
    assert_same_values(one.volume, truth)
    assert_same_diffusion(one, reference, truth)


def test_a_siemens_mosaic(shared, tmp_path):
    folder = shared / "scans" / "dicom-transfer-syntaxes"
    one, = read(folder / "In" / "1.dcm", tmp_path)
    truth = formats.read_volume(folder / "Ref" / "1.nii")
    assert_same_place(one.volume, truth, tolerance_of(truth))
    assert_same_values(one.volume, truth)


def test_tiles_lie_where_the_protocol_puts_them(shared, tmp_path):
    """See README: the reference orders the tiles as we do, and puts the lowest where the highest is."""
    folder = shared / "scans" / "dicom-edge-d2n" / "siemens" / "fmri"
    one, = read(folder / "001", tmp_path)
    truth = formats.read_volume(folder / "001_ground_truth.nii.gz")
    np.testing.assert_array_equal(one.volume.values, truth.values)
    np.testing.assert_allclose(one.volume.affine[:3, :3], truth.affine[:3, :3], atol=1e-4)
    ends = one.volume.position(np.array([[40, 40, 0], [40, 40, 49]]))
    np.testing.assert_allclose(ends[:, 2], [-59.854, 88.392], atol=0.1)
    np.testing.assert_allclose(one.volume.position(np.array([[0, 0, 49]])), truth.position(np.array([[0, 0, 0]])),
                               atol=0.01)


def test_a_missing_slice_is_filled_only_when_asked(shared, tmp_path):
    folder = shared / "scans" / "dicom-edge-d2n" / "failing" / "sliceincrement"
    one, = read(folder / "002", tmp_path, accept=("missing_slice",))
    truth = formats.read_volume(folder / "002_ground_truth.nii.gz")
    assert one.volume.values.shape[2] == truth.values.shape[2] == 5 and one.facts["resampled"]
    assert any("missing" in w and "overruled" in w for w in one.facts["warnings"])


def assert_pixels_stand_where_they_were(one: Read, scan: Path) -> None:
    """Points of the upright volume hold what the slices around them hold at those points, by their headers.

    scan: slices in one orientation. Checked where all of a point's neighbours are there.
    """
    assert one.facts["resampled"] and any("tilted by" in w for w in one.facts["warnings"])
    axes = one.volume.affine[:3, :3] / one.volume.spacing
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    slices = sorted((pydicom.dcmread(p) for p in scan.iterdir()), key=lambda d: float(d.ImagePositionPatient[2]))
    starts = np.array([d.ImagePositionPatient for d in slices], float)
    row, column = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    heights = starts @ np.cross(row, column)
    pixels = [d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices]
    rng = np.random.default_rng(3)
    size = np.array(one.volume.values.shape)
    for index in rng.integers(0, size, (400, 3)):
        place = one.volume.position(index[None])[0]
        height = float(place @ np.cross(row, column))
        above = min(int(np.searchsorted(heights, height - 1e-4)), len(slices) - 1)
        below = above if abs(heights[above] - height) < 1e-3 else above - 1
        weight = 0.0 if above == below else (height - heights[below]) / (heights[above] - heights[below])
        at = [((place - starts[k]) @ [column, row][axis]) / float(slices[k].PixelSpacing[axis])
              for k in (below, above) for axis in (0, 1)]
        if min(at) < 0 or max(at) > 511:
            continue
        low, high = (map_coordinates(pixels[k], np.array(a).reshape(2, 1), order=1, mode="nearest")[0]
                     for k, a in ((below, at[:2]), (above, at[2:])))
        wanted = (1 - weight) * low + weight * high
        assert abs(one.volume.values[tuple(index)] - wanted) < 1.5 + 0.01 * abs(high - low)


def test_gantry_tilt_is_resampled(shared, tmp_path):
    scan = shared / "scans" / "dicom-edge-d2n" / "failing" / "gantrytilting" / "001"
    one, = read(scan, tmp_path)
    assert_pixels_stand_where_they_were(one, scan)


def test_tilt_and_three_slice_spacings_are_resampled(shared, tmp_path):
    scan = shared / "scans" / "ct-head-tilt-ge" / "GE"
    one, = read(scan, tmp_path)
    assert_pixels_stand_where_they_were(one, scan)
    assert one.facts["spacing_mm"][2] == pytest.approx(4.0, abs=0.1)
    assert any("slice spacing differs (1.08 to 7.00 mm)" in w for w in one.facts["warnings"])


# Regions

MODALITIES = {"CT": "CT", "PET": "PT", "MR_T1": "MR"}


@pytest.mark.parametrize("name", MODALITIES)
def test_contours_become_the_reference_mask(shared, tmp_path, name):
    """Dice of our mask and the reference's, on the image's grid, and the image itself untouched."""
    root = shared / "scans" / "ibsi-sts-051" / "ibsi_validation"
    found = {one.facts["modality"]: one for one in read(root / "dicom" / "STS_051" / name, tmp_path)}
    image, mask = found[MODALITIES[name]], found["RTSTRUCT"]
    truth = formats.read_volume(root / "nifti" / "STS_051" / f"{name}_mask.nii.gz")
    assert_same_place(mask.volume, truth, 5e-3)
    np.testing.assert_allclose(mask.volume.affine, image.volume.affine, atol=1e-6)
    assert scans.dice(np.asarray(mask.volume.values) > 0, np.asarray(truth.values) > 0) >= 0.99
    assert mask.facts["region"].startswith("gtv_mass") and mask.facts["drawn_on"] == image.path.name[:-7]
    original = formats.read_volume(root / "nifti" / "STS_051" / f"{name}_image.nii.gz")
    np.testing.assert_allclose(image.volume.values, original.values, rtol=2e-6, atol=1e-4)
    if name == "PET":
        assert image.facts["suv_bw_scale"] == 1.0 and image.facts["units"] == "g/mL"


@pytest.mark.verify
def test_pet_with_a_segmentation(shared, tmp_path):
    """Published body-weight SUV maximum; each segment on the PET's grid as pydicom decodes its frames."""
    found = read(shared / "scans" / "pet-wb-qin", tmp_path)
    pet, = (one for one in found if one.facts["modality"] == "PT")
    assert pet.volume.values.max() * pet.facts["suv_bw_scale"] == pytest.approx(19.51, rel=1e-3)
    data = pydicom.dcmread(next((shared / "scans" / "pet-wb-qin").rglob("SEG/**/*.dcm")))
    masks = {one.facts["region_number"]: one for one in found if one.facts["modality"] == "SEG"}
    assert len(masks) == len(data.SegmentSequence) == 2
    for number, one in masks.items():
        np.testing.assert_allclose(one.volume.affine, pet.volume.affine, atol=1e-6)
        frames = [(f, p) for f, p in zip(data.PerFrameFunctionalGroupsSequence, data.pixel_array, strict=True)
                  if f.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number]
        assert np.count_nonzero(one.volume.values) == sum(int(p.sum()) for _, p in frames) > 0
        for frame, pixels in frames:
            at = one.volume.index(np.array([frame.PlanePositionSequence[0].ImagePositionPatient], float))[0]
            np.testing.assert_array_equal(one.volume.values[:, :, round(at[2])], pixels.T)
    suv = np.asarray(pet.volume.values)[np.asarray(masks[1].volume.values) > 0] * pet.facts["suv_bw_scale"]
    assert suv.mean() > 2
