"""Who works in a store: a file for every session, and whether its process is still there.

The file's modification time is a heartbeat, and the process holds a lock on it. Where process and
reader see each other (same machine, same container) the kernel's list of processes decides; else a
session is dead when its lock is free and its heart has stopped. Nothing is wrong if that errs: what
is taken from a session is renamed, which only one can do, and published by one rename.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import VerificationError
from pipeline.files.regular import open_regular, read_small
from pipeline.system.processes import parse_process, this_process

BEAT_S = 5.0
SILENT_S = 30.0
"""A process of another machine or container that has not shown a sign of life for so long."""

SUFFIX = ".json"
MAX_OWNER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Owner:
    """A process at work: host, process (see `processes`), since when (UTC), on what recipe.

    `holds` are the artifacts that it may read, `stage/key`: they must stay.
    """

    host: str
    process: str
    started: str
    label: str
    holds: tuple[str, ...] = ()

    def __str__(self) -> str:
        process = parse_process(self.process)
        pid = f"process {process.pid} on " if process else ""
        label = f" (`{self.label}`)" if self.label else ""
        return f"{pid}`{self.host}`{label}, at work since {self.started}"


def this_owner(label: str) -> Owner:
    """This process, now."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return Owner(platform.node(), str(this_process()), started, label)


def encode_owner(owner: Owner) -> bytes:
    """The content of a session file."""
    return (json.dumps(asdict(owner), indent=2, sort_keys=True) + "\n").encode()


def read_owner(path: Path) -> Owner | None:
    """The owner that a session file tells; None where it is gone or cannot be understood."""
    try:
        found = Owner(**json.loads(read_small(path, MAX_OWNER_BYTES)))
        owner = replace(found, holds=tuple(found.holds))
    except (OSError, ValueError, TypeError, RecursionError, VerificationError):
        return None
    texts = (owner.host, owner.process, owner.started, owner.label, *owner.holds)
    return owner if all(isinstance(text, str) for text in texts) else None


def file_time(root: Path) -> float:
    """The time by the clock of a store's file system; by this machine's where it cannot be asked.

    That of a file server may be another, and heartbeats are by it.
    """
    with suppress(OSError), tempfile.TemporaryFile(dir=root / "sessions") as file:
        with suppress(OSError):  # where no times are set, that of its making will do
            os.utime(file.fileno())
        return os.fstat(file.fileno()).st_mtime
    return time.time()


def is_dead(path: Path, now: float) -> bool:
    """Whether the process of a session file has ended. `now` is the file system's own time.

    A heartbeat that is far ahead of it has stopped too: the clock was put back since.
    """
    owner = read_owner(path)
    process = parse_process(owner.process) if owner else None
    dead = process.is_dead() if process else None
    if dead is not None:
        return dead
    try:
        silent_s = abs(now - path.stat().st_mtime)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return silent_s > SILENT_S and is_unlocked(path)


def session_files(root: Path) -> Iterator[Path]:
    """The session files of a store, dead or alive."""
    try:
        files = sorted((root / "sessions").iterdir())
    except OSError:
        return
    yield from (file for file in files if file.suffix == SUFFIX)


def is_unlocked(path: Path) -> bool:
    """Whether nobody holds the lock of a file; true where there are no locks, or no such file."""
    try:
        with open_regular(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (OSError, VerificationError):
        return True
    return True
