"""Progress by the size of the client's partial file."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.progress import Silent
from pipeline.sources import download_watch
from pipeline.sources.download_watch import watching
from pipeline.sources.listing import SourceFile

FILE = SourceFile("model.safetensors", 100, sha256="a" * 64)


class Counting(Silent):
    """Keeps the amounts."""

    def __init__(self) -> None:
        self.amounts: list[int] = []

    def advance(self, amount: int) -> None:
        self.amounts.append(amount)


@pytest.fixture
def grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the size of a partial file, and give the watch time to see it."""
    monkeypatch.setattr(download_watch, "INTERVAL_S", 0.01)

    def set_size(size_bytes: int, suffix: str = ".incomplete") -> None:
        (tmp_path / f"{FILE.sha256}{suffix}").write_bytes(b"x" * size_bytes)
        time.sleep(0.1)

    return set_size


@pytest.mark.parametrize("suffix", [".incomplete", ".01234567.incomplete"])
def test_growth_is_counted_once(suffix: str, grow: Callable[..., None], tmp_path: Path) -> None:
    progress = Counting()
    with watching(tmp_path, FILE, progress):
        for size_bytes in (30, 70, 20, 90, 150):
            grow(size_bytes, suffix)
    assert progress.amounts[:2] == [30, 40]
    assert sum(progress.amounts) == 100


def test_leftovers_of_dead_processes_do_not_count(
    grow: Callable[..., None], tmp_path: Path
) -> None:
    grow(80, ".dead.incomplete")
    progress = Counting()
    with watching(tmp_path, FILE, progress):
        grow(10)
    assert progress.amounts == [10, 90]


def test_a_cached_file_counts_at_once(tmp_path: Path) -> None:
    progress = Counting()
    with watching(tmp_path / "no-folder", FILE, progress):
        pass
    assert progress.amounts == [100]


def test_a_failure_passes_through(tmp_path: Path) -> None:
    progress = Counting()
    with pytest.raises(OSError, match="broke"), watching(tmp_path, FILE, progress):
        raise OSError("broke")
    assert progress.amounts == []
