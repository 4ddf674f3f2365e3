"""Every recipe of the repository loads, fits the schema, and tells editors where that is."""

from __future__ import annotations

import os
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.recipe.json_schema import FILE_NAME, recipe_json_schema
from pipeline.recipe.load import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
SHIPPED = sorted(RECIPES.rglob("*.yaml"))


def test_there_are_recipes() -> None:
    assert {"demo.yaml", "tinyllama-1.1b-chat.yaml"} <= {path.name for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_recipe_loads_with_each_variant(path: Path) -> None:
    loaded = load_recipe(path)
    for variant in loaded.variants:
        assert load_recipe(path, variant=variant).variant == variant
    assert loaded.recipe.name == path.stem


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_recipe_fits_the_schema(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(recipe_json_schema()).validate(document)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_recipe_begins_with_the_modeline(path: Path) -> None:
    schema = os.path.relpath(RECIPES / FILE_NAME, path.parent)
    first = path.read_text(encoding="utf-8").split("\n")[0]
    assert first == f"# yaml-language-server: $schema={schema}"
