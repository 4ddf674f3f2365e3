"""Hashes a file while somebody else writes it, so that it need not be read again when it is whole.

The writer (the hub client) owes us nothing: it may begin anew, cut what it has, write out of order.
So what was followed counts only if the finished file is proved to be the same bytes, by a second,
fast digest over the file as it is in the end (BLAKE3, fifteen times as fast as SHA-256 here).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from pipeline.sources.copying import FileDigests

if TYPE_CHECKING:
    from blake3 import blake3

BLOCK_BYTES = 4 << 20
WRITE_BACK_BYTES = 32 << 20
INTERVAL_S = 0.05
SYNC_FILE_RANGE_WRITE = 2


class Follower:
    """Follows the file that `find` names, as often as it is another one."""

    def __init__(self, find: Callable[[], Path | None]) -> None:
        self._find = find
        self._ended = Event()
        self._abandoned = False
        self._block = bytearray(BLOCK_BYTES)
        self._descriptor: int | None = None
        self._reset()
        self._thread = Thread(target=self._follow, name="follow", daemon=True)
        self._thread.start()

    def finish(self, path: Path) -> FileDigests | None:
        """Digests of a finished file, if it is what was followed; None where that is not sure.

        Raises OSError where it cannot be read.
        """
        from blake3 import blake3

        self._ended.set()
        self._thread.join()
        if self.num_bytes == 0 or path.stat().st_size != self.num_bytes:
            return None
        if blake3().update_mmap(path).digest() != self._blake3.digest():
            return None
        return FileDigests(self.num_bytes, self._sha256.hexdigest(), "")

    def abandon(self) -> None:
        """Stop: the file will not be finished."""
        self._abandoned = True
        self._ended.set()

    def _reset(self) -> None:
        from blake3 import blake3

        self._sha256 = hashlib.sha256()
        self._blake3: blake3 = blake3()
        self.num_bytes = self._written_back = 0

    def _follow(self) -> None:
        try:
            while not self._abandoned:
                was_ended = self._ended.is_set()
                if self._read():
                    continue
                if was_ended:
                    return
                self._ended.wait(INTERVAL_S)
        except OSError:  # the plain way of hashing says what is wrong
            self._reset()
        finally:
            self._close()

    def _read(self) -> bool:
        """Hash what is new in the file; whether there was any."""
        if self._descriptor is None:
            path = self._find()
            if path is None:
                return False
            try:
                self._descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                return False
        state = os.fstat(self._descriptor)
        if state.st_nlink == 0:  # the writer gave it up
            self._close()
            self._reset()
            return False
        if state.st_size < self.num_bytes:
            self._reset()
        view = memoryview(self._block)
        num_bytes = os.preadv(self._descriptor, [view], self.num_bytes)
        self._sha256.update(view[:num_bytes])
        self._blake3.update(view[:num_bytes])
        self.num_bytes += num_bytes
        if self.num_bytes - self._written_back > WRITE_BACK_BYTES:
            begin_write_back(self._descriptor, self._written_back, self.num_bytes)
            self._written_back = self.num_bytes
        return num_bytes > 0

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def begin_write_back(descriptor: int, begin: int, end: int) -> None:
    """Let the kernel begin to write a part of a file to the disk, without waiting for that.

    A file is synced when it is published; by then most of it has gone to the disk meanwhile. Does
    nothing where the system has no such call (sync_file_range(2), Linux).
    """
    import ctypes

    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        num_bytes = ctypes.c_int64(end - begin)
        call(descriptor, ctypes.c_int64(begin), num_bytes, SYNC_FILE_RANGE_WRITE)
