"""What every section of a recipe is: a strict, frozen model."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A part of the recipe: unknown keys are errors, values are never coerced or changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
