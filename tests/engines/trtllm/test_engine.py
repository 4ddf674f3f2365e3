"""The backend `trtllm` explains itself: what is missing here, and what would fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.engines import find_engine
from pipeline.engines.trtllm import preflight
from pipeline.errors import MachineError, ResourceError
from pipeline.hardware import Gpu, Hardware, detect
from tests.engines.trtllm.building import build, checkpoint, settings
from tests.standins import GPUS, Standin

ENGINE = find_engine("trtllm")
H100 = Gpu("NVIDIA H100", "sm90", 80 << 30, "580.95", 79 << 30, "GPU-1")
L4 = Gpu("NVIDIA L4", "sm89", 24 << 30, "580.95", 23 << 30, "GPU-2")


def machine(*gpus: Gpu) -> Hardware:
    return Hardware(8, 1 << 40, gpus)


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standin:
    made = Standin(tmp_path / "machine")
    made.use(monkeypatch)
    return made


def test_where_all_is_there_it_is_usable(standin: Standin) -> None:
    assert ENGINE.why_unavailable(detect()) is None
    assert ENGINE.tool_versions() == {"tensorrt-llm": "1.2.1", "tensorrt": "10.14.1.48"}


def test_a_missing_package_is_the_reason(standin: Standin) -> None:
    standin.set_version("tensorrt-llm", None)
    assert "`tensorrt_llm` is not installed" in str(ENGINE.why_unavailable(detect()))
    assert ENGINE.tool_versions() == {"tensorrt": "10.14.1.48"}


@pytest.mark.parametrize("found", ["0.14.0", "1.1.0", "1.2.0", "1.2.1rc3", "1.2.2.dev20260101"])
def test_an_older_line_is_the_reason(standin: Standin, found: str) -> None:
    standin.set_version("tensorrt-llm", found)
    reason = str(ENGINE.why_unavailable(detect()))
    assert f"`tensorrt_llm` is {found}" in reason
    assert "install 1.2.x" in reason


@pytest.mark.parametrize("found", ["1.3.0rc24", "1.3.0", "2.0"])
def test_a_line_without_engines_is_the_reason_and_where_to_go(standin: Standin, found: str) -> None:
    standin.set_version("tensorrt-llm", found)
    reason = str(ENGINE.why_unavailable(detect()))
    assert f"`tensorrt_llm` is {found}, which has no engines" in reason
    assert "`package.kind: pytorch`" in reason


@pytest.mark.parametrize("found", ["1.2.1", "1.2.2.post1", "1.2.10"])
def test_every_release_of_the_line_is_driven(standin: Standin, found: str) -> None:
    standin.set_version("tensorrt-llm", found)
    assert ENGINE.why_unavailable(detect()) is None


def test_a_missing_program_is_the_reason(standin: Standin) -> None:
    (standin.folder / "bin" / "trtllm-build").unlink()
    assert "`trtllm-build` is not on PATH" in str(ENGINE.why_unavailable(detect()))


def test_without_a_gpu_that_is_the_reason(standin: Standin, tmp_path: Path) -> None:
    standin.set_gpus([])
    assert "no NVIDIA GPU is visible" in str(ENGINE.why_unavailable(detect()))
    with pytest.raises(MachineError, match="no NVIDIA GPU"):
        build(checkpoint(tmp_path / "checkpoint"), tmp_path / "out")


def test_another_name_of_tensorrt_counts_once(standin: Standin) -> None:
    standin.set_version("tensorrt", None)
    standin.set_version("tensorrt-cu13", "10.14.1.48")
    assert preflight.installed_versions().keys() == {"tensorrt-llm", "tensorrt-cu13"}
    standin.set_version("tensorrt", "10.14.1.48")
    assert preflight.installed_versions().keys() == {"tensorrt-llm", "tensorrt"}


def test_a_target_that_is_not_present_is_a_problem() -> None:
    (problem,) = preflight.machine_problems(settings("sm90"), machine(L4))
    assert (problem.stage, problem.kind) == ("build", MachineError)
    assert "`sm90`" in problem.message
    assert "present: sm89" in problem.message
    assert preflight.machine_problems(settings("sm89"), machine(H100, L4)) == []
    assert preflight.machine_problems(settings("sm90"), machine()) == []  # why_unavailable says it


@pytest.mark.parametrize(
    ("driver", "compatible", "is_refused"),
    [
        ("580.65.06", False, False),
        ("590.44", False, False),
        ("575.57", False, True),
        ("575.57", True, False),
        ("535.183", True, False),
        ("525.60", True, True),
        ("", False, False),
    ],
)
def test_an_old_driver_is_a_problem(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    driver: str,
    compatible: bool,
    is_refused: bool,
) -> None:
    monkeypatch.setattr(preflight, "COMPATIBILITY", tmp_path)
    if compatible:
        (tmp_path / "libcuda.so.1").touch()
    old = Gpu("NVIDIA H100", "sm90", 80 << 30, driver)
    found = preflight.machine_problems(settings(), machine(old, old))
    assert [problem.kind for problem in found] == [MachineError] * is_refused
    assert all("580" in str(problem.hint) for problem in found)


def test_memory_that_others_hold_is_refused_before_the_build(
    standin: Standin, tmp_path: Path
) -> None:
    standin.set_gpus([GPUS[0] | {"memory.free": "100"}])
    with pytest.raises(ResourceError, match="GPU memory") as caught:
        build(checkpoint(tmp_path / "checkpoint"), tmp_path / "out")
    assert "104,857,600 of 85,520,809,984 bytes are free" in caught.value.facts[0]
    assert standin.calls() == []
    assert list((tmp_path / "out").iterdir()) == []


def test_a_build_uses_the_gpus_of_its_target_alone(standin: Standin, tmp_path: Path) -> None:
    standin.set_gpus([GPUS[0] | {"compute_cap": "8.9"}, GPUS[1]])
    build(checkpoint(tmp_path / "checkpoint"), tmp_path / "out", settings(workers=2))
    (call,) = standin.calls()
    assert call["environment"]["CUDA_VISIBLE_DEVICES"] == GPUS[1]["uuid"]
    assert detect().targets == {"sm89", "sm90"}


def test_gpus_that_cannot_be_told_apart_must_be_alike(standin: Standin, tmp_path: Path) -> None:
    unnamed = {"uuid": "[N/A]"}
    standin.set_gpus([GPUS[0] | unnamed | {"compute_cap": "8.9"}, GPUS[1] | unnamed])
    with pytest.raises(MachineError, match="tell GPUs apart"):
        build(checkpoint(tmp_path / "checkpoint"), tmp_path / "out")
    assert preflight.device_names([Gpu("H100", "sm90", 1, "580")], machine(H100)) == []


def test_whether_an_engine_runs_here(standin: Standin) -> None:
    def why(*gpus: Gpu, num_ranks: int = 1) -> str | None:
        return ENGINE.why_not_runnable(settings(), machine(*gpus), num_ranks=num_ranks)

    assert why(H100) is None
    assert why(H100, H100, num_ranks=2) is None
    assert "present: sm89" in str(why(L4))
    assert "2 ranks" in str(why(H100, L4, num_ranks=2))
    standin.set_version("tensorrt-llm", None)
    assert "not installed" in str(why(H100))


def test_the_plan_of_a_sound_recipe_has_no_problem(tmp_path: Path) -> None:
    config = checkpoint(tmp_path).config
    assert ENGINE.problems(config, settings(), machine(H100)) == []
    assert ENGINE.problems(config, settings(), machine()) == []
    found = ENGINE.problems(config, settings("sm90", reduce_fusion=True), machine(L4))
    assert {problem.kind for problem in found} >= {MachineError}
    assert len(found) >= 2
    (support,) = ENGINE.attention_support(config, settings())
    assert support["fused"] is True
    assert ENGINE.estimate(config, settings(), 0)["disk_bytes"] > 0
