"""Locks of keys, so that one process makes an artifact and the others wait for it.

They save work and nothing else: where a file system has no locks, or one that a dead machine holds
for ever, work is done twice and the first result stays.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import LockedError
from pipeline.store.owners import file_time, is_dead, read_owner
from pipeline.store.shared_folders import make_folder

if TYPE_CHECKING:
    from filelock import BaseFileLock

WAIT_S = 1.0
"""Between two looks at who holds a lock."""

STALE_S = 5.0
"""A lock whose holder is dead all that time will not be freed: its file system forgot to."""

SOON_S = 0.01
"""Between two tries for a lock that is held for a moment."""

NO_LOCKS = "no lock can be had in the store: another process may do the same work"


@contextmanager
def hold_lock(
    root: Path, name: str, session: Path, timeout_s: float, on_wait: Callable[[str], None]
) -> Iterator[None]:
    """Hold the lock `name` (`stage-key`) of the store `root` for the session of this process.

    `on_wait` is told once for whom it waits. Raises LockedError after `timeout_s`.
    """
    from filelock import FileLock

    path = root / "locks" / f"{name}.lock"
    if not _has_locks(path.parent):
        on_wait(NO_LOCKS)
        yield
        return
    holder = path.with_suffix(".holder")
    lock = FileLock(path, mode=0o666)  # other users of the store take it too
    _acquire(lock, _Waiting(root, holder, _what(name), timeout_s, on_wait))
    with suppress(OSError):  # only so that others can say for whom they wait
        holder.unlink(missing_ok=True)  # it may be another user's
        holder.write_text(session.name)
    try:
        yield
    finally:
        with suppress(OSError):
            if holder.read_text() == session.name:
                holder.unlink()
        lock.release()


@contextmanager
def deletion_lock(root: Path, *, deleting: bool) -> Iterator[None]:
    """Nobody deletes an artifact while another process writes down that it needs it.

    Those that write it down do so together, who deletes is alone, for a moment each. A process that
    is stopped just then is not waited for long: who deletes looks again afterwards.
    """
    kind = fcntl.LOCK_EX if deleting else fcntl.LOCK_SH
    descriptor = None
    with suppress(OSError):
        path = make_folder(root, "locks") / "deletions.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with suppress(OSError):  # another user's has the mode already
            os.fchmod(descriptor, 0o666)
        _lock_soon(descriptor, kind)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock_soon(descriptor: int, kind: int) -> None:
    """Wait `STALE_S` for a lock. Raises OSError where there are none."""
    started = time.monotonic()
    while time.monotonic() - started < STALE_S:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        time.sleep(SOON_S)


def _has_locks(folder: Path) -> bool:
    """Whether locks can be had there; `filelock` would make files that a killed process leaves."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What a process waits for, and how long."""

    root: Path
    holder: Path
    what: str
    timeout_s: float
    on_wait: Callable[[str], None]


def _acquire(lock: BaseFileLock, waiting: _Waiting) -> None:
    """Return with the lock, or without it where there is no use in waiting."""
    from filelock import Timeout

    started = time.monotonic()
    told, dead_since = False, None
    while True:
        waited_s = time.monotonic() - started
        slice_s = min(WAIT_S, max(0.0, waiting.timeout_s - waited_s)) if told else 0.0
        try:
            lock.acquire(timeout=slice_s)
        except Timeout:
            who = _who(waiting)
        except (OSError, NotImplementedError):
            waiting.on_wait(NO_LOCKS)
            return
        else:
            return
        # A holder that has just been killed is still named until the next one writes its own name.
        now = time.monotonic()
        dead_since = None if who is not None else dead_since or now
        if dead_since is not None and now - dead_since > STALE_S:
            waiting.on_wait(f"the process that held the lock of {waiting.what} is dead: going on")
            return
        if not told:
            waiting.on_wait(f"waiting for {who or 'another process'}, which makes {waiting.what}")
            told = True
        if waited_s >= waiting.timeout_s:
            raise LockedError(
                f"another process still makes {waiting.what} after {waiting.timeout_s:.0f} s",
                facts=[who or "it cannot be told which"],
                hint="wait for it, or give a longer `--lock-timeout`",
            )


def _what(name: str) -> str:
    stage, _, key = name.partition("-")
    return f"`{stage}` {key[:12]}"


def _who(waiting: _Waiting) -> str | None:
    """Who holds a lock, for people; None where that process is dead."""
    try:
        session = waiting.root / "sessions" / waiting.holder.read_text()
    except (OSError, ValueError):
        return "another process"
    if is_dead(session, file_time(waiting.root)):
        return None  # also where its session file has been cleared already
    return str(read_owner(session) or "another process")
