"""What this machine has: processors, memory, disk, NVIDIA GPUs."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Gpu:
    """One visible NVIDIA GPU. `target` is its architecture as recipes write it, e.g. `sm89`."""

    name: str
    target: str
    memory_bytes: int
    driver: str


@dataclass(frozen=True, slots=True)
class Hardware:
    """This machine. Memory is what a new process can have now, container limits included."""

    num_cpus: int
    available_memory_bytes: int
    gpus: tuple[Gpu, ...]

    @property
    def targets(self) -> frozenset[str]:
        """Architectures of the GPUs that are present."""
        return frozenset(gpu.target for gpu in self.gpus)


def detect() -> Hardware:
    """Look at this machine; no CUDA context is made."""
    import psutil

    available = int(psutil.virtual_memory().available)
    limit = _cgroup_headroom()
    num_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Hardware(
        num_cpus=num_cpus or 1,
        available_memory_bytes=min(available, limit) if limit is not None else available,
        gpus=_query_gpus(),
    )


def free_disk_bytes(path: Path) -> int:
    """Free space for an unprivileged writer at `path`, or at its nearest existing parent."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _cgroup_headroom() -> int | None:
    """Bytes left under the memory limit of a version-2 control group; None without a limit."""
    root = Path("/sys/fs/cgroup")
    try:
        limit = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(0, int(limit) - used)


def _query_gpus() -> tuple[Gpu, ...]:
    """GPUs by `nvidia-smi`, which is there wherever the driver is; none where it is not."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = "--query-gpu=name,compute_cap,memory.total,driver_version"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(_parse_gpu(row) for row in csv.reader(done.stdout.splitlines()) if len(row) == 4)


def _parse_gpu(row: list[str]) -> Gpu:
    """One CSV row: name, `8.9`, MiB, driver."""
    name, capability, memory_mib, driver = (cell.strip() for cell in row)
    return Gpu(name, "sm" + capability.replace(".", ""), int(memory_mib) * 2**20, driver)
