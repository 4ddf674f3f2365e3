"""Reads and writes of byte ranges, whole or not at all; system errors become ours."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline.errors import MachineError, PipelineError, ResourceError, VerificationError
from pipeline.system.meanings import MEANINGS

_WRITE_BYTES = 128 << 10
"""At once, ending at a multiple: larger pages cost the page cache more than they save."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TOO_MUCH = _FULL | {errno.EFBIG}
# What says that the kernel cannot copy between these two files, or not in this way.
_NO_KERNEL_COPY = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}
)


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
    meaning = MEANINGS.get(error.errno or 0)
    hint = meaning.hint if meaning else None
    if error.errno in _FULL:
        return ResourceError(f"no space left to write `{name}`", hint=hint)
    kind = ResourceError if meaning and meaning.kind is ResourceError else MachineError
    return kind(f"`{name}` cannot be read or written: {error.strerror or error}", hint=hint)


def allocate(descriptor: int, num_bytes: int) -> None:
    """Give a new file its size, all zeros; where the disk is too small, fail now."""
    if num_bytes == 0:
        return
    try:
        os.posix_fallocate(descriptor, 0, num_bytes)
    except OSError as error:
        if error.errno in _TOO_MUCH:
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
    """Copy bytes of a file to places (descriptor, first byte) in others.

    Inside the kernel, or through the buffer where it cannot copy between these files.
    """
    for target, target_offset in targets:
        done = _kernel_copy(source, offset, target, target_offset, num_bytes)
        while done < num_bytes:
            part = buffer[: min(len(buffer), num_bytes - done)]
            read_into(source, part, offset + done, name)
            write_all(target, part, target_offset + done)
            done += len(part)


def _kernel_copy(source: int, offset: int, target: int, target_offset: int, num_bytes: int) -> int:
    """How many bytes the kernel has copied; fewer where it cannot, or where the source ends."""
    done = 0
    try:
        while done < num_bytes:
            begin = offset + done, target_offset + done
            copied = os.copy_file_range(source, target, num_bytes - done, *begin)
            if copied == 0:
                break
            done += copied
    except OSError as error:
        if error.errno not in _NO_KERNEL_COPY:
            raise
    return done
