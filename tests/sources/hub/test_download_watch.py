"""Progress by the size of the client's partial file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.progress import Silent
from pipeline.sources.hub.download_watch import DownloadWatch
from pipeline.sources.listing import SourceFile

FILE = SourceFile("model.safetensors", 100, sha256="a" * 64)


class Counting(Silent):
    """Keeps the amounts: done by work, and without."""

    def __init__(self) -> None:
        self.amounts: list[int] = []
        self.skipped: list[int] = []

    def advance(self, amount: int) -> None:
        self.amounts.append(amount)

    def skip(self, amount: int) -> None:
        self.skipped.append(amount)


@pytest.fixture
def progress() -> Counting:
    return Counting()


def grow(folder: Path, size_bytes: int, suffix: str = ".incomplete") -> Path:
    """Set the size of a partial file."""
    path = folder / f"{FILE.sha256}{suffix}"
    path.write_bytes(b"x" * size_bytes)
    return path


@pytest.mark.parametrize("suffix", [".incomplete", ".01234567.incomplete"])
def test_growth_is_counted_once(suffix: str, tmp_path: Path, progress: Counting) -> None:
    watch = DownloadWatch(tmp_path, FILE, progress)
    seen = set()
    for size_bytes in (30, 70, 20, 90, 150):
        grow(tmp_path, size_bytes, suffix)
        seen.add(watch.look())
    watch.finish(was_there=False)
    assert progress.amounts == [30, 40, 20, 10, 0]
    assert progress.skipped == []
    assert len(seen) == 5


def test_leftovers_of_dead_processes_do_not_count(tmp_path: Path, progress: Counting) -> None:
    grow(tmp_path, 80, ".dead.incomplete")
    watch = DownloadWatch(tmp_path, FILE, progress)
    assert watch.growing() is None
    grown = grow(tmp_path, 10)
    watch.look()
    assert watch.growing() == grown
    watch.finish(was_there=False)
    assert progress.amounts == [10, 90]


def test_what_was_there_before_a_resumption_says_nothing_of_the_rate(
    tmp_path: Path, progress: Counting
) -> None:
    grow(tmp_path, 60)
    watch = DownloadWatch(tmp_path, FILE, progress)
    grow(tmp_path, 75)
    watch.look()
    watch.finish(was_there=False)
    assert progress.skipped == [60]
    assert progress.amounts == [15, 25]


def test_a_partial_file_that_was_begun_anew_was_not_resumed(
    tmp_path: Path, progress: Counting
) -> None:
    grow(tmp_path, 60)
    watch = DownloadWatch(tmp_path, FILE, progress)
    grow(tmp_path, 10)
    watch.look()
    watch.finish(was_there=False)
    assert progress.skipped == []
    assert progress.amounts == [10, 90]


def test_a_cached_file_says_nothing_of_the_rate(tmp_path: Path, progress: Counting) -> None:
    watch = DownloadWatch(tmp_path / "no-folder", FILE, progress)
    assert watch.look() == ()
    watch.finish(was_there=True)
    assert (progress.amounts, progress.skipped) == ([], [100])


def test_a_file_that_comes_faster_than_one_looks(tmp_path: Path, progress: Counting) -> None:
    DownloadWatch(tmp_path, FILE, progress).finish(was_there=False)
    assert progress.amounts == [100]
