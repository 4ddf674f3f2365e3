"""Digests of release files: right, reported, and given up at once after an error."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from pipeline.errors import VerificationError
from pipeline.progress import Silent
from pipeline.release.digests import BLOCK_BYTES, Extent, digest_all, encode_sums, parse_sums


class Counted(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.total = 0
        self.done = 0

    def start(self, task: str, total: int, unit: str = "bytes") -> None:
        self.total = total

    def advance(self, amount: int) -> None:
        self.done += amount


def extents_of(folder: Path, *contents: bytes) -> dict[str, Extent]:
    """One file per content."""
    extents = {}
    for number, data in enumerate(contents):
        path = folder / str(number)
        path.write_bytes(data)
        extents[str(number)] = Extent(path, 0, len(data))
    return extents


def test_digests_and_progress(tmp_path: Path) -> None:
    contents = [b"", b"a", bytes(3 * BLOCK_BYTES + 1), b"b" * BLOCK_BYTES]
    progress = Counted()
    digests = digest_all(extents_of(tmp_path, *contents), progress)
    assert list(digests.values()) == [hashlib.sha256(data).hexdigest() for data in contents]
    assert progress.done == progress.total == sum(map(len, contents))


def test_a_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    extent = Extent(tmp_path / "x", 2, 5)
    assert extent.read() == b"23456"
    digests = digest_all({"part": extent}, Silent())
    assert digests["part"] == hashlib.sha256(b"23456").hexdigest()


def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    extents = extents_of(tmp_path, b"abc")
    (tmp_path / "0").write_bytes(b"ab")
    with pytest.raises(VerificationError, match="became shorter"):
        digest_all(extents, Silent())


def test_an_interrupt_does_not_wait_for_gigabytes(tmp_path: Path) -> None:
    class Interrupting(Silent):
        def advance(self, amount: int) -> None:
            if amount == 1:
                raise KeyboardInterrupt

    with (tmp_path / "first").open("wb") as first, (tmp_path / "huge").open("wb") as huge:
        first.truncate(1)
        huge.truncate(64 << 30)
    extents = {
        "first": Extent(tmp_path / "first", 0, 1),
        "huge": Extent(tmp_path / "huge", 0, 64 << 30),
    }
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        digest_all(extents, Interrupting())
    assert time.monotonic() - begun < 20


def test_sums_have_one_spelling() -> None:
    digests = {"b c": "1" * 64, "a": "0" * 64}
    data = encode_sums(digests)
    assert data == b"0" * 64 + b"  a\n" + b"1" * 64 + b"  b c\n"
    assert parse_sums(data) == digests
    for other in (b"", data[:-1], data.replace(b"  a", b" *a"), data + b"\n", data[::-1]):
        assert parse_sums(other) is None
