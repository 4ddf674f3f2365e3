"""Rotary settings in the spellings of transformers 4 and 5."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.weights.config_rules import Rope
from pipeline.weights.rope import ROPE_TYPES, RopeSettings, read_rope

LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"factor": 4.0, "original_max_position_embeddings": 4096}


def read(**config: Any) -> RopeSettings:
    rule = Rope("rotary_base", "rotary_scaling", 10000.0, ROPE_TYPES)
    return read_rope(rule, {"max_position_embeddings": 2048, **config})


@pytest.mark.parametrize(
    ("config", "base", "scaling"),
    [
        ({}, 10000.0, None),
        ({"rope_theta": 5e5}, 5e5, None),
        ({"rope_theta": 500000}, 500000, None),
        ({"rope_theta": 5e5, "rope_scaling": None}, 5e5, None),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, 5e5, None),
        ({"rope_parameters": {"rope_theta": 5e5}}, 5e5, None),
        ({"rope_scaling": {"type": "default"}}, 10000.0, None),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            10000.0,
            {"type": "linear", "factor": 2.0},
        ),
        (
            {"rope_scaling": {"rope_type": "dynamic", "type": "dynamic", "factor": 2.0}},
            10000.0,
            {"rope_type": "dynamic", "type": "dynamic", "factor": 2.0, "alpha": 1.0},
        ),
        (
            {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
            5e5,
            {"rope_type": "llama3", **LLAMA3},
        ),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
            5e5,
            {"rope_type": "llama3", **LLAMA3},
        ),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, **YARN, "beta_fast": 16}},
            1e6,
            {"rope_type": "yarn", **YARN, "beta_fast": 16},
        ),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2, "partial_rotary_factor": 1.0}},
            10000.0,
            {"rope_type": "linear", "factor": 2},
        ),
    ],
)
def test_what_is_read(config: dict[str, Any], base: float, scaling: Any) -> None:
    settings = read(**config)
    assert settings == RopeSettings(base, scaling, 1.0, ())


def test_both_spellings_may_stand_together_if_they_agree() -> None:
    both = read(
        rope_theta=5e5,
        rope_scaling={"type": "llama3", **LLAMA3},
        rope_parameters={"rope_theta": 5e5, **LLAMA3, "rope_type": "llama3"},
    )
    assert (both.base, both.faults) == (5e5, ())


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (
            {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}},
            "`rope_theta` 10000.0 and `rope_parameters.rope_theta` 500000.0 disagree",
        ),
        (
            {
                "rope_scaling": {"type": "linear", "factor": 2.0},
                "rope_parameters": {"rope_type": "linear", "factor": 4.0},
            },
            "`rope_scaling` and `rope_parameters` disagree",
        ),
        (
            {
                "rope_scaling": {"type": "linear", "factor": 2.0},
                "rope_parameters": {"rope_type": "default"},
            },
            "`rope_scaling` and `rope_parameters` disagree",
        ),
        (
            {"rope_scaling": {"type": "linear", "rope_type": "dynamic", "factor": 2.0}},
            "`rope_scaling.rope_type` and `rope_scaling.type` disagree",
        ),
        (
            {"rope_scaling": {"rope_type": "longrope", "short_factor": [1], "long_factor": [1]}},
            "the rope type `longrope` is not supported; supported: `default`, `linear`",
        ),
        ({"rope_scaling": {"rope_type": "su"}}, "the rope type `su` is not supported"),
        ({"rope_scaling": {"type": "linear"}}, "`linear` rope needs `factor`"),
        ({"rope_scaling": {"type": "linear", "factor": None}}, "`linear` rope needs `factor`"),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0, "alpha": 1.0}},
            "unknown key `alpha` of `linear` rope",
        ),
        (
            {"rope_scaling": {"type": "linear", "factor": "2"}},
            "`factor` of `linear` rope is `2`, expected a number",
        ),
        ({"rope_scaling": {"factor": 2.0}}, "`rope_scaling.factor` without a rope type"),
        ({"rope_scaling": {"type": 5, "factor": 2.0}}, "`rope_scaling.type` is `5`"),
        ({"rope_parameters": {"rope_type": ["linear"]}}, "expected a text"),
        ({"rope_scaling": []}, "`rope_scaling` is not an object"),
        ({"rope_parameters": "default"}, "`rope_parameters` is not an object"),
        ({"rope_theta": 0}, "`rope_theta` is `0`, expected a number above 0"),
        ({"rope_theta": True}, "`rope_theta` is `True`, expected a number above 0"),
        ({"rope_theta": "1e4"}, "expected a number above 0"),
        (
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            "`rope_parameters.partial_rotary_factor` is not 1",
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}},
            "`rope_parameters.full_attention` without a rope type",
        ),
    ],
)
def test_what_is_refused(config: dict[str, Any], fault: str) -> None:
    assert fault in "\n".join(read(**config).faults)


@pytest.mark.parametrize("value", [[0.5], {"a": 1}, "0.5", True, 0, 1.5])
def test_a_rotated_part_that_is_none_is_refused(value: Any) -> None:
    rule = Rope("rotary_base", None, 10000.0, types={}, fraction="rotary_pct", default_fraction=0.5)
    settings = read_rope(rule, {"partial_rotary_factor": value})
    assert f"`partial_rotary_factor` is `{value}`, expected a number" in settings.faults[0]
    assert settings.fraction == 0.5


@pytest.mark.parametrize("kind", ["llama3", "yarn"])
def test_a_length_that_is_left_out_is_written_out(kind: str) -> None:
    """transformers takes max_position_embeddings, TensorRT-LLM a constant of its own."""
    given = {key: value for key, value in LLAMA3.items() if not key.startswith("original")}
    scaling = given if kind == "llama3" else {"factor": 4.0}
    settings = read(rope_scaling={"rope_type": kind, **scaling})
    assert settings.faults == ()
    assert settings.scaling is not None
    assert settings.scaling["original_max_position_embeddings"] == 2048


def test_the_source_is_not_changed() -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}
    read(rope_scaling=scaling)
    assert scaling == {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}
