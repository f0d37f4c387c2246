"""PET and MR of one patient laid on the CT (README)."""

import pytest

from pipeline.harmonise import HarmoniseConfig, HarmoniseInputs, harmonise
from pipeline.ingest import IngestConfig, IngestInputs, ingest, read_or_make_key
from pipeline.stage import read_record, run

pytestmark = pytest.mark.verify
FOLDERS = {"CT": "CT", "PT": "PET", "MR": "MR_T1"}


@pytest.fixture(scope="module")
def home(shared, tmp_path_factory):
    """A folder with the three images read, in one frame of reference."""
    folder = tmp_path_factory.mktemp("sarcoma")
    scans = shared / "scans/ibsi-sts-051/ibsi_validation/dicom/STS_051"
    read_or_make_key(folder / "key")
    for modality, name in FOLDERS.items():
        run(ingest, IngestInputs(scan=scans / name / "image", key=folder / "key"),
            IngestConfig(modality=(modality,), prefer_contrast=False), folder / modality)
    return folder


@pytest.mark.parametrize(("modality", "transform", "kind", "least"), [
    ("MR", "rigid", "identity", 0.95), ("PT", "rigid", "rigid", 0.95), ("PT", "deformable", "deformable", 0.95)])
def test_bodies_overlap(home, modality, transform, kind, least, capsys):
    there = home / f"{modality} {transform}"
    image, reference = home / modality, home / "CT"
    run(harmonise, HarmoniseInputs(volume=image / "volume.nii.gz", sidecar=image / "volume.json",
                                   reference=reference / "volume.nii.gz", reference_sidecar=reference / "volume.json"),
        HarmoniseConfig(transform=transform), there)
    told = read_record(there)["report"]
    with capsys.disabled():
        print(f"\n{modality} {transform}: {told}")
    assert told["transform"] == kind and told["quality"] == "ok"
    assert told["overlap"][1] >= least and told["overlap"][1] >= told["overlap"][0]
    assert told["dice"][1] >= 0.95
    assert told["mutual_information"][1] >= told["mutual_information"][0]
    assert 0 < told["error_mm"] < 5.0
