"""A DICOM data set made anew from what `rules` allow. Nothing is copied that has not the form it should have."""

import re
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping
from pydicom.uid import UID_dictionary

from pipeline import uids
from pipeline.deidentify import private, rules, words
from pipeline.ingest.elements import text, texts
from pipeline.ingest.header import keyed

METHOD = "anatwin: PS3.15 Basic Profile by allow-list, UIDs hashed"


@dataclass(frozen=True)
class Person:
    """Who a patient becomes. key: the secret behind UIDs. shift_days: what is added to every date."""

    label: str
    key: bytes
    shift_days: int


def cleaned(data: Dataset, person: Person, *, has_head: bool = False) -> Dataset:
    """What may leave of a data set without its pixels. has_head: a person let an image with a head pass."""
    new = _allowed(data, person)
    for keyword in rules.EMPTY:
        if keyword not in new:
            setattr(new, keyword, "")
    new.PatientID, new.PatientName = f"sub-{person.label}", f"sub-{person.label}^"
    _describe(data, new)
    _age(data, new)
    _mark(new)
    if has_head:
        new.RecognizableVisualFeatures = "YES"
    return new


def _mark(new: Dataset) -> None:
    """What was done, as PS3.15 wants it said."""
    new.PatientIdentityRemoved, new.DeidentificationMethod = "YES", METHOD
    new.LongitudinalTemporalInformationModified = "MODIFIED"
    new.DeidentificationMethodCodeSequence = [_code(code, "DCM", said) for code, said in rules.CODES.items()]


def _describe(data: Dataset, new: Dataset) -> None:
    """Free text as its known words; that a contrast agent was given, without its name."""
    for keyword in rules.DESCRIBED:
        if said := words.described(text(data, keyword)):
            setattr(new, keyword, said[:64].rpartition(" ")[0] if len(said) > 64 else said)
    new.Manufacturer = words.maker(text(data, "Manufacturer"))
    if text(data, "ContrastBolusAgent") or "ContrastBolusAgentSequence" in data:
        new.ContrastBolusAgent = "CONTRAST"


def _age(data: Dataset, new: Dataset) -> None:
    """Age at the study, from the birth date where the header has none; 90 stands for 90 and more."""
    if text(new, "PatientAge"):
        return
    try:
        born, seen = (datetime.strptime(text(data, t)[:8], "%Y%m%d") for t in ("PatientBirthDate", "StudyDate"))
    except ValueError:
        return
    days = (seen - born).days
    if days >= 0:
        new.PatientAge = _capped(f"{int(days / 365.25):03d}Y" if days >= 731 else f"{round(days / 7):03d}W")


def _allowed(data: Dataset, person: Person) -> Dataset:
    """The elements on the lists, of this data set and of the items of its sequences."""
    new = Dataset()
    for keyword in rules.KEPT:
        if keyword in data:
            _keep(data, new, keyword, person)
    for keyword in rules.SEQUENCES | rules.CODED:
        items = _items(data, keyword)
        made = [_known(i) for i in items] if keyword in rules.CODED else [_allowed(i, person) for i in items]
        if found := [m for m in made if m is not None]:
            setattr(new, keyword, found)
    for tag, creator, vr, value in private.kept(data):
        _add_private(new, tag, creator, vr, value)
    tiles = private.TILES
    if private.is_there(data, tiles) and (items := _items(data, tiles.tag)):
        _add_private(new, tiles.tag, tiles.creator, "SQ", [_allowed(i, person) for i in items])
    return new


def _add_private(new: Dataset, tag: int, creator: str, vr: str, value: object) -> None:
    new.add_new(tag & 0xFFFF0000 | (tag >> 8) & 0xFF, "LO", creator)
    new.add_new(tag, vr, value)


def _items(data: Dataset, tag: str | int) -> list[Dataset]:
    value: Any = data[tag].value if tag in data else None
    return [i for i in value if isinstance(i, Dataset)] if isinstance(value, MutableSequence) else []


def _known(item: Dataset) -> Dataset | None:
    """A code as DICOM's own tables have it, or nothing."""
    scheme, code = text(item, "CodingSchemeDesignator"), text(item, "CodeValue")
    modern = mapping["SRT"].get(code, "") if scheme in ("SRT", "SNM3", "99SDM") else code
    table = concepts["DCM" if scheme == "DCM" else "SCT"] if scheme in ("SRT", "SNM3", "99SDM", "SCT", "DCM") else {}
    meaning = _meanings(table).get(modern)
    return _code(code, scheme, meaning) if meaning else None


_tables: dict[int, dict[str, str]] = {}


def _meanings(table: Any) -> dict[str, str]:
    """Code to its words, of one of pydicom's tables."""
    if id(table) not in _tables:
        _tables[id(table)] = {code: said[0] for codes in table.values() for code, said in codes.items()}
    return _tables[id(table)]


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, scheme, meaning[:64]
    return made


def _keep(data: Dataset, new: Dataset, keyword: str, person: Person) -> None:
    """One element, if its value has the form that its VR in the standard asks for."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    vr = dictionary_VR(tag)
    if " or " in vr:
        vr = "SS" if data.get("PixelRepresentation") == 1 or getattr(data[tag], "VR", "") == "SS" else "US"
    try:
        value = _BINARY[vr](data[tag].value) if vr in _BINARY else _texts(data, tag, vr, keyword, person)
    except (TypeError, ValueError, OverflowError):
        return
    if value not in (None, [], ""):
        new.add_new(tag, vr, value)


def _texts(data: Dataset, tag: int, vr: str, keyword: str, person: Person) -> list[str] | None:
    """The values of a text element, each in its form; one that is not takes the others with it."""
    values = [_FORMS[vr](t, keyword, person) if t else "" for t in texts(data, tag)]
    return None if None in values else [str(v) for v in values]


def _numbers(value: Any) -> list[float] | float:
    """Numbers as they are; what is beyond any measurement is text in disguise."""
    for one in value if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]:
        if isinstance(one, (str, bytes)) or not (one == 0 or 1e-12 < abs(one) < 1e12):
            raise ValueError("not a number")
    return value


def _decimal(value: str, keyword: str, person: Person) -> str | None:
    return value if re.fullmatch(r"[-+]?(?:\d{1,12}\.?\d{0,40}|\.\d{1,40})(?:[eE][-+]?\d{1,2})?", value) else None


def _whole(value: str, keyword: str, person: Person) -> str | None:
    return value if re.fullmatch(r"[-+]?\d{1,12}(?:\.0*)?", value) else None


def _term(value: str, keyword: str, person: Person) -> str | None:
    """A defined term. Places in ImageType count, so an unknown word there leaves one behind."""
    plain = value.upper() if keyword == "BodyPartExamined" else value
    if plain in words.TERMS:
        return plain
    return "OTHER" if keyword in ("ImageType", "FrameType", "Modality") else None


def _short(value: str, keyword: str, person: Person) -> str | None:
    return words.short(keyword, value)


def _date(value: str, keyword: str, person: Person) -> str | None:
    return _moved(value.replace(".", ""), person.shift_days) if re.fullmatch(
        r"\d{8}|\d{4}\.\d\d\.\d\d", value) else None


def _moved(date: str, days: int) -> str | None:
    try:
        return f"{datetime.strptime(date, '%Y%m%d') + timedelta(days):%Y%m%d}"
    except (ValueError, OverflowError):
        return None


def _time(value: str, keyword: str, person: Person) -> str | None:
    """Of the day. Whole days are added to dates, so that times without a date agree with those that have one."""
    return value if re.fullmatch(r"\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?", value) else None


def _date_time(value: str, keyword: str, person: Person) -> str | None:
    match = re.fullmatch(r"(\d{8})((?:\d{2}){0,3}(?:\.\d{1,6})?(?:[-+]\d{4})?)", value)
    moved = _moved(match[1], person.shift_days) if match else None
    return f"{moved}{match[2]}" if match and moved else None


def _capped(value: str, keyword: str = "", person: Person | None = None) -> str | None:
    match = re.fullmatch(r"(\d{1,3})([DWMY])", value)
    if match is None:
        return None
    return "090Y" if match[2] == "Y" and int(match[1]) > 90 else f"{int(match[1]):03d}{match[2]}"


def _uid(value: str, keyword: str, person: Person) -> str | None:
    """A registered UID stays (classes, syntaxes); any other becomes what the project's results call it too."""
    if value in UID_dictionary:
        return value
    level = rules.LEVELS.get(keyword, "other")
    digest = keyed(person.key, value)
    return uids.of(level, digest[:16] if level == "image" else digest)


_FORMS: dict[str, Callable[[str, str, Person], str | None]] = {
    "DS": _decimal, "IS": _whole, "CS": _term, "SH": _short, "LO": _short, "DA": _date, "TM": _time,
    "DT": _date_time, "AS": _capped, "UI": _uid}
_BINARY: dict[str, Callable[[Any], Any]] = dict.fromkeys(("US", "SS", "UL", "SL", "FL", "FD"), _numbers)
_BINARY["AT"] = lambda value: value
