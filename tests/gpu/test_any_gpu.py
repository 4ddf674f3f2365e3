"""What needs an NVIDIA GPU and its driver, but no TensorRT-LLM (marker `gpu`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.tensorrt.facts import RTX_TARGETS
from tests.command import RECIPES
from tests.gpu.runs import run_recipe, tell

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]


def test_doctor_tells_the_gpus(gpus: list[Mapping[str, Any]]) -> None:
    for gpu in gpus:
        assert gpu["name"]
        assert re.fullmatch(r"sm\d{2,3}", gpu["target"])
        assert gpu["memory_bytes"] > 1 << 30
        assert 0 < gpu["free_memory_bytes"] <= gpu["memory_bytes"]
        assert re.match(r"\d+\.\d+", gpu["driver"])
        assert gpu["mig"] in {"Disabled", "Enabled", "[N/A]"}
        assert gpu["device"].startswith("GPU-")


def test_each_backend_says_whether_it_runs_here(
    examined: Mapping[str, Any], gpus: list[Mapping[str, Any]]
) -> None:
    targets = {gpu["target"] for gpu in gpus}
    for backend in examined["backends"].values():
        assert {row["target"] for row in backend["runs"]} == targets
        assert all(row["runs"] is (row["why_not"] is None) for row in backend["runs"])


@pytest.fixture
def rtx_target(examined: Mapping[str, Any], gpus: list[Mapping[str, Any]]) -> str:
    """The first GPU, where TensorRT for RTX is installed (extras `rtx`, `run`) and knows it."""
    target = str(gpus[0]["target"])
    if not examined["backends"]["tensorrt"]["builds"] or target not in RTX_TARGETS:
        pytest.skip(f"TensorRT for RTX is not installed, or does not build for {target}")
    return target


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_an_engine_of_tensorrt_is_executed_and_its_kernels_are_seen(
    dtype: str, rtx_target: str, tmp_path: Path
) -> None:
    """The demo model recites; fused kernels run in both phases where CUPTI can tell."""
    overrides = (
        f"engine.targets=[{rtx_target}]",
        f"checkpoint.dtype={dtype}",
        "smoke.require_engine=true",
        "smoke.compare={}",
    )
    run = run_recipe(RECIPES / "demo.yaml", tmp_path / "store", *overrides)
    assert run.read("smoke", "smoke.json")["executed_by"]["backend"] == "tensorrt"
    observed = run.read("smoke", "attention.json")["observed"]
    tell(f"{dtype} on {rtx_target}: {observed}")
    if observed["status"] != "not observed":
        assert observed["status"] == "fused", observed


def test_an_engine_without_weights_gets_them_back(rtx_target: str, tmp_path: Path) -> None:
    """Builds, refits and executes; without the weights the engine is a fraction in size."""
    sizes = {}
    for strip in ("false", "true"):
        overrides = (
            f"engine.targets=[{rtx_target}]",
            f"engine.tensorrt.strip_weights={strip}",
            "smoke.require_engine=true",
            "smoke.compare={}",
        )
        run = run_recipe(RECIPES / "demo.yaml", tmp_path / "store", *overrides)
        assert run.read("smoke", "smoke.json")["executed_by"]["backend"] == "tensorrt"
        sizes[strip] = (Path(run.stage("build")["path"]) / "decoder.engine").stat().st_size
    tell(f"engine with and without weights: {sizes['false']}, {sizes['true']} bytes")
    assert sizes["true"] < sizes["false"]
