"""Volumes of segments and numbers of lesions as a measurement report (PS3.16 TID 1500)."""

from collections.abc import Sequence
from typing import Any

from highdicom.seg import Segmentation
from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pipeline import uids
from pipeline.export import codes as ours
from pipeline.export.segmentation import NAME, Label, Maker, mark
from pipeline.export.source import Source
from pipeline.table import Row

Group = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations
PROCEDURES = {"CT": codes.LN.CTUnspecifiedBodyRegion, "MR": codes.LN.MRIUnspecifiedBodyRegion}


def writable(rows: Sequence[Row]) -> list[Row]:
    """Those of a lesion that hold: a value with a unit that has a code, of quality `ok`, of no single moment."""
    return [r for r in rows if r.lesion and r.value is not None and r.unit in ours.UNITS and r.quality == "ok"
            and r.time_s is None]


def report(volumes_ml: Sequence[float], present: Sequence[Label], rows: Sequence[Row], seg: Segmentation,
           source: Source, maker: Maker) -> ComprehensiveSR:
    """volumes_ml: of the segments in order. rows: as `writable` leaves them."""
    how = AlgorithmIdentification(name=NAME, version=maker.version)
    groups: list[Group] = [_segment(n, one, volume, seg, source, how) for n, (one, volume) in enumerate(
        zip(present, volumes_ml, strict=True), start=1)]
    groups += [_lesion(name, [r for r in rows if r.lesion == name], how, maker)
               for name in sorted({r.lesion for r in rows})]
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer()), imaging_measurements=groups,
        procedure_reported=PROCEDURES.get(source.first.Modality, codes.LN.CTUnspecifiedBodyRegion),
        title=codes.DCM.ImagingMeasurementReport, referenced_images=source.headers if source.is_cited else None)
    evidence = [seg, *(source.headers if source.is_cited else [])]
    made = ComprehensiveSR(evidence=evidence, content=content[0], is_complete=True, is_final=False,
                           series_description="anatwin measurements", **maker.equipment("measurements", 902))
    return mark(made)


def _observer() -> ObserverContext:
    return ObserverContext(observer_type=codes.DCM.Device,
                           observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                               uid=uids.of("device", NAME), name=NAME, manufacturer_name=NAME, model_name=NAME))


def _segment(number: int, one: Label, volume_ml: float, seg: Segmentation, source: Source,
             how: AlgorithmIdentification) -> Group:
    """The volume of a segment, beside a reference to it where the segmentation has sources."""
    described = seg.SegmentSequence[number - 1]
    same: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(uid=described.TrackingUID, identifier=described.TrackingID),
        "finding_type": ours.structure(one.name), "finding_category": ours.category(one.name), "algorithm_id": how,
        "measurements": [Measurement(name=codes.SCT.Volume, value=volume_ml, unit=ours.UNITS["mL"])]}
    if not source.is_cited:
        return MeasurementsAndQualitativeEvaluations(**same)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=ReferencedSegment.from_segmentation(seg, segment_number=number), **same)


def _lesion(name: str, rows: Sequence[Row], how: AlgorithmIdentification,
            maker: Maker) -> MeasurementsAndQualitativeEvaluations:
    """All numbers of one narrowing."""
    artery = rows[0].region
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uids.of("lesion", name, maker.digest), identifier=name),
        finding_type=codes.SCT.Stenosis, algorithm_id=how,
        finding_sites=[FindingSite(ours.structure(artery), laterality=ours.side(artery))],
        measurements=[_number(r) for r in rows])


def _number(row: Row) -> Measurement:
    assert row.value is not None
    derivation: Code | None = ours.statistic(row.statistic)
    return Measurement(name=ours.measure(row.measure), value=row.value, unit=ours.UNITS[row.unit],
                       derivation=derivation)
