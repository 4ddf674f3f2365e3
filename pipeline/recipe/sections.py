"""The sections of a recipe, by their paths."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from pipeline.recipe.schema import Recipe
from pipeline.recipe.section import Section

SectionPath = tuple[str, ...]
"""Keys from the top of a recipe; indices of lists are left out."""


@cache
def sections() -> dict[SectionPath, type[Section]]:
    """Every section, the recipe itself under the empty path."""
    return dict(_walk((), Recipe))


def _walk(path: SectionPath, model: type[Section]) -> Iterator[tuple[SectionPath, type[Section]]]:
    yield path, model
    for key, info in model.model_fields.items():
        inner = _find_section(info.annotation)
        if inner is not None:
            yield from _walk((*path, key), inner)


def _find_section(annotation: Any) -> type[Section] | None:
    """The section in an annotation such as `tuple[Prompt, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = (_find_section(argument) for argument in get_args(annotation))
    return next((section for section in found if section is not None), None)
