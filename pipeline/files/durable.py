"""Writes that survive: a reader sees the old file or the new one, also after a power cut.

A rename is atomic, but the system may carry it out before it has written the bytes that were
renamed; so bytes are synced first, the name after.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

from pipeline.files.folders import entries_below
from pipeline.system.processes import Process, parse_process, this_process

_PARTIAL = ".partial"
"""How the names of unfinished files end; they begin with the process that writes."""

FOREIGN_S = 86_400.0
"""What a process that cannot be seen from here has left goes after a day."""

_NO_SYNC = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS, errno.EACCES})
"""What file systems answer that have no sync for this kind of file; EACCES: not ours to open."""

_NO_MODES = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS})
"""What chmod(2) answers for files of others, and on file systems without modes."""


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file whole or not at all; what stood there before stays until then.

    Raises OSError; nothing is left beside the file then. What a process left that was killed in
    here goes as soon as another one writes in the same folder.
    """
    remove_dead_partials(path.parent)
    partial = partial_path(path.parent)
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            set_mode(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def set_mode(file: Path | int, mode: int) -> None:
    """Set the mode bits of a path or descriptor, where there are modes and it is ours to do.

    A mode guards against mistakes, no more. Raises OSError where the disk fails.
    """
    try:
        os.chmod(file, mode)  # noqa: PTH101 - descriptors too
    except OSError as error:
        if error.errno not in _NO_MODES:
            raise


def partial_path(folder: Path) -> Path:
    """A name for a file that this process has not finished yet: see `remove_dead_partials`.

    The name that it gets in the end is left out: a long one leaves no room.
    """
    return folder / f".{this_process()}.{uuid.uuid4().hex[:8]}{_PARTIAL}"


def remove_dead_partials(folder: Path) -> None:
    """Remove what processes left in a folder that were killed while they wrote a file there."""
    with suppress(OSError):
        for path in folder.glob(f".*{_PARTIAL}"):
            process = parse_process(path.name[1:].partition(".")[0])
            with suppress(OSError):  # another process does the same
                if process is not None and is_over(process, path):
                    path.unlink()


def is_over(process: Process, path: Path) -> bool:
    """Whether a process will write no more to what bears its name.

    One that cannot be seen from here has a day from the last change on. Raises OSError.
    """
    dead = process.is_dead()
    return time.time() - path.lstat().st_mtime > FOREIGN_S if dead is None else dead


def sync_tree(folder: Path) -> None:
    """Have the bytes of all files below a folder, and the folders, written to the disk."""
    for entry in reversed(entries_below(folder)):
        sync(Path(entry.path))
    sync(folder)


def sync(path: Path) -> None:
    """Have one file or folder written to the disk. Raises OSError where the disk fails."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NO_SYNC:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)
