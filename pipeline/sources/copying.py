"""Copies files whole and hashes what was written; kernel-side copies where the system has them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.files.regular import open_regular
from pipeline.placement.placing import copy_in_kernel

COPY_BYTES = 32 << 20
READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileDigests:
    """Size in bytes, SHA-256, and git's blob id (SHA-1; empty where not asked for), in hex."""

    size_bytes: int
    sha256: str
    git_blob: str


def hash_file(path: Path, *, git_blob: bool) -> FileDigests:
    """The digests of a file in one pass; one that grows meanwhile is not followed for ever.

    Raises OSError where it cannot be read, VerificationError where it is no regular file.
    """
    sha256 = hashlib.sha256()
    with open_regular(path) as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        # Git names objects by SHA-1; it proves here that we have what the hub published.
        sha1 = hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
        counted = 0
        while counted <= size_bytes and (block := stream.read(READ_BYTES)):
            sha256.update(block)
            if git_blob:
                sha1.update(block)
            counted += len(block)
    return FileDigests(counted, sha256.hexdigest(), sha1.hexdigest() if git_blob else "")


def copy_hashed(source: Path, target: Path, advance: Callable[[int], None]) -> FileDigests:
    """Copy a file and hash the copy, block by block; the git blob id is left empty.

    The copy is read back while it is still in the page cache. On file systems that can, the copy
    shares its blocks with the original and is still a file of its own. A file that grows meanwhile
    is not followed for ever: the size tells. Raises OSError, and VerificationError for what is no
    regular file.
    """
    sha256 = hashlib.sha256()
    size_bytes = 0
    with open_regular(source) as reader, target.open("xb+", buffering=0) as writer:
        begun_bytes = os.fstat(reader.fileno()).st_size
        for copied in _copy_blocks(reader.fileno(), writer.fileno()):
            for offset in range(size_bytes, size_bytes + copied, READ_BYTES):
                wanted = min(READ_BYTES, size_bytes + copied - offset)
                sha256.update(os.pread(writer.fileno(), wanted, offset))
            size_bytes += copied
            advance(copied)
            if size_bytes > begun_bytes:
                break
    return FileDigests(size_bytes, sha256.hexdigest(), "")


def _copy_blocks(reader: int, writer: int) -> Iterator[int]:
    """Copy from one descriptor to another until the end; yields the sizes of the blocks."""
    while copied := copy_in_kernel(reader, writer, COPY_BYTES):
        yield copied
    # At the end of the file this finds nothing; where the kernel cannot copy, it does all the work.
    while block := os.read(reader, READ_BYTES):
        view = memoryview(block)
        while view:
            view = view[os.write(writer, view) :]
        yield len(block)
