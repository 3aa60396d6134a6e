"""Bounded fields, and the strict model that all sections of a run configuration derive from."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
"""Adam moves each weight by about this much a step, whatever the gradient."""
Coefficient = Annotated[float, Field(ge=0, le=1e6)]
"""A factor of a loss or a reward, whose product single precision must hold."""
Limit = Annotated[float, Field(ge=1e-12, le=1e6)]
"""A threshold that single precision must hold, and from zero tell."""
Days = Annotated[int, Field(ge=1, le=1_000_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Steps = Annotated[int, Field(ge=1, le=900_000_000)]
"""Environment steps; their number has the nine digits of a checkpoint's name."""
Processes = Annotated[int, Field(ge=0, le=10_000)]
Share = Annotated[float, Field(ge=0, le=10_000)]
"""CPUs or GPUs that a process reserves; fractions are allowed."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]
RowsPerYear = Annotated[int, Field(ge=1, le=366)]
LayerSize = Annotated[int, Field(ge=1, le=8192)]
CostBps = Annotated[float, Field(ge=0, lt=5000)]
IsoDay = Annotated[str, BeforeValidator(lambda day: day.isoformat() if isinstance(day, date) else day)]
"""A date as ISO text; YAML reads one without quotes as a date."""
ColumnName = Annotated[str, StringConstraints(strip_whitespace=True)]
"""A column of a table, whose names have no spaces around them."""
DateWindow = tuple[IsoDay, IsoDay]
"""First and last date, both inclusive, as ISO text."""


class StrictModel(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
