"""The backend `trtllm`: in this version it explains itself, and never pretends to build."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines import find_engine
from pipeline.engines.trtllm import engine as trtllm
from pipeline.errors import MachineError
from pipeline.hardware import Gpu, Hardware
from pipeline.progress import Silent
from pipeline.recipe.schema import EngineSettings

ENGINE = find_engine("trtllm")
SETTINGS = EngineSettings(targets=("sm90", "sm100"))
HOPPER = Hardware(8, 1 << 40, (Gpu("H100", "sm90", 80 << 30, "580"),))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Installed versions, and a GPU that is there."""
    installed: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in installed:
            raise trtllm.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(trtllm, "version", version)
    monkeypatch.setattr(trtllm, "detect", lambda: HOPPER)
    return installed


def test_a_missing_package_is_the_reason(machine: dict[str, str]) -> None:
    assert "`tensorrt_llm` is not installed" in str(ENGINE.why_unavailable())
    assert ENGINE.tool_versions() == {}


@pytest.mark.parametrize("found", ["0.14.0", "1.1.0", "1.2.0", "1.3.0rc24", "2.0"])
def test_a_release_of_another_line_is_the_reason(machine: dict[str, str], found: str) -> None:
    machine["tensorrt-llm"] = found
    assert f"`tensorrt_llm` is {found}" in str(ENGINE.why_unavailable())


@pytest.mark.parametrize("found", ["1.2.1", "1.2.2.post1"])
def test_without_a_gpu_that_is_the_reason(
    machine: dict[str, str], monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    machine.update({"tensorrt-llm": found, "tensorrt": "10.14.1.48"})
    assert ENGINE.tool_versions() == machine
    monkeypatch.setattr(trtllm, "detect", lambda: Hardware(8, 1 << 40, ()))
    assert "no NVIDIA GPU" in str(ENGINE.why_unavailable())
    monkeypatch.setattr(trtllm, "detect", lambda: HOPPER)
    assert "not part of this version" in str(ENGINE.why_unavailable())


def test_choosing_it_is_one_clear_problem_with_what_to_use() -> None:
    (problem,) = ENGINE.problems({}, SETTINGS, HOPPER)
    assert (problem.stage, problem.kind) == ("build", MachineError)
    assert "tensorrt" in str(problem.hint)
    assert "onnxruntime" in str(problem.hint)
    rows = ENGINE.attention_support({}, SETTINGS)
    assert [(row["target"], row["fused"]) for row in rows] == [("sm90", None), ("sm100", None)]


def test_building_and_loading_are_errors(tmp_path: Path) -> None:
    checkpoint = TrtllmCheckpoint(tmp_path, {}, ())
    with pytest.raises(MachineError, match="not part of this version"):
        ENGINE.build(checkpoint, SETTINGS, tmp_path, Silent())
    with pytest.raises(MachineError, match="not part of this version"):
        ENGINE.load(tmp_path, tmp_path)
    assert not list(tmp_path.iterdir())
    assert ENGINE.why_not_runnable(SETTINGS, HOPPER)
