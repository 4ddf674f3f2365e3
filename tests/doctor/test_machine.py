"""What the machine is, and the limits of its container."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import pytest

from pipeline.doctor import machine
from pipeline.doctor.examination import advice
from pipeline.hardware import Gpu, Hardware

HOPPER = Gpu("NVIDIA H100", "sm90", 80 << 30, "580.95", 79 << 30, "GPU-1")
MACHINE = Hardware(8, 1 << 36, (HOPPER,))
BARE = Hardware(8, 1 << 36, ())


def program(folder: Path, text: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_the_store_need_not_exist(tmp_path: Path) -> None:
    facts = machine.machine_facts(MACHINE, tmp_path / "a" / "store")
    assert facts["store_free_disk_bytes"] > 0
    assert facts["store_writable"] is True
    assert facts["available_memory_bytes"] == 1 << 36
    assert not list(tmp_path.iterdir())


def test_mig_is_told_per_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, "echo 'GPU-0, Disabled'; echo 'GPU-1, Enabled'")
    (gpu,) = machine.gpu_facts(MACHINE)["gpus"]
    assert (gpu["mig"], gpu["target"], gpu["free_memory_bytes"]) == ("Enabled", "sm90", 79 << 30)
    program(tmp_path, "exit 9")
    assert machine.gpu_facts(MACHINE)["gpus"][0]["mig"] == "unknown"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (None, "is not on the PATH"),
        ("echo no driver; exit 9", "lists no GPU"),
        ("echo GPU 0: H100", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_why_there_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, why: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if script is not None:
        program(tmp_path, script)
    facts = machine.gpu_facts(BARE)
    assert facts["gpus"] == []
    assert why in facts["why_none"]


def test_the_limits_of_a_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    facts = machine.container_facts()
    assert (facts["memory_limit_bytes"], facts["cpu_limit"]) == (None, None)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.container_facts()["memory_limit_bytes"] is None
    (tmp_path / "memory.max").write_text("1073741824\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    facts = machine.container_facts()
    assert (facts["memory_limit_bytes"], facts["cpu_limit"]) == (1 << 30, 1.5)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert machine.container_facts()["kind"] == "kubernetes"


def test_limits_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_MEMLOCK: 65536, resource.RLIMIT_STACK: resource.RLIM_INFINITY}
    monkeypatch.setattr(machine.resource, "getrlimit", lambda kind: (limits[kind], -1))
    facts = machine.container_facts()
    assert (facts["locked_memory_limit_bytes"], facts["stack_limit_bytes"]) == (65536, None)
    assert facts["user"] == os.getuid()
    assert facts["seccomp"] in {"off", "strict", "filter", "unknown"}


def test_what_makes_bytes_vary_is_what_a_build_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said = subprocess.CompletedProcess([], 0, '{"event": "ready", "why_random": "refused"}', "")
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: said)
    assert machine.why_bytes_vary() == "refused"


def test_that_it_could_not_be_tried_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.sys, "executable", "/nowhere/python")
    assert "could not be tried" in str(machine.why_bytes_vary())


CONTAINER = {
    "shared_memory_bytes": 64 << 20,
    "locked_memory_limit_bytes": 8 << 20,
    "seccomp": "filter",
}


def test_advice_is_for_who_needs_it() -> None:
    told = advice(CONTAINER, "`personality` was refused", num_gpus=2)
    assert [word in line for word, line in zip(("--ipc", "memlock", "seccomp"), told, strict=True)]
    assert len(advice(CONTAINER, None, num_gpus=1)) == 1
    assert advice(CONTAINER, None, num_gpus=0) == []
    roomy = {"shared_memory_bytes": 8 << 30, "locked_memory_limit_bytes": None, "seccomp": "off"}
    assert advice(roomy, "refused", num_gpus=8) == []
