"""Work that the next run goes on with: taken over, kept, published without its journal."""

from __future__ import annotations

from pathlib import Path

import pytest
from published import KEY, write_files

from pipeline.artifact import describe
from pipeline.errors import ResourceError, VerificationError
from pipeline.store import JOURNAL_NAME, Store
from pipeline.system.processes import this_process
from tests.store.left_behind import DEAD, leave_work


def test_resumable_work_of_a_dead_process_is_taken_over(store: Store) -> None:
    dead = leave_work(store, DEAD, {JOURNAL_NAME: b"1", "half": b"half"})
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
    alive = leave_work(store, this_process(), {JOURNAL_NAME: b"1"})
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


def test_resumable_work_without_a_journal_is_not_kept(store: Store) -> None:
    with (
        pytest.raises(OSError, match="full"),
        store.session() as session,
        session.working_folder("convert", KEY, resumable=True) as folder,
    ):
        (folder / "half").write_bytes(b"half")
        raise OSError(28, "full")
    assert not list((store.root / "work").iterdir())


def test_what_was_begun_is_on_the_disk_already(store: Store) -> None:
    """Preallocated rank files may leave no room for themselves."""
    assert store.begun_bytes("convert", KEY) == 0
    folder = leave_work(store, DEAD, {"file": b"x" * 100_000})
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
