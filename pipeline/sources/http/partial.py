"""A file that fills up over attempts, processes and days: `<sha256>.partial`, then `<sha256>`.

What is there counts as the beginning of the file: it is hashed when it is opened, and what comes is
hashed while it is written, so that a whole file is read no second time. The name without `.partial`
is given only where that hash is the published one.

A lock keeps a second process waiting, and saves work. Where the file system has none, the file is a
private one that nobody resumes. A file is only ever appended to: what proves wrong is unlinked, not
cut back, so that another one that has it open keeps its own.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.files.durable import sync

READ_BYTES = 1 << 20
POLL_S = 0.2
FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
SUFFIX = ".partial"
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


@dataclass
class PartialFile:
    """Bytes that came so far, of one file that should get `size_bytes`; ours while it is open."""

    final: Path
    size_bytes: int
    path: Path
    descriptor: int
    num_bytes: int = 0
    _sha256: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)

    def append(self, block: memoryview) -> None:
        """Write and hash what came. Raises OSError where the disk does not take it."""
        assert self.num_bytes + len(block) <= self.size_bytes, "more than the file has"
        rest = block
        while rest:
            written = os.pwrite(self.descriptor, rest, self.num_bytes)
            self._sha256.update(rest[:written])
            self.num_bytes += written
            rest = rest[written:]

    def restart(self) -> None:
        """Forget what came: it was not the beginning of this file.

        The new file is locked before it has its name, so that no other process finds it unlocked.
        """
        nameless = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:8]}")
        fresh = os.open(nameless, FLAGS | os.O_EXCL, 0o600)
        with suppress(OSError):  # a private file needs no lock
            fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(self.descriptor)
        self.descriptor, self.num_bytes, self._sha256 = fresh, 0, hashlib.sha256()
        nameless.replace(self.path)

    def is_whole(self, sha256: str) -> bool:
        """All bytes are there, and are the published ones."""
        return self.num_bytes == self.size_bytes and self._sha256.hexdigest() == sha256

    def finish(self) -> None:
        """Give the file its name, once its bytes are on the disk; it is read-only from here on."""
        os.fchmod(self.descriptor, 0o444)
        sync(self.path)
        if not _is_at(self.path, self.descriptor):
            raise OSError(errno.ESTALE, "another process took it away", str(self.path))
        self.path.replace(self.final)
        sync(self.final.parent)

    def read_back(self, advance: Callable[[int], None]) -> None:
        """Hash what an earlier process left."""
        found = os.fstat(self.descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > self.size_bytes:
            self.restart()
            return
        while block := os.pread(self.descriptor, READ_BYTES, self.num_bytes):
            self._sha256.update(block)
            self.num_bytes += len(block)
            advance(len(block))


@contextmanager
def open_partial(
    final: Path, size_bytes: int, advance: Callable[[int], None], on_wait: Callable[[], None]
) -> Iterator[PartialFile | None]:
    """The partial file that is to become `final`; None where another process finished it meanwhile.

    `advance` is told the bytes that are there already; `on_wait` once, where another process is
    filling the file. Raises OSError.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    path = final.with_name(final.name + SUFFIX)
    descriptor, is_private = _lock(path, on_wait)
    if is_private:
        path = final.with_name(f"{final.name}.{uuid.uuid4().hex[:8]}{SUFFIX}")
        descriptor = os.open(path, FLAGS | os.O_EXCL, 0o600)
    partial = PartialFile(final, size_bytes, path, descriptor)
    try:
        if final.exists():
            path.unlink(missing_ok=True)
            yield None
        else:
            partial.read_back(advance)
            yield partial
    finally:
        # Renamed by now where all went well. A private one helps nobody, an empty one neither.
        if is_private or not partial.num_bytes:
            path.unlink(missing_ok=True)
        os.close(partial.descriptor)


def _lock(path: Path, on_wait: Callable[[], None]) -> tuple[int, bool]:
    """A descriptor that holds the lock of a file; or -1 and True where there are no locks."""
    told = False
    while True:
        descriptor = os.open(path, FLAGS, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may have renamed or unlinked it: then this is no longer the file.
            if _is_at(path, descriptor):
                return descriptor, False
        except OSError as error:
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                if error.errno not in NO_LOCKS:
                    os.close(descriptor)
                    raise
                if not os.fstat(descriptor).st_size:
                    path.unlink(missing_ok=True)
                os.close(descriptor)
                return -1, True
            if not told:
                on_wait()
            told = True
            time.sleep(POLL_S)
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """An open file is the one that has this name now."""
    try:
        named, held = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)
