"""How the worker is started: launcher and environment."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.engines.trtllm.arguments import DETERMINISTIC
from pipeline.engines.trtllm.launch import (
    OUTER_JOB,
    Launcher,
    choose_launcher,
    worker_command,
    worker_environment,
)
from pipeline.errors import MachineError

PROGRAMS = {"mpirun": "/opt/mpi/mpirun", "trtllm-llmapi-launch": "/opt/trt/launch"}


def choose(world_size: int, environ: Mapping[str, str], *names: str) -> Launcher:
    """The launcher on a machine with these programs."""
    return choose_launcher(world_size, environ, {name: PROGRAMS[name] for name in names}.get)


def test_one_rank_needs_no_launcher_wherever_it_runs() -> None:
    for environ in ({}, {"SLURM_JOB_ID": "7"}):
        assert choose(1, environ, *PROGRAMS) == Launcher("plain", ())


def test_several_ranks_are_under_mpirun_where_there_is_one() -> None:
    launcher = choose(2, {}, "mpirun")
    assert launcher.name == "mpirun"
    assert launcher.prefix[:3] == ("/opt/mpi/mpirun", "-n", "1")
    assert choose(2, {}) == Launcher("plain", ())


@pytest.mark.parametrize("variable", OUTER_JOB)
def test_inside_a_job_all_ranks_are_started_at_once(variable: str) -> None:
    launcher = choose(4, {variable: "1"}, *PROGRAMS)
    assert launcher.name == "trtllm-llmapi-launch"
    assert launcher.prefix[:3] == ("/opt/mpi/mpirun", "-n", "4")
    assert launcher.prefix[-1] == "/opt/trt/launch"
    command = worker_command(launcher, Path("/w/worker.json"))
    assert command[len(launcher.prefix)] == sys.executable
    assert command[-2:] == ["pipeline.engines.trtllm.worker", "/w/worker.json"]


def test_inside_a_job_missing_launchers_are_named() -> None:
    with pytest.raises(MachineError, match="`trtllm-llmapi-launch` not found"):
        choose(2, {"SLURM_JOB_ID": "7"}, "mpirun")
    with pytest.raises(MachineError, match="`mpirun` and `trtllm-llmapi-launch` not found"):
        choose(2, {"SLURM_JOB_ID": "7"})


def test_the_environment_is_stated_and_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "SLURM_JOB_ID", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    one, two = worker_environment(1, ["GPU-a"]), worker_environment(2, [])
    assert "secret" not in {*one.values(), *two.values()}
    assert DETERMINISTIC.items() <= one.items()
    assert set(DETERMINISTIC.values()) == {"1"}
    assert one["TLLM_WORKER_USE_SINGLE_PROCESS"] == "1"
    assert "TLLM_WORKER_USE_SINGLE_PROCESS" not in two
    assert (one["CUDA_VISIBLE_DEVICES"], two["CUDA_VISIBLE_DEVICES"]) == ("GPU-a", "3")
    assert one["NCCL_SOCKET_IFNAME"] == one["OMPI_MCA_btl_tcp_if_include"] == "lo"
    assert one["HF_HUB_OFFLINE"] == "1"
