"""What needs an NVIDIA GPU and its driver, but no TensorRT-LLM (marker `gpu`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.tensorrt_support import RTX_TARGETS
from tests.command import RECIPES
from tests.gpu.runs import run_recipe

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


def test_an_engine_of_tensorrt_is_executed(
    examined: Mapping[str, Any], gpus: list[Mapping[str, Any]], tmp_path: Path
) -> None:
    """Needs the extras `rtx` and `run`, and a GPU that TensorRT for RTX knows."""
    target = gpus[0]["target"]
    if not examined["backends"]["tensorrt"]["builds"] or target not in RTX_TARGETS:
        pytest.skip(f"TensorRT for RTX is not installed, or does not build for {target}")
    overrides = (f"engine.targets=[{target}]", "smoke.require_engine=true")
    run = run_recipe(RECIPES / "demo.yaml", tmp_path / "store", *overrides)
    assert run.read("smoke", "smoke.json")["executed_by"]["backend"] == "tensorrt"
