"""Real scans as they lie in the shared folder: read with the right modality, frame and values."""

import json

import pytest

from pipeline import formats
from pipeline.ingest import Outcome, ingest_all

KEY = b"a key for tests, nobody's secret"

pytestmark = pytest.mark.verify


def one(outcomes: list[Outcome]) -> tuple[formats.Volume, dict]:
    """The only volume of a scan and its sidecar."""
    done, = [o for o in outcomes if o.volume]
    return formats.read_volume(done.volume), json.loads(done.sidecar.read_text())


def test_a_metaimage_is_read_but_its_sides_are_not_believed(shared, tmp_path):
    volume, facts = one(ingest_all(shared / "scans" / "vmtk-aorta-mra" / "input" / "aorta.mha", tmp_path, KEY))
    assert volume.values.shape == (157, 393, 34)
    assert facts["modality"] == "MR" and facts["modality_inferred"] and not facts["anatomical"]


def test_overlapping_jpeg2000_ct_without_any_patient(shared, tmp_path):
    volume, facts = one(ingest_all(shared / "scans" / "ts-abdomen-ct" / "example_ct_dicom", tmp_path, KEY))
    assert volume.values.shape == (512, 512, 20)
    assert facts["modality"] == "CT" and facts["has_contrast"] and facts["anatomical"]


def test_pet_has_the_published_suv_maximum(shared, tmp_path):
    """QIN head and neck FDG PET: body-weight SUV maximum 19.51."""
    volume, facts = one(ingest_all(shared / "scans" / "pet-wb-qin", tmp_path, KEY))
    assert volume.values.max() * facts["suv_bw_scale"] == pytest.approx(19.51, rel=1e-3)
