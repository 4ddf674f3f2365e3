"""Several engines of one script: the first is the recipe, the others its variants."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.artifact import Json
from pipeline.migration.draft import Draft
from pipeline.migration.settle_source import as_name
from pipeline.migration.workflow import Engine, folder_of
from pipeline.recipe.schema import Recipe


@dataclass(frozen=True, slots=True)
class Named:
    """An engine with its draft; `name` is the recipe's, then the variant's."""

    name: str
    draft: Draft
    engine: Engine


def distinct_names(engines: Sequence[Named]) -> list[Named]:
    """The first keeps its name; each other one is called by what its folder has of its own."""
    if len(engines) < 2:
        return list(engines)
    folders = [_parts(each.engine) for each in engines]
    common = set.intersection(*(set(parts) for parts in folders))
    taken = {engines[0].name}
    found = [engines[0]]
    for place, each in enumerate(engines[1:], 2):
        own = "-".join(part for part in folders[place - 1] if part not in common)
        name = as_name(own)[-60:].strip("._-") or f"engine-{place}"
        while name in taken:
            name = f"{name}-{place}"
        taken.add(name)
        found.append(replace(each, name=name))
    return found


def _parts(engine: Engine) -> list[str]:
    folder = folder_of(engine.build, "~output_dir") if engine.build else None
    if folder is None and engine.converter is not None:
        folder = folder_of(engine.converter, "~output_dir")
    return [part for part in (folder or "").split(posixpath.sep) if part not in ("", ".", "..")]


def changes(base: Draft, other: Draft) -> dict[str, Json]:
    """What a variant must say to become the other engine: keys that it lacks get their default."""
    found = {
        key: value
        for key, value in other.values.items()
        if key not in base.values or base.values[key] != value
    }
    for key in base.values.keys() - other.values.keys():
        if not key.startswith("source."):
            found[key] = _default(key)
    if any(key.startswith("source.") for key in found):
        # A source with another repo or path replaces the whole section.
        found |= {key: value for key, value in other.values.items() if key.startswith("source.")}
    return found


def _default(key: str) -> Json:
    value: Json = Recipe.model_fields[key.split(".", maxsplit=1)[0]].default
    for part in key.split(".")[1:]:
        value = getattr(value, part)
    if key == "smoke.prompts":
        return [prompt.text for prompt in value]
    return list(value) if isinstance(value, tuple) else value
