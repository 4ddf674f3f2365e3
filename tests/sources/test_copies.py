"""Copies of a local source that go on: what was finished stays, the rest is made again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_source import NEEDED

from pipeline.files import journal
from pipeline.files.journal import JOURNAL_NAME
from pipeline.progress import Silent
from pipeline.sources import local
from pipeline.sources.copying import FileDigests, copy_hashed
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.local import LocalSource, open_local
from tests.command import child_environment

LAST = NEEDED[-1]


@pytest.fixture
def source(folder: Path, tmp_path: Path) -> LocalSource:
    return open_local("source", folder.parent, DigestMemory(tmp_path / "store")).hashed()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


class Stopping(Silent):
    """Is ended when a copy is whole, but not yet written down."""

    def __init__(self, after: int = -1) -> None:
        self.left = after
        self.copied = self.skipped = 0

    def advance(self, amount: int) -> None:
        self.copied += amount
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def skip(self, amount: int) -> None:
        self.skipped += amount


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are really copied."""
    names: list[str] = []

    def copy(one: Path, other: Path, advance: Callable[[int], None]) -> FileDigests:
        names.append(one.name)
        return copy_hashed(one, other, advance)

    monkeypatch.setattr(local, "copy_hashed", copy)
    return names


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the copies that are hashed again."""
    names: list[str] = []
    hash_file = local.Copies.has.__globals__["hash_file"]

    def hash_named(path: Path, *, git_blob: bool) -> FileDigests:
        names.append(path.name)
        return hash_file(path, git_blob=git_blob)

    monkeypatch.setattr("pipeline.sources.copies.hash_file", hash_named)
    return names


def fetch_until(source: LocalSource, out: Path, after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        source.fetch(out, Stopping(after))
    assert (out / JOURNAL_NAME).exists()


def assert_whole(source: LocalSource, out: Path) -> None:
    found = {p.relative_to(out).as_posix(): p for p in out.rglob("*") if p.is_file()}
    assert found.pop(JOURNAL_NAME)
    assert sorted(found) == NEEDED
    for name, path in found.items():
        assert path.read_bytes() == (source.folder / name).read_bytes()


@pytest.mark.parametrize("after", range(1, len(NEEDED) + 1))
def test_finished_copies_stay(
    after: int, source: LocalSource, out: Path, copied: list[str], hashed: list[str]
) -> None:
    whole = source.fetch(out, Silent())
    for name in NEEDED:
        (out / name).unlink()
    copied.clear()
    fetch_until(source, out, after)
    told = Stopping()
    assert source.fetch(out, told) == whole
    assert_whole(source, out)
    assert len(copied) == len(NEEDED)  # no file twice
    assert hashed == [Path(NEEDED[after - 1]).name]  # whole, but not in the journal
    assert told.copied + told.skipped == source.listing.total_bytes
    assert told.skipped > 0


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"!" + data[1:]]
)
def test_a_copy_that_changed_is_made_again(
    change: Callable[[bytes], bytes], source: LocalSource, out: Path, copied: list[str]
) -> None:
    fetch_until(source, out, len(NEEDED))
    name = NEEDED[0]
    (out / name).write_bytes(change((out / name).read_bytes()))
    os.utime(out / name, ns=(1, 1))
    copied.clear()
    source.fetch(out, Silent())
    assert copied == [Path(name).name]
    assert_whole(source, out)


def test_after_a_restart_copies_are_hashed_not_believed(
    source: LocalSource,
    out: Path,
    copied: list[str],
    hashed: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetch_until(source, out, len(NEEDED))
    monkeypatch.setattr(journal, "boot_id", lambda: "another")
    copied.clear()
    source.fetch(out, Silent())
    assert copied == []
    assert hashed == [Path(name).name for name in NEEDED]
    assert_whole(source, out)


def test_a_journal_of_another_listing_begins_anew(
    source: LocalSource, out: Path, folder: Path, tmp_path: Path, copied: list[str]
) -> None:
    fetch_until(source, out, len(NEEDED))
    (out / "stray").mkdir()
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    other = open_local("source", folder.parent, DigestMemory(tmp_path / "store")).hashed()
    copied.clear()
    other.fetch(out, Silent())
    assert len(copied) == len(NEEDED)
    assert_whole(other, out)
    assert not (out / "stray").exists()


def test_every_prefix_of_a_journal(source: LocalSource, out: Path, hashed: list[str]) -> None:
    fetch_until(source, out, len(NEEDED))
    data = (out / JOURNAL_NAME).read_bytes()
    for cut in range(0, len(data), 37):
        (out / JOURNAL_NAME).write_bytes(data[:cut])
        hashed.clear()
        source.fetch(out, Silent())
        assert_whole(source, out)


CHILD = """\
import os, sys
from pathlib import Path
from pipeline.progress import Silent
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.local import open_local
from pipeline.sources import copying
copying.COPY_BYTES = 100_000
folder, out, memory, stop = map(str, sys.argv[1:])

class Killed(Silent):
    done = 0
    def advance(self, amount):
        self.done += amount
        if self.done > int(stop):
            os.kill(os.getpid(), 9)

open_local(folder, Path(), DigestMemory(Path(memory))).hashed().fetch(Path(out), Killed())
"""


def test_a_killed_copy_goes_on(folder: Path, out: Path, tmp_path: Path, copied: list[str]) -> None:
    """Half a file is no copy."""
    large = folder / "tokenizer.json"
    large.write_bytes(large.read_bytes() + b" " * 1_000_000)
    source = open_local("source", folder.parent, DigestMemory(tmp_path / "store")).hashed()
    ends = 0
    for stop in (300_000, 700_000):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(folder), str(out), str(tmp_path / "s"), str(stop)],
            check=False,
            env=child_environment(),
            capture_output=True,
        )
        ends += done.returncode == -9
    assert ends == 2
    assert 0 < (out / "tokenizer.json").stat().st_size < large.stat().st_size
    source.fetch(out, Silent())
    assert "tokenizer.json" in copied
    assert "config.json" not in copied
    assert_whole(source, out)
