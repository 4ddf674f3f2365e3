"""The published schema: equal to the models, valid, and of one mind with the loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.json_schema import FILE_NAME, recipe_json_schema, render_json_schema
from pipeline.recipe.load import load_recipe

PUBLISHED = Path(__file__).parents[2] / "recipes" / FILE_NAME
LEAST: dict[str, Any] = {"name": "x", "source": {"repo": "owner/model"}}


def _fits(document: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(recipe_json_schema()).is_valid(document))


def _loads(folder: Path, document: Any) -> bool:
    (folder / "parent.yaml").write_text(json.dumps(LEAST))
    path = folder / "x.yaml"
    path.write_text(json.dumps(document))
    try:
        load_recipe(path)
    except RecipeError:
        return False
    return True


def test_published_schema_is_the_models() -> None:
    """After a change of the models, write what `render_json_schema` returns into that file."""
    assert PUBLISHED.read_text(encoding="utf-8") == render_json_schema()


def test_schema_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(recipe_json_schema())


def test_every_property_is_described_and_every_section_closed() -> None:
    schema = recipe_json_schema()
    for section in (schema, *schema["$defs"].values()):
        assert section["additionalProperties"] is False
        assert section["description"]
        assert all(value["description"] for value in section["properties"].values())


def test_defaults_are_shown() -> None:
    engine = recipe_json_schema()["$defs"]["EngineSettings"]["properties"]
    assert engine["max_batch_size"]["default"] == 8
    assert engine["targets"]["default"] == ["sm90"]


def test_only_items_of_lists_have_required_keys() -> None:
    """Else a variant, or a file with `extends`, would need them too."""
    sections = recipe_json_schema()["$defs"]
    assert {name for name, section in sections.items() if "required" in section} == {"Prompt"}


@pytest.mark.parametrize(
    "document",
    [
        LEAST,
        {**LEAST, "source": {"path": "./m"}},
        {**LEAST, "source": {"path": "./m", "repo": None}},
        {"extends": "parent.yaml"},
        {"extends": "parent.yaml", "name": "y", "source": {"revision": "v1"}},
        {**LEAST, "variants": {"v": {}, "w": {"source": {"revision": "v1"}}}},
        {**LEAST, "variants": {"v": {"engine": {"attention": {"require_fused": False}}}}},
        {**LEAST, "smoke": {"temperature": 1, "prompts": [{"text": "a"}]}},
    ],
)
def test_what_the_schema_takes_loads(tmp_path: Path, document: Any) -> None:
    assert (_fits(document), _loads(tmp_path, document)) == (True, True)


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"name": "x"},
        {"source": {"repo": "owner/model"}},
        {**LEAST, "source": {}},
        {**LEAST, "source": {"revision": "v1"}},
        {**LEAST, "source": {"repo": "owner/model", "path": "./m"}},
        {**LEAST, "source": {"repo": "model"}},
        {**LEAST, "extends": 5},
        {**LEAST, "extends": ""},
        {**LEAST, "foo": 1},
        {**LEAST, "engine": {"foo": 1}},
        {**LEAST, "engine": {"attention": {"foo": 1}}},
        {**LEAST, "engine": None},
        {**LEAST, "engine": {"targets": []}},
        {**LEAST, "engine": {"targets": ["sm1"]}},
        {**LEAST, "engine": {"max_batch_size": 0}},
        {**LEAST, "engine": {"max_batch_size": "8"}},
        {**LEAST, "checkpoint": {"dtype": "bf16"}},
        {**LEAST, "smoke": {"prompts": [{}]}},
        {**LEAST, "smoke": {"prompts": [{"text": ""}]}},
        {**LEAST, "variants": {"v": {"foo": 1}}},
        {**LEAST, "variants": {"v": {"variants": {}}}},
        {**LEAST, "variants": {"v": {"smoke": {"prompts": [{}]}}}},
        {**LEAST, "variants": {"V": {}}},
        {**LEAST, "variants": {"v": None}},
    ],
)
def test_what_the_schema_refuses_does_not_load(tmp_path: Path, document: Any) -> None:
    assert (_fits(document), _loads(tmp_path, document)) == (False, False)
