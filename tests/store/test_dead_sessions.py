"""Whose process is dead: its leftovers go; a living one's stay."""

from __future__ import annotations

import fcntl
import os
import time

import pytest
from published import KEY

from pipeline.store import Store
from pipeline.store.owners import file_time
from tests.store.left_behind import DEAD, FOREIGN, leave_work


def test_leftovers_of_a_dead_process_are_cleared(store: Store) -> None:
    dead = leave_work(store, DEAD, {"half": b"half"})
    scratch = dead.with_name(f"scratch-{'0' * 12}")
    scratch.mkdir()
    orphan = dead.with_name(f"build-{KEY}-{'1' * 12}")
    orphan.mkdir()  # its session is gone
    foreign = leave_work(store, FOREIGN, {"half": b"half"}, "2" * 12)
    with store.session():
        assert not dead.exists()
        assert not scratch.exists()
        assert not orphan.exists()
        assert foreign.exists()  # its process may be at work on another machine
    assert [path.name for path in (store.root / "sessions").iterdir()] == ["2" * 12 + ".json"]


def test_a_silent_session_of_another_machine_is_dead(store: Store) -> None:
    foreign = leave_work(store, FOREIGN, {"half": b"half"})
    file = store.root / "sessions" / f"{'0' * 12}.json"
    os.utime(file, (time.time() - 60, time.time() - 60))
    with store.session():
        assert not foreign.exists()


def test_a_locked_session_of_another_container_is_alive(store: Store) -> None:
    foreign = leave_work(store, FOREIGN, {"half": b"half"})
    file = store.root / "sessions" / f"{'0' * 12}.json"
    with file.open("rb+") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        os.utime(file, (1, 1))
        with store.session():
            assert foreign.exists()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"host": 1}', b"\xff"])
def test_a_session_file_that_cannot_be_read_counts_as_alive_for_a_while(
    store: Store, damage: bytes
) -> None:
    folder = leave_work(store, DEAD, {"half": b"half"})
    file = store.root / "sessions" / f"{'0' * 12}.json"
    file.write_bytes(damage)
    with store.session():
        assert folder.exists()
    os.utime(file, (1, 1))
    with store.session():
        assert not folder.exists()


def test_where_no_times_can_be_set_the_heart_beats_by_writing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with store.session() as session:
        os.utime(session.file, (1, 1))
        monkeypatch.setattr(os, "utime", refuse)
        assert file_time(store.root) > 1
        session._show_life()
        assert session.file.stat().st_mtime > 1
