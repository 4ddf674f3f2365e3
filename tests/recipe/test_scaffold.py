"""A new recipe loads as it is written."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.recipe.json_schema import recipe_json_schema
from pipeline.recipe.load import load_recipe
from pipeline.recipe.scaffold import new_recipe


@pytest.mark.parametrize("name", ["llama", "7b", "1.10", "123", "1e5", "true", "null", "a.b-c_d"])
def test_new_recipe_of_a_repo_loads(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(new_recipe(name, repo="owner/model"))
    loaded = load_recipe(path)
    assert (loaded.recipe.name, loaded.recipe.source.repo) == (name, "owner/model")
    assert load_recipe(path, variant="cpu").recipe.engine.backend == "onnxruntime"


def test_new_recipe_fits_the_schema_and_names_it() -> None:
    text = new_recipe("x", repo="owner/model", schema="../recipe.schema.json")
    assert text.startswith("# yaml-language-server: $schema=../recipe.schema.json\n")
    jsonschema.Draft202012Validator(recipe_json_schema()).validate(yaml.safe_load(text))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1))
def test_new_recipe_of_a_folder_keeps_its_path(tmp_path: Path, folder: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(new_recipe("x", path=folder), encoding="utf-8")
    assert load_recipe(path).recipe.source.path == folder


def test_what_no_recipe_may_have_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        new_recipe("Big Model", repo="https://huggingface.co/owner/model")
    name, repo = caught.value.facts
    assert name.startswith("`name` must be lower-case letters and digits")
    assert name.endswith("found the text `Big Model`; write `big-model`")
    assert repo.startswith("`source.repo` must be `owner/name`, found the text `https://")
    assert repo.endswith("; write `owner/model`")


@pytest.mark.parametrize("source", [{}, {"repo": "owner/model", "path": "m"}])
def test_one_source_must_be_given(source: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        new_recipe("x", **source)
    assert len(caught.value.facts) == 1
