"""The label map as a DICOM segmentation (PS3.3 A.51), one segment a label, binary."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from skimage.color import rgb2lab

from pipeline import uids
from pipeline.export import codes as ours
from pipeline.export.source import METHOD, Source
from solvers.geometry.volume import Volume
from solvers.library import anatomy

NAME = "anatwin"
UNKNOWN = "#808080"
"""Grey for a label that our table does not know."""


@dataclass(frozen=True)
class Label:
    """A label of the map: its number there, its name, its colour as #rrggbb."""

    index: int
    name: str
    colour: str

    @property
    def rgb(self) -> np.ndarray:
        """Red, green, blue from 0 to 1, shape (3,)."""
        text = self.colour if len(self.colour) == 7 else UNKNOWN
        return np.array([int(text[i:i + 2], 16) / 255 for i in (1, 3, 5)])

    @property
    def display(self) -> str:
        known = anatomy.structures().get(self.name)
        return known.display if known else self.name


@dataclass(frozen=True)
class Maker:
    """What made the results: version, and a digest of all that they hold, from which their UIDs follow."""

    version: str
    digest: str

    def equipment(self, kind: str, number: int) -> dict[str, Any]:
        """The series and equipment of a result of this `kind`."""
        return {"series_instance_uid": uids.of(kind, "series", self.digest), "series_number": number,
                "sop_instance_uid": uids.of(kind, self.digest), "instance_number": 1, "manufacturer": NAME,
                "manufacturer_model_name": NAME, "software_versions": self.version, "device_serial_number": "0"}


def segmentation(labels: Volume, present: list[Label], source: Source, is_drawn: bool, maker: Maker) -> Segmentation:
    """Segments numbered from 1 in the order of `present`. is_drawn: a person gave the mask."""
    numbers = np.zeros(int(labels.values.max()) + 1, np.uint8)
    numbers[[one.index for one in present]] = np.arange(1, len(present) + 1)
    made = Segmentation(
        source_images=source.headers, pixel_array=numbers[labels.values].transpose(2, 1, 0),
        segmentation_type="BINARY", segment_descriptions=[
            _described(n, one, is_drawn, maker) for n, one in enumerate(present, start=1)],
        content_label="ANATWIN", content_description="Anatomy found by anatwin; research use only",
        series_description="anatwin segmentation", **maker.equipment("segmentation", 901))
    if not source.is_cited:
        _cite_nothing(made)
    return mark(made)


def mark[T: Dataset](made: T) -> T:
    """Said in the file itself: the patient's identity was removed."""
    made.PatientIdentityRemoved, made.DeidentificationMethod = "YES", METHOD
    return made


def _described(number: int, one: Label, is_drawn: bool, maker: Maker) -> SegmentDescription:
    how = AlgorithmIdentificationSequence(NAME, codes.cid7162.DeformableModels, maker.version)
    found = SegmentDescription(
        segment_number=number, segment_label=one.display, segmented_property_category=ours.category(one.name),
        segmented_property_type=ours.structure(one.name), tracking_id=one.name,
        tracking_uid=uids.of("segment", one.name, maker.digest),
        algorithm_type="SEMIAUTOMATIC" if is_drawn else "AUTOMATIC", algorithm_identification=how,
        display_color=CIELabColor(*rgb2lab(one.rgb)))
    side = ours.side(one.name)
    if side is not None:
        found.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [_coded(side)]
    return found


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _cite_nothing(made: Segmentation) -> None:
    """No image of DICOM was the source: nothing that does not exist is referred to."""
    del made.ReferencedSeriesSequence, made.SourceImageSequence
    for frame in made.PerFrameFunctionalGroupsSequence:
        frame.DerivationImageSequence = []
