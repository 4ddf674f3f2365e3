"""Whether a release fits a machine: what the engine backend and the tools are asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.hardware import Hardware
from pipeline.recipe.schema import EngineSettings
from pipeline.release import fit
from pipeline.release.contents import read_manifest
from pipeline.release.fit import Fit, fit_machine
from tests.release.made import NO_GPU
from tests.release.triton_parts import engine_config, triton_release


class Asked:
    """An engine backend that remembers for how many ranks it was asked."""

    def __init__(self) -> None:
        self.num_ranks: list[int] = []

    def why_not_runnable(
        self, settings: EngineSettings, hardware: Hardware, *, num_ranks: int
    ) -> str | None:
        self.num_ranks.append(num_ranks)
        return None if num_ranks == 1 else f"{num_ranks} GPUs are needed"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()
    monkeypatch.setattr(fit, "find_engine", lambda name: found)
    return found


def tools(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Which versions are installed."""
    found = {name.replace("_", "-"): version for name, version in versions.items()}
    monkeypatch.setattr(fit, "installed", lambda names: {n: found[n] for n in names if n in found})


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_backend_is_asked_for_every_rank(
    tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    tools(monkeypatch, tensorrt_llm="1.2.1")
    manifest, _ = read_manifest(triton_release(tmp_path, engine_config(world_size)))
    found = fit_machine(manifest, NO_GPU)
    assert asked.num_ranks == [world_size]
    assert found.runs == (world_size == 1)


def test_an_engine_runs_only_in_its_own_version(
    tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools(monkeypatch, tensorrt_llm="1.2.0")
    manifest, _ = read_manifest(triton_release(tmp_path))
    assert fit_machine(manifest, NO_GPU) == Fit(
        False, ("built with `tensorrt-llm` 1.2.1; installed is 1.2.0",)
    )


@pytest.mark.parametrize(
    ("version", "num_gpus", "reasons"),
    [
        (
            "1.2.1",
            2,
            ("it is for TensorRT-LLM 1.3 or later; installed is 1.2.1",),
        ),
        ("1.3.0rc24", 2, ()),
        ("2.0.0", 4, ()),
        ("1.3.0", 1, ("it needs 2 GPUs; 1 are visible",)),
    ],
)
def test_a_package_without_an_engine(
    monkeypatch: pytest.MonkeyPatch, version: str, num_gpus: int, reasons: tuple[str, ...]
) -> None:
    tools(monkeypatch, tensorrt_llm=version)
    ranks = {"tensor_parallel_size": 2, "pipeline_parallel_size": 1, "context_parallel_size": 1}
    manifest: Any = SimpleNamespace(engine={"backend": "pytorch", "serve": ranks})
    machine: Any = SimpleNamespace(gpus=(None,) * num_gpus)
    assert fit_machine(manifest, machine).reasons == reasons
