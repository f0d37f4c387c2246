"""Quantities as people write them ("1.2 mm", "120 mmHg") and SI floats inside.

A setting declared as `Length` is a float in metres that remembers its text.
A bare number is refused with the units it could have. pint is used here only,
where text is read; solvers see plain floats.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import GetPydanticSchema
from pydantic_core import core_schema

MMHG = 133.322387415  # Pa
"""One millimetre of mercury in pascal."""


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    registry = pint.UnitRegistry()
    registry.define("beat = [beat]")
    registry.define("bpm = beat / minute")
    return registry


class Quantity(float):
    """A float in SI units that remembers the text it came from."""

    text: str

    def __new__(cls, value: float, text: str) -> "Quantity":
        made = super().__new__(cls, value)
        made.text = text
        return made

    def __reduce__(self) -> Any:
        return Quantity, (float(self), self.text)


def parse(text: str, si_unit: str) -> Quantity:
    """`text` such as "5 mL/s" as a float in `si_unit`; ValueError says what fits."""
    import pint

    try:
        value = _registry().Quantity(text.replace("^", "**"))
        return Quantity(float(value.to(si_unit).magnitude), text)
    except (pint.PintError, AttributeError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"{text!r} is not a quantity in {si_unit}") from error


def quantity(si_unit: str, examples: str) -> Any:
    """A pydantic type: text with a unit in, float in `si_unit` out, text when written."""

    def validate(given: Any) -> Quantity:
        if isinstance(given, Quantity):
            return given
        if isinstance(given, (int, float)):
            raise ValueError(f"a bare number; write it with its unit, for example {examples}")
        try:
            return parse(str(given), si_unit)
        except ValueError as error:
            raise ValueError(f"{error}; write for example {examples}") from error

    schema = core_schema.no_info_plain_validator_function(
        validate,
        json_schema_input_schema=core_schema.str_schema(),
        serialization=core_schema.plain_serializer_function_ser_schema(
            lambda value: value.text, return_schema=core_schema.str_schema()
        ),
    )

    def json_schema(_core: Any, _handler: Any) -> dict[str, Any]:
        return {"type": "string", "unit": si_unit, "examples": [e.strip() for e in examples.split(" or ")]}

    return GetPydanticSchema(lambda _s, _h: schema, json_schema)


if TYPE_CHECKING:  # text where it is declared, a float where it is read: no static type says that
    type Length = Any
    type Pressure = Any
    type Time = Any
    type FlowRate = Any
    type Mass = Any
    type Density = Any
    type Viscosity = Any
    type Angle = Any
else:
    Length = Annotated[Quantity, quantity("m", '"1.2 mm" or "0.5 cm"')]
    Pressure = Annotated[Quantity, quantity("Pa", '"120 mmHg" or "16 kPa"')]
    Time = Annotated[Quantity, quantity("s", '"2 ms" or "0.9 s" or "12 h"')]
    FlowRate = Annotated[Quantity, quantity("m^3/s", '"5 L/min" or "70 mL/s"')]
    Mass = Annotated[Quantity, quantity("kg", '"70 kg" or "500 mg"')]
    Density = Annotated[Quantity, quantity("kg/m^3", '"1060 kg/m^3"')]
    Viscosity = Annotated[Quantity, quantity("Pa*s", '"3.5 mPa*s"')]
    Angle = Annotated[Quantity, quantity("rad", '"30 deg"')]
