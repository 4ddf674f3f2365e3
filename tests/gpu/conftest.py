"""The machine of the suite for real hardware; where it is not one, each test fails and says why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.runs import execute

NO_TRTLLM = "this suite needs TensorRT-LLM 1.2.x and an NVIDIA GPU (marker `trtllm`): "
NO_GPU = "these tests need an NVIDIA GPU (marker `gpu`): "


@pytest.fixture(scope="session")
def examined() -> Mapping[str, Any]:
    """What `trtllm-pack doctor` says of this machine."""
    done = execute("doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    document: Mapping[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="session")
def gpus(examined: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The GPUs; there is at least one."""
    found: list[Mapping[str, Any]] = examined["gpu"]["gpus"]
    if not found:
        pytest.fail(NO_GPU + examined["gpu"]["why_none"], pytrace=False)
    return found


@pytest.fixture(scope="session")
def onnxruntime_gpu(examined: Mapping[str, Any], gpus: list[Mapping[str, Any]]) -> None:
    """Only where the GPU's package is the one in place."""
    tools = examined["backends"]["onnxruntime"]["tools"]
    if "onnxruntime-gpu" not in tools:
        pytest.skip(f"`onnxruntime-gpu` is not installed: {tools}")


@pytest.fixture(scope="session")
def trtllm(examined: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same document, of a machine that can build with TensorRT-LLM."""
    backend = examined["backends"]["trtllm"]
    if not backend["builds"]:
        pytest.fail(NO_TRTLLM + backend["why_not"], pytrace=False)
    return examined


@pytest.fixture(scope="session")
def target(trtllm: Mapping[str, Any]) -> str:
    """The architecture of the first GPU."""
    return str(trtllm["gpu"]["gpus"][0]["target"])


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the session: its timing cache makes later builds shorter."""
    return tmp_path_factory.mktemp("store")
