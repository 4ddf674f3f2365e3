"""Which process this is, in a way that another one can check, also from another container.

A process number alone says little: numbers are used again, and every container counts from 1. Boot,
number space and start time make it unique (Linux, proc(5): `boot_id`, `ns/pid`, field 22 of
`stat`).
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROC = Path("/proc")

_TEXT = re.compile(r"([0-9a-f]{8})-(\d{1,10})-(\d{1,20})")
_STATE_FIELD, _START_FIELD = 0, 19
"""Of `stat`, counted after the command name, which may hold anything."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process: its number space (8 hex digits), number, and start in clock ticks after boot."""

    space: str
    pid: int
    start: int

    def __str__(self) -> str:
        return f"{self.space}-{self.pid}-{self.start}"

    def is_dead(self) -> bool | None:
        """Whether it has ended; None where that cannot be seen from here."""
        if self.space != _space():
            return None
        found = _stat(self.pid)
        if found is None:
            return None if _exists(self.pid) else True
        if found[_STATE_FIELD] in "ZX":
            return True
        return int(found[_START_FIELD]) != self.start


def this_process() -> Process:
    """This one."""
    found = _stat(os.getpid())
    return Process(_space(), os.getpid(), int(found[_START_FIELD]) if found else 0)


def parse_process(text: str) -> Process | None:
    """What `str` made of a process; None for anything else."""
    found = _TEXT.fullmatch(text)
    return Process(found[1], int(found[2]), int(found[3])) if found else None


@cache
def _space() -> str:
    """The same for processes that see each other's numbers, and for no others."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text()
        numbers = os.readlink(PROC / "self/ns/pid")  # noqa: PTH115 - it is no path
    except OSError:
        boot, numbers = "", ""
    # The host's name too: machines made from one snapshot have booted together.
    return hashlib.sha256(f"{boot}\0{numbers}\0{platform.node()}".encode()).hexdigest()[:8]


def _exists(pid: int) -> bool:
    """Whether a process is there, though `/proc` may hide those of other users (`hidepid`)."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _stat(pid: int) -> list[str] | None:
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
