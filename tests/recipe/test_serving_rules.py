"""Rules between what serves a release and the engine in it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.recipe.rules import BROKEN_RULE
from pipeline.recipe.schema import Recipe

TRITON = {"formats": ["tar", "triton"]}


def recipe(package: dict[str, Any], engine: dict[str, Any] | None = None) -> Recipe:
    document = {"name": "x", "source": {"repo": "a/b"}, "package": package, "engine": engine or {}}
    return Recipe.model_validate(document)


@pytest.mark.parametrize(
    ("package", "engine"),
    [
        (TRITON, {}),
        ({"formats": ["triton"]}, {"use_paged_context_fmha": False}),
        (TRITON | {"serving": {"kv_cache_reuse": True, "chunked_context": True}}, {}),
        (TRITON | {"serving": {"chunked_context": True}}, {"max_num_tokens": 512}),
        (TRITON | {"serving": {"triton_image": "26.04"}}, {}),
        (
            TRITON | {"serving": {"kv_cache_reuse": False}},
            {"attention": {"context_fmha": False, "require_fused": False}},
        ),
        ({"kind": "pytorch"}, {"backend": "tensorrt"}),
        ({"kind": "pytorch", "formats": []}, {}),
        ({"kind": "pytorch", "serving": {"triton_image": "26.04", "streaming": True}}, {}),
    ],
)
def test_what_fits(package: dict[str, Any], engine: dict[str, Any]) -> None:
    assert recipe(package, engine).package.serving.kv_cache_fraction == 0.9


@pytest.mark.parametrize(
    ("package", "engine", "message", "keys"),
    [
        (
            TRITON | {"kind": "pytorch"},
            {},
            "a package of kind `pytorch` has no engine for it",
            {("package", "formats"), ("package", "kind")},
        ),
        (
            TRITON,
            {"backend": "onnxruntime"},
            "`engine.backend` is `onnxruntime`",
            {("package", "formats"), ("engine", "backend")},
        ),
        (
            TRITON,
            {"gpt_attention_plugin": None, "attention": {"require_fused": False}},
            "`engine.gpt_attention_plugin` is off",
            {("engine", "gpt_attention_plugin"), ("package", "formats")},
        ),
        (
            TRITON | {"serving": {"kv_cache_reuse": True}},
            {"use_paged_context_fmha": False},
            "`package.serving.kv_cache_reuse` is true, but `engine.use_paged_context_fmha` is",
            {("package", "serving", "kv_cache_reuse"), ("engine", "use_paged_context_fmha")},
        ),
        (
            TRITON | {"serving": {"chunked_context": True}},
            {"attention": {"context_fmha": False, "require_fused": False}},
            "`package.serving.chunked_context` is true, but `engine.attention.context_fmha` is",
            {("package", "serving", "chunked_context"), ("engine", "attention", "context_fmha")},
        ),
        (
            TRITON,
            {"max_num_tokens": 512},
            "`engine.max_num_tokens` is 512, but `engine.max_input_len` is 1024",
            {
                ("engine", "max_num_tokens"),
                ("engine", "max_input_len"),
                ("package", "serving", "chunked_context"),
            },
        ),
        (
            {"serving": {"chunked_context": True, "kv_cache_fraction": 0.9}},
            {},
            "`package.serving.chunked_context`: said of a release that is for no server",
            {("package", "serving", "chunked_context"), ("package", "formats")},
        ),
        (
            TRITON | {"serving": {"triton_image": "25.12"}},
            {},
            "`package.serving.triton_image` 25.12 has TensorRT-LLM 1.1.0, which loads no engine",
            {("package", "serving", "triton_image"), ("package", "formats")},
        ),
    ],
)
def test_what_does_not_fit(
    package: dict[str, Any],
    engine: dict[str, Any],
    message: str,
    keys: set[tuple[str, ...]],
) -> None:
    with pytest.raises(ValidationError) as caught:
        recipe(package, engine)
    found = [error for error in caught.value.errors() if error["type"] == BROKEN_RULE]
    (error,) = [error for error in found if message in error["ctx"]["message"]]
    assert set(error["ctx"]["keys"]) == keys
    assert error["ctx"]["hint"]


@pytest.mark.parametrize(
    "engine",
    [
        {"kv_cache_type": "continuous", "use_paged_context_fmha": False},
        {"remove_input_padding": False},
        {"speculative_decoding_mode": "lookahead_decoding", "max_draft_len": 4},
    ],
)
def test_engines_without_in_flight_batching(engine: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        recipe(TRITON, engine)


@pytest.mark.parametrize("line", ["25.13", "v25.12", "2025.12", "25.00"])
def test_an_image_line_is_a_year_and_a_month(line: str) -> None:
    with pytest.raises(ValidationError):
        recipe(TRITON | {"serving": {"triton_image": line}})
