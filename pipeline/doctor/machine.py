"""What this machine is: processors, memory, disk, GPUs, the limits of its container."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pipeline.artifact import Json
from pipeline.engines.child_process import child_environment
from pipeline.hardware import Hardware, free_disk_bytes, output_of
from pipeline.system.tied import tied

NVIDIA_SMI = "nvidia-smi"
_CGROUP = Path("/sys/fs/cgroup")


def machine_facts(hardware: Hardware, store_dir: Path) -> dict[str, Json]:
    """Sizes in bytes. `disk` is what an unprivileged writer may still take in the store."""
    import psutil

    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "num_cpus": hardware.num_cpus,
        "memory_bytes": int(psutil.virtual_memory().total),
        "available_memory_bytes": hardware.available_memory_bytes,
        "store": str(store_dir),
        "store_free_disk_bytes": free_disk_bytes(store_dir),
        "store_writable": _can_be_made(store_dir),
    }


def gpu_facts(hardware: Hardware) -> dict[str, Json]:
    """`gpus`, and `why_none` where there are none. `mig` is the mode, as the driver names it."""
    modes = _ask("--query-gpu=uuid,mig.mode.current", "--format=csv,noheader")
    by_device = dict(line.split(", ", 1) for line in modes.splitlines() if ", " in line)
    gpus: list[Json] = [
        {**asdict(gpu), "mig": by_device.get(gpu.device or "", "unknown")} for gpu in hardware.gpus
    ]
    return {"gpus": gpus, "why_none": None if gpus else _why_no_gpu()}


def container_facts() -> dict[str, Json]:
    """Limits in bytes, None where there is none: those that builds of several GPUs run into."""
    return {
        "kind": _container_kind(),
        "memory_limit_bytes": _cgroup_number("memory.max"),
        "cpu_limit": _cpu_limit(),
        "shared_memory_bytes": _shared_memory_bytes(),
        "locked_memory_limit_bytes": _limit(resource.RLIMIT_MEMLOCK),
        "stack_limit_bytes": _limit(resource.RLIMIT_STACK),
        "seccomp": _seccomp(),
        "user": os.getuid(),
    }


def why_bytes_vary(timeout_s: float = 30.0) -> str | None:
    """Why engines are not equal to the byte from build to build here; None where they are.

    See `pipeline.engines.child_setup`: the kernel, or a seccomp profile, can refuse what it takes.
    """
    line = [sys.executable, "-P", "-s", "-m", "pipeline.doctor.surroundings"]
    try:
        done = subprocess.run(
            tied(line),
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=True,
        )
        why: str | None = json.loads(done.stdout)["why_random"]
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return f"it could not be tried: {error}"
    return why


def _can_be_made(folder: Path) -> bool:
    """Whether this user may write in it, or make it where it is not there yet."""
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def _ask(*arguments: str) -> str:
    """What `nvidia-smi` prints; empty where it is missing or fails."""
    program = shutil.which(NVIDIA_SMI)
    if program is None:
        return ""
    return output_of([program, *arguments]) or ""


def _why_no_gpu() -> str:
    program = shutil.which(NVIDIA_SMI)
    if program is None:
        return f"`{NVIDIA_SMI}` is not on the PATH: no NVIDIA driver, or a container without GPUs"
    if not _ask("--list-gpus").strip():
        return f"`{program}` lists no GPU: `{NVIDIA_SMI}` says why"
    return f"`{program}` lists GPUs, but CUDA_VISIBLE_DEVICES leaves none, or they tell no facts"


def _container_kind() -> str | None:
    """By the marks that engines leave; None outside, or in an engine that leaves none."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    marks: Mapping[str, str] = {"/.dockerenv": "docker", "/run/.containerenv": "podman"}
    return next((kind for mark, kind in marks.items() if Path(mark).exists()), None)


def _cgroup_number(name: str) -> int | None:
    """A limit of a version-2 control group; None without one."""
    try:
        text = (_CGROUP / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _cpu_limit() -> float | None:
    """Processors that the control group allows, parts included; None without a limit."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return round(int(quota) / int(period), 2) if quota.isdecimal() else None


def _shared_memory_bytes() -> int | None:
    """Size of /dev/shm, through which ranks of one machine talk."""
    folder = Path("/dev/shm")  # noqa: S108 - it is asked for its size, nothing is written
    return shutil.disk_usage(folder).total if folder.is_dir() else None


def _limit(kind: int) -> int | None:
    soft, _ = resource.getrlimit(kind)
    return None if soft == resource.RLIM_INFINITY else soft


def _seccomp() -> str:
    """`off`, `strict` or `filter`: whether a profile may refuse system calls."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return "unknown"
    mode = next((line.split()[1] for line in lines if line.startswith("Seccomp:")), None)
    return {"0": "off", "1": "strict", "2": "filter"}.get(mode or "", "unknown")
