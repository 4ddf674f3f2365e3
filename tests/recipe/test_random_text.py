"""Whatever a file holds, loading it either works or raises RecipeError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import RecipeError
from pipeline.recipe.load import load_recipe
from pipeline.recipe.schema import Recipe
from pipeline.recipe.sections import sections

RECIPE = """\
name: x
source: {repo: owner/model, revision: v1}
checkpoint: {dtype: float16}
engine:
  backend: tensorrt
  targets: [sm80, "sm89"]
smoke:
  prompts:
    - text: 'The capital of France is'
      expect: {contains: Paris, min_tokens: 2}
variants:
  cpu: {engine: {backend: onnxruntime}}
"""
KEYS = sorted({key for model in sections().values() for key in model.model_fields} | {"variants"})
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS | st.sampled_from(["sm89", "tensorrt", "tar", "o/m"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
QUIET = settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def _load(folder: Path, data: bytes, *overrides: str) -> None:
    """Load a file with these bytes; an error must be a RecipeError that can be shown."""
    path = folder / "x.yaml"
    path.write_bytes(data)
    facts: tuple[str, ...] | None = None
    try:
        load_recipe(path, overrides=overrides)
    except RecipeError as error:
        facts = error.facts
    assert facts != ()
    assert all(line.isprintable() for fact in facts or () for line in fact.split("\n"))


@QUIET
@given(st.binary(max_size=200))
def test_random_bytes(tmp_path: Path, data: bytes) -> None:
    _load(tmp_path, data)


@QUIET
@given(st.text(alphabet="abn:-[]{}'\"\\,#&*!|>%@`~?.01 \n\t", max_size=80))
def test_random_yaml(tmp_path: Path, text: str) -> None:
    _load(tmp_path, text.encode())


@QUIET
@given(st.dictionaries(st.sampled_from([*KEYS, "name", "source"]), VALUES, max_size=6))
def test_random_documents(tmp_path: Path, document: dict[str, Any]) -> None:
    _load(tmp_path, json.dumps(document).encode())
    whole = {"name": "x", "source": {"repo": "o/m"}, **document}
    _load(tmp_path, json.dumps(whole, ensure_ascii=False).encode("utf-8", "replace"))


@QUIET
@given(
    st.integers(0, len(RECIPE)),
    st.integers(0, 30),
    st.text(alphabet="ab:-[]{}'\",#&*! \n1", max_size=6),
)
def test_damaged_recipes(tmp_path: Path, start: int, length: int, text: str) -> None:
    _load(tmp_path, (RECIPE[:start] + text + RECIPE[start + length :]).encode())


@QUIET
@given(st.sampled_from(KEYS) | st.text(max_size=20), VALUES | st.text(max_size=30))
def test_random_overrides(tmp_path: Path, key: str, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    _load(tmp_path, RECIPE.encode(), f"{key}={text}", f"engine.{key}={text}")


TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cn", "Zl", "Zp"]), min_size=1
)
SIZES = st.integers(1, 1000)
PROMPTS = st.fixed_dictionaries(
    {"text": TEXT},
    optional={
        "stop": st.lists(TEXT, max_size=2),
        "expect": st.fixed_dictionaries({}, optional={"contains": TEXT, "text": TEXT}),
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {"name": st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,9}[a-z0-9])?", fullmatch=True)},
    optional={
        "checkpoint": st.fixed_dictionaries(
            {}, optional={"tp_size": SIZES, "dtype": st.sampled_from(["auto", "float16"])}
        ),
        "engine": st.fixed_dictionaries(
            {"backend": st.just("tensorrt")},  # the one that takes several targets
            optional={
                "max_input_len": SIZES,
                "max_seq_len": SIZES.map(lambda size: size + 1024),
                "targets": st.lists(
                    st.sampled_from(["sm80", "sm89", "sm120"]), min_size=1, unique=True
                ),
            },
        ),
        "smoke": st.fixed_dictionaries(
            {},
            optional={
                "temperature": st.floats(0, 10),
                "prompts": st.lists(PROMPTS, min_size=1, max_size=3),
            },
        ),
    },
)


@QUIET
@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
def test_merged_documents_are_recipes(
    tmp_path: Path, parent: dict[str, Any], child: dict[str, Any], variant: dict[str, Any]
) -> None:
    """What was merged loads again as the same recipe, and is the recipe that pydantic makes."""
    source = {"repo": "owner/model"}
    files = {
        "parent": {**parent, "source": source},
        "child": {**child, "extends": "parent.yaml", "variants": {"v": variant}},
    }
    for name, document in files.items():
        text = json.dumps(document, ensure_ascii=False)
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    loaded = load_recipe(tmp_path / "child.yaml", variant="v")
    assert loaded.recipe == Recipe.model_validate(loaded.document)
    assert loaded.recipe.name == variant["name"]
    again = tmp_path / "again.yaml"
    again.write_text(json.dumps(loaded.document, ensure_ascii=False), encoding="utf-8")
    assert load_recipe(again).document == loaded.document
    assert load_recipe(again).recipe == loaded.recipe
