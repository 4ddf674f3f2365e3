"""Engines of ONNX Runtime on an NVIDIA GPU (marker `gpu`): needs `onnxruntime-gpu` and CUPTI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.command import RECIPES
from tests.gpu.checkpoints import write_source
from tests.gpu.recipes import PROMPTS
from tests.gpu.runs import run_recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("onnxruntime_gpu"),
]

LOGIT_ERROR = {"bfloat16": 0.5, "float16": 0.1}
"""Of the largest logits of these models, about 4 in size; bfloat16 has 8 bits of precision."""


def overrides(dtype: str, *more: str) -> tuple[str, ...]:
    return (
        "engine.backend=onnxruntime",
        "engine.device=cuda",
        f"checkpoint.dtype={dtype}",
        "smoke.require_engine=true",
        *more,
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_demo_recites_on_the_gpu(tmp_path: Path, dtype: str) -> None:
    """Its expectations hold, and its logits are those of the float32 graph but for rounding."""
    compare = f"smoke.compare={{min_equal_tokens: 16, max_logit_error: {LOGIT_ERROR[dtype]}}}"
    run = run_recipe(RECIPES / "demo.yaml", tmp_path / "store", *overrides(dtype, compare))
    check(run.read("build", "attention.json"))
    record = run.read("smoke", "smoke.json")
    assert record["executed_by"]["backend"] == "onnxruntime"
    assert record["executed_by"]["device"] != "cpu"
    assert record["comparison"]["compared"] is True


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gpt2", "mixtral"])
def test_a_family_is_fused_and_equals_the_float32_graph(name: str, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", name)
    recipe = tmp_path / "recipe.yaml"
    texts = "".join(f"    - text: {text!r}\n" for text in PROMPTS)
    recipe.write_text(
        f"name: {name}\nsource: {{path: {source}}}\n"
        "engine: {max_batch_size: 4, max_input_len: 256, max_seq_len: 512}\n"
        f"smoke:\n  max_new_tokens: 8\n  compare: {{min_equal_tokens: 1, max_logit_error: 0.1}}\n"
        f"  prompts:\n{texts}"
    )
    run = run_recipe(recipe, tmp_path / "store", *overrides("float16"))
    check(run.read("build", "attention.json"))
    assert run.read("smoke", "smoke.json")["comparison"]["compared"] is True


def check(proof: Mapping[str, Any]) -> None:
    """Fused as built, and fused kernels seen in both phases."""
    built, observed = proof["built"], proof["observed"]
    assert (built["status"], built["level"]) == ("fused", "kernel"), proof
    assert built["attention_sites"] == built["attention_layers"]
    for phase in ("context", "generation"):
        assert observed[phase]["status"] == "fused", observed
