"""Bounded fields, and the strict model that all sections of a run configuration derive from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
"""The amount by which Adam moves each weight per step, approximately and whatever the gradient."""
Coefficient = Annotated[float, Field(ge=0, le=1e6)]
"""A factor of a loss or a reward; the product must stay within the range of single precision."""
Limit = Annotated[float, Field(ge=1e-12, le=1e6)]
"""A threshold that single precision can represent and distinguish from zero."""
Days = Annotated[int, Field(ge=1, le=1_000_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Steps = Annotated[int, Field(ge=1, le=900_000_000)]
"""Environment steps, whose number must fit into the nine digits of a checkpoint's name."""
Processes = Annotated[int, Field(ge=0, le=10_000)]
Share = Annotated[float, Field(ge=0, le=10_000)]
"""CPUs or GPUs that a process reserves; fractions are allowed."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]
RowsPerYear = Annotated[int, Field(ge=1, le=366 * 24)]
LayerSize = Annotated[int, Field(ge=1, le=8192)]
CostBps = Annotated[float, Field(ge=0, lt=5000)]
IsoDay = Annotated[str, BeforeValidator(lambda day: day.isoformat() if isinstance(day, date) else day)]
"""A day, or a moment of an intraday table, as ISO text. YAML reads a date without quotes as a date object, which is
converted."""
ColumnName = Annotated[str, StringConstraints(strip_whitespace=True)]
"""The name of a column of a table, without spaces around it."""
DateWindow = tuple[IsoDay, IsoDay]
"""First and last date, both inclusive, as ISO text."""


class StrictModel(BaseModel):
    """A frozen model that refuses unknown keys, and refuses true and false as numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false, also in lists, where pydantic would read them as 1 and 0."""
        kinds = set(_kinds(cls.model_fields[str(info.field_name)].annotation))
        if kinds & {int, float} and not kinds & {bool, Any} and _holds_bool(value):
            raise PydanticCustomError("bool_as_number", "a number must not be true or false")
        return value


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the plain types that an annotation is made of."""
    if get_origin(annotation) is Literal:
        yield from map(type, get_args(annotation))
    elif get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif parts := get_args(annotation):
        for part in parts:
            yield from _kinds(part)
    else:
        yield annotation


def _holds_bool(value: Any) -> bool:
    values = [value]
    for each in values:  # items of nested lists are appended, and checked in a later iteration
        if isinstance(each, bool):
            return True
        if isinstance(each, list | tuple):
            values.extend(each)
    return False
