"""BLAKE3 digests of files, taken once by a process as long as a file stays as it is.

What a process remembers goes by path, and is told where a file gets another name: the numbers of
files are not unique on every file system (one that shows several disks as one, say).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import VerificationError

READ_BYTES = 1 << 20

SETTLED_NS = 2_000_000_000
"""A file changed less than this ago may change again within one tick of its modification time."""

State = tuple[int, int, int, int]
"""What would differ if a file had changed: device, inode, size, modification time in ns."""

_DIGESTS: dict[Path, tuple[State, str]] = {}
"""What this process has hashed."""


def no_advance(_: int) -> None:
    """Nobody is told of bytes read."""


def digest_file(path: Path, advance: Callable[[int], None] = no_advance) -> str:
    """BLAKE3 of a file's bytes, in hex; `advance` is told of bytes read. Raises OSError.

    The file is read, not mapped: a disk that fails, or a file that gets shorter meanwhile, would
    end a process that has it mapped by a signal.
    """
    from blake3 import blake3

    digest, block = blake3(), memoryview(bytearray(READ_BYTES))
    with path.open("rb", buffering=0) as stream:
        while size := stream.readinto(block):
            digest.update(block[:size])
            advance(size)
    return digest.hexdigest()


def digest_once(path: Path, advance: Callable[[int], None] = no_advance) -> str:
    """BLAKE3 of a file that is not written any more, read at most once by this process.

    Raises VerificationError where it changes while it is read, and OSError.
    """
    state = _state(path)
    known = _DIGESTS.get(path)
    if known is not None and known[0] == state:
        advance(state[2])
        return known[1]
    digest = digest_file(path, advance)
    if _state(path) != state:
        raise VerificationError(f"`{path}` changes while it is read")
    if time.time_ns() - state[-1] >= SETTLED_NS:
        _DIGESTS[path] = state, digest
    return digest


def carry_digest(known: Path, path: Path) -> None:
    """A file that this process may have hashed as `known` has the name `path` as well, or now.

    Raises OSError where there is no such file.
    """
    found = _DIGESTS.get(known)
    if found is not None and found[0] == _state(path):
        _DIGESTS[path] = found


def _state(path: Path) -> State:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
