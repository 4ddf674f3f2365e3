"""One process makes an artifact, the others wait for it."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from published import KEY

from pipeline.errors import LockedError
from pipeline.store import Session, Store
from pipeline.store import locks as locks_module
from tests.store.left_behind import DEAD, FOREIGN, leave_work


def hold(root: Path, held: Event, release: Event) -> None:
    with (
        Store(root).session("held") as session,
        session.exclusive("convert", KEY, timeout_s=5, on_wait=lambda _: None),
    ):
        held.set()
        release.wait(600)


@contextmanager
def another_process(store: Store) -> Iterator[tuple[multiprocessing.process.BaseProcess, Event]]:
    """A process that holds the lock of the key, and what makes it let go."""
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(store.root, held, release))
    process.start()
    try:
        assert held.wait(120)
        yield process, release
    finally:
        if process.is_alive():  # setting it waits for those that wait for it
            release.set()
        process.join(120)


def taken(session: Session, said: list[str], timeout_s: float) -> None:
    with session.exclusive("convert", KEY, timeout_s=timeout_s, on_wait=said.append):
        pass


def test_another_process_is_waited_for_then_given_up(store: Store) -> None:
    said: list[str] = []
    with store.session() as session:
        with another_process(store) as (process, _):
            with pytest.raises(LockedError, match="another process") as caught:
                taken(session, said, 0.2)
            assert caught.value.exit_code == 8
            assert f"process {process.pid} on `" in caught.value.facts[0]
            assert said == [
                f"waiting for {caught.value.facts[0]}, which makes `convert` {KEY[:12]}"
            ]
        taken(session, said, 5)
    assert len(said) == 1


def test_a_killed_process_holds_nothing_up(store: Store) -> None:
    said: list[str] = []
    with store.session() as session, another_process(store) as (process, _):
        process.kill()
        process.join(120)
        taken(session, said, 5)
    assert said == []


def test_a_lock_that_a_dead_process_holds_for_ever_is_passed_by(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    monkeypatch.setattr(locks_module, "WAIT_S", 0.01)
    monkeypatch.setattr(locks_module, "STALE_S", 0.05)
    leave_work(store, FOREIGN, {})
    os.utime(store.root / "sessions" / f"{'0' * 12}.json", (1, 1))
    said: list[str] = []
    with store.session() as session:
        leave_work(store, DEAD, {}, "3" * 12)
        (store.root / "locks").mkdir()
        (store.root / "locks" / f"convert-{KEY}.holder").write_text(f"{'3' * 12}.json")
        with FileLock(store.root / "locks" / f"convert-{KEY}.lock"):
            taken(session, said, 60)
    assert said[-1].endswith("is dead: going on")


@pytest.mark.parametrize("error", [OSError(37, "No locks available"), NotImplementedError()])
def test_without_locks_work_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    said: list[str] = []
    with store.session() as session:
        taken(session, said, 5)
    assert said == [locks_module.NO_LOCKS]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_gets_no_files_in_their_place(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    said: list[str] = []
    with (
        store.session() as session,
        session.exclusive("convert", KEY, timeout_s=5, on_wait=said.append),
    ):
        assert not list((store.root / "locks").iterdir())
    assert said == [locks_module.NO_LOCKS]
