"""The table of what compiles fused, and the builder's own word on both sides of its bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.tensorrt import ENGINE
from pipeline.engines.tensorrt.job import profile_tokens
from pipeline.errors import Problem, ToolFailed
from pipeline.hardware import Hardware
from tests.engines.tensorrt_backend.tensorrt_parts import (
    ALL_TARGETS,
    build,
    checkpoint,
    job,
    limits,
)
from tests.tiny_decoder import Shape

NOTHING = Hardware(num_cpus=2, available_memory_bytes=1 << 34, gpus=())


def config(dtype: str = "bfloat16", head_size: int = 64, heads: int = 4) -> dict[str, Any]:
    shape = Shape(
        dtype=dtype,
        hidden_size=heads * head_size,
        num_heads=heads,
        num_kv_heads=1,
        head_size=head_size,
        max_position_embeddings=65536,
    )
    return shape.config()


def problems(
    *targets: str, fused: bool = True, max_seq_len: int = 48, **model: Any
) -> list[Problem]:
    settings = limits(*targets, fused=fused, max_seq_len=max_seq_len)
    found = ENGINE.problems(config(**model), settings, NOTHING)
    assert all(problem.stage == "build" and problem.hint for problem in found)
    return found


def test_what_compiles_has_no_problems() -> None:
    assert problems() == []
    assert problems(*ALL_TARGETS, dtype="float16") == []
    assert problems(max_seq_len=65536) == []
    assert problems(dtype="float32", head_size=264, fused=False) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dtype": "float32"}, "for float32"),
        ({"head_size": 8}, "head size 8, only for multiples of 8 from 16 to 256"),
        ({"head_size": 264}, "head size 264"),
        ({"head_size": 68}, "head size 68"),
        ({"heads": 1}, "for 1 attention head"),
        ({"max_seq_len": 65537}, "65536 positions"),
    ],
    ids=str,
)
def test_what_does_not_is_refused_with_the_reason(given: dict[str, Any], words: str) -> None:
    (problem,) = problems(**given)
    assert words in problem.message


def test_fused_attention_that_is_asked_for_but_not_required_is_refused_too() -> None:
    # The build would fail: it never falls back by itself.
    settings = limits(fused=True, require=False)
    (problem,) = ENGINE.problems(config("float32"), settings, NOTHING)
    assert "context_fmha: false" in str(problem.hint)


@pytest.mark.parametrize("target", ["sm90", "sm100"])
def test_a_target_of_another_tensorrt_is_refused_with_what_to_use(target: str) -> None:
    (problem,) = problems(target, "sm80")
    assert f"`{target}`" in problem.message
    assert "`sm80`" not in problem.message
    assert "tensorrt-cu13" in str(problem.hint)
    assert "trtllm" in str(problem.hint)


def test_bfloat16_on_turing_is_refused_even_unfused() -> None:
    for fused in (True, False):
        (problem,) = problems("sm75", "sm80", fused=fused)
        assert "`sm75`, which has no bfloat16" in problem.message
        assert "float16" in str(problem.hint)


def test_support_is_told_for_each_target() -> None:
    rows = ENGINE.attention_support(config(), limits("sm75", "sm80", "sm90"))
    assert [(row["target"], row["fused"]) for row in rows] == [
        ("sm75", False),
        ("sm80", True),
        ("sm90", None),
    ]
    assert "measured with TensorRT for RTX" in rows[1]["reason"]
    (row,) = ENGINE.attention_support(config("float32"), limits("sm80"))
    assert (row["fused"], "float32" in row["reason"]) == (False, True)
    (row,) = ENGINE.attention_support(config(), limits("sm80", fused=False))
    assert (row["fused"], row["reason"]) == (False, "the recipe turns it off")


@pytest.mark.parametrize(
    ("head_size", "heads", "max_seq_len", "tokens"),
    [
        (64, 4, 24512, 1),
        (64, 4, 24513, 2),
        (256, 4, 24320, 1),
        (256, 4, 24321, 2),
        (64, 3, 2048, 2),
    ],
)
def test_generation_steps_are_of_one_token_where_there_is_a_kernel_for_that(
    head_size: int, heads: int, max_seq_len: int, tokens: int
) -> None:
    settings = limits(max_seq_len=max_seq_len)
    model = config(head_size=head_size, heads=heads)
    assert profile_tokens(model, settings) == (24, tokens)


BOTH_SIDES = [
    ({"head_size": 16}, 48, True),
    ({"head_size": 8}, 48, False),
    ({"head_size": 256}, 48, True),
    ({"head_size": 264}, 48, False),
    ({"num_heads": 2, "num_kv_heads": 1}, 48, True),
    ({"num_heads": 1, "num_kv_heads": 1}, 48, False),
    ({"num_heads": 3, "num_kv_heads": 1}, 48, True),
    ({"head_size": 64, "max_position_embeddings": 24513}, 24512, True),
    ({"head_size": 64, "max_position_embeddings": 24513}, 24513, True),
]


@pytest.mark.parametrize(("changes", "max_seq_len", "fused"), BOTH_SIDES, ids=str)
def test_the_builder_agrees_with_the_table(
    tmp_path: Path, changes: dict[str, Any], max_seq_len: int, fused: bool
) -> None:
    source = checkpoint(tmp_path / "source", "float16", num_layers=1, **changes)
    settings = limits("sm80", max_seq_len=max_seq_len)
    assert bool(ENGINE.problems(source.config, settings, NOTHING)) is not fused
    if fused:
        assert build(source, tmp_path / "engine", settings)["attention"] == "fused"
    else:
        with pytest.raises(ToolFailed, match="no fused attention kernel"):
            build(source, tmp_path / "engine", settings)


@pytest.mark.parametrize(("dtype", "head_size"), [("float16", 68), ("float16", 8), ("float32", 68)])
def test_unfused_head_sizes_that_the_builder_cannot_compile_are_refused(
    tmp_path: Path, dtype: str, head_size: int
) -> None:
    source = checkpoint(tmp_path / "source", dtype, num_layers=1, head_size=head_size)
    settings = limits("sm80", fused=False)
    found = ENGINE.problems(source.config, settings, NOTHING)
    if (dtype, head_size) != ("float16", 68):
        assert found == []
        build(source, tmp_path / "engine", settings)
        return
    assert "head size 68 in float16, even unfused" in found[0].message
    (asked,) = ENGINE.problems(source.config, limits("sm80"), NOTHING)
    assert "require_fused: false}` and `checkpoint.dtype: float32`" in str(asked.hint)
    with pytest.raises(ToolFailed, match="did not build"):
        build(source, tmp_path / "engine", settings)


def test_the_builder_has_no_bfloat16_on_turing(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "source", "bfloat16", num_layers=1)
    with pytest.raises(ToolFailed) as caught:
        build(source, tmp_path / "engine", limits("sm75"))
    assert any("sm75" in fact for fact in caught.value.facts)


def test_one_token_kernels_end_where_the_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A generation profile of exactly one token, where the table would have made it of two.
    monkeypatch.setattr("pipeline.engines.tensorrt.job.generation_tokens", lambda *_: 1)
    long = checkpoint(
        tmp_path / "long", "float16", num_layers=1, head_size=64, max_position_embeddings=24513
    )
    build(long, tmp_path / "one", limits("sm80", max_seq_len=24512))
    with pytest.raises(ToolFailed, match="no fused attention kernel"):
        build(long, tmp_path / "two", limits("sm80", max_seq_len=24513))
    few = checkpoint(tmp_path / "few", "float16", num_layers=1, num_heads=3, num_kv_heads=1)
    with pytest.raises(ToolFailed, match="no fused attention kernel"):
        build(few, tmp_path / "three", limits("sm80"))


@pytest.mark.parametrize("tokens", [16, 64, 65])
def test_a_batch_of_one_with_short_steps_is_compiled(tmp_path: Path, tokens: int) -> None:
    source = checkpoint(tmp_path / "source", num_layers=2, num_heads=8, num_kv_heads=4)
    short = {"max_batch_size": 1, "max_input_len": tokens, "max_seq_len": 128}
    facts = build(source, tmp_path / "engine", limits("sm89").model_copy(update=short))
    assert facts["attention"] == "fused"
    made, _ = job(source, tmp_path / "job", limits("sm89").model_copy(update=short))
    context, generation = (profile["input_ids"] for profile in made["profiles"])
    assert context == [[1, 1], [1, tokens], [1 if tokens == 65 else 2, tokens]]
    assert generation == [[1, 1]] * 3
