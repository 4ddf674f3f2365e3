"""Reads a tar that other tools wrote, without extracting: names and byte ranges of its files.

An OCI layout travels as a tar of any writer, so owners, modes, times and the order are free here;
what is in it is proved by digests. All else is strict: regular files and folders only, every name
through the validator, each once, no long-name extensions, nothing behind the end. Format: POSIX
ustar and pax (IEEE Std 1003.1-2017, pax), and GNU tar's binary sizes.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import BinaryIO

from pipeline.checkpoint.strict_json import printable
from pipeline.files.regular import open_regular
from pipeline.release.digests import Extent
from pipeline.release.tar import BLOCK
from pipeline.release.tar_reader import MAX_ENTRIES, REFUSED_KINDS, TarScan
from pipeline.sources.names import why_unsafe

MAX_PAX_BYTES = 1 << 16
MAX_TRAILER_BYTES = 1 << 20
"""Of zeros behind the last entry; writers pad to 10 KiB, or to the record of a tape."""

PAX_KEYS = frozenset({"atime", "ctime", "mtime", "uid", "gid", "uname", "gname", "size"})
"""Of a pax header; `path` and `linkpath` would give an entry another name than its header's."""

_OCTAL = re.compile(rb" *([0-7]{1,12})[ \0]*")
_MAGIC = (b"ustar\x0000", b"ustar  \0")


class _Broken(Exception):
    """A header that ends the reading; the message says why."""


def scan_plain_tar(path: Path) -> TarScan:
    """List files and folders; all faults are gathered, the first broken header ends the list.

    A leading `./` of a name is left out. Raises OSError, and VerificationError for what is no
    regular file.
    """
    scan = TarScan()
    with open_regular(path) as raw, io.BufferedReader(raw) as file:
        try:
            _scan_entries(path, file, scan)
        except _Broken as broken:
            scan.faults.append(str(broken))
            scan.complete = False
    return scan


def first_name(path: Path) -> str | None:
    """The name of the first entry, or None where there is no tar header."""
    with open_regular(path) as raw:
        block = raw.read(BLOCK)
    try:
        return _name_of(block) if _is_header(block) else None
    except UnicodeDecodeError:
        return None


def _scan_entries(path: Path, file: BinaryIO, scan: TarScan) -> None:
    file_bytes = os.fstat(file.fileno()).st_size
    position, pax_size = 0, None
    for _ in range(2 * MAX_ENTRIES):
        block = _read_at(file, position, BLOCK)
        if not any(block):
            if pax_size is not None:
                raise _Broken("it ends with an extended header")
            return _check_trailer(file, position, file_bytes)
        if not _is_header(block):
            raise _Broken(f"the header at byte {position} is damaged, or of another format")
        size_bytes = _size_of(block[124:136], position)
        kind = block[156:157]
        if kind == b"x":
            pax_size = _read_pax(file, position + BLOCK, size_bytes)
        else:
            size_bytes = size_bytes if pax_size is None else pax_size
            pax_size = None
            _add(scan, block, Extent(path, position + BLOCK, size_bytes))
        end = position + BLOCK + size_bytes
        position = end + -end % BLOCK
        if position > file_bytes:
            raise _Broken(f"it is cut off at byte {file_bytes}")
        if any(_read_at(file, end, position - end)):
            scan.faults.append(f"the padding at byte {end} is not zero")
    raise _Broken(f"it has more than {MAX_ENTRIES} entries")


def _add(scan: TarScan, block: bytes, extent: Extent) -> None:
    kind = block[156:157]
    try:
        name = _name_of(block)
    except UnicodeDecodeError:
        raise _Broken(f"the name at byte {extent.offset - BLOCK} is not UTF-8") from None
    told = f"`{printable(name)}`"
    if kind not in {b"0", b"\0", b"5"}:
        raise _Broken(f"{told} {REFUSED_KINDS.get(kind, 'is neither a regular file nor a folder')}")
    if name in {"", ".", "./"} and kind == b"5":
        return
    is_folder = kind == b"5"
    bare = name.removesuffix("/") if is_folder else name
    unsafe = why_unsafe(bare)
    if unsafe is not None:
        scan.faults.append(f"the name {told} {unsafe}")
    elif is_folder and extent.size_bytes:
        scan.faults.append(f"{told} is a folder with data")
    elif bare in scan.files or f"{bare}/" in scan.folders:
        scan.faults.append(f"{told} is there twice")
    elif is_folder:
        scan.folders.add(f"{bare}/")
    else:
        scan.files[bare] = extent


def _is_header(block: bytes) -> bool:
    """Whether the magic is one that we know and the checksum fits, as unsigned bytes."""
    if len(block) < BLOCK or block[257:265] not in _MAGIC:
        return False
    stated = _OCTAL.fullmatch(block[148:156])
    total = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    return stated is not None and int(stated[1], 8) == total


def _name_of(block: bytes) -> str:
    """Prefix and name, without a leading `./`; GNU tar has times where ustar has the prefix."""
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0] if block[257:265] == _MAGIC[0] else b""
    text = (prefix + b"/" + name if prefix else name).decode()
    return text.removeprefix("./")


def _size_of(data: bytes, position: int) -> int:
    """Octal digits, or GNU tar's binary number; negative ones and those over 63 bits are refused.

    Source: GNU tar manual, "Extensions to the Archive Format" (the first bit says binary).
    """
    found = _OCTAL.fullmatch(data)
    if found is not None:
        return int(found[1], 8)
    if data[0] == 0x80:
        size_bytes = int.from_bytes(data[1:], "big")
        if size_bytes < 1 << 63:
            return size_bytes
    raise _Broken(f"the header at byte {position} has no size that can be")


def _read_pax(file: BinaryIO, position: int, num_bytes: int) -> int | None:
    """The size that a pax header states, or None; keys that change an entry's name are refused."""
    if num_bytes > MAX_PAX_BYTES:
        raise _Broken(f"the extended header at byte {position} has {num_bytes} bytes")
    data = _read_at(file, position, num_bytes)
    found: dict[str, str] = {}
    while data:
        length, _, _ = data.partition(b" ")
        size = int(length) if re.fullmatch(rb"[1-9]\d{0,4}", length) else 0
        record = data[len(length) + 1 : size]
        key, equals, value = record.decode(errors="replace").partition("=")
        if not equals or not value.endswith("\n") or size > len(data) or key in found:
            raise _Broken(f"the extended header at byte {position} is damaged")
        if key not in PAX_KEYS:
            raise _Broken(f"the extended header at byte {position} has `{printable(key)}`")
        found[key] = value[:-1]
        data = data[size:]
    size_text = found.get("size")
    if size_text is not None and not re.fullmatch(r"0|[1-9][0-9]{0,17}", size_text):
        raise _Broken(f"the extended header at byte {position} has no size that can be")
    return None if size_text is None else int(size_text)


def _check_trailer(file: BinaryIO, position: int, file_bytes: int) -> None:
    rest = _read_at(file, position, MAX_TRAILER_BYTES + 1)
    if len(rest) < 2 * BLOCK or any(rest) or position + len(rest) != file_bytes:
        raise _Broken(f"its end, from byte {position} on, is not some blocks of zeros")


def _read_at(file: BinaryIO, position: int, num_bytes: int) -> bytes:
    file.seek(position)
    return file.read(num_bytes)
