"""The strict tar reader: hostile and damaged archives, each refused with its reason."""

from __future__ import annotations

import io
import os
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


def test_every_cut_is_found(tmp_path: Path) -> None:
    """At every block and one byte beside it: nothing shorter than a tar passes for it."""
    data = tar_of(("r/", b""), ("r/a", b"x" * 1000), ("r/b", b"y"), ("r/c", b""))
    for block in range(len(data) // BLOCK):
        for cut in {max(0, BLOCK * block - 1), BLOCK * block, BLOCK * block + 1}:
            assert fault_of(tmp_path, data[:cut])


def test_two_tars_behind_each_other(tmp_path: Path) -> None:
    one, other = tar_of(("r/", b""), ("r/a", b"x")), tar_of(("s/", b""), ("s/a", b"y"))
    assert "its end" in fault_of(tmp_path, one + other)
    assert fault_of(tmp_path, one.rstrip(b"\0") + bytes(100) + other)


@pytest.mark.parametrize(
    ("place", "spelling"),
    [
        (124, b"\x80" + (5).to_bytes(11, "big")),  # GNU tar's binary sizes
        (124, b"\xff" * 11 + b"\xfb"),  # a negative one
        (124, b"          5 "),
        (124, b"00000000005 "),
        (124, b"-0000000005\0"),
        (108, b"\x80" + bytes(7)),
        (100, b"0000755\0"),
        (100, b"0004644\0"),
        (136, b"77777777777\0"),
        (257, b"ustar  \0"),
        (257, bytes(8)),
        (329, b"0000001\0"),
        (500, b"x" * 12),
        (0, b"r/\xff\xfe".ljust(100, b"\xff")),
        (0, b"r/x\0hidden"),
        (345, b"\xff" * 155),
        (345, b"../.."),
        (157, b"/etc/passwd"),
    ],
)
def test_other_spellings_of_a_header(place: int, spelling: bytes, tmp_path: Path) -> None:
    header = bytearray(encode_header("r/x", 5))
    header[place : place + len(spelling)] = spelling
    data = tar_of(("r/", b""), end=False) + resealed(bytes(header)) + b"12345".ljust(BLOCK, b"\0")
    assert fault_of(tmp_path, data + bytes(trailer_bytes(len(data))))


@pytest.mark.parametrize("checksum", [b"%06o\0\0", b"%06o  ", b" %06o\0", b"%07o\0", b"%08o"])
def test_other_spellings_of_a_checksum(checksum: bytes, tmp_path: Path) -> None:
    data = bytearray(tar_of(("r/", b""), ("r/a", b"abc")))
    data[148:156] = (checksum % int(data[148:154], 8)).ljust(8, b"\0")[:8]
    assert "checksum is wrong" in fault_of(tmp_path, bytes(data))


@pytest.mark.parametrize(
    "record",
    [
        b"20 path=../../../x\n",
        b"11 size=-9\n",
        b"11 size=09\n",
        b"12 size=1_0\n",
        b"99 size=9\n",
        b"10 size=9\n11 size=11\n",
        b"10 size=9\nx",
        b"12 mtime=1.5\n",
        b"30 GNU.sparse.realsize=10000\n",
        b"",
    ],
)
def test_records_of_extended_headers(record: bytes, tmp_path: Path) -> None:
    head = bytearray(encode_header("PaxHeader", len(record)))
    head[156:157] = b"x"
    data = resealed(bytes(head)) + record.ljust(BLOCK, b"\0") + encode_header("r/x", 0)
    data = tar_of(("r/", b""), end=False) + data
    assert fault_of(tmp_path, data + bytes(trailer_bytes(len(data))))


def test_a_file_that_is_also_a_folder(tmp_path: Path) -> None:
    data = tar_of(("r/", b""), ("r/a", b""), ("r/a/", b""), ("r/a/b", b""))
    assert "clash: a file and a folder" in fault_of(tmp_path, data)


@pytest.mark.parametrize(
    "name", ["r/con", "r/NUL.txt", "r/x ", "r/x.", "r/a:b", "r/\uff0e\uff0e/x"]
)
def test_names_that_other_systems_read_otherwise(name: str, tmp_path: Path) -> None:
    assert "is refused: the name" in fault_of(tmp_path, tar_of(("r/", b""), (name, b"")))


def test_names_that_look_alike(tmp_path: Path) -> None:
    data = tar_of(("r/", b""), ("r/model", b""), ("r/\uff4d\uff4f\uff44\uff45\uff4c", b""))
    assert "clash" in fault_of(tmp_path, data)


def test_a_bomb_of_entries_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.release.tar_reader.MAX_ENTRIES", 1000)
    data = tar_of(("r/", b""), *((f"r/{number:06}", b"") for number in range(1000)))
    assert "more than 1000 entries" in fault_of(tmp_path, data)


def test_faults_do_not_fill_the_screen(tmp_path: Path) -> None:
    data = tar_of(*((f"r/{number:06}", b"") for number in reversed(range(1000))))
    faults = fault_of(tmp_path, data).split("\n")
    assert len(faults) == 51
    assert faults[-1].startswith("and ")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(VerificationError, match="not a regular file"):
        scan_tar(path)


def test_a_link_to_a_tar_is_one(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of(("r/", b""), ("r/a", b"abc")))
    (tmp_path / "y.tar").symlink_to("x.tar")
    assert set(read_tar(tmp_path / "y.tar")) == {"r/a"}
