"""Opens files that others made: only regular ones, without waiting for what is behind a name.

Opening a pipe that nobody writes to, or a device, waits for ever; reading a device never ends. So
the file is opened without waiting and looked at while it is open: what it is cannot change then.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

from pipeline.errors import VerificationError

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


def open_regular(path: Path, told: str | None = None) -> io.FileIO:
    """A regular file, or a link to one, unbuffered and open for reading.

    `told` is how a message calls it (default: its path). Raises VerificationError where it is
    something else, and OSError where it cannot be opened.
    """
    descriptor = os.open(path, _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise VerificationError(f"`{told or path}` is not a regular file")
        return io.FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_small(path: Path, max_bytes: int, told: str | None = None) -> bytes:
    """All bytes of a regular file that must not have more than `max_bytes`.

    Raises VerificationError where it has, or is no regular file, and OSError where it cannot be
    read.
    """
    with open_regular(path, told) as stream:
        parts, left_bytes = [], max_bytes + 1
        while left_bytes and (part := stream.read(left_bytes)):
            parts.append(part)
            left_bytes -= len(part)
    if not left_bytes:
        raise VerificationError(f"`{told or path}` has more than {max_bytes} bytes")
    return b"".join(parts)
