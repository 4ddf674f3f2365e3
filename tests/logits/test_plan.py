"""A plan with `verify.logits`: its problems, and the way out where memory is too short."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import Problem, ResourceError
from pipeline.hardware import Hardware
from pipeline.parity import problems as module
from pipeline.plan import Plan, resolve
from pipeline.recipe.load import load_recipe
from pipeline.run import find_problems, preview
from pipeline.sources.digest_memory import DigestMemory
from pipeline.store import Store
from tests import tiny

PLENTY = 1 << 40


def make_plan(folder: Path, memory_bytes: int, verify: str) -> Plan:
    tiny.write_checkpoint(folder / "source")
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "name: tiny\nsource: {path: source}\nengine: {backend: onnxruntime, max_seq_len: 64}\n"
        f"verify: {verify}\n"
    )
    return resolve(
        load_recipe(recipe),
        memory=DigestMemory(folder / "store"),
        hardware=Hardware(2, memory_bytes, ()),
        cache_dir=folder / "caches",
        max_memory_bytes=1 << 20,
    )


def problems(plan: Plan, folder: Path) -> list[Problem]:
    store = Store(folder / "store")
    found = find_problems(plan, preview(plan, store, "verify"), store)
    return [problem for problem in found if problem.stage == "verify"]


@pytest.fixture(autouse=True)
def _torch_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "why_no_reference", lambda: None)


def test_with_memory_enough_there_is_no_problem(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, PLENTY, "{logits: true}")
    assert problems(plan, tmp_path) == []
    without = make_plan(tmp_path, PLENTY, "{logits: false}")
    assert plan.needs["verify"].memory_bytes > without.needs["verify"].memory_bytes


def test_too_little_memory_names_the_layers_that_fit(tmp_path: Path) -> None:
    need = make_plan(tmp_path, PLENTY, "{logits: true}").needs["verify"].memory_bytes
    plan = make_plan(tmp_path, need - 1, "{logits: true}")
    (problem,) = problems(plan, tmp_path)
    assert problem.kind is ResourceError
    assert problem.hint == "set `verify.layers: 2`, or use a machine with more memory"
    assert problems(make_plan(tmp_path, need - 1, "{logits: true, layers: 2}"), tmp_path) == []


def test_where_no_layer_fits_there_is_still_the_round_trip(tmp_path: Path) -> None:
    (problem,) = problems(make_plan(tmp_path, 300 << 20, "{logits: true}"), tmp_path)
    assert problem.hint == "set `verify.logits: false`, or use a machine with more memory"
    assert problems(make_plan(tmp_path, 300 << 20, "{logits: false}"), tmp_path) == []


def test_what_does_not_fit_is_a_problem_of_the_plan(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, PLENTY, "{logits: true, layers: 4, texts: [a]}")
    layers, texts = problems(plan, tmp_path)
    assert layers.message == "`verify.layers` is 4, but the model has 3 layers"
    assert texts.message == "`verify.texts` is given, but the source has no tokenizer"
