"""The JSON schema of a recipe file, for editors: generated from the models, published with them."""

from __future__ import annotations

import json
from typing import Any

from pipeline.recipe.schema import Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILE_NAME = "recipe.schema.json"

Schema = dict[str, Any]

_EXTENDS: Schema = {
    "description": "Path of a recipe to build on, relative to this file: what this file does not "
    "give is taken from there",
    "type": "string",
    "minLength": 1,
}
_VARIANTS: Schema = {
    "description": "Named changes to any key: one file per model, several deliverables, each "
    "chosen by `--variant NAME`",
    "type": "object",
    "propertyNames": {"pattern": "^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$"},
    "additionalProperties": {"$ref": "#/$defs/Variant"},
}
_WHOLE_SOURCE: Schema = {
    "oneOf": [
        {"required": ["repo"], "properties": {"repo": {"type": "string"}}},
        {"required": ["path"], "properties": {"path": {"type": "string"}}},
    ]
}


def recipe_json_schema() -> Schema:
    """JSON schema (draft 2020-12) of a recipe file.

    No section but the recipe itself has required keys (items of lists do), so a variant, or a
    file with `extends`, is described by the same sections with nothing required at the top. Rules
    between keys, other than that a source is a repo or a path, are checked only by `load_recipe`.
    """
    generated = _without_titles(Recipe.model_json_schema())
    properties = generated["properties"]
    variant = {
        "description": "Changes to the recipe: only what differs is given",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return {
        "$schema": DIALECT,
        "title": "trtllm-pack recipe",
        "description": "What to release: a model, its TensorRT-LLM checkpoint, engine and tests",
        "type": "object",
        "properties": {"extends": _EXTENDS, **properties, "variants": _VARIANTS},
        "additionalProperties": False,
        "if": {"required": ["extends"]},
        "else": {"required": generated["required"], "properties": {"source": _WHOLE_SOURCE}},
        "$defs": {**generated["$defs"], "Variant": variant},
    }


def render_json_schema() -> str:
    """The schema as the text of `recipe.schema.json`."""
    return json.dumps(recipe_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _without_titles(value: Any) -> Any:
    """Less the titles that pydantic makes of key names; a key called `title` has a mapping."""
    if isinstance(value, list):
        return [_without_titles(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_titles(item)
        for key, item in value.items()
        if not (key == "title" and isinstance(item, str))
    }
