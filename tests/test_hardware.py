"""What this machine has: GPUs as `nvidia-smi` tells them, and which of them are visible."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.hardware import Gpu, detect
from tests.engines.trtllm.processes import wait_until_gone
from tests.standins import GPUS, Standin


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standin:
    made = Standin(tmp_path / "machine")
    monkeypatch.setenv("PATH", made.environment()["PATH"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return made


def test_gpus_are_told_with_their_memory(standin: Standin) -> None:
    (first, second) = detect().gpus
    assert first == Gpu(
        "NVIDIA H100 80GB HBM3",
        "sm90",
        81559 << 20,
        "580.95.05",
        free_memory_bytes=81042 << 20,
        device="GPU-10000000-0000-4000-8000-000000000000",
    )
    assert second.device != first.device
    assert detect().targets == {"sm90"}


def test_what_the_driver_does_not_say_is_none(standin: Standin) -> None:
    standin.set_gpus([GPUS[0] | {"memory.free": "[N/A]", "uuid": "[N/A]"}])
    (gpu,) = detect().gpus
    assert (gpu.free_memory_bytes, gpu.device) == (None, None)
    standin.set_gpus([GPUS[0] | {"memory.total": "[N/A]"}])
    assert detect().gpus[0].memory_bytes == 0


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("0,1", ["one", "two"]),
        ("1", ["two"]),
        ("1,0", ["two", "one"]),
        ("GPU-2", ["two"]),
        ("", []),
        ("-1", []),
        ("0,7,1", ["one"]),
        ("MIG-3", ["one", "two"]),
        ("0,0", []),
        ("²", []),
    ],
)
def test_only_visible_gpus_are_told(
    standin: Standin, monkeypatch: pytest.MonkeyPatch, chosen: str, names: list[str]
) -> None:
    pairs = [("one", "GPU-1"), ("two", "GPU-2")]
    standin.set_gpus([GPUS[0] | {"name": name, "uuid": uuid} for name, uuid in pairs])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert [gpu.name for gpu in detect().gpus] == names


def test_parts_of_a_gpu_have_no_name_of_ours(
    standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts a program leaves the variable alone then: the whole GPU is not meant."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-3")
    assert [gpu.device for gpu in detect().gpus] == [None, None]


def test_a_driver_that_hangs_is_ended_with_what_it_started(
    standin: Standin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pipeline.hardware._QUERY_TIMEOUT_S", 0.3)
    for script in ("sleep 1000 & wait", "sleep 1000 &"):
        (standin.folder / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
        assert detect().gpus == ()
        assert wait_until_gone(tmp_path) == {}


FAULTS = (
    *("exit 3", "echo nonsense", "echo a, b, c, d, e, f, g"),
    "printf '\\377\\200\\n'",
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_driver_that_does_not_answer_has_no_gpus(standin: Standin, fault: str) -> None:
    (standin.folder / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\n{fault}\n")
    assert detect().gpus == ()
