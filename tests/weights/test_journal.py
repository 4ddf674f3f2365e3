"""What a conversion's journal counts: nothing that is missing, or that a disk may have dropped."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import MachineError, ResourceError
from pipeline.files.journal import JOURNAL_NAME, read_journal
from pipeline.weights import keeper as keeper_module
from pipeline.weights import schedule
from pipeline.weights.journal import Reached, begin, find_begun, numbered
from pipeline.weights.keeper import Keeper
from pipeline.weights.layout import ConversionPlan
from pipeline.weights.schedule import Pace, all_work, steps
from tests import tiny
from tests.weights.converting import convert, plan
from tests.weights.resuming import contents, convert_on, convert_until, tiny_steps

PACE = Pace(1024, 4096)
TARGET = "rank0.safetensors"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_checkpoint(tmp_path_factory.mktemp("source") / "c")


@pytest.fixture
def made(source: Path) -> ConversionPlan:
    return plan(source, dtype="float16")


def places(count: int) -> list[Reached]:
    """The ends of so many steps."""
    return [Reached(number + 1, f"digest {number}", 10 * number) for number in range(count)]


def kept(made: ConversionPlan, folder: Path) -> tuple[Keeper, threading.Event]:
    """A journal of a folder with whole rank files, not yet open."""
    for rank in made.ranks:
        (folder / rank.file).write_bytes(rank.header)
        os.truncate(folder / rank.file, rank.num_bytes)
    begun = find_begun(made, folder) or begin(made, folder, PACE)
    stop = threading.Event()
    descriptor = os.open(folder / TARGET, os.O_RDWR)
    return Keeper(begun, {TARGET: descriptor}, stop), stop


def claims(folder: Path, *, synced: bool = False) -> list[int]:
    lines = read_journal(folder / JOURNAL_NAME)[1:]
    return [line.value[0] for line in lines if line.is_synced or not synced]


def until(happened: Callable[[], bool]) -> None:
    """Wait for another thread."""
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def test_what_other_versions_have_begun_is_not_gone_on_with(
    made: ConversionPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(made, tmp_path)
    assert find_begun(made, tmp_path) is not None
    monkeypatch.setattr("pipeline.installed.version", lambda _: "99.1")
    assert find_begun(made, tmp_path) is None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_places_tell_steps_from_other_steps(dtype: str, source: Path) -> None:
    seen: dict[str, list[Reached]] = {}
    for tp_size, pace in [(1, PACE), (2, PACE), (2, Pace(2048, 4096))]:
        made = plan(source, tp_size, dtype=dtype)
        work = all_work(made)
        found = [reached for _, reached in numbered(steps(work, pace))]
        assert found == [reached for _, reached in numbered(steps(all_work(made), pace))]
        written = work.zero_bytes + sum(len(rank.header) for rank in made.ranks)
        assert written + found[-1].num_bytes == made.target_bytes
        assert [reached.num_steps for reached in found] == list(range(1, len(found) + 1))
        seen[f"{tp_size} {pace}"] = found
    digests = {found[-1].digest for found in seen.values()}
    assert len(digests) == 3


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(order=st.permutations(range(12)), missing=st.integers(0, 12))
def test_only_steps_with_none_missing_before_them_are_counted(
    order: list[int], missing: int, tmp_path_factory: pytest.TempPathFactory, source: Path
) -> None:
    folder = tmp_path_factory.mktemp("kept")
    keeper, _ = kept(plan(source), folder)
    all_places = places(12)
    with pytest.MonkeyPatch.context() as patch, keeper:
        patch.setattr(keeper_module, "LINE_INTERVAL_S", 0.0)
        done: set[int] = set()
        for number in order:
            if number == missing:
                continue
            keeper.finished(all_places[number])
            done.add(number)
            whole = next(n for n in range(13) if n not in done)
            assert max(claims(folder), default=0) == whole
    assert max(claims(folder), default=0) == missing


def test_lines_by_the_clock_and_one_at_the_end(
    made: ConversionPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "LINE_INTERVAL_S", 3600.0)
    keeper, _ = kept(made, tmp_path)
    with pytest.raises(KeyboardInterrupt), keeper:
        for reached in places(5):
            keeper.finished(reached)
        assert claims(tmp_path) == []
        raise KeyboardInterrupt
    assert claims(tmp_path) == [5]
    keeper, _ = kept(made, tmp_path)
    with keeper:
        keeper.finished(Reached(6, "digest 5", 50))
    assert claims(tmp_path) == [5, 6]


def test_a_synced_line_follows_the_sync_of_all_files(
    made: ConversionPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts what was finished before the sync began, not what came meanwhile."""
    monkeypatch.setattr(keeper_module, "SYNC_INTERVAL_S", 0.01)
    monkeypatch.setattr(keeper_module, "LINE_INTERVAL_S", 3600.0)
    keeper, _ = kept(made, tmp_path)
    synced, all_places = [], places(9)
    sync = os.fdatasync

    def finish_meanwhile(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if name == TARGET and not synced:
            assert claims(tmp_path, synced=True) == []
            keeper.finished(all_places[5])
        synced.append(name)
        sync(descriptor)

    for reached in all_places[:5]:
        keeper.finished(reached)
    monkeypatch.setattr(os, "fdatasync", finish_meanwhile)
    with keeper:
        until(lambda: len(claims(tmp_path, synced=True)) > 1)
    assert claims(tmp_path, synced=True)[:2] == [5, 6]
    assert synced[:3] == [TARGET, JOURNAL_NAME, TARGET]
    begun = find_begun(made, tmp_path)
    assert begun is not None
    assert begun.synced == begun.reached == all_places[5]


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.EIO, MachineError), (errno.ENOSPC, ResourceError)]
)
@pytest.mark.parametrize("good_syncs", [0, 1])
def test_a_disk_that_fails_takes_back_what_it_may_have_dropped(
    good_syncs: int,
    code: int,
    kind: type[Exception],
    made: ConversionPlan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper_module, "SYNC_INTERVAL_S", 0.01)
    monkeypatch.setattr(keeper_module, "LINE_INTERVAL_S", 0.0)
    keeper, stop = kept(made, tmp_path)
    fails = threading.Event()
    sync = os.fdatasync

    def failing(descriptor: int) -> None:
        if fails.is_set() and Path(f"/proc/self/fd/{descriptor}").readlink().name == TARGET:
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(kind, match=TARGET), keeper:
        if good_syncs:
            keeper.finished(places(1)[0])
            until(lambda: claims(tmp_path, synced=True) == [1])
        fails.set()
        for reached in places(9)[good_syncs:]:
            keeper.finished(reached)
        until(stop.is_set)
        keeper.finished(places(10)[9])
    assert claims(tmp_path) == [1] if good_syncs else not any(claims(tmp_path))


def test_a_conversion_ends_where_its_disk_fails(
    source: Path, made: ConversionPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next one, on a disk that works, makes the same bytes."""
    tiny_steps(monkeypatch)
    whole = contents(convert(made, source, tmp_path / "whole"))
    out = tmp_path / "out"
    convert_until(made, source, out, 30)
    monkeypatch.setattr(keeper_module, "SYNC_INTERVAL_S", 0.0)
    with monkeypatch.context() as patch:
        has_failed, num_writes, write = threading.Event(), 0, os.pwrite

        def fail(_: int) -> None:
            has_failed.set()
            raise OSError(errno.EIO, "I/O")

        def slow(descriptor: int, data: bytes, offset: int) -> int:
            nonlocal num_writes
            num_writes += 1
            if num_writes > 20:  # some step has ended by now, so that a sync is due
                has_failed.wait(120)
                time.sleep(0.002)
            return write(descriptor, data, offset)

        patch.setattr(os, "fdatasync", fail)
        patch.setattr(os, "pwrite", slow)
        with pytest.raises(MachineError, match=r"rank0\.safetensors` cannot be read or written"):
            convert_on(made, source, out)
    assert not (out / "config.json").exists()
    assert max(claims(out), default=0) == 0
    convert_on(made, source, out)
    assert contents(out) == whole


def test_a_journal_that_cannot_be_written_ends_the_conversion(
    source: Path, made: ConversionPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_steps(monkeypatch)
    whole = contents(convert(made, source, tmp_path / "whole"))
    out = tmp_path / "out"
    convert_until(made, source, out, 30)
    before = claims(out)
    write = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == JOURNAL_NAME:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(ResourceError, match=r"no space left to write `\.journal`"):
            convert_on(made, source, out)
    assert claims(out) == before
    assert convert_on(made, source, out).skipped > 0
    assert contents(out) == whole


def test_a_pace_says_how_many_threads_it_allows() -> None:
    room = 192_000_000
    for threads in range(1, 9):
        pace = schedule.pace_of(8 << 20, room, threads)
        assert pace.threads_within(room) >= threads
    assert schedule.pace_of(8 << 20, room, 1).threads_within(room) == 1
    assert schedule.pace_of(8 << 20, room, 1).threads_within(room // 2) == 0
