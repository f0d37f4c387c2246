"""Body-weight SUV of PET from the header's facts, or the missing fact by name.

Source: QIBA FDG-PET/CT profile, vendor-neutral SUV pseudo-code (RSNA QIBA 2016),
https://qibawiki.rsna.org/index.php/Standardized_Uptake_Value_(SUV).
"""

from dataclasses import dataclass
from typing import Any

HALF_LIFE_S = {"18fluorine": 6586.2, "11carbon": 1221.8, "68gallium": 4057.7, "13nitrogen": 597.9, "15oxygen": 122.2,
               "89zirconium": 282240.0, "64copper": 45723.6, "82rubidium": 75.4, "124iodine": 360806.4}
"""Half-lives in seconds; source: Laboratoire National Henri Becquerel, decay data, http://www.lnhb.fr."""


@dataclass(frozen=True)
class Suv:
    """`scale`: SUV per unit of the volume's values; None where it cannot be had, `warnings` say why."""

    scale: float | None
    warnings: list[str]


def body_weight(pet: dict[str, Any] | None, weight_kg: float | None) -> Suv:
    """SUV by body weight: activity concentration / (decayed dose / weight), tissue of 1 g/mL."""
    if pet is None:
        return _none("PET facts are missing")
    if pet["units"] == "GML":
        return Suv(1.0, []) if pet["suv_type"] in ("", "BW") else _none("the values are SUV, but not by body weight")
    if pet["units"] != "BQML":
        return _none(f"units {pet['units'] if pet['units'] in ('CNTS', 'PROPCPS', 'CPS') else 'of the image'} "
                     "are not BQML or GML")
    half_life, said = _half_life(pet)
    dose, delay = pet["dose_bq"], pet["delay_s"]
    if weight_kg is None:
        return _none("PatientWeight is missing or implausible")
    if dose is None or not 1e6 <= dose <= 5e9:
        return _none("RadionuclideTotalDose is missing or implausible in Bq (its unit may be MBq)")
    if half_life is None:
        return _none("RadionuclideHalfLife is missing")
    if pet["decay"] == "ADMIN":
        return Suv(1000.0 * weight_kg / dose, said)
    if pet["decay"] != "START" or (pet["corrected"] and "DECY" not in pet["corrected"]):
        return _none("the images are not decay corrected to the start of the scan (DecayCorrection)")
    if delay is None or not 0 <= delay <= 10 * half_life:
        return _none("the time from injection to scan is missing or implausible")
    return Suv(1000.0 * weight_kg / (dose * 2.0 ** (-delay / half_life)), said)


def _half_life(pet: dict[str, Any]) -> tuple[float | None, list[str]]:
    """The header's half-life, else that of the named nuclide."""
    letters = "".join(c for c in pet["nuclide"].lower() if c.isalnum())
    known = HALF_LIFE_S.get(letters)
    said = pet["half_life_s"]
    if said is None or said <= 0:
        return known, ["RadionuclideHalfLife is missing: the half-life of the coded nuclide is used"] if known else []
    if known is not None and abs(said / known - 1) > 0.05:
        return None, []
    return said, []


def _none(why: str) -> Suv:
    return Suv(None, [f"no SUV: {why}"])
