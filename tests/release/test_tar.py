"""The tar writer: bytes that every tar reads, whatever the size of the file and its name."""

from __future__ import annotations

import io
import itertools
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from pipeline.errors import VerificationError
from pipeline.progress import Silent
from pipeline.release.digests import Extent, digest_all
from pipeline.release.tar import (
    BLOCK,
    MAX_USTAR_BYTES,
    MTIME,
    RECORD,
    encode_header,
    tar_order,
    trailer_bytes,
    write_tar,
)


def read_header(header: bytes) -> tarfile.TarInfo:
    """What the standard library makes of a header."""
    with tarfile.open(fileobj=io.BytesIO(header + bytes(2 * BLOCK))) as tar:
        member = tar.next()
    assert member is not None
    return member


@pytest.mark.parametrize("size_bytes", [0, 1, 511, 512, MAX_USTAR_BYTES])
def test_a_ustar_header(size_bytes: int) -> None:
    header = encode_header("a/b.txt", size_bytes)
    assert len(header) == BLOCK
    member = read_header(header)
    assert (member.name, member.size, member.mode) == ("a/b.txt", size_bytes, 0o644)
    assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
    assert (member.mtime, member.type, member.linkname) == (MTIME, tarfile.REGTYPE, "")


@pytest.mark.parametrize("size_bytes", [MAX_USTAR_BYTES + 1, 140_000_000_000, 10**17])
def test_sizes_over_8_gib(size_bytes: int) -> None:
    header = encode_header("weights", size_bytes)
    assert len(header) == 3 * BLOCK
    assert read_header(header).size == size_bytes


def test_a_folder() -> None:
    member = read_header(encode_header("a/b/", 0))
    assert (member.name, member.mode, member.isdir()) == ("a/b", 0o755, True)


@pytest.mark.parametrize(
    "name",
    ["x" * 100, "p/" + "x" * 100, "p" * 155 + "/" + "x" * 100, "a/b/" * 30 + "c", "\u00e4" * 50],
    ids=["short", "prefix", "longest", "deep", "umlauts"],
)
def test_long_names(name: str) -> None:
    assert read_header(encode_header(name, 1)).name == name


@pytest.mark.parametrize("name", ["x" * 101, "p" * 156 + "/x" * 60, "p/" + "x" * 101])
def test_names_that_do_not_fit(name: str) -> None:
    with pytest.raises(VerificationError, match="too long for a tar"):
        encode_header(name, 1)


def test_order_and_folders() -> None:
    names = tar_order(["r/b/x", "r/a", "r/b-c", "r/b/a"])
    assert names == ["r/", "r/a", "r/b-c", "r/b/", "r/b/a", "r/b/x"]


def test_the_end_fills_a_record() -> None:
    for end in range(0, 3 * RECORD, BLOCK):
        assert (end + trailer_bytes(end)) % RECORD == 0
        assert 2 * BLOCK <= trailer_bytes(end) < 2 * BLOCK + RECORD


def test_a_file_over_8_gib_is_found_by_others(tmp_path: Path) -> None:
    size_bytes = MAX_USTAR_BYTES + 7
    path = tmp_path / "r.tar"
    with path.open("wb") as file:
        file.write(encode_header("r/", 0) + encode_header("r/huge", size_bytes))
        # A hole in place of the data: the test takes no disk.
        file.seek(size_bytes + -size_bytes % BLOCK, io.SEEK_CUR)
        file.write(encode_header("r/next", 0))
        file.write(bytes(trailer_bytes(file.tell())))
    with tarfile.open(path) as tar:
        assert {member.name: member.size for member in tar} == {
            "r": 0,
            "r/huge": size_bytes,
            "r/next": 0,
        }


def test_what_the_standard_library_would_write(tmp_path: Path) -> None:
    """The whole tar against `tarfile` in USTAR format, given the same members."""
    contents = {"b/two": b"2" * 700, "one": b"", "b/c/three": b"3" * 512}
    extents = {}
    for name, data in contents.items():
        path = tmp_path / name.replace("/", "-")
        path.write_bytes(data)
        extents[name] = Extent(path, 0, len(data))
    write_tar(tmp_path / "mine.tar", "r", extents, Silent())
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ["r/", "r/b/", "r/b/c/", "r/b/c/three", "r/b/two", "r/one"]:
            member = tarfile.TarInfo(name)
            member.mtime = MTIME
            if name.endswith("/"):
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            data = contents.get(name.removeprefix("r/"), b"")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    mine, expected = (tmp_path / "mine.tar").read_bytes(), other.getvalue()
    differing = [i for i, (a, b) in enumerate(itertools.zip_longest(mine, expected)) if a != b]
    # Device numbers: `tarfile` leaves them empty for files; the standard wants octal digits, which
    # GNU tar writes too. The checksum follows.
    assert {i % BLOCK for i in differing} <= set(range(148, 156)) | set(range(329, 345))


def test_memory_stays_flat(tmp_path: Path) -> None:
    size_bytes = 64 << 20
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(size_bytes)
    contents = {"huge": Extent(huge, 0, size_bytes)}
    tracemalloc.start()
    written = write_tar(tmp_path / "r.tar", "r", contents, Silent())
    tar_bytes = (tmp_path / "r.tar").stat().st_size
    digests = digest_all({"r.tar": Extent(tmp_path / "r.tar", 0, tar_bytes)}, Silent())
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 8 << 20
    assert digests == {"r.tar": written}
