"""Facts about what has run out: disks, limits, memory. Reading them never fails, it tells less."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")

_CGROUP = Path("/sys/fs/cgroup")
_FEW_FILES = 16
"""A file system with fewer free inodes than that is out of them, whatever its free bytes."""


def disk_facts(where: Path | None) -> list[str]:
    """Free bytes and files where a path lies, and the file system."""
    folder = _existing(where)
    if folder is None:
        return []
    try:
        found = os.statvfs(folder)
    except OSError:
        return []
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    facts = [f"free there: {free:,} of {total:,} bytes"]
    if found.f_files and found.f_favail < _FEW_FILES:
        facts.append(f"free there: {found.f_favail:,} of {found.f_files:,} files (inodes)")
    return facts + mount_facts(where)


def mount_facts(where: Path | None) -> list[str]:
    """The device, kind and mount point of the file system that a path lies on."""
    folder = _existing(where)
    mount = None if folder is None else _mount_of(folder)
    return [] if mount is None else ["file system: `{}` ({}), mounted on `{}`".format(*mount)]


def file_size_facts(where: Path | None) -> list[str]:
    """The limit on the size of a file, else the file system, which has one of its own."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY:
        return mount_facts(where)
    return [f"the limit: {limit:,} bytes a file (RLIMIT_FSIZE)"]


def open_file_facts(_where: Path | None) -> list[str]:
    """The limit on open files. Nothing is opened to say it."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    most_shown = "no end" if most == resource.RLIM_INFINITY else f"{most:,}"
    return [f"the limit: {limit:,} open files (RLIMIT_NOFILE), which may be raised to {most_shown}"]


def memory_facts(_where: Path | None) -> list[str]:
    """What limits the memory of this process, and what the machine has left."""
    facts = []
    for name, kind in (("RLIMIT_AS", resource.RLIMIT_AS), ("RLIMIT_DATA", resource.RLIMIT_DATA)):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            facts.append(f"the limit: {limit:,} bytes of memory ({name})")
    allowed = _number(_CGROUP / "memory.max")
    if allowed is not None:
        facts.append(f"the limit: {allowed:,} bytes of memory (control group)")
    available = _read(Path("/proc/meminfo"), _available_bytes)
    if available is not None:
        facts.append(f"available on this machine: {available:,} bytes")
    return facts


def process_facts(_where: Path | None) -> list[str]:
    """What limits the number of processes and threads."""
    facts = []
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if limit != resource.RLIM_INFINITY:
        facts.append(f"the limit: {limit:,} processes and threads of this user (RLIMIT_NPROC)")
    allowed = _number(_CGROUP / "pids.max")
    if allowed is not None:
        facts.append(f"the limit: {allowed:,} processes (control group)")
    return facts + memory_facts(None)


def _existing(where: Path | None) -> Path | None:
    """The path, or the nearest folder above it that is there."""
    if where is None:
        return None
    path = where.absolute()
    while not os.path.exists(path) and path != path.parent:  # noqa: PTH110 - it never raises
        path = path.parent
    return path


def _mount_of(path: Path) -> tuple[str, str, str] | None:
    """Device, kind, mount point. Source: proc(5), `/proc/self/mountinfo`."""
    return _read(Path("/proc/self/mountinfo"), lambda text: _find_mount(text, path.resolve()))


def _find_mount(text: str, path: Path) -> tuple[str, str, str] | None:
    best: tuple[str, str, str] | None = None
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].encode().decode("unicode_escape")
        kind, device = after.split(" ")[:2]
        if path.is_relative_to(point) and (best is None or len(point) >= len(best[2])):
            best = device, kind, point
    return best


def _available_bytes(text: str) -> int | None:
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _number(path: Path) -> int | None:
    """A limit of a version-2 control group; None where there is none."""
    return _read(path, lambda text: int(text) if text.strip().isdecimal() else None)


def _read(path: Path, parse: Callable[[str], Found | None]) -> Found | None:
    try:
        return parse(path.read_text(errors="replace"))
    except (OSError, MemoryError, ValueError, IndexError):
        return None
