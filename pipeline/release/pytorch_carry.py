"""A recipe as the options of `trtllm-serve`, and what of it has no place there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pipeline.artifact import Json
from pipeline.errors import Problem
from pipeline.recipe.engine_rules import default_num_tokens
from pipeline.recipe.schema import Recipe
from pipeline.release.pytorch_options import ALWAYS, ROWS, Carried, Only


@dataclass(frozen=True, slots=True)
class Carriage:
    """`options`: what `serve.yaml` says, nested as it is there. `idle`: recipe key -> why it has no
    meaning there, and whether the recipe changed it. `problems`: what cannot be had."""

    options: Mapping[str, Json]
    idle: Mapping[str, Json]
    problems: tuple[Problem, ...]


def carry(recipe: Recipe) -> Carriage:
    """What becomes of every key of a recipe with `package.kind: pytorch`."""
    options: dict[str, Json] = dict(ALWAYS)
    idle: dict[str, Json] = {}
    problems = []
    default = Recipe(name=recipe.name, source=recipe.source)
    for row in ROWS:
        value = _value(recipe, row.key)
        if isinstance(row, Carried):
            _put(options, row.option, value)
        elif isinstance(row, Only) and value not in row.values:
            problems.append(_problem(row, value))
        else:
            is_default = value == _value(default, row.key)
            idle[row.key] = {"because": row.because, "is_default": is_default}
    return Carriage(options, idle, tuple(problems))


def keys_in_vain(idle: Mapping[str, Json]) -> list[str]:
    """Keys of `Carriage.idle` that the recipe sets to something else than their default.

    Those of `package` are no options of a model: they say what is made.
    """
    return [
        key
        for key, entry in idle.items()
        if not entry["is_default"] and not key.startswith("package.")
    ]


def serve_yaml(options: Mapping[str, Json]) -> bytes:
    """`serve.yaml`: sorted, one option a line."""
    import yaml

    text: str = yaml.safe_dump(dict(options), sort_keys=True, default_flow_style=False)
    return text.encode()


def _value(recipe: Recipe, key: str) -> Any:
    """A recipe's value; `max_num_tokens` as a build would work it out."""
    if key == "engine.max_num_tokens" and recipe.engine.max_num_tokens is None:
        return default_num_tokens(recipe.engine)
    return reduce(getattr, key.split("."), recipe)


def _put(options: dict[str, Json], option: str, value: Any) -> None:
    """Set `a.b`; None leaves it out."""
    if value is None:
        return
    *sections, name = option.split(".")
    inner = options
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[name] = value


def _problem(row: Only, value: Any) -> Problem:
    shown = str(value).lower() if isinstance(value, bool) else value
    return Problem(
        "package",
        f"`{row.key}` is `{shown}`, which a package of kind `pytorch` cannot have: {row.because}",
        hint=row.hint or f"remove `{row.key}`, or set `package.kind: engine`",
    )
