"""Sessions of a store: whole artifacts or none, what dead processes left, who waits for whom."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from published import KEY, publish, write_files

from pipeline.artifact import describe
from pipeline.errors import LockedError, MachineError, ResourceError, VerificationError
from pipeline.processes import Process, this_process
from pipeline.store import JOURNAL_NAME, Session, Store
from pipeline.store import locks as locks_module
from pipeline.store.owners import encode_owner, is_dead, read_owner, this_owner

DEAD = Process(this_process().space, 4_000_000_000, 1)
FOREIGN = Process("00000000", 1, 1)


def leave(store: Store, process: Process, files: dict[str, bytes], session: str = "0" * 12) -> Path:
    """What a process that was killed leaves: its session, and a working folder of `convert`."""
    (store.root / "sessions").mkdir(parents=True, exist_ok=True)
    owner = replace(this_owner("earlier"), process=str(process))
    (store.root / "sessions" / f"{session}.json").write_bytes(encode_owner(owner))
    folder = store.root / "work" / f"convert-{KEY}-{session}"
    write_files(folder, files)
    return folder


def ignore(_: str) -> None:
    pass


def test_unpublished_work_leaves_nothing(store: Store) -> None:
    with (
        pytest.raises(RuntimeError),
        store.session() as session,
        session.working_folder("convert", KEY) as folder,
    ):
        (folder / "half").write_bytes(b"half")
        raise RuntimeError
    assert store.find("convert", KEY) is None
    assert not list((store.root / "work").iterdir())
    assert not list((store.root / "sessions").iterdir())


def test_a_session_says_who_it_is_and_what_it_needs(store: Store) -> None:
    with store.session("tiny") as session:
        session.hold(["convert/b", "convert/a"])
        owner = read_owner(session.file)
        assert owner is not None
        assert owner.holds == ("convert/a", "convert/b")
        assert owner.process == str(this_process())
        assert f"process {os.getpid()} on `" in str(owner)
        assert "(`tiny`), at work since 20" in str(owner)
        assert not is_dead(session.file, time.time() + 3600)


def test_a_session_file_has_its_name_once_it_tells_whose_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    write = os.pwrite

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        seen.append([path.suffix for path in (store.root / "sessions").iterdir()])
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with store.session():
        assert seen == [[".partial"]]
        assert [path.suffix for path in (store.root / "sessions").iterdir()] == [".json"]
    killed = store.root / "sessions" / f".{replace(this_process(), pid=2**22 + 1)}.0.partial"
    killed.touch()
    with store.session():
        assert not killed.exists()


def test_leftovers_of_a_dead_process_are_cleared(store: Store) -> None:
    dead = leave(store, DEAD, {"half": b"half"})
    scratch = dead.with_name(f"scratch-{'0' * 12}")
    scratch.mkdir()
    orphan = dead.with_name(f"build-{KEY}-{'1' * 12}")
    orphan.mkdir()  # its session is gone
    foreign = leave(store, FOREIGN, {"half": b"half"}, "2" * 12)
    with store.session():
        assert not dead.exists()
        assert not scratch.exists()
        assert not orphan.exists()
        assert foreign.exists()  # its process may be at work on another machine
    assert [path.name for path in (store.root / "sessions").iterdir()] == ["2" * 12 + ".json"]


def test_a_silent_session_of_another_machine_is_dead(store: Store) -> None:
    foreign = leave(store, FOREIGN, {"half": b"half"})
    file = store.root / "sessions" / f"{'0' * 12}.json"
    os.utime(file, (time.time() - 60, time.time() - 60))
    with store.session():
        assert not foreign.exists()


def test_a_locked_session_of_another_container_is_alive(store: Store) -> None:
    foreign = leave(store, FOREIGN, {"half": b"half"})
    file = store.root / "sessions" / f"{'0' * 12}.json"
    with file.open("rb+") as locked:
        import fcntl

        fcntl.flock(locked, fcntl.LOCK_EX)
        os.utime(file, (1, 1))
        with store.session():
            assert foreign.exists()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"host": 1}', b"\xff"])
def test_a_session_file_that_cannot_be_read_counts_as_alive_for_a_while(
    store: Store, damage: bytes
) -> None:
    folder = leave(store, DEAD, {"half": b"half"})
    file = store.root / "sessions" / f"{'0' * 12}.json"
    file.write_bytes(damage)
    with store.session():
        assert folder.exists()
    os.utime(file, (1, 1))
    with store.session():
        assert not folder.exists()


def test_resumable_work_of_a_dead_process_is_taken_over(store: Store) -> None:
    dead = leave(store, DEAD, {JOURNAL_NAME: b"1", "half": b"half"})
    with store.session() as session:
        assert dead.exists()
        with session.working_folder("convert", KEY, resumable=True) as folder:
            assert not dead.exists()
            assert (folder / "half").read_bytes() == b"half"
            (folder / JOURNAL_NAME).unlink()
            made = session.publish(folder, describe(folder, "convert", KEY, {}, {}))
    assert [entry.path for entry in made.manifest.files] == ["half"]
    assert not list((store.root / "work").iterdir())


def test_work_of_a_living_process_is_not_taken_over(store: Store) -> None:
    alive = leave(store, this_process(), {JOURNAL_NAME: b"1"})
    with (
        store.session() as session,
        session.working_folder("convert", KEY, resumable=True) as folder,
    ):
        assert not list(folder.iterdir())
    assert alive.exists()


@pytest.mark.parametrize(
    ("end", "stays"),
    [
        (KeyboardInterrupt(), True),
        (SystemExit(143), True),
        (OSError(28, "full"), True),
        (MemoryError(), True),
        (ResourceError("full"), True),
        (VerificationError("wrong"), False),
        (RuntimeError("a fault"), False),
    ],
    ids=repr,
)
def test_what_is_kept_of_resumable_work(store: Store, end: BaseException, stays: bool) -> None:
    with (
        pytest.raises(type(end)),
        store.session() as session,
        session.working_folder("convert", KEY, resumable=True) as folder,
    ):
        write_files(folder, {JOURNAL_NAME: b"1"})
        raise end
    assert bool(list((store.root / "work").iterdir())) is stays


def test_what_was_begun_is_on_the_disk_already(store: Store) -> None:
    """Preallocated rank files may leave no room for themselves."""
    assert store.begun_bytes("convert", KEY) == 0
    folder = leave(store, DEAD, {"file": b"x" * 100_000})
    assert store.begun_bytes("convert", KEY) == 0  # the next run removes it
    (folder / JOURNAL_NAME).write_bytes(b"1")
    assert 100_000 <= store.begun_bytes("convert", KEY) < 200_000
    assert store.begun_bytes("convert", "0" * 64) == store.begun_bytes("download", KEY) == 0


def test_a_journal_stays_until_all_is_synced_and_is_never_published(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool, bool]] = []

    def sync(folder: Path) -> None:
        has_journal = (folder / JOURNAL_NAME).exists()
        synced.append((folder.parent.name, has_journal, store.find("convert", KEY) is not None))

    monkeypatch.setattr("pipeline.store.session.sync_tree", sync)
    monkeypatch.setattr("pipeline.store.session.sync", sync)
    with (
        store.session() as session,
        session.working_folder("convert", KEY, resumable=True) as folder,
    ):
        write_files(folder, {JOURNAL_NAME: b"1", "file": b"2"})
        artifact = session.publish(folder, describe(folder, "convert", KEY, {}, {}))
    # All, then the folder that the journal was taken from; after the rename, where it is now.
    assert synced == [("work", True, False), ("work", False, False), ("artifacts", False, True)]
    assert [entry.path for entry in artifact.manifest.files] == ["file"]
    assert not (artifact.path / JOURNAL_NAME).exists()


def test_modes_do_not_depend_on_the_umask(store: Store) -> None:
    before = os.umask(0o077)
    try:
        artifact = publish(store, {"sub/a.bin": b"abc"})
    finally:
        os.umask(before)
    assert stat.S_IMODE((artifact.path / "sub/a.bin").stat().st_mode) == 0o444
    assert stat.S_IMODE((artifact.path / "sub").stat().st_mode) == 0o755
    assert stat.S_IMODE(artifact.path.stat().st_mode) == 0o755


def test_a_file_with_other_names_keeps_its_mode(store: Store, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"abc")
    blob.chmod(0o640)
    with store.session() as session, session.working_folder("convert", KEY) as folder:
        (folder / "a.bin").hardlink_to(blob)
        session.publish(folder, describe(folder, "convert", KEY, {}, {}))
    assert stat.S_IMODE(blob.stat().st_mode) == 0o640


def test_the_second_publisher_gets_the_first_ones(store: Store) -> None:
    first = publish(store, {"a.bin": b"abc"})
    second = publish(store, {"a.bin": b"abc"})
    assert second == first


def test_what_is_no_artifact_is_not_published_over(store: Store) -> None:
    write_files(store.path_of("convert", KEY), {"mine": b"mine"})
    with pytest.raises(VerificationError, match="is not an artifact, but stands where") as caught:
        publish(store, {"a.bin": b"abc"})
    assert caught.value.hint
    assert not list((store.root / "work").iterdir())


def test_scratch_lies_in_the_store_and_ends_with_the_work(store: Store) -> None:
    before = tempfile.gettempdir()
    with store.session() as session, session.scratch_folder() as folder:
        assert folder.is_relative_to(store.root)
        with tempfile.NamedTemporaryFile(delete=False) as file:
            assert Path(file.name).parent == folder
    assert not folder.exists()
    assert tempfile.gettempdir() == before


def test_a_store_that_cannot_be_written_can_still_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "store", shared=(tmp_path / "shared",))
    shared = publish(Store(tmp_path / "shared"), {"a.bin": b"abc"})
    with store.session() as session:
        session.hold([f"convert/{KEY}"])
        assert store.find("convert", KEY) == shared
        store.note_use(shared)
        with (
            pytest.raises(MachineError, match="cannot be written"),
            session.working_folder("convert", KEY),
        ):
            pytest.fail("there is no place to work")


def test_the_own_store_comes_before_shared_ones(tmp_path: Path) -> None:
    shared, own = Store(tmp_path / "shared"), Store(tmp_path / "own", shared=(tmp_path / "shared",))
    there = publish(shared, {"a.bin": b"abc"})
    assert own.find("convert", KEY) == there
    before = sorted(path for path in shared.root.rglob("*"))
    here = publish(own, {"a.bin": b"abc"})
    assert own.find("convert", KEY) == here
    assert here.path.is_relative_to(own.root)
    assert sorted(path for path in shared.root.rglob("*")) == before
    own.note_use(there)
    assert not (own.root / "uses").exists()


def test_the_last_use_is_remembered(store: Store) -> None:
    artifact = publish(store, {"a.bin": b"abc"})
    use = store.root / "uses" / "convert" / KEY
    store.note_use(artifact)
    os.utime(use, (1, 1))
    store.note_use(artifact)
    assert use.stat().st_mtime > 1


def hold(root: Path, held: Event, release: Event) -> None:
    with (
        Store(root).session("held") as session,
        session.exclusive("convert", KEY, timeout_s=5, on_wait=ignore),
    ):
        held.set()
        release.wait(20)


@contextmanager
def another_process(store: Store) -> Iterator[tuple[multiprocessing.process.BaseProcess, Event]]:
    """A process that holds the lock of the key, and what makes it let go."""
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(store.root, held, release))
    process.start()
    try:
        assert held.wait(20)
        yield process, release
    finally:
        if process.is_alive():  # setting it waits for those that wait for it
            release.set()
        process.join(20)


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
        process.join(20)
        taken(session, said, 5)
    assert said == []


def test_a_lock_that_a_dead_process_holds_for_ever_is_passed_by(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    monkeypatch.setattr(locks_module, "WAIT_S", 0.01)
    monkeypatch.setattr(locks_module, "STALE_S", 0.05)
    leave(store, FOREIGN, {})
    os.utime(store.root / "sessions" / f"{'0' * 12}.json", (1, 1))
    said: list[str] = []
    with store.session() as session:
        leave(store, DEAD, {}, "3" * 12)
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


def test_a_session_file_is_json_for_people(store: Store) -> None:
    with store.session("tiny") as session:
        document = json.loads(session.file.read_text())
    owner = this_owner("tiny")
    assert document.keys() == asdict(owner).keys()
    assert document["label"] == "tiny"


def test_a_rename_that_the_system_refuses_is_its_own_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.parent.name == "sessions":
            return rename(self, target)
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="cross-device"):
        publish(store, {"a.bin": b"abc"})
    assert not list((store.root / "work").iterdir())


def test_resumable_work_without_a_journal_is_not_kept(store: Store) -> None:
    with (
        pytest.raises(OSError, match="full"),
        store.session() as session,
        session.working_folder("convert", KEY, resumable=True) as folder,
    ):
        (folder / "half").write_bytes(b"half")
        raise OSError(28, "full")
    assert not list((store.root / "work").iterdir())


def test_a_session_leaves_no_descriptor_open(store: Store) -> None:
    publish(store, {"a.bin": b"abc"}, "12" * 32)
    before = sorted(Path("/proc/self/fd").iterdir())
    publish(store, {"a.bin": b"abc"})
    with store.session() as session:
        session.hold(["convert/a"])
        taken(session, [], 5)
    assert sorted(Path("/proc/self/fd").iterdir()) == before
