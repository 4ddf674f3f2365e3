"""`trtllm-pack convert` on the command line: experts, explanations, the memory limit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import ROOT, run_command

FIXTURES = ROOT / "tests" / "fixtures"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Experts on two ranks, each with half of them."""
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"name: tiny\nsource: {{path: {FIXTURES / 'mixtral'}}}\n"
        "checkpoint: {tp_size: 2, moe_ep_size: 2}\n"
        "engine: {backend: onnxruntime}\n"
    )
    return path


def test_a_family_without_an_engine_converts(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    store = str(tmp_path / "store")
    done = run_command("convert", str(recipe), "--store", store, "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    config = json.loads((out / "config.json").read_text())
    assert config["mapping"]["moe_ep_size"] == 2
    inspected = json.loads(run_command("inspect", str(out), "--json").stdout)
    assert inspected["content"]["moe_ep_size"] == 2
    assert [row["name"] for row in inspected["content"]["ranks"]] == [
        "rank0.safetensors",
        "rank1.safetensors",
    ]


def test_a_tensor_is_explained_and_nothing_made(recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    name = "transformer.layers.1.mlp.fc.weight"
    done = run_command("convert", str(recipe), "--store", str(store), "--explain", name, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["tensor"] == name
    assert [rank["shape"] for rank in document["ranks"]] == [[2, 40, 24], [2, 40, 24]]
    first = document["ranks"][1]["made"][0]
    assert first.startswith("[0:20, 0:24] = `model.layers.1.block_sparse_moe.experts.2.w3.weight`")
    assert not list(store.glob("artifacts/*/*"))
    wrong = run_command("convert", str(recipe), "--store", str(store), "--explain", f"{name}s")
    assert wrong.returncode == 2
    assert f"nearest: `{name}`" in wrong.stderr


def test_too_little_memory_is_refused(recipe: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    done = run_command("convert", str(recipe), "--store", store, "--max-memory", "1")
    assert done.returncode == 7
    assert "--max-memory" in done.stderr
    again = run_command("convert", str(recipe), "--store", store, "--max-memory", "9")
    assert again.returncode == 0, again.stderr


def test_problems_of_later_stages_are_not_told(recipe: Path, tmp_path: Path) -> None:
    """TensorRT-LLM is not installed here, which is nothing to somebody who only converts."""
    changes = ("--set", "checkpoint.tp_size=3", "--set", "checkpoint.moe_ep_size=1")
    backend = ("--set", "engine.backend=trtllm", "--store", str(tmp_path / "store"))
    done = run_command("convert", str(recipe), *changes, *backend)
    assert done.returncode == 3
    assert "the plan has 1 problem\n" in done.stderr
    assert "tensorrt_llm" not in done.stderr
    planned = run_command("plan", str(recipe), *changes, *backend)
    assert "`tensorrt_llm` is not installed" in planned.stderr
