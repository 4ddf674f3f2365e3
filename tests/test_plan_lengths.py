"""Up to which length an engine may go: positions, sliding windows, and what changes beyond."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.hardware import Hardware
from pipeline.plan import Plan, resolve
from pipeline.recipe.load import load_recipe
from pipeline.sources.digest_memory import DigestMemory
from tests.families.fixtures import FIXTURES

BACKENDS = ("onnxruntime", "tensorrt", "trtllm")


def planned(folder: Path, fixture: str, engine: dict[str, Any], **changes: Any) -> Plan:
    """The plan for a stored checkpoint with other keys in its config.json."""
    source = Path(shutil.copytree(FIXTURES / fixture, folder / "source"))
    config = json.loads((source / "config.json").read_text()) | changes
    (source / "config.json").write_text(json.dumps(config))
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"name": "x", "source": {"path": "source"}, "engine": engine}))
    hardware = Hardware(num_cpus=2, available_memory_bytes=1 << 33, gpus=())
    memory = DigestMemory(folder / "digests")
    return resolve(load_recipe(recipe), memory=memory, hardware=hardware, cache_dir=folder)


def lines(plan: Plan) -> list[str]:
    return [problem.message for problem in plan.problems if problem.stage == "build"]


def told(plan: Plan) -> str:
    return "\n".join(lines(plan))


@pytest.mark.parametrize("fixture", ["mistral-window", "gemma2", "gemma3"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_only_trtllm_is_limited_by_a_window(backend: str, fixture: str, tmp_path: Path) -> None:
    engine = {"backend": backend, "max_seq_len": 64, "max_input_len": 32}
    plan = planned(tmp_path, fixture, engine)
    limited = "sliding window of 32 tokens" in told(plan)
    assert limited == (backend == "trtllm")


@pytest.mark.parametrize("backend", BACKENDS)
def test_defaults_follow_the_window_only_where_it_limits(backend: str, tmp_path: Path) -> None:
    plan = planned(tmp_path, "mistral-window", {"backend": backend}, max_position_embeddings=256)
    assert plan.recipe.engine.max_seq_len == (32 if backend == "trtllm" else 256)
    assert "sliding window" not in told(plan)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_smallest_window_limits(backend: str, tmp_path: Path) -> None:
    changes = {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 2}
    engine = {"backend": backend, "max_seq_len": 25, "max_input_len": 8}
    plan = planned(tmp_path, "qwen2", engine, **changes, layer_types=[])
    limited = "sliding window of 24 tokens" in told(plan)
    assert limited == (backend == "trtllm")
    assert plan.conversion.config["attention_windows"] == [None, None, 24]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_that_changes_beyond_a_length_is_limited_by_it(
    backend: str, tmp_path: Path
) -> None:
    engine = {"backend": backend, "max_seq_len": 65, "max_input_len": 8}
    plan = planned(tmp_path / "given", "qwen", engine)
    assert sum("`engine.max_seq_len` is 65, but beyond" in line for line in lines(plan)) == 1
    plan = planned(tmp_path / "fitted", "qwen", {"backend": backend})
    assert plan.recipe.engine.max_seq_len == 64
    assert "but beyond" not in told(plan)
