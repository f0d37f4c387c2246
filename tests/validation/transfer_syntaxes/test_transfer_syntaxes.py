"""One image in nine files and seven transfer syntaxes is one array; one volume in six syntaxes is one volume."""

import json

import nibabel
import numpy as np
import pytest

from pipeline import formats
from pipeline.ingest import codecs, header, ingest_all

KEY = b"a key for tests, nobody's secret"


def test_nine_files_are_one_array(shared):
    folder = shared / "scans" / "dicom-transfer-syntaxes"
    arrays = []
    for number in range(1, 10):
        path = folder / "In" / f"{number}.dcm"
        head = header.describe(path, KEY)
        assert head["problem"] is None
        arrays.append(codecs.frames(path, head)[0])
    assert all(np.array_equal(a, arrays[0]) for a in arrays)
    truth = np.asarray(nibabel.load(folder / "Ref" / "1.nii").dataobj)
    assert np.array_equal(np.sort(arrays[0][arrays[0] > 0]), np.sort(truth[truth > 0].astype(int)))


@pytest.mark.verify
@pytest.mark.parametrize("folder", ["generic/compressed", "generic/compressed_rle", "generic/compressed_jpeg",
                                    "generic/compressed_jpegls", "generic/compressed_j2k", "hitachi/anatomical",
                                    "philips_enhanced/anatomical", "siemens_multiframe/anatomical"])
def test_real_cut_outs_agree_with_their_nifti(shared, tmp_path, folder):
    """Corners within 1e-3 mm or what single precision keeps, values exactly, against the set's own NIfTI."""
    outcomes = ingest_all(shared / "scans" / "dicom-edge-d2n" / folder, tmp_path, KEY)
    read = {json.loads(o.sidecar.read_text())["format"]: formats.read_volume(o.volume) for o in outcomes if o.volume}
    ours, truth = read["dicom"], read["nifti"]
    size = np.array(ours.values.shape)
    assert sorted(size) == sorted(truth.values.shape)
    grid = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T
    corners, others = (v.position(grid * (np.array(v.values.shape) - 1)) for v in (ours, truth))
    apart = np.linalg.norm(corners[:, None] - others[None], axis=2).min(axis=1)
    assert apart.max() < 2e-3
    voxels = np.random.default_rng(0).integers(0, size, (4000, 3))
    there = np.rint(truth.index(ours.position(voxels))).astype(int)
    np.testing.assert_allclose(ours.values[tuple(voxels.T)], truth.values[tuple(there.T)], rtol=2e-6, atol=1e-4)
