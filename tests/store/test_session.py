"""Sessions of a store: whole artifacts or none, and what they leave as it was."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from published import KEY, publish, write_files

from pipeline.artifact import describe
from pipeline.errors import MachineError, VerificationError
from pipeline.store import Store
from pipeline.store.owners import is_dead, read_owner, this_owner
from pipeline.system.processes import this_process


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
    noted = (own.root / "uses" / "convert" / KEY).stat()
    own.note_use(there)
    assert (own.root / "uses" / "convert" / KEY).stat() == noted


def test_the_last_use_is_remembered(store: Store) -> None:
    artifact = publish(store, {"a.bin": b"abc"})
    use = store.root / "uses" / "convert" / KEY
    store.note_use(artifact)
    os.utime(use, (1, 1))
    store.note_use(artifact)
    assert use.stat().st_mtime > 1


def test_a_session_file_is_json_for_people(store: Store) -> None:
    with store.session("tiny") as session:
        document = json.loads(session.file.read_text())
    owner = this_owner("tiny")
    assert document.keys() == asdict(owner).keys()
    assert document["label"] == "tiny"


def test_a_store_over_two_file_systems_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.parent.name == "sessions":
            return rename(self, target)
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(MachineError, match="are not on one file system"):
        publish(store, {"a.bin": b"abc"})
    assert not list((store.root / "work").iterdir())


def test_a_session_leaves_no_descriptor_open(store: Store) -> None:
    publish(store, {"a.bin": b"abc"}, "12" * 32)
    before = sorted(Path("/proc/self/fd").iterdir())
    publish(store, {"a.bin": b"abc"})
    with store.session() as session:
        session.hold(["convert/a"])
        with session.exclusive("convert", KEY, timeout_s=5, on_wait=lambda _: None):
            pass
    assert sorted(Path("/proc/self/fd").iterdir()) == before
