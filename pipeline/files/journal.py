"""Journals: what a stage has finished, line by line, so that a later process can go on from there.

A line holds a checksum over itself and the line before it, and says when it may be believed:
`synced` lines speak of bytes that were on the disk when the line was written, the others of bytes
that only the system's memory may have held. A process that is killed takes nothing of that along,
but a power cut does; so such a line names the boot that it is of, and counts for no other.

What is torn, damaged, or from another journal ends the journal there: all before it holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

JOURNAL_NAME = ".journal"
"""In a working folder: a stage wrote down how far it is, and can go on from there."""

_SYNCED = "synced"
_BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")
_SUM_CHARACTERS = 32
_MAX_LINE_BYTES = 1 << 20
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its JSON value, whether it counts now, its checksum, the first byte after it."""

    value: Any
    is_synced: bool
    is_trusted: bool
    checksum: str
    end: int


class Journal:
    """A journal to append to. One thread at a time may use it, but for `sync`."""

    def __init__(self, descriptor: int, checksum: str, end: int) -> None:
        self._descriptor = descriptor
        self._checksum = checksum
        self._end = end

    @classmethod
    def create(cls, path: Path) -> Journal:
        """A new, empty one. Raises OSError where something of this name is there."""
        return cls(os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o644), "", 0)

    @classmethod
    def continued(cls, path: Path, after: Line) -> Journal:
        """One that was read before; what stands after this line is dropped. Raises OSError."""
        descriptor = os.open(path, _FLAGS)
        os.ftruncate(descriptor, after.end)
        return cls(descriptor, after.checksum, after.end)

    def append(self, value: Any, *, synced: bool) -> Line:
        """Write a line; it survives a kill from here on. Raises OSError: then nothing was added.

        `synced` is the caller's word that what the line says is on the disk.
        """
        text = f"{_SYNCED if synced else boot_id()} {json.dumps(value, separators=(',', ':'))}\n"
        checksum = _checksum(self._checksum, text)
        data = f"{checksum} {text}".encode()
        done = 0
        while done < len(data):  # what a failure leaves half is written over by the next line
            done += os.pwrite(self._descriptor, data[done:], self._end + done)
        self._checksum = checksum
        self._end += len(data)
        return Line(value, synced, True, checksum, self._end)

    def go_back_to(self, line: Line) -> None:
        """Take back all lines after this one. Raises OSError."""
        os.ftruncate(self._descriptor, line.end)
        self._checksum, self._end = line.checksum, line.end

    def sync(self) -> None:
        """Have the lines written to the disk. Raises OSError."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Need it no more."""
        os.close(self._descriptor)


def read_journal(path: Path) -> list[Line]:
    """The lines of a journal from its first on, as far as they are whole; none without a file.

    Raises OSError where it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return []
    with os.fdopen(descriptor, "rb") as stream:
        return list(_whole_lines(iter(lambda: stream.readline(_MAX_LINE_BYTES), b"")))


def _whole_lines(read: Iterator[bytes]) -> Iterator[Line]:
    previous, end = "", 0
    for data in read:
        checksum, text = data[:_SUM_CHARACTERS], data[_SUM_CHARACTERS + 1 :]
        if not data.endswith(b"\n") or data[_SUM_CHARACTERS : _SUM_CHARACTERS + 1] != b" ":
            return
        try:
            line = text.decode()
            if checksum.decode() != _checksum(previous, line):
                return
        except UnicodeDecodeError:
            return
        when, _, value = line.partition(" ")
        previous, end = checksum.decode(), end + len(data)
        is_synced = when == _SYNCED
        is_trusted = is_synced or (bool(boot_id()) and when == boot_id())
        yield Line(json.loads(value), is_synced, is_trusted, previous, end)


def clear(folder: Path, but: Collection[str] = ()) -> None:
    """Remove everything in a working folder `but` these names, the journal last. Raises OSError.

    A kill in between leaves a journal that speaks of files that are gone: it is cleared again.
    """
    for path in sorted(folder.iterdir(), key=lambda path: path.name == JOURNAL_NAME):
        if path.name in but:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def make_writable(path: Path) -> bool:
    """Whether a file can be written. One of ours that was about to be published is read-only."""
    if not path.lstat().st_mode & stat.S_IWUSR:
        with suppress(PermissionError):
            path.chmod(0o644)
    return os.access(path, os.W_OK)


@cache
def boot_id() -> str:
    """What names the time since this machine was started; empty where the system does not say."""
    try:
        return _BOOT_FILE.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return ""


def _checksum(previous: str, text: str) -> str:
    return hashlib.blake2b(
        f"{previous} {text}".encode(), digest_size=_SUM_CHARACTERS // 2
    ).hexdigest()
