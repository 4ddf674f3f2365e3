"""Deleting beside processes at work: what they need stays, or comes back whole."""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from published import KEY, publish, write_files

from pipeline.artifact import Artifact, check_digests, read_artifact
from pipeline.cli.cache_text import collected_document, collected_text
from pipeline.placement.takedown import take_down
from pipeline.progress import Silent
from pipeline.store import Store
from pipeline.store import catalogue as catalogue_module
from pipeline.store import collection as collection_module
from pipeline.store import trash as trash_module
from pipeline.store.catalogue import list_artifacts
from pipeline.store.checking import check_artifacts
from pipeline.store.collection import HELD, Policy, collect, discard
from pipeline.store.locks import deletion_lock
from pipeline.store.owners import read_owner
from pipeline.store.trash import Taken
from pipeline.system.processes import this_process


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Have something happen just after an artifact was moved aside."""
    take = trash_module.take

    def late(root: Path, path: Path) -> Taken:
        taken = take(root, path)
        happens()
        return taken

    monkeypatch.setattr(collection_module, "take", late)


@pytest.fixture(params=[True, False], ids=["renamed", "in place"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store whose file system renames published folders, or does not."""
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.parent.parent.name == "artifacts" and self.is_dir():
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(self))
        return rename(self, target)

    if not request.param:
        monkeypatch.setattr(Path, "rename", refuse)
    return Store(tmp_path / "store")


def test_nobody_begins_to_need_what_is_being_deleted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.locks.STALE_S", 600.0)  # a busy machine may stand still
    with store.session() as session:
        thread = threading.Thread(target=session.hold, args=([f"convert/{KEY}"],))
        with deletion_lock(store.root, deleting=True):
            thread.start()
            time.sleep(0.1)
            owner = read_owner(session.file)
            assert owner is not None
            assert owner.holds == ()
        thread.join()
        owner = read_owner(session.file)
        assert owner is not None
        assert owner.holds == (f"convert/{KEY}",)


def test_many_may_begin_to_need_something_together(store: Store) -> None:
    with store.session() as session, deletion_lock(store.root, deleting=False):
        session.hold([f"convert/{KEY}"])
        owner = read_owner(session.file)
        assert owner is not None
        assert owner.holds


def test_a_stopped_process_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, {"f": b"f"})
    monkeypatch.setattr("pipeline.store.locks.STALE_S", 0.02)
    with store.session() as session, deletion_lock(store.root, deleting=True):
        session.hold(["convert/other"])
        assert len(collect(store.root, Policy(max_bytes=0)).artifacts) == 1


def test_an_artifact_comes_back_where_it_is_not_known_who_needs_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = publish(store, {"f": b"f"})
    (entry,) = list_artifacts(store.root)
    strange = store.root / "sessions" / "strange.json"
    meanwhile(monkeypatch, lambda: strange.write_bytes(b"{"))
    assert discard(store.root, entry) == HELD
    check_digests(read_artifact(made.path))
    assert not list((store.root / "trash").iterdir())


@pytest.mark.parametrize("needed", [True, False])
def test_an_artifact_that_is_made_anew_meanwhile_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch, needed: bool
) -> None:
    store.note_use(publish(store, {"f": b"f"}))
    (entry,) = list_artifacts(store.root)
    with store.session() as session:

        def again() -> None:
            publish(store, {"f": b"f"})
            session.hold([entry.name] if needed else [])

        meanwhile(monkeypatch, again)
        assert discard(store.root, entry) == HELD
    assert store.find("convert", KEY) is not None
    assert (store.root / "uses" / entry.name).is_file()
    assert not list((store.root / "trash").iterdir())


def test_an_artifact_that_another_process_has_deleted_is_deleted(store: Store) -> None:
    publish(store, {"f": b"f"})
    (entry,) = list_artifacts(store.root)
    shutil.rmtree(entry.path)
    assert discard(store.root, entry) is None


def test_what_cannot_be_deleted_is_told_and_holds_nothing_else_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("12" * 32, "34" * 32):
        publish(store, {"f": b"f"}, key)
    take = trash_module.take

    def refuse(root: Path, path: Path) -> Taken:
        if path.name.startswith("12"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return take(root, path)

    monkeypatch.setattr(collection_module, "take", refuse)
    found = collect(store.root, Policy(max_bytes=0))
    assert [entry.key for entry in found.artifacts] == ["34" * 32]
    assert found.refused == [
        (store.path_of("convert", "12" * 32), f"Permission denied (`{found.refused[0][0]}`)")
    ]
    assert found.disk_bytes > 0
    text = collected_text(collected_document(found, dry_run=False))
    assert f"not deleted: {found.refused[0][0]}: Permission denied" in text
    assert "\nhint: " in text


def test_what_cannot_be_removed_from_the_trash_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, {"f": b"f"})

    def refuse(taken: Taken) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(taken.aside))

    monkeypatch.setattr(Taken, "remove", refuse)
    found = collect(store.root, Policy(max_bytes=0))
    assert not found.artifacts
    assert "Directory not empty" in found.refused[0][1]
    assert store.find("convert", KEY) is None


def test_an_artifact_that_is_deleted_meanwhile_is_not_listed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("12" * 32, "34" * 32):
        publish(store, {"f": b"f"}, key)

    def late(path: Path) -> Artifact:
        found = read_artifact(path)
        if path.name.startswith("12"):
            shutil.rmtree(path)
        return found

    monkeypatch.setattr(catalogue_module, "read_artifact", late)
    assert [entry.key for entry in list_artifacts(store.root)] == ["34" * 32]


def test_leftovers_that_another_process_clears_are_not_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, {"f": b"f"})
    (store.root / "work" / "build-k-000000000000").mkdir()

    def gone(root: Path, path: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr(collection_module, "clear", gone)
    found = collect(store.root, Policy())
    assert (found.leftovers, found.refused) == ([], [])


def test_what_is_needed_meanwhile_is_neither_deleted_nor_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, {"f": b"f"})
    with store.session() as session:
        meanwhile(monkeypatch, lambda: session.hold([f"convert/{KEY}"]))
        found = collect(store.root, Policy(max_bytes=0))
    assert (found.artifacts, found.refused) == ([], [])
    assert found.disk_bytes > 0


def test_an_artifact_that_is_deleted_while_it_is_checked_is_left_out(store: Store) -> None:
    publish(store, {"f": b"f"})
    entries = list_artifacts(store.root)
    shutil.rmtree(entries[0].path)
    assert check_artifacts(entries, Silent()) == []


def test_what_was_deleted_in_part_makes_way_for_the_same_artifact(store: Store) -> None:
    made = publish(store, {"a": b"a", "sub/b": b"b"})
    take_down(made.path)
    (made.path / "a").unlink()
    assert store.find("convert", KEY) is None
    check_digests(publish(store, {"a": b"a", "sub/b": b"b"}))


@pytest.mark.parametrize("process", ["living", "ended"])
def test_what_a_killed_process_deleted_in_part_is_deleted(store: Store, process: str) -> None:
    made = publish(store, {"a": b"a", "sub/b": b"b"})
    mark = take_down(made.path)
    if process == "ended":
        ended = replace(this_process(), start=this_process().start + 1)
        mark.rename(made.path / mark.name.replace(str(this_process()), str(ended)))
    found = collect(store.root, Policy())
    assert made.path.exists() == (process == "living")
    assert [path for path, _ in found.leftovers] == ([made.path] if process == "ended" else [])


def test_what_is_no_artifact_can_be_deleted_and_does_not_come_back(store: Store) -> None:
    folder = store.path_of("convert", KEY)
    write_files(folder, {"a": b"a"})
    (entry,) = list_artifacts(store.root)
    assert discard(store.root, entry) is None
    assert not folder.exists()
