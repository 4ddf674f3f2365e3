"""What this machine has: processors, memory, disk, NVIDIA GPUs."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.system.tied import tied, tool_environment


@dataclass(frozen=True, slots=True)
class Gpu:
    """One visible NVIDIA GPU. `target` is its architecture as recipes write it, e.g. `sm89`.

    `free_memory_bytes` is what no process held when it was asked. `device` names this GPU alone in
    `CUDA_VISIBLE_DEVICES`. Both are None where the driver did not say.
    """

    name: str
    target: str
    memory_bytes: int
    driver: str
    free_memory_bytes: int | None = None
    device: str | None = None


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


_QUERY = "name,compute_cap,memory.total,driver_version,memory.free,uuid"
_QUERY_TIMEOUT_S = 30
"""A driver that must first wake eight GPUs takes several seconds."""

_UUID = re.compile(r"GPU-[0-9a-fA-F-]+")


def _query_gpus() -> tuple[Gpu, ...]:
    """GPUs by `nvidia-smi`, which is there wherever the driver is; none where it is not."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    told = output_of([program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"])
    rows = [row for row in csv.reader((told or "").splitlines()) if len(row) == 6]
    return _visible([_parse_gpu(row) for row in rows], os.environ.get("CUDA_VISIBLE_DEVICES"))


def output_of(command: list[str]) -> str | None:
    """What a program prints, whatever its bytes; None where it fails or takes too long.

    It may be a script that starts the real one: whatever ends this, they end together. If this
    process is killed, the kernel ends the program.
    """
    try:
        process = subprocess.Popen(
            tied(command),
            env=tool_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None
    with process:
        try:
            told, _ = process.communicate(timeout=_QUERY_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    return told.decode(errors="replace") if process.returncode == 0 else None


def _parse_gpu(row: list[str]) -> Gpu:
    """One CSV row: name, `8.9`, MiB, driver, MiB, `GPU-...`; what is unknown is in brackets."""
    name, capability, memory_mib, driver, free_mib, uuid = (cell.strip() for cell in row)
    return Gpu(
        name,
        "sm" + capability.replace(".", ""),
        int(memory_mib) * 2**20 if _is_number(memory_mib) else 0,
        driver,
        int(free_mib) * 2**20 if _is_number(free_mib) else None,
        uuid if _UUID.fullmatch(uuid) else None,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _visible(gpus: list[Gpu], chosen: str | None) -> tuple[Gpu, ...]:
    """Those that `CUDA_VISIBLE_DEVICES` leaves, in its order; `nvidia-smi` does not look at it.

    Numbers count in the order of `nvidia-smi`. As in CUDA, what comes after an entry that names
    nothing is not visible, and nothing is where one GPU is named twice. Parts of a GPU (`MIG-...`)
    are not told apart: all GPUs are listed, none with a name, so that who starts a program leaves
    the variable as it is.
    """
    if chosen is None:
        return tuple(gpus)
    if "MIG-" in chosen:
        return tuple(replace(gpu, device=None) for gpu in gpus)
    found: list[Gpu] = []
    for entry in (part.strip() for part in chosen.split(",")):
        named = [gpu for gpu in gpus if entry.startswith("GPU-") and _is_named(gpu, entry)]
        if _is_number(entry) and int(entry) < len(gpus):
            named = [gpus[int(entry)]]
        if len(named) != 1:
            break
        if any(gpu is named[0] for gpu in found):
            return ()
        found += named
    return tuple(found)


def _is_named(gpu: Gpu, entry: str) -> bool:
    return gpu.device is not None and gpu.device.startswith(entry)
