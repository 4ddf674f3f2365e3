"""Reads and writes of byte ranges, whole or not at all; system errors become ours."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline.errors import MachineError, PipelineError, ResourceError, VerificationError

_WRITE_BYTES = 128 << 10
"""At once, ending at a multiple: larger pages cost the page cache more than they save."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Truncated(VerificationError):
    """A file ended before a range that its header promised."""


@contextmanager
def open_all(folder: Path, names: Iterable[str], flags: int) -> Iterator[dict[str, int]]:
    """File descriptors of files in a folder, by name; closed at the end."""
    with ExitStack() as stack:
        descriptors: dict[str, int] = {}
        for name in names:
            try:
                descriptor = os.open(folder / name, flags | os.O_CLOEXEC, 0o644)
            except OSError as error:
                if isinstance(error, FileNotFoundError) and not flags & os.O_CREAT:
                    raise VerificationError(f"the weight file `{name}` is missing") from None
                raise system_error(name, error) from None
            stack.callback(os.close, descriptor)
            descriptors[name] = descriptor
        yield descriptors


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn system errors on a file into errors that a user can act on."""
    try:
        yield
    except OSError as error:
        raise system_error(name, error) from None


def system_error(name: str, error: OSError) -> PipelineError:
    """The kind of error that a failed system call on a file is."""
    if error.errno in _FULL:
        return ResourceError(
            f"no space left to write `{name}`", hint="free disk space, or name another `--store`"
        )
    return MachineError(f"`{name}` cannot be read or written: {error.strerror or error}")


def allocate(descriptor: int, num_bytes: int) -> None:
    """Give a new file its size, all zeros; where the disk is too small, fail now."""
    if num_bytes == 0:
        return
    try:
        os.posix_fallocate(descriptor, 0, num_bytes)
    except OSError as error:
        if error.errno in _FULL:
            raise
        os.truncate(descriptor, num_bytes)


def read_into(descriptor: int, buffer: memoryview, offset: int, name: str) -> None:
    """Fill a byte buffer from a file. Raises Truncated where the file ends before."""
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer[done:]], offset + done)
        if count == 0:
            raise Truncated(f"`{name}` ends at byte {offset + done}, before the end of its tensors")
        done += count


def write_all(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all bytes at an offset."""
    done = 0
    while done < len(data):
        room = _WRITE_BYTES - (offset + done) % _WRITE_BYTES
        done += os.pwrite(descriptor, data[done : done + room], offset + done)


def copy_range(
    source: int,
    offset: int,
    targets: Sequence[tuple[int, int]],
    num_bytes: int,
    name: str,
    buffer: memoryview,
) -> None:
    """Copy bytes of a file to places (descriptor, first byte) in others, through a buffer.

    With a buffer that stays in the processor's cache this is faster than `copy_file_range`, which
    goes through a pipe where ranges do not begin at pages. Steps end where pages of the first
    target do, so that the kernel gives it large ones.
    """
    done = 0
    while done < num_bytes:
        room = len(buffer) - (targets[0][1] + done) % len(buffer)
        part = buffer[: min(room, num_bytes - done)]
        read_into(source, part, offset + done, name)
        for target, target_offset in targets:
            write_all(target, part, target_offset + done)
        done += len(part)
