"""What a tracer tells of a call that changes files, and what may be decided about it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import ptrace
from tests.faults.syscalls import FileCall

AT_FDCWD = -100
NOT_FILES = re.compile("/dev/(?!shm/)|/proc/|/sys/|/memfd:")
"""What is open under such names is no file of a disk; below `/dev/shm/` there may be one."""


@dataclass(slots=True)
class Call:
    """One call: its number among those that are counted, its paths, and its result once known."""

    number: int
    name: str
    kind: str
    paths: tuple[str, ...]
    length: int | None = None
    result: int | None = None

    def told(self) -> str:
        """For people."""
        return f"call {self.number}, {self.name} {' '.join(self.paths)}"


@dataclass(frozen=True, slots=True)
class Fail:
    """The call is not carried out and returns this errno."""

    errno: int


@dataclass(frozen=True, slots=True)
class Shorten:
    """The call writes so many bytes at most."""

    length: int


@dataclass(frozen=True, slots=True)
class Kill:
    """A signal before the call is carried out or after it, to all processes or to the first.

    SIGKILL ends the trace. Any other goes to the process group of the first where it is for all.
    """

    after: bool = False
    whole_tree: bool = True
    number: int = signal.SIGKILL


Verdict = Fail | Shorten | Kill | None
"""None: the call is carried out as it stands."""
Judge = Callable[[Call], Verdict]
"""Asked at every counted call, while the process stands still."""


@dataclass(slots=True)
class Trace:
    """What a traced run did: every call that was counted, how the first process ended (as of
    `os.waitpid`), whether the tracer killed it, and who still lived long after it (`outlived`)."""

    calls: list[Call] = field(default_factory=list)
    status: int = -1
    killed_at: int | None = None
    outlived: list[str] = field(default_factory=list)
    timed_out: bool = False

    def changed_paths(self) -> list[str]:
        """Paths that were really made, changed or removed."""
        done = [call for call in self.calls if call.result is None or call.result >= 0]
        return sorted({path for call in done if call.kind != "lock" for path in call.paths})


def describe(pid: int, found: FileCall, arguments: Sequence[int]) -> Call | None:
    """The call of a stopped process, not numbered yet; None where it concerns no file of a disk."""
    paths = [_named(pid, arguments, *where) for where in found.paths]
    if found.descriptor is not None:
        paths.append(_opened(pid, arguments[found.descriptor]))
    if not paths or any(not path.startswith("/") for path in paths):
        return None
    if all(NOT_FILES.match(path) for path in paths):
        return None
    length = None if found.length is None else arguments[found.length]
    return Call(0, found.name, found.kind, tuple(paths), length)


def is_below(path: str, folder: Path) -> bool:
    """Whether an absolute path is a folder or lies in it, by spelling."""
    return path == str(folder) or path.startswith(f"{folder}/")


def _named(pid: int, arguments: Sequence[int], folder: int | None, position: int) -> str:
    """The path in an argument, made absolute; links are not followed."""
    text = ptrace.read_text(pid, arguments[position])
    if text.startswith("/"):
        return os.path.normpath(text)
    descriptor = AT_FDCWD if folder is None else _signed(arguments[folder])
    base = _link(f"/proc/{pid}/cwd") if descriptor == AT_FDCWD else _opened(pid, descriptor)
    return os.path.normpath(f"{base}/{text}") if text else base


def _opened(pid: int, descriptor: int) -> str:
    return _link(f"/proc/{pid}/fd/{_signed(descriptor)}").removesuffix(" (deleted)")


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def _signed(value: int) -> int:
    """An `int` argument: the lower 32 bits of its register."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value
