"""SHA-256 of release files, and the `SHA256SUMS` file that the tool of that name checks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock

from pipeline.errors import VerificationError
from pipeline.files.folders import entries_below
from pipeline.files.regular import open_regular
from pipeline.progress import Progress

SUMS_NAME = "SHA256SUMS"
BLOCK_BYTES = 1 << 20
MAX_THREADS = 4

MAX_RECORD_BYTES = 64 << 20
"""Of manifests, sums and records, which are read whole."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The bytes of one release file: a range of a file on disk (all of it, or a part of a tar)."""

    path: Path
    offset: int
    size_bytes: int

    def blocks(self) -> Iterator[bytes]:
        """The bytes in blocks. Raises VerificationError where the file is shorter by now."""
        left_bytes = self.size_bytes
        with open_regular(self.path) as file:
            file.seek(self.offset)
            while left_bytes:
                block = file.read(min(BLOCK_BYTES, left_bytes))
                if not block:
                    raise VerificationError(f"`{self.path}` became shorter while it was read")
                left_bytes -= len(block)
                yield block

    def read(self, max_bytes: int = MAX_RECORD_BYTES) -> bytes:
        """All bytes of a small file. Raises VerificationError where there are more."""
        if self.size_bytes > max_bytes:
            raise VerificationError(
                f"`{self.path}` has {self.size_bytes} bytes where at most {max_bytes} make sense"
            )
        return b"".join(self.blocks())


def list_extents(folder: Path) -> dict[str, Extent]:
    """All files below a folder that we wrote, by relative name."""
    paths = [Path(entry.path) for entry in entries_below(folder) if entry.is_file()]
    names = [path.relative_to(folder).as_posix() for path in paths]
    return {name: _extent(folder, name) for name in names}


def _extent(folder: Path, name: str) -> Extent:
    return Extent(folder / name, 0, (folder / name).stat().st_size)


def digest_all(extents: Mapping[str, Extent], progress: Progress) -> dict[str, str]:
    """SHA-256 in hex by name; each file is read once, several at a time.

    `hashlib` leaves the interpreter lock while it hashes, so threads use all processors. Raises
    OSError where a file cannot be read, VerificationError where it changes meanwhile.
    """
    lock, stopped = Lock(), Event()

    def digest(extent: Extent) -> str:
        state = hashlib.sha256()
        for block in extent.blocks():
            if stopped.is_set():
                break
            state.update(block)
            with lock:
                progress.advance(len(block))
        return state.hexdigest()

    progress.start("hash", sum(extent.size_bytes for extent in extents.values()))
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        try:
            return dict(zip(extents, pool.map(digest, extents.values()), strict=True))
        finally:
            # After an error or an interrupt, the pool must not finish its gigabytes first.
            stopped.set()


def encode_sums(digests: Mapping[str, str]) -> bytes:
    """`SHA256SUMS` as `sha256sum` writes it in text mode, sorted by name.

    Names need no escaping: `sources.names` refuses those that would (coreutils, sha256sum).
    """
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def parse_sums(data: bytes) -> dict[str, str] | None:
    """Name -> digest, or None where the bytes are not what `encode_sums` writes."""
    digests = {}
    for line in data.decode(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        digests[name] = digest
    return digests if digests and encode_sums(digests) == data else None
