"""Recipes with one fault each: what `trtllm-pack plan` says of them, word for word.

The first line of a fault names its source: a fixture, the size of its heads, and changes to its
config.json as JSON. A second line may change the machine, which else has two GPUs of each target
and TensorRT-LLM 1.2.1. `TRTLLM_PACK_STORE_EXPECTED=1` writes the texts anew: read each one as a
user would before you commit it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.answers.plan_report import plan_document, plan_text, problem_lines
from pipeline.console import render_error
from pipeline.engines.trtllm import engine as backend
from pipeline.errors import PipelineError
from pipeline.hardware import Gpu, Hardware
from pipeline.plan import Plan, resolve
from pipeline.recipe.load import load_recipe
from pipeline.run import find_problems, preview
from pipeline.sources.digest_memory import DigestMemory
from pipeline.store import Store
from tests.engines.trtllm.fault_sources import write_source

FOLDER = Path(__file__).parent / "faults"
FAULTS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
USUAL = {"driver": "580.95.05", "tensorrt-llm": "1.2.1"}


def resolved(
    path: Path, machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[Plan, Store]:
    """The plan of a recipe on a machine, as the command makes it."""
    loaded = load_recipe(path)
    targets = machine.get("gpus", loaded.recipe.engine.targets)
    gpus = [Gpu(f"GPU {name}", name, 80 << 30, machine["driver"]) for name in targets]
    hardware = Hardware(8, 1 << 40, tuple(gpus) * 2)
    monkeypatch.setattr(backend, "detect", lambda: hardware)
    store = Store(path.parent / "store")
    plan = resolve(
        loaded,
        memory=DigestMemory(store.root),
        hardware=hardware,
        cache_dir=store.build_caches,
        offline=True,
    )
    return plan, store


def told(path: Path, machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """What `plan` prints for a recipe beside its tables."""
    try:
        plan, store = resolved(path, machine, monkeypatch)
        problems = find_problems(plan, preview(plan, store, "package"), store)
    except PipelineError as error:
        return render_error(error) + "\n"
    return "\n".join(problem_lines(problems)) + "\n"


def prepare(fault: str, folder: Path) -> dict[str, Any]:
    """Write the recipe and its source into a folder; returns the machine."""
    text = (FOLDER / f"{fault}.yaml").read_text()
    (folder / f"{fault}.yaml").write_text(text)
    first, second, *_ = text.splitlines()
    fixture, head_size, *changes = first.removeprefix("# source: ").split(" ", 2)
    write_source(
        folder / "checkpoint",
        fixture,
        int(head_size),
        **json.loads(changes[0] if changes else "{}"),
    )
    is_told = second.startswith("# machine: ")
    return USUAL | (json.loads(second.removeprefix("# machine: ")) if is_told else {})


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_as_stored(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = prepare(fault, tmp_path)
    versions = {"tensorrt-llm": machine["tensorrt-llm"], "tensorrt": "10.14.1.48"}
    monkeypatch.setattr(backend, "installed_versions", lambda: versions)
    monkeypatch.setattr(backend, "why_no_program", lambda: None)
    monkeypatch.chdir(tmp_path)
    text = told(Path(f"{fault}.yaml"), machine, monkeypatch)
    expected = FOLDER / f"{fault}.expected.txt"
    if os.environ.get("TRTLLM_PACK_STORE_EXPECTED"):
        expected.write_text(text, encoding="utf-8")
    assert text == expected.read_text(encoding="utf-8")
    assert "hint: " in text or "is not usable: " in text  # which says what to do itself


def test_there_are_faults_and_no_text_without_one() -> None:
    assert len(FAULTS) >= 40
    stored = [path.name.removesuffix(".expected.txt") for path in FOLDER.glob("*.txt")]
    assert sorted(stored) == FAULTS


def test_limits_that_are_not_given_follow_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_source(tmp_path / "checkpoint", "gpt2", 64, n_positions=256)
    recipe = "name: short\nsource: {path: checkpoint}\ncheckpoint: {dtype: float16}\n"
    (tmp_path / "short.yaml").write_text(recipe)
    plan, store = resolved(tmp_path / "short.yaml", USUAL, monkeypatch)
    assert (plan.recipe.engine.max_input_len, plan.recipe.engine.max_seq_len) == (128, 256)
    assert not [problem for problem in plan.problems if "max_seq_len" in problem.message]
    text = plan_text(plan_document(plan, preview(plan, store, "package"), [], store), [])
    assert "input 128, sequence 256 tokens" in text


def test_an_option_without_effect_is_told_by_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_source(tmp_path / "checkpoint", "llama", 64, max_position_embeddings=4096)
    recipe = "name: idle\nsource: {path: checkpoint}\nengine: {gather_generation_logits: true}\n"
    (tmp_path / "idle.yaml").write_text(recipe)
    plan, store = resolved(tmp_path / "idle.yaml", USUAL, monkeypatch)
    states = preview(plan, store, "package")
    text = plan_text(plan_document(plan, states, [], store), [])
    assert "  note: `engine.gather_generation_logits` is deprecated" in text
    assert "(rule `generation-logits-idle`)" in text
