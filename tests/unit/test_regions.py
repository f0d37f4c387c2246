"""Contours and segmentations as masks: holes, planes, grids, and names that stay behind."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import generate_uid
from test_ingest import COLUMNS, ID, KEY, NAME, ROWS, write_series

from pipeline import formats
from pipeline.ingest import Outcome, ingest_all, regions

SPACING = np.array([3.0, 2.0, 4.0])
ORIGIN = np.array([-10.0, -20.0, 30.0])


def item(**values: object) -> Dataset:
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def base(sop_class: str, modality: str) -> Dataset:
    data = item(SOPClassUID=sop_class, SOPInstanceUID=generate_uid(entropy_srcs=[modality]), Modality=modality,
                PatientID=ID, PatientName=NAME, PatientBirthDate="19610203", SeriesNumber="7",
                StudyInstanceUID=generate_uid(entropy_srcs=["study", ID]),
                SeriesInstanceUID=generate_uid(entropy_srcs=[modality, "series"]))
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    return data


def square(low: float, high: float, k: float) -> list[float]:
    """A closed square in index coordinates of slice k as ContourData."""
    corners = np.array([[low, low, k], [high, low, k], [high, high, k], [low, high, k]])
    return (ORIGIN + corners * SPACING).round(4).ravel().tolist()


def structures(path: Path, contours: list[list[float]], name: str, series: str = "a") -> None:
    """An RT Structure Set with one region, drawn on `series`."""
    data = base(regions.CONTOURS, "RTSTRUCT")
    data.StructureSetROISequence = [item(ROINumber="3", ROIName=name, ReferencedFrameOfReferenceUID="1.2.3")]
    data.ROIContourSequence = [item(ReferencedROINumber="3", ContourSequence=[
        item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints="4", ContourData=c) for c in contours])]
    one = item(SeriesInstanceUID=generate_uid(entropy_srcs=[series]))
    data.ReferencedFrameOfReferenceSequence = [
        item(RTReferencedStudySequence=[item(RTReferencedSeriesSequence=[one])])]
    data.save_as(path, enforce_file_format=True)


def segmentation(path: Path, planes: dict[int, np.ndarray], origin: np.ndarray = ORIGIN) -> None:
    """A binary DICOM segmentation with a frame for each of some slices."""
    data = base(regions.SEGMENTATION, "SEG")
    data.Rows, data.Columns, data.NumberOfFrames, data.SamplesPerPixel = ROWS, COLUMNS, str(len(planes)), 1
    data.PhotometricInterpretation, data.SegmentationType = "MONOCHROME2", "BINARY"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 1, 1, 0, 0
    data.ReferencedSeriesSequence = [item(SeriesInstanceUID=generate_uid(entropy_srcs=["a"]))]
    data.SegmentSequence = [item(SegmentNumber=1, SegmentLabel=f"aorta of {NAME}")]
    data.SharedFunctionalGroupsSequence = [item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[item(PixelSpacing=[2.0, 3.0], SliceThickness="4")],
        SegmentIdentificationSequence=[item(ReferencedSegmentNumber=1)])]
    data.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=(origin + [0, 0, 4.0 * k]).tolist())]) for k in planes]
    bits = np.packbits(np.concatenate([p.ravel() for p in planes.values()]).astype(np.uint8), bitorder="little")
    data.PixelData = bits.tobytes() + b"\0" * (len(bits) % 2)
    data.save_as(path, enforce_file_format=True)


def masks(scan: Path, out: Path) -> list[Outcome]:
    return [o for o in ingest_all(scan, out, KEY) if not o.series.startswith("CT")]


def test_a_contour_within_a_contour_is_a_hole(tmp_path):
    scan = write_series(tmp_path / "scan")
    structures(scan / "rs.dcm", [square(0.6, 4.4, 3), square(1.5, 3.5, 3), square(0.6, 1.4, 5)], "aorta")
    one, = masks(scan, tmp_path / "out")
    mask, facts = formats.read_volume(one.volume), json.loads(one.sidecar.read_text())
    expected = np.zeros((COLUMNS, ROWS, 10), int)
    expected[1:5, 1:5, 3] = 1
    expected[2:4, 2:4, 3] = 0
    expected[1, 1, 5] = 1
    np.testing.assert_array_equal(mask.values, expected)
    assert facts["volume_ml"] == pytest.approx(13 * 24 / 1000) and facts["drawn_on"] == "CT-s001"
    assert any("1 slices between contours have none" in w for w in facts["warnings"])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 40))
def test_filling_agrees_with_the_winding_of_a_star(seed, n):
    """A star-shaped polygon holds a pixel when its distance from the centre is below the edge's at that angle."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, n))
    if np.diff(angles, append=angles[0] + 2 * np.pi).max() > 3.1:
        return
    radii = rng.uniform(4, 14, n)
    centre = np.array([15.3, 14.7])
    polygon = centre + radii[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    inside = regions.filled(polygon, (30, 29))
    places = np.array(np.meshgrid(np.arange(30), np.arange(29), indexing="ij")).reshape(2, -1).T - centre
    turn = np.arctan2(places[:, 1], places[:, 0]) % (2 * np.pi)
    which = (np.searchsorted(angles, turn) - 1) % n
    a, b = polygon[which] - centre, polygon[(which + 1) % n] - centre
    side = (b[:, 0] - a[:, 0]) * (places[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (places[:, 0] - a[:, 0])
    np.testing.assert_array_equal(inside.ravel()[np.abs(side) > 1e-9], (side > 0)[np.abs(side) > 1e-9])


@pytest.mark.parametrize("beside", [True, False])
def test_a_segmentation_lies_on_its_image_or_on_a_grid_of_its_own(tmp_path, beside):
    scan = tmp_path / "scan"
    write_series(scan) if beside else scan.mkdir()
    rng = np.random.default_rng(1)
    planes = {k: rng.integers(0, 2, (ROWS, COLUMNS)) for k in (2, 3, 6)}
    segmentation(scan / "seg.dcm", planes)
    one, = masks(scan, tmp_path / "out")
    mask, facts = formats.read_volume(one.volume), json.loads(one.sidecar.read_text())
    assert mask.values.shape[2] == (10 if beside else 5)
    for k, plane in planes.items():
        at = mask.index(np.array([ORIGIN + [0, 0, 4.0 * k]]))[0]
        np.testing.assert_allclose(at[:2], 0, atol=1e-5)
        np.testing.assert_array_equal(mask.values[:, :, round(at[2])], plane.T)
    assert facts["n_voxels"] == sum(int(p.sum()) for p in planes.values()) and facts["region"] == "aorta"


@pytest.mark.parametrize("contours, series, code", [
    ([square(0.6, 4.4, 3)], "another", "image_missing"),
    ([[*square(0.6, 4.4, 3)[:-1], 50.0]], "a", "oblique_contours"),
    ([square(0.6, 4.4, 40)], "a", "empty_mask"),
    ([], "a", "empty_mask")])
def test_contours_that_cannot_be_laid_on_an_image_are_refused(tmp_path, contours, series, code):
    scan = write_series(tmp_path / "scan")
    structures(scan / "rs.dcm", contours, "aorta", series)
    one, = masks(scan, tmp_path / "out")
    assert one.volume is None and one.refusal.code == code and one.refusal.hint


@pytest.mark.parametrize("name, kept", [
    ("GTV_Mass_CT", "gtv_mass_ct"), (NAME, "region"), ("Left kidney of Quetzalcoatl 1961", "left_kidney"),
    ("CANARY-4711", "region")])
def test_the_name_of_a_region_keeps_only_words_of_anatomy(name, kept):
    assert regions.plain(name) == kept
