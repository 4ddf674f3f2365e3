"""The release as one tar, equal to the byte for equal files: the writer and its headers.

Format: POSIX ustar (IEEE Std 1003.1-2017, pax, "ustar Interchange Format") with one pax extended
header `size` in front of files of 8 GiB and more. Names are sorted, owner and group are 0 without
names, the time is a constant: it would be the only thing in a release that tells two runs apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from pipeline.errors import VerificationError
from pipeline.progress import Progress
from pipeline.release.digests import Extent

BLOCK = 512
RECORD = 20 * BLOCK
"""A tar ends with two zero blocks and is padded with zeros to whole records (GNU tar, tarfile)."""

MTIME = 315_532_800
"""1980-01-01T00:00:00Z: the earliest time that every archiver takes without a warning."""

MAX_USTAR_BYTES = 8**11 - 1
"""Eleven octal digits; larger sizes are told by a pax header."""

NAME_BYTES = 100
PREFIX_BYTES = 155


def write_tar(out_path: Path, root: str, contents: Mapping[str, Extent], progress: Progress) -> str:
    """Write `root/` with these files; returns the tar's SHA-256 in hex. Memory stays flat.

    Raises VerificationError for a name that does not fit a ustar header.
    """
    state = hashlib.sha256()
    written_bytes = 0
    files = {f"{root}/{name}": extent for name, extent in contents.items()}
    progress.start("write tar", sum(extent.size_bytes for extent in files.values()))
    with out_path.open("wb") as out:

        def write(data: bytes) -> None:
            nonlocal written_bytes
            written_bytes += out.write(data)
            state.update(data)

        for name in tar_order(files):
            extent = files.get(name)
            write(encode_header(name, extent.size_bytes if extent else 0))
            for block in extent.blocks() if extent else ():
                write(block)
                progress.advance(len(block))
            write(bytes(-written_bytes % BLOCK))
        write(bytes(trailer_bytes(written_bytes)))
    return state.hexdigest()


def tar_order(files: Iterable[str]) -> list[str]:
    """Names of the entries: all files and the folders above them (with a final `/`), sorted."""
    files = list(files)
    folders = {
        f"{folder}/" for name in files for folder in PurePosixPath(name).parents if folder.name
    }
    return sorted([*files, *folders], key=str.encode)


def trailer_bytes(end: int) -> int:
    """How many zero bytes follow the last entry, which ends at `end`."""
    return 2 * BLOCK + -(end + 2 * BLOCK) % RECORD


def encode_header(name: str, size_bytes: int) -> bytes:
    """The one header of an entry: a folder where the name ends with `/`, else a regular file."""
    if size_bytes <= MAX_USTAR_BYTES:
        return _ustar(name, size_bytes, b"5" if name.endswith("/") else b"0")
    record = _pax_record("size", str(size_bytes))
    pax_header = _ustar("PaxHeader", len(record), b"x")
    # The ustar field cannot hold the size: 0, as GNU tar and Python's tarfile write.
    return pax_header + record.ljust(BLOCK, b"\0") + _ustar(name, 0, b"0")


def _ustar(name: str, size_bytes: int, kind: bytes) -> bytes:
    """One 512-byte header block."""
    prefix, short = _split(name)
    mode = 0o755 if kind == b"5" else 0o644
    head = short.ljust(NAME_BYTES, b"\0") + b"%07o\0%07o\0%07o\0" % (mode, 0, 0)
    head += b"%011o\0%011o\0" % (size_bytes, MTIME)
    tail = kind + bytes(100) + b"ustar\x0000" + bytes(32 + 32)
    tail += b"%07o\0%07o\0" % (0, 0) + prefix.ljust(PREFIX_BYTES, b"\0") + bytes(12)
    # The checksum counts its own field as eight spaces.
    return head + b"%06o\0 " % (sum(head) + sum(tail) + 8 * ord(" ")) + tail


def _split(name: str) -> tuple[bytes, bytes]:
    """The name as prefix and name fields: cut at a `/`, the prefix as short as can be."""
    data = name.encode()
    if len(data) <= NAME_BYTES:
        return b"", data
    cut = data.find(b"/", len(data) - NAME_BYTES - 1, len(data) - 1)
    if not 0 < cut <= PREFIX_BYTES:
        raise VerificationError(f"the name `{name}` is too long for a tar")
    return data[:cut], data[cut + 1 :]


def _pax_record(key: str, value: str) -> bytes:
    """`<length> <key>=<value>` and a newline, where the length counts its own digits."""
    rest = len(f" {key}={value}\n")
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return f"{length} {key}={value}\n".encode()
