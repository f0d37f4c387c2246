"""Our words as codes: SNOMED CT and UCUM where DICOM names a concept, a private scheme where it names none.

Source: DICOM PS3.16, context groups 3481 to 3483, 7150, 7464 and 12119 to 12121 (codes as pydicom lists them).
"""

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from solvers.library import anatomy

OURS = "99ANATWIN"
MEASURES = {
    "volume": codes.SCT.Volume, "length": codes.SCT.Length, "diameter": codes.SCT.VesselLumenDiameter,
    "minimal_diameter": codes.SCT.VesselLumenDiameter, "minimal_area": codes.SCT.VesselLumenCrossSectionalArea,
    "percent_diameter_stenosis": codes.SCT.LumenDiameterStenosis, "lesion_length": codes.SCT.StenoticLesionLength,
}
STATISTICS = {"mean": codes.SCT.Mean, "max": codes.SCT.Maximum, "min": codes.SCT.Minimum, "median": codes.SCT.Median,
              "total": codes.SCT.Total}
UNITS = {
    "mm": codes.UCUM.Millimeter, "mm^2": codes.UCUM.SquareMillimeter, "%": codes.UCUM.Percent, "1": codes.UCUM.NoUnits,
    "mmHg": codes.UCUM.MillimetersHg, "s": codes.UCUM.Second, "mL": Code("mL", "UCUM", "milliliter"),
    "mL/min": Code("mL/min", "UCUM", "milliliter per minute"), "mL/s": Code("mL/s", "UCUM", "milliliter per second"),
    "m/s": Code("m/s", "UCUM", "meter per second"), "Pa": Code("Pa", "UCUM", "Pascal"),
    "1/Pa": Code("/Pa", "UCUM", "per Pascal"), "kPa": Code("kPa", "UCUM", "kilopascal"),
    "mW": Code("mW", "UCUM", "milliwatt"), "h": Code("h", "UCUM", "hour"),
}
MORPHOLOGY = ("arterial_calcification", "false_lumen")
"""Structures that a healthy body has not."""


def measure(name: str) -> Code:
    """The name of a measurement."""
    return MEASURES.get(name, _ours(name))


def statistic(name: str) -> Code | None:
    """How the number was drawn from many; None where it was not."""
    return None if name in ("", "value") else STATISTICS.get(name, _ours(name))


def category(name: str) -> Code:
    """What kind of thing a segment is."""
    return codes.SCT.MorphologicallyAbnormalStructure if name in MORPHOLOGY else codes.SCT.AnatomicalStructure


def structure(name: str) -> Code:
    """The anatomy that a label or a branch of this name is, without its side."""
    known = anatomy.structures().get(name)
    return Code(known.snomed, "SCT", known.display) if known and known.snomed else _ours(name)


def side(name: str) -> Code | None:
    """Left or right, where the name has a side."""
    known = anatomy.structures().get(name)
    word = {code: word for word, code in anatomy.SIDES.items()}.get(known.laterality, "") if known else ""
    return Code(anatomy.SIDES[word], "SCT", word.capitalize()) if word else None


def _ours(name: str) -> Code:
    return Code(name, OURS, name.replace("_", " ")[:64])
