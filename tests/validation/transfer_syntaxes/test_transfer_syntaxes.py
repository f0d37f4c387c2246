"""One image in nine files and seven transfer syntaxes is one array."""

import nibabel
import numpy as np

from pipeline.ingest import codecs, header

KEY = b"a key for tests, nobody's secret"


def test_nine_files_are_one_array(shared):
    folder = shared / "scans" / "dicom-transfer-syntaxes"
    arrays = []
    for number in range(1, 10):
        path = folder / "In" / f"{number}.dcm"
        head = header.describe(path, KEY)
        assert head["problem"] is None
        arrays.append(codecs.frames(path, head))
    assert all(np.array_equal(a, arrays[0]) for a in arrays)
    truth = np.asarray(nibabel.load(folder / "Ref" / "1.nii").dataobj)
    assert np.array_equal(np.sort(arrays[0][arrays[0] > 0]), np.sort(truth[truth > 0].astype(int)))
