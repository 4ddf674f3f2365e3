"""The first run on real hardware: `make test-gpu`, inside NVIDIA's TensorRT-LLM 1.2 image.

None of it was executed by us. What a test prints (`-s`) is worth sending with a report, and so is
the file of `trtllm-pack doctor --write-facts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.graph.config import graph_problems
from tests.command import RECIPES
from tests.gpu.checkpoints import LARGER, write_source
from tests.gpu.recipes import write_recipe
from tests.gpu.runs import (
    check_comparison,
    check_engine,
    check_release,
    execute,
    run_recipe,
    tell,
)
from tests.weights.converting import plan

pytestmark = [pytest.mark.trtllm, pytest.mark.timeout(3600)]


def is_expressible(source_dir: Path) -> bool:
    """Whether the decoder graph can compute the checkpoint, so that tokens can be compared."""
    return not graph_problems(plan(source_dir, dtype="float16").config, 512)


def test_the_installed_release_is_the_one_that_we_know(trtllm: Mapping[str, Any]) -> None:
    drift = trtllm["tensorrt_llm"]
    tell(f"installed: {drift['versions']}")
    assert drift["unread"] == {}, drift["unread"]
    told = [f"{each['message']}: {each['todo']}" for each in drift["matters"]]
    assert not told, "\n".join(told)


@pytest.mark.parametrize("name", LARGER)
def test_a_family(name: str, target: str, store: Path, tmp_path: Path) -> None:
    """Default settings: fused as built and as observed; the float32 graph's tokens if it can."""
    source = write_source(tmp_path / "source", name)
    compares = is_expressible(source)
    recipe = write_recipe(tmp_path / "recipe.yaml", name, source, target, compares=compares)
    run = run_recipe(recipe, store, out=tmp_path / "out")
    tell(f"{name}: {run.read('smoke', 'attention.json')['observed']}")
    check_engine(run)
    if compares:
        tell(f"{name}: {check_comparison(run)}")
    check_release(run, tmp_path / "out", f"first-run-{name}")


def test_the_demo_model_recites(target: str, store: Path) -> None:
    """One weight in the wrong place, and it does not."""
    overrides = ("engine.backend=trtllm", f"engine.targets=[{target}]", "smoke.require_engine=true")
    run = run_recipe(RECIPES / "demo.yaml", store, *overrides)
    check_engine(run)
    assert "Rough winds do shake" in run.read("smoke", "smoke.json")["prompts"][0]["text"]


@pytest.mark.parametrize("layout", [{"tp_size": 2}, {"pp_size": 2}], ids=["tp 2", "pp 2"])
def test_two_ranks(
    layout: dict[str, int],
    trtllm: Mapping[str, Any],
    target: str,
    store: Path,
    tmp_path: Path,
) -> None:
    fitting = [gpu for gpu in trtllm["gpu"]["gpus"] if gpu["target"] == target]
    if len(fitting) < 2:
        pytest.skip(f"one {target} GPU is here, and two ranks need two")
    source = write_source(tmp_path / "source", "llama")
    recipe = write_recipe(
        tmp_path / "recipe.yaml", "llama", source, target, compares=True, **layout
    )
    run = run_recipe(recipe, store, out=tmp_path / "out")
    assert len(list(Path(run.stage("build")["path"]).glob("rank*.engine"))) == 2
    proof = run.read("smoke", "attention.json")
    assert proof["built"]["status"] == "fused"
    tell(f"{layout}: {check_comparison(run)}; observed: {proof['observed']['status']}")
    # Without `nsys` the kernels of several processes are not seen; they may not be seen unfused.
    assert proof["observed"]["status"] in {"fused", "not observed"}
    check_release(run, tmp_path / "out", "first-run-llama")


def test_a_forced_fallback_is_refused_before_any_work(
    target: str, store: Path, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source", "llama")
    recipe = write_recipe(tmp_path / "recipe.yaml", "llama", source, target, compares=False)
    done = execute("build", recipe, "--store", store, "--set", "checkpoint.dtype=float32")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "float32" in done.stderr
    assert "fused" in done.stderr


def test_a_forced_fallback_is_detected_in_what_was_built(
    target: str, store: Path, tmp_path: Path
) -> None:
    """TensorRT-LLM falls back in silence but for a line in the log; the proof says so."""
    source = write_source(tmp_path / "source", "llama")
    recipe = write_recipe(tmp_path / "recipe.yaml", "llama", source, target, compares=False)
    overrides = ("checkpoint.dtype=float32", "engine.attention.require_fused=false")
    run = run_recipe(recipe, store, *overrides)
    proof = run.read("smoke", "attention.json")
    tell(f"float32: {proof['built']['fallbacks']}; {proof['observed']}")
    assert proof["built"]["status"] == "unfused", proof["built"]
    assert proof["built"]["fallbacks"]
    assert proof["observed"]["context"]["status"] == "unfused", proof["observed"]


def test_timings_are_kept_for_the_next_build(target: str, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", "llama")
    recipe = write_recipe(tmp_path / "recipe.yaml", "llama", source, target, compares=False)
    store = tmp_path / "store"
    # Another limit makes another engine, with the same kernels to choose from.
    seconds = [
        run_recipe(recipe, store, f"engine.max_seq_len={length}").stage("build")["seconds"]
        for length in (512, 448)
    ]
    tell(f"build without and with a timing cache: {seconds[0]:.1f} s, {seconds[1]:.1f} s")
    assert [path for path in (store / "build-caches").rglob("*") if path.is_file()]
