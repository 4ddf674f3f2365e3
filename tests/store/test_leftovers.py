"""What dead sessions leave, and what is never taken from a living one though it looks dead."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest
from published import KEY, publish, write_files

from pipeline.artifact import describe
from pipeline.errors import MachineError, ResourceError, VerificationError
from pipeline.store import JOURNAL_NAME, Store
from pipeline.store import locks as locks_module
from pipeline.store import store as store_module
from pipeline.store.catalogue import held_names, list_artifacts
from pipeline.store.collection import Policy, collect
from pipeline.store.owners import file_time, is_dead, read_owner
from pipeline.store.trash import Taken, clear
from pipeline.system.processes import this_process
from tests.store.left_behind import DEAD, FOREIGN, leave_session


def test_part_of_an_artifact_is_not_published_when_others_took_the_folder(store: Store) -> None:
    with store.session() as session, session.working_folder("convert", KEY) as folder:
        write_files(folder, {"a": b"first"})
        clear(store.root, folder)  # by a machine that takes this one for dead
        write_files(folder, {"b": b"second"})
        with pytest.raises(MachineError, match="took this one for dead") as caught:
            session.publish(folder, describe(folder, "convert", KEY, {}, {}))
        assert caught.value.hint
    assert store.find("convert", KEY) is None
    assert not list((store.root / "work").iterdir())


def test_a_folder_that_is_gone_is_not_published(store: Store) -> None:
    with store.session() as session, session.working_folder("convert", KEY) as folder:
        manifest = describe(folder, "convert", KEY, {}, {})
        clear(store.root, folder)
        with pytest.raises(FileNotFoundError):
            session.publish(folder, manifest)
    assert store.find("convert", KEY) is None


def test_notes_of_who_held_a_lock_and_unfinished_records_of_the_dead_go(store: Store) -> None:
    dead, living = leave_session(store, DEAD), leave_session(store, this_process(), "1" * 12)
    held = {"build-k.holder": dead.name, "smoke-k.holder": living.name, "a.holder": "gone.json"}
    write_files(store.root / "locks", {name: text.encode() for name, text in held.items()})
    write_files(store.root / "runs", {f".{DEAD}.0.partial": b"", "1-demo.json": b"{}"})
    with store.session():
        assert [path.name for path in (store.root / "locks").iterdir()] == ["smoke-k.holder"]
        assert [path.name for path in (store.root / "runs").iterdir()] == ["1-demo.json"]


def test_what_is_swept_is_renamed_before_it_is_deleted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_session(store, DEAD)
    write_files(store.root / "work" / f"build-k-{'0' * 12}", {"f": b"f"})
    write_files(store.root / "trash" / f"{DEAD}.0", {"f": b"f"})
    removed: list[Path] = []
    monkeypatch.setattr(Taken, "remove", lambda taken: removed.append(taken.aside))
    with store.session():
        pass
    assert len(removed) == 2
    assert all(path.name.startswith(f"{this_process()}.") for path in removed)
    assert {path.parent.name for path in removed} == {"trash"}
    monkeypatch.undo()
    leave_session(store, DEAD)
    write_files(store.root / "work" / f"build-k-{'0' * 12}", {"f": b"f"})
    monkeypatch.setattr(Taken, "remove", lambda taken: removed.append(taken.aside))
    collect(store.root, Policy())
    assert all(path.name.startswith(f"{this_process()}.") for path in removed[2:])
    assert len(removed) == 3


@pytest.mark.parametrize("number", [28, 13, 30], ids=["full", "refused", "read-only"])
def test_a_process_that_cannot_say_that_it_is_there_reads_and_makes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Others would take what it makes for a dead process's, and clear it."""
    made = publish(store, {"a": b"a"})

    def refuse(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", refuse)
    with store.session() as session:
        session.hold([f"convert/{KEY}"])
        assert store.find("convert", KEY) == made
        kind = ResourceError if number == 28 else MachineError
        for begin in (
            lambda: session.working_folder("convert", "12" * 32),
            session.scratch_folder,
            lambda: session.exclusive("convert", "12" * 32, timeout_s=1, on_wait=print),
        ):
            with pytest.raises(kind, match="cannot be written"), begin():
                pytest.fail("it was made")
    assert not list((store.root / "sessions").iterdir())
    assert not list((store.root / "work").iterdir())


def test_the_lock_of_a_dead_process_whose_session_was_cleared_is_passed_by(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    monkeypatch.setattr(locks_module, "WAIT_S", 0.01)
    monkeypatch.setattr(locks_module, "STALE_S", 0.05)
    (store.root / "locks").mkdir(parents=True)
    (store.root / "locks" / f"convert-{KEY}.holder").write_text(f"{'3' * 12}.json")
    said: list[str] = []
    with (
        FileLock(store.root / "locks" / f"convert-{KEY}.lock"),
        store.session() as session,
        session.exclusive("convert", KEY, timeout_s=60, on_wait=said.append),
    ):
        pass
    assert said[-1].endswith("is dead: going on")


def test_a_heartbeat_is_read_by_the_clock_of_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = leave_session(store, FOREIGN, holds="convert/a")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)  # this machine's own is two hours ahead
    assert held_names(store.root) == {"convert/a"}
    write_files(store.root / "work" / f"build-k-{'0' * 12}", {"f": b"f"})
    assert not collect(store.root, Policy()).leftovers
    assert abs(file_time(store.root) - file.stat().st_mtime) < 600
    monkeypatch.undo()
    os.utime(file, (now + 7200, now + 7200))  # the clock was put back since
    assert is_dead(file, now)
    assert not list(file_time_leaves(store.root))


def file_time_leaves(root: Path) -> list[str]:
    """What asking for the time leaves in the store."""
    file_time(root)
    return [path.name for path in (root / "sessions").iterdir() if path.suffix != ".json"]


def test_a_session_that_has_not_written_yet_needs_nothing(store: Store) -> None:
    leave_session(store, FOREIGN, holds="convert/a")
    (store.root / "sessions" / f"{'1' * 12}.json").touch()
    assert held_names(store.root) == {"convert/a"}
    (store.root / "sessions" / f"{'2' * 12}.json").write_bytes(b"{")
    assert held_names(store.root) is None


@pytest.mark.parametrize("value", ["5", "[5]", "null", "{}"])
@pytest.mark.parametrize("name", ["process", "holds", "host", "label"])
def test_a_session_file_of_strange_values_makes_no_sense(
    store: Store, name: str, value: str
) -> None:
    file = leave_session(store, FOREIGN, holds="convert/a")
    text = file.read_text().replace(f'"{name}": ', f'"{name}": {value}, "_": ')
    file.write_text(text)
    assert read_owner(file) is None
    assert not is_dead(file, file.stat().st_mtime)
    assert is_dead(file, file.stat().st_mtime + 31)


def test_pipes_and_folders_among_the_sessions_hold_nothing_up(store: Store) -> None:
    publish(store, {"a": b"a"})
    sessions, work = store.root / "sessions", store.root / "work"
    os.mkfifo(sessions / "pipe.json")
    (sessions / "folder.json").mkdir()
    (sessions / "strange").touch()
    for path in sessions.iterdir():
        os.utime(path, (1, 1))
    os.mkfifo(work / "pipe-x")
    (work / ("n" * 255)).mkdir()
    (work / "-").touch()
    with store.session():
        pass
    assert [path.name for path in sessions.iterdir()] == ["folder.json"]
    assert {path.name for path in work.iterdir()} <= {"n" * 255}  # whose session has no file name
    assert [e.stage for e in collect(store.root, Policy(max_bytes=0)).artifacts] == ["convert"]


def test_work_of_another_user_is_not_taken_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_session(store, DEAD)
    theirs = store.root / "work" / f"convert-{KEY}-{'0' * 12}"
    write_files(theirs, {JOURNAL_NAME: b"1"})
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with (
        store.session() as session,
        session.working_folder("convert", KEY, resumable=True) as folder,
    ):
        assert theirs.exists()
        assert not list(folder.iterdir())


def test_an_artifact_that_is_deleted_while_it_is_looked_at_is_not_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = publish(store, {"a": b"a"})

    def late(path: Path) -> None:
        clear(store.root, path)
        raise VerificationError("gone")

    monkeypatch.setattr(store_module, "read_artifact", late)
    assert store.find("convert", KEY) is None
    assert not artifact.path.exists()


def test_a_finished_folder_of_a_killed_process_can_be_published(store: Store) -> None:
    """It was killed after the files had become read-only, and before its journal went."""
    leave_session(store, DEAD)
    theirs = store.root / "work" / f"convert-{KEY}-{'0' * 12}"
    write_files(theirs, {JOURNAL_NAME: b"1", "artifact.json": b"{}", "a": b"a"})
    (theirs / "artifact.json").chmod(0o444)
    before = (theirs / "artifact.json").stat().st_ino
    with (
        store.session() as session,
        session.working_folder("convert", KEY, resumable=True) as folder,
        (folder / "artifact.json").open("rb"),  # its number is not given to another
    ):
        made = session.publish(folder, describe(folder, "convert", KEY, {}, {}))
    assert (made.path / "artifact.json").stat().st_ino != before


@pytest.mark.parametrize(("number", "stops"), [(1, False), (95, False), (5, True)])
def test_a_file_system_without_modes_holds_nothing_up_one_that_fails_does(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int, stops: bool
) -> None:
    def refuse(file: Path | int, mode: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "chmod", refuse)
    if stops:
        with pytest.raises(OSError, match="Input/output"):
            publish(store, {"a": b"a"})
    else:
        publish(store, {"a": b"a"})


def test_a_living_session_has_its_lock_and_its_heart_beats(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.session.BEAT_S", 0.01)
    with store.session() as session:
        with session.file.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.utime(session.file, (1, 1))
        give_up_at = time.monotonic() + 120
        while session.file.stat().st_mtime == 1 and time.monotonic() < give_up_at:
            time.sleep(0.01)
        assert session.file.stat().st_mtime > 1


def test_work_without_a_journal_is_not_taken_over(store: Store) -> None:
    with store.session() as session:
        leave_session(store, DEAD)
        write_files(store.root / "work" / f"convert-{KEY}-{'0' * 12}", {"half": b"half"})
        with session.working_folder("convert", KEY, resumable=True) as folder:
            assert not list(folder.iterdir())


def test_a_session_file_that_is_being_written_is_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = leave_session(store, FOREIGN, holds="convert/a")
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    monkeypatch.setattr(time, "sleep", lambda _: file.write_bytes(whole))
    assert held_names(store.root) == {"convert/a"}


def test_a_dry_run_deletes_nothing(store: Store) -> None:
    left = store.root / "work" / "build-k-000000000000"
    write_files(left, {"f": b"f"})
    assert collect(store.root, Policy(), dry_run=True).leftovers == [(left, 1)]
    assert left.exists()


def test_what_lies_in_the_trash_is_as_old_as_its_rename(store: Store) -> None:
    foreign = store.root / "trash" / f"{FOREIGN}.0"
    write_files(foreign, {"f": b"f"})
    os.utime(foreign, (1, 1))  # of the artifact that it was
    with store.session():
        assert foreign.exists()


def test_a_link_in_the_trash_goes_and_not_what_it_leads_to(store: Store, tmp_path: Path) -> None:
    write_files(tmp_path / "mine", {"f": b"f"})
    (store.make_folder("trash") / "link").symlink_to(tmp_path / "mine")
    with store.session():
        assert not list((store.root / "trash").iterdir())
    assert (tmp_path / "mine" / "f").exists()


def test_work_on_another_key_is_not_taken_over(store: Store) -> None:
    leave_session(store, DEAD)
    other = store.root / "work" / f"convert-{'12' * 32}-{'0' * 12}"
    write_files(other, {JOURNAL_NAME: b"1"})
    with (
        store.session() as session,
        session.working_folder("convert", KEY, resumable=True) as folder,
    ):
        assert other.exists()
        assert not list(folder.iterdir())
        write_files(folder, {JOURNAL_NAME: b"1", "f": b"f"})
        manifest = describe(folder, "convert", KEY, {}, {})
        assert [file.path for file in manifest.files] == ["f"]


def test_files_among_the_stages_are_no_artifacts(store: Store) -> None:
    publish(store, {"f": b"f"})
    (store.root / "artifacts" / "notes.txt").touch()
    (store.root / "artifacts" / "convert" / "notes.txt").touch()
    assert [entry.key for entry in list_artifacts(store.root)] == [KEY]
