"""Processes that belong to a test, by `/proc`: for looking whether one was left behind."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

DEADLINE_S = 60.0


def belonging(folder: Path) -> dict[int, str]:
    """Living processes, this one aside, whose command line or environment names a folder."""
    wanted = str(folder).encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            if command and (wanted in command or wanted in (entry / "environ").read_bytes()):
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def wait_until_gone(folder: Path) -> dict[int, str]:
    """What is left of them after the kernel and the supervisor had time to end them."""
    end = time.monotonic() + DEADLINE_S
    while (left := belonging(folder)) and time.monotonic() < end:
        time.sleep(0.02)
    return left
