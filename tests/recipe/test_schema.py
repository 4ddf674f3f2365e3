"""The models, and the tables of names that are told users about them."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from pipeline.recipe.known_names import (
    EXPLAINED_KEYS,
    KNOWN_VALUES,
    PATTERNS,
    RENAMED_KEYS,
    SHORTHANDS,
)
from pipeline.recipe.schema import Recipe
from pipeline.recipe.section import Section
from pipeline.recipe.sections import sections
from pipeline.recipe.unknown_keys import FILE_KEYS

LEAST = {"name": "x", "source": {"repo": "owner/model"}}
FIELDS = {
    ".".join((*path, key)): info
    for path, model in sections().items()
    for key, info in model.model_fields.items()
}


def test_every_section_is_found() -> None:
    found: set[type[Section]] = set()
    waiting = [Section]
    while waiting:
        below = waiting.pop().__subclasses__()
        waiting += below
        found |= {model for model in below if not model.__subclasses__()}
    assert set(sections().values()) == found


def test_only_the_name_the_source_and_a_prompts_text_are_required() -> None:
    required = {name for name, info in FIELDS.items() if info.is_required()}
    assert required == {"name", "source", "smoke.prompts.text"}


def test_every_field_is_described() -> None:
    assert [name for name, info in FIELDS.items() if not info.description] == []


def test_defaults_make_a_valid_recipe() -> None:
    recipe = Recipe.model_validate(LEAST)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize("table", [RENAMED_KEYS, EXPLAINED_KEYS])
def test_names_of_other_tools_are_not_ours(table: dict[str, str]) -> None:
    assert not set(table) & ({name.split(".")[-1] for name in FIELDS} | set(FILE_KEYS))


def test_renamed_keys_lead_to_keys() -> None:
    assert set(RENAMED_KEYS.values()) <= set(FIELDS) | set(FILE_KEYS)


def test_known_values_are_valid() -> None:
    for name, values in KNOWN_VALUES.items():
        section, key = name.split(".")
        for value in values.values():
            given = [value] if key == "targets" else None if value == "null" else value
            Recipe.model_validate({**LEAST, section: {**LEAST.get(section, {}), key: given}})


def test_shorthands_name_keys() -> None:
    for name, key in SHORTHANDS.items():
        assert key in sections()[tuple(name.split("."))].model_fields


def test_every_pattern_is_put_in_words() -> None:
    schema = Recipe.model_json_schema()
    found = set()
    for path, model in sections().items():
        section = schema if model is Recipe else schema["$defs"][model.__name__]
        for key, rules in section["properties"].items():
            found |= {".".join((*path, key))} if '"pattern"' in json.dumps(rules) else set()
    assert found == set(PATTERNS)


@pytest.mark.parametrize(
    "repo", ["owner", "/owner/name", "a/b/c", "owner/näme", "owner/.name", "-/x", "owner/name\n"]
)
def test_repos_are_owner_and_name(repo: str) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate({"name": "x", "source": {"repo": repo}})


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://hub.example.com",
        "https://hub.example.com:8443/hf/",
        "http://127.0.0.1:9",
        "http://localhost",
        "http://[::1]:80",
    ],
)
def test_mirrors(endpoint: str) -> None:
    source = {"repo": "owner/name", "endpoint": endpoint}
    assert Recipe.model_validate({"name": "x", "source": source}).source.endpoint == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "hub.example.com",
        "http://hub.example.com",
        "http://127.0.0.1.example.com",
        "https://user:pass@hub.example.com",
        "https://hub.example.com/?a=b",
        "https://hub.example.com/#a",
        "https://hub.example.com/a b",
        "https://hub.example.com\n",
        "file:///etc/passwd",
        "https://" + "a" * 120,
    ],
)
def test_what_is_no_mirror(endpoint: str) -> None:
    source = {"repo": "owner/name", "endpoint": endpoint}
    with pytest.raises(ValidationError):
        Recipe.model_validate({"name": "x", "source": source})


@pytest.mark.parametrize("source", [{"path": "a"}, {"repo": "owner/name", "hub": "modelscope"}])
def test_a_mirror_is_one_of_the_hub(source: dict[str, str]) -> None:
    source = {**source, "endpoint": "https://hub.example.com"}
    with pytest.raises(ValidationError, match="goes with a repo of the Hugging Face Hub"):
        Recipe.model_validate({"name": "x", "source": source})


def test_regular_expressions_with_doubtful_syntax_give_no_warning() -> None:
    expect = {"regex": "[[a]"}
    Recipe.model_validate({**LEAST, "smoke": {"prompts": [{"text": "a", "expect": expect}]}})


@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime", "trtllm"])
def test_parallelism_is_left_to_the_plan(backend: str) -> None:
    document = {**LEAST, "engine": {"backend": backend}, "checkpoint": {"tp_size": 2, "pp_size": 3}}
    assert Recipe.model_validate(document).checkpoint.tp_size == 2


def test_the_limit_of_a_prompt_goes_before_that_of_the_test() -> None:
    prompt = {"text": "a", "max_new_tokens": 9, "expect": {"min_tokens": 8}}
    Recipe.model_validate({**LEAST, "smoke": {"max_new_tokens": 4, "prompts": [prompt]}})
    prompt["max_new_tokens"] = 7
    with pytest.raises(ValidationError, match="at most 7 are generated"):
        Recipe.model_validate({**LEAST, "smoke": {"prompts": [prompt]}})


def test_recipes_cannot_be_changed() -> None:
    recipe = Recipe.model_validate(LEAST)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.engine.max_batch_size = 3


def test_a_long_list_of_targets_is_compared_at_once() -> None:
    targets = [f"sm{80 + number % 20}" for number in range(50_000)]
    with pytest.raises(ValidationError, match="gives `sm80`, `sm81`"):
        Recipe.model_validate({**LEAST, "engine": {"targets": targets}})
