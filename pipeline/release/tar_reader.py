"""Reads a release tar strictly, without extracting: what is not exactly as written is a fault.

Each header must be the one that the writer makes for the same name and size, so a link, a device,
an owner, a time or a changed byte cannot pass; padding and trailer must be zero. The standard
library's `tarfile` is not used: it is made to accept what it can.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pipeline.checkpoint.strict_json import listed
from pipeline.errors import VerificationError
from pipeline.files.regular import open_regular
from pipeline.release.digests import Extent
from pipeline.release.tar import BLOCK, encode_header, tar_order, trailer_bytes
from pipeline.sources.names import check_names, why_unsafe

MAX_BAD_HEADERS = 2
"""After so many in a row, positions can no longer be believed."""

MAX_ENTRIES = 100_000
"""A release has some dozens; each entry of a tar takes memory."""

REPACKED_HINT = "fetch it again; if another tool packed it again, unpack it and verify the folder"

REFUSED_KINDS = {
    b"1": "is a hard link",
    b"2": "is a symbolic link",
    b"3": "is a device",
    b"4": "is a device",
    b"6": "is a pipe",
    b"g": "is a global extended header",
    b"x": "has extended attributes",
}
PAX_SIZE = re.compile(rb"\d+ size=([1-9]\d{0,17})\n\0*")
OCTAL = re.compile(rb"[0-7]{11}\0")


@dataclass(slots=True)
class TarScan:
    """What a tar holds: files by name, folders (with a final `/`), and what is wrong with it.

    Not `complete`: the positions got lost, and what follows was not listed.
    """

    files: dict[str, Extent] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    complete: bool = True


@dataclass(frozen=True, slots=True)
class _Header:
    """What a header says (`size_bytes` is None where that makes no sense), and what is wrong."""

    name: str
    size_bytes: int | None
    num_bytes: int
    fault: str | None


def read_tar(path: Path) -> dict[str, Extent]:
    """Files by name. Raises VerificationError with all faults where there is one."""
    scan = scan_tar(path)
    if scan.faults:
        raise VerificationError(
            f"`{path}` is not a sound release tar", facts=listed(scan.faults), hint=REPACKED_HINT
        )
    return scan.files


def scan_tar(path: Path) -> TarScan:
    """Read headers, padding and trailer, but no data; all faults are gathered.

    Raises OSError, and VerificationError for what is no regular file.
    """
    scan = TarScan()
    with open_regular(path) as raw, io.BufferedReader(raw) as file:
        end = _scan_entries(path, file, scan)
        scan.complete = end is not None
        if end is not None:
            num_zeros = trailer_bytes(end)
            if _read_at(file, end, num_zeros + 1) != bytes(num_zeros):
                scan.faults.append(f"its end, from byte {end} on, is not {num_zeros} zeros")
    if not scan.faults:
        scan.faults += _name_faults(scan)
    return scan


def _name_faults(scan: TarScan) -> list[str]:
    """What is wrong with the names as a set; each of them is sound."""
    names = [*scan.files, *scan.folders]
    folders = [name.removesuffix("/") for name in scan.folders]
    try:
        check_names(scan.files, "the tar", folders)
    except VerificationError as error:
        return list(error.facts)
    if sorted(names, key=str.encode) != tar_order(scan.files):
        return ["its folders are not the folders of its files"]
    return []


def _scan_entries(path: Path, file: BinaryIO, scan: TarScan) -> int | None:
    """Where the last entry ends, or None where the positions got lost before."""
    file_bytes = os.fstat(file.fileno()).st_size
    position, num_bad, num_entries, last = 0, 0, 0, ""
    while any(_read_at(file, position, BLOCK)):
        num_entries += 1
        if num_entries > MAX_ENTRIES:
            scan.faults.append(f"it has more than {MAX_ENTRIES} entries")
            return None
        header = _parse_header(_read_at(file, position, 3 * BLOCK))
        fault = header.fault or _order_fault(header.name, last)
        num_bad = num_bad + 1 if header.fault else 0
        if fault:
            scan.faults.append(f"the header of `{header.name}` at byte {position} {fault}")
        position += header.num_bytes
        if header.size_bytes is None or num_bad == MAX_BAD_HEADERS:
            scan.faults.append(f"what follows byte {position} could not be read")
            return None
        if position + header.size_bytes > file_bytes:
            scan.faults.append(f"`{header.name}` is cut off at byte {file_bytes}")
            return None
        _record(scan, header.name, Extent(path, position, header.size_bytes))
        position += header.size_bytes
        if any(_read_at(file, position, -position % BLOCK)):
            scan.faults.append(f"the padding behind `{header.name}` is not zero")
        position += -position % BLOCK
        # A damaged name says nothing about the order.
        last = last if header.fault else header.name
    return position


def _record(scan: TarScan, name: str, extent: Extent) -> None:
    if name.endswith("/"):
        scan.folders.add(name)
    else:
        scan.files.setdefault(name, extent)


def _read_at(file: BinaryIO, position: int, num_bytes: int) -> bytes:
    file.seek(position)
    return file.read(num_bytes)


def _parse_header(data: bytes) -> _Header:
    """The header at the start of up to three blocks."""
    head, body, second = data[:BLOCK], data[BLOCK : 2 * BLOCK], data[2 * BLOCK :]
    name, num_bytes, octal = _name_of(head), len(head), head[124:136]
    size_bytes = int(octal[:-1], 8) if OCTAL.fullmatch(octal) else None
    pax = PAX_SIZE.fullmatch(body) if head[156:157] == b"x" else None
    if pax is not None and len(second) == BLOCK:
        name, size_bytes, num_bytes = _name_of(second), int(pax.group(1)), 3 * BLOCK
    fault = _header_fault(data[:num_bytes], name, size_bytes)
    return _Header(name, size_bytes, num_bytes, fault)


def _name_of(block: bytes) -> str:
    """Prefix and name as text that can be shown."""
    prefix, name = block[345:500].partition(b"\0")[0], block[:100].partition(b"\0")[0]
    text = (prefix + b"/" + name if prefix else name).decode(errors="replace")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _header_fault(data: bytes, name: str, size_bytes: int | None) -> str | None:
    """Why a header is not the one that the writer makes for its name and size."""
    head, kind = data[:BLOCK], data[156:157]
    if len(head) < BLOCK:
        return "is cut off"
    checksum = sum(head[:148]) + 8 * ord(" ") + sum(head[156:])
    if head[148:156] != b"%06o\0 " % checksum:
        return "is damaged: its checksum is wrong"
    if (
        size_bytes is None
        or kind not in {b"0", b"5", b"x"}
        or (kind == b"x" and len(data) == BLOCK)
    ):
        return REFUSED_KINDS.get(kind, "is neither a regular file nor a folder")
    unsafe = why_unsafe(name.removesuffix("/"))
    if unsafe is not None:
        return f"is refused: the name {unsafe}"
    if not _is_as_written(name, size_bytes, data) or (size_bytes and name.endswith("/")):
        return "is not as in a release: owner, mode, time or form differ"
    return None


def _is_as_written(name: str, size_bytes: int, data: bytes) -> bool:
    try:
        return encode_header(name, size_bytes) == data
    except VerificationError:  # with what is shown for bytes that are no text, it is too long
        return False


def _order_fault(name: str, last: str) -> str | None:
    if name == last:
        return "is there twice"
    return "is out of order" if name.encode() < last.encode() else None
