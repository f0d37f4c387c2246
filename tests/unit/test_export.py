"""What leaves for other programs, read again by programs that are not ours: the same voxels, places and numbers."""

from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pipeline import formats, uids
from pipeline.export import ExportConfig, ExportInputs, ExportOutputs, export
from pipeline.ingest import IngestConfig, IngestInputs, IngestOutputs, ingest, read_all
from pipeline.stage import read_record, run
from pipeline.table import Row, write_rows
from solvers.errors import BadInput
from solvers.geometry.volume import Volume
from solvers.library import anatomy
from tests.drawn_labels import NAMES, drawn, mask, voxels, write

KEY = "11" * 32
LESION = Row(stage="trace_centrelines", region="iliac_artery_left", lesion="L1", statistic="min")
ROWS = [LESION.but(measure="minimal_diameter", value=3.9, unit="mm", low=3.5, high=4.2, level=0.683),
        LESION.but(measure="percent_diameter_stenosis", value=60.7, unit="%", statistic="max"),
        LESION.but(measure="pressure_drop", value=4.68, unit="mmHg", statistic="mean"),
        LESION.but(measure="tawss", value=2.0, unit="Pa", statistic="mean", quality="not_resolved"),
        LESION.but(measure="minimal_area", value=None, unit="mm^2"),
        LESION.but(measure="volume", region="kidney_left", lesion="", value=1.0, unit="mL")]


@dataclass(frozen=True)
class Made:
    scan: Path
    image: IngestOutputs
    labels: Volume
    files: ExportOutputs
    report: dict

    def mask(self, name: str) -> np.ndarray:
        return mask(self.labels, name)

    @property
    def seg(self) -> highdicom.seg.Segmentation:
        return highdicom.seg.segread(self.files.segmentation)

    @property
    def sr(self) -> highdicom.sr.ComprehensiveSR:
        return highdicom.sr.srread(self.files.report)


def exported(home: Path, image: IngestOutputs, scan: Path, labels: Volume) -> Made:
    write(home / "given", labels)
    write_rows(home / "given/rows.csv", ROWS)
    files = run(export, ExportInputs(volume=image.volume, sidecar=image.sidecar, labels=home / "given/labels.nii.gz",
                                     table=home / "given/labels.tsv", measurements=home / "given/rows.csv"),
                ExportConfig(subject="sub-07"), home / "export")
    return Made(scan, image, labels, files, read_record(home / "export")["report"])


@pytest.fixture(scope="module")
def made(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    home = tmp_path_factory.mktemp("export")
    (home / "key").write_text(KEY)
    scan = samples / "aorta_ct"
    image = run(ingest, IngestInputs(scan=scan, key=home / "key"), IngestConfig(), home / "ingest")
    volume = formats.read_volume(image.volume)
    return exported(home, image, scan, drawn(volume.affine, volume.values.shape))


@pytest.fixture(scope="module")
def oblique(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A left-handed, turned, anisotropic grid of a NIfTI: no DICOM behind it."""
    home = tmp_path_factory.mktemp("oblique")
    turn = np.linalg.qr(np.array([[0.9, 0.3, -0.2], [-0.1, 0.8, 0.5], [0.3, -0.4, 0.9]]))[0]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [0.7, 0.9, -2.3], [-123.456789, 45.6, 1234.5]
    grey = np.random.default_rng(2).integers(-200, 900, (24, 30, 18)).astype(np.int16)
    (home / "scan").mkdir()
    formats.write_volume(home / "scan/grey.nii.gz", Volume(grey, affine))
    image = run(ingest, IngestInputs(scan=home / "scan/grey.nii.gz"),
                IngestConfig(modality=("CT", "MR")), home / "ingest")
    volume = formats.read_volume(image.volume)
    return exported(home, image, home / "scan", drawn(volume.affine, volume.values.shape))


@pytest.mark.parametrize("which", ["made", "oblique"])
def test_highdicom_finds_every_voxel_of_the_segmentation_where_it_was(which: str,
                                                                      request: pytest.FixtureRequest) -> None:
    one = request.getfixturevalue(which)
    seg = one.seg
    assert [s.SegmentLabel for s in seg.SegmentSequence] == [anatomy.structure(n).display for n in NAMES]
    for number, name in enumerate(NAMES, start=1):
        volume = seg.get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
        ours = voxels(one.mask(name), one.labels.affine)
        theirs = voxels(volume.array, volume.affine)
        assert len(ours) == len(theirs) > 0
        np.testing.assert_allclose(theirs, ours, atol=1e-3)


def test_each_frame_cites_the_hashed_image_that_lies_there(made: Made) -> None:
    """The cited UID follows from key and original UID, and the original lies where the frame lies."""
    from pipeline.ingest.header import keyed

    heads = [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted(made.scan.rglob("*.dcm"))]
    place = {uids.of("image", keyed(bytes.fromhex(KEY), h.SOPInstanceUID)[:16]): h.ImagePositionPatient for h in heads}
    assert made.report["is_cited"]
    cited = [frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
             for frame in made.seg.PerFrameFunctionalGroupsSequence]
    assert set(cited) <= set(place) and len(set(cited)) > 50
    for uid, frame in zip(cited, made.seg.PerFrameFunctionalGroupsSequence, strict=True):
        np.testing.assert_allclose(frame.PlanePositionSequence[0].ImagePositionPatient, place[uid], atol=1e-3)


def test_masks_by_cited_image_are_the_labels(made: Made) -> None:
    ids = formats.read_json(made.image.sidecar)["slice_ids"]
    frames = made.seg.get_pixels_by_source_instance(
        [uids.of("image", one) for one in ids], assert_missing_frames_are_empty=True, ignore_spatial_locations=False)
    for number, name in enumerate(NAMES):
        np.testing.assert_array_equal(frames[..., number].transpose(2, 1, 0), made.mask(name))


def test_segments_are_coded(made: Made) -> None:
    lumen, kidney, calcium = made.seg.SegmentSequence
    assert lumen.SegmentedPropertyTypeCodeSequence[0].CodeValue == "51114001"
    assert lumen.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    assert calcium.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    side = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert (side.CodeValue, side.CodeMeaning) == ("7771000", "Left")


def test_volumes_are_in_the_report_beside_their_segment(made: Made) -> None:
    groups = made.sr.content.get_volumetric_roi_measurement_groups()
    assert [g.tracking_identifier for g in groups] == list(NAMES)
    for number, (name, group) in enumerate(zip(NAMES, groups, strict=True), start=1):
        segment = group.referenced_segment
        assert segment.referenced_sop_instance_uid == made.seg.SOPInstanceUID
        assert segment.referenced_segment_numbers == [number]
        volume = group.get_measurements(codes.SCT.Volume)[0]
        assert volume.value == pytest.approx(made.mask(name).sum() * made.labels.voxel_volume / 1000, rel=1e-6)
        assert volume.unit.value == "mL"


def test_lesions_are_in_the_report_with_units(made: Made) -> None:
    group, = made.sr.content.get_image_measurement_groups()
    assert (group.tracking_identifier, group.finding_type) == ("L1", codes.SCT.Stenosis)
    site, = group.finding_sites
    assert (site.value.value, site.laterality.value) == ("73634005", "7771000")
    found = {(m.name.value, m.derivation.value): (float(m.value), m.unit.value) for m in group.get_measurements()}
    assert found == {("397413000", "255605001"): (3.9, "mm"), ("408715008", "56851009"): (60.7, "%"),
                     ("pressure_drop", "373098007"): (4.68, "mm[Hg]")}
    assert group.get_measurements(Code("pressure_drop", "99ANATWIN", "pressure drop"))
    assert (made.report["n_measurements"], made.report["n_left_out"]) == (3, 2)


def test_nothing_of_the_patient_is_in_any_file(made: Made) -> None:
    head = pydicom.dcmread(next(made.scan.rglob("*.dcm")), stop_before_pixels=True)
    words = [str(head.get(t)) for t in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID",
                                        "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID") if head.get(t)]
    assert len(words) > 4
    for path in made.files.paths().values():
        content = path.read_bytes()
        assert not [w for w in words if w.encode() in content]
    for name in ("segmentation", "report"):
        data = pydicom.dcmread(made.files.paths()[name])
        assert (data.PatientID, data.PatientIdentityRemoved, data.StudyDate) == ("sub-07", "YES", "")


@pytest.mark.parametrize("which", ["made", "oblique"])
def test_simpleitk_reads_the_same_labels_from_seg_nrrd(which: str, request: pytest.FixtureRequest) -> None:
    one = request.getfixturevalue(which)
    image = SimpleITK.ReadImage(str(one.files.labels))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), one.labels.values)
    for index in ((0, 0, 0), (5, 0, 0), (0, 7, 0), (3, 4, 9)):
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index),
                                   one.labels.position(np.array([index]))[0], atol=1e-4)
    for n, name in enumerate(NAMES):
        assert image.GetMetaData(f"Segment{n}_Name") == anatomy.structure(name).display
        assert image.GetMetaData(f"Segment{n}_LabelValue") == str(anatomy.structure(name).index)
        extent = np.array(image.GetMetaData(f"Segment{n}_Extent").split(), int).reshape(3, 2)
        inside = one.labels.values[tuple(slice(a, b + 1) for a, b in extent)] == anatomy.structure(name).index
        assert inside.sum() == one.mask(name).sum() and inside.any((1, 2))[[0, -1]].all()


def test_a_volume_without_dicom_cites_nothing(oblique: Made) -> None:
    assert not oblique.report["is_cited"]
    assert "ReferencedSeriesSequence" not in oblique.seg
    assert all(not f.DerivationImageSequence for f in oblique.seg.PerFrameFunctionalGroupsSequence)
    assert oblique.sr.content.get_volumetric_roi_measurement_groups() == []
    assert len(oblique.sr.content.get_image_measurement_groups()) == len(NAMES) + 1


def test_our_own_reader_takes_the_segmentation_back(made: Made, tmp_path: Path) -> None:
    done = read_all(made.files.segmentation, tmp_path, bytes.fromhex(KEY))
    masks = [formats.read_volume(o.volume) for o in done.outcomes if o.volume is not None]
    assert len(masks) == len(NAMES)
    ours = sorted(int(made.mask(n).sum()) for n in NAMES)
    assert sorted(int(m.values.sum()) for m in masks) == ours
    for name in NAMES:
        want = voxels(made.mask(name), made.labels.affine)
        assert any(len(got) == len(want) and np.allclose(got, want, atol=1e-3)
                   for got in (voxels(m.values, m.affine) for m in masks))


def test_the_same_content_has_the_same_uids_and_other_content_others(made: Made, oblique: Made) -> None:
    again = uids.of("image", "00ff")
    assert again == uids.of("image", "00ff") != uids.of("series", "00ff")
    assert pydicom.uid.UID(again).is_valid and again.startswith("2.25.")
    assert made.seg.SOPInstanceUID != oblique.seg.SOPInstanceUID


def test_an_empty_map_is_refused(made: Made, tmp_path: Path) -> None:
    empty = made.labels.but(np.zeros_like(made.labels.values))
    with pytest.raises(BadInput) as raised:
        exported(tmp_path, made.image, made.scan, empty)
    assert raised.value.code == "empty_mask"
