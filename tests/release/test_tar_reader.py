"""The strict tar reader: hostile and damaged archives, each refused with its reason."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import VerificationError
from pipeline.release.tar import (
    BLOCK,
    MAX_USTAR_BYTES,
    encode_header,
    trailer_bytes,
)
from pipeline.release.tar_reader import read_tar, scan_tar


def tar_of(*entries: tuple[str, bytes], end: bool = True) -> bytes:
    """A tar of these entries with the writer's headers, whatever their names."""
    out = b""
    for name, data in entries:
        out += encode_header(name, len(data)) + data + bytes(-len(data) % BLOCK)
    return out + (bytes(trailer_bytes(len(out))) if end else b"")


def library_tar(edit: Callable[[tarfile.TarInfo], None], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of one folder and one edited member, made by the standard library."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        member = tarfile.TarInfo("r/x")
        edit(member)
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    return tar_of(("r/", b""), end=False) + out.getvalue()


def fault_of(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    with pytest.raises(VerificationError) as caught:
        read_tar(path)
    return "\n".join(caught.value.facts)


def resealed(header: bytes) -> bytes:
    """The header with the checksum that fits it."""
    total = sum(header[:148]) + 8 * 32 + sum(header[156:])
    return header[:148] + b"%06o\0 " % total + header[156:]


def test_a_sound_tar(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_of(("r/", b""), ("r/a", b"abc"), ("r/b", bytes(BLOCK))))
    files = read_tar(path)
    assert {name: extent.read() for name, extent in files.items()} == {
        "r/a": b"abc",
        "r/b": bytes(BLOCK),
    }


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["/etc/passwd"], "is not a relative name"),
        (["../x"], "has a part `..`"),
        (["r/", "r/../../x"], "has a part `..`"),
        (["r/./x"], "has a part `.`"),
        (["r//x"], "has a part ``"),
        (["r/-rf"], "starts with `-`"),
        (["r\\x"], "is a Windows path"),
        (["C:x"], "is a Windows path"),
        (["r/a\u0301"], "normal form C"),
        (["r/", "r/x", "r/x"], "is there twice"),
        (["r/", "r/y", "r/x"], "is out of order"),
        (["r/", "r/README", "r/readme"], "clash"),
        (["r/x"], "its folders are not the folders of its files"),
        (["r/", "r/s/", "r/x"], "its folders are not the folders of its files"),
    ],
)
def test_bad_names(tmp_path: Path, names: list[str], reason: str) -> None:
    assert reason in fault_of(tmp_path, tar_of(*((name, b"") for name in names)))


def kind(letter: bytes, linkname: str = "") -> Callable[[tarfile.TarInfo], None]:
    def edit(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = letter, linkname

    return edit


def owned_by(name: str) -> Callable[[tarfile.TarInfo], None]:
    def edit(member: tarfile.TarInfo) -> None:
        member.uname = name

    return edit


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (kind(tarfile.SYMTYPE, "/etc/passwd"), "is a symbolic link"),
        (kind(tarfile.LNKTYPE, "r/y"), "is a hard link"),
        (kind(tarfile.CHRTYPE), "is a device"),
        (kind(tarfile.BLKTYPE), "is a device"),
        (kind(tarfile.FIFOTYPE), "is a pipe"),
        (kind(tarfile.GNUTYPE_SPARSE), "is neither a regular file nor a folder"),
        (kind(tarfile.CONTTYPE), "is neither a regular file nor a folder"),
        (owned_by("root"), "is not as in a release"),
    ],
)
def test_bad_kinds(tmp_path: Path, edit: Callable[[tarfile.TarInfo], None], reason: str) -> None:
    assert reason in fault_of(tmp_path, library_tar(edit))


def test_extended_headers_other_than_a_size(tmp_path: Path) -> None:
    def edit(member: tarfile.TarInfo) -> None:
        member.pax_headers = {"path": "/etc/passwd"}

    assert "has extended attributes" in fault_of(
        tmp_path, library_tar(edit, form=tarfile.PAX_FORMAT)
    )


def test_a_pax_size_where_ustar_would_do(tmp_path: Path) -> None:
    record = b"11 size=99\n"
    pax = resealed(
        encode_header("PaxHeader", len(record))[:156]
        + b"x"
        + bytes(100)
        + b"ustar\x0000"
        + encode_header("PaxHeader", 1)[265:]
    )
    data = (
        tar_of(("r/", b""), end=False) + pax + record.ljust(BLOCK, b"\0") + encode_header("r/x", 0)
    )
    assert "is not as in a release" in fault_of(tmp_path, data + bytes(99) + bytes(4 * BLOCK))


def test_a_folder_with_data(tmp_path: Path) -> None:
    data = tar_of(("r/", b"hidden"), ("r/a", b""))
    assert "is not as in a release" in fault_of(tmp_path, data)


@pytest.mark.parametrize("cut", [1, 100, BLOCK, BLOCK + 1, 2 * BLOCK + 1, 3 * BLOCK, -1, -BLOCK])
def test_a_tar_that_is_cut_off(tmp_path: Path, cut: int) -> None:
    data = tar_of(("r/", b""), ("r/a", b"x" * 1000), ("r/b", b"y"))
    assert fault_of(tmp_path, data[:cut])


def test_a_claimed_size_reads_no_memory(tmp_path: Path) -> None:
    data = tar_of(("r/", b""), end=False) + encode_header("r/huge", 10**17)
    tracemalloc.start()
    fault = fault_of(tmp_path, data)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "`r/huge` is cut off" in fault
    assert peak_bytes < 1 << 20


def test_more_behind_the_end(tmp_path: Path) -> None:
    sound = tar_of(("r/", b""), ("r/a", b"abc"))
    assert "its end" in fault_of(tmp_path, sound + bytes(BLOCK))
    assert "its end" in fault_of(tmp_path, sound + tar_of(("r/b", b"")))
    assert "its end" in fault_of(tmp_path, b"")


def test_not_a_tar(tmp_path: Path) -> None:
    assert "checksum is wrong" in fault_of(tmp_path, b"PK\x03\x04" + bytes(range(256)) * 8)


def test_a_damaged_name_still_lists_the_rest(tmp_path: Path) -> None:
    data = bytearray(tar_of(("r/", b""), ("r/a", b"abc"), ("r/b", b"")))
    data[BLOCK + 2] = ord("z")
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    scan = scan_tar(path)
    assert scan.complete
    assert set(scan.files) == {"r/z", "r/b"}
    assert any("`r/z` at byte 512 is damaged" in fault for fault in scan.faults)


def test_a_damaged_size_ends_the_list(tmp_path: Path) -> None:
    data = bytearray(tar_of(("r/", b""), ("r/a", b"abc"), ("r/b", b"")))
    data[BLOCK + 130] = ord("9")
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    scan = scan_tar(path)
    assert not scan.complete
    assert "`r/a` at byte 512" in scan.faults[0]


def test_a_file_over_8_gib(tmp_path: Path) -> None:
    size_bytes = MAX_USTAR_BYTES + 1
    path = tmp_path / "x.tar"
    head = tar_of(("r/", b""), end=False) + encode_header("r/huge", size_bytes)
    end = len(head) + size_bytes
    with path.open("wb") as file:
        file.write(head)
        file.truncate(end + trailer_bytes(end))
    files = read_tar(path)
    assert files["r/huge"].size_bytes == size_bytes
    assert files["r/huge"].offset == len(head)
