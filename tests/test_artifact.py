"""The store: whole artifacts or none, damage is seen, exports replace only their own."""

from __future__ import annotations

import errno
import multiprocessing
import os
import stat
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from pipeline.artifact import (
    MANIFEST_NAME,
    Artifact,
    canonical_json,
    check_digests,
    describe,
    digest_json,
    export,
    list_files,
    read_artifact,
)
from pipeline.errors import (
    LockedError,
    MachineError,
    ResourceError,
    UsageError,
    VerificationError,
)
from pipeline.store import Store

KEY = "ab" * 32


def publish(store: Store, files: dict[str, bytes], key: str = KEY) -> Artifact:
    with store.working_folder("convert", key) as folder:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        manifest = describe(folder, "convert", key, {"download": "cd" * 32}, {"num": 1})
        return store.publish(folder, manifest)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_published_artifact_is_found_whole(store: Store) -> None:
    made = publish(store, {"a.bin": b"abc", "sub/b.bin": b"defg"})
    found = store.find("convert", KEY)
    assert found == made
    assert [entry.path for entry in made.manifest.files] == ["a.bin", "sub/b.bin"]
    assert made.size_bytes == 7
    assert made.facts == {"num": 1}
    assert made.manifest.inputs == {"download": "cd" * 32}
    assert not list((store.root / "work").iterdir())


def test_a_changed_byte_is_named_where_all_are_read(store: Store) -> None:
    made = publish(store, {"rank0.engine": b"abc", "rank1.engine": b"defg"})
    check_digests(made)
    changed = made.path / "rank1.engine"
    changed.chmod(0o644)
    changed.write_bytes(b"deFg")  # of the same size: opening it sees nothing
    assert store.find("convert", KEY) == made
    with pytest.raises(VerificationError) as caught:
        check_digests(made)
    (fact,) = caught.value.facts
    assert fact.startswith("`rank1.engine` is changed: BLAKE3 ")


def test_unpublished_work_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.working_folder("convert", KEY) as folder:
        (folder / "half").write_bytes(b"half")
        raise RuntimeError
    assert store.find("convert", KEY) is None
    assert not list((store.root / "work").iterdir())


def test_leftovers_of_a_dead_process_are_cleared(store: Store) -> None:
    leftover = store.root / "work" / f"convert-{KEY}-12345678"
    leftover.mkdir(parents=True)
    other = store.root / "work" / f"convert-{'ef' * 32}-12345678"
    other.mkdir()
    with store.working_folder("convert", KEY):
        assert not leftover.exists()
    assert other.exists()


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
    with store.working_folder("convert", KEY) as folder:
        (folder / "a.bin").hardlink_to(blob)
        store.publish(folder, describe(folder, "convert", KEY, {}, {}))
    assert stat.S_IMODE(blob.stat().st_mode) == 0o640


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_damage_is_an_error_not_a_reuse(store: Store, damage: str) -> None:
    path = publish(store, {"a.bin": b"abc"}).path / "a.bin"
    path.chmod(0o644)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"ab")
    with pytest.raises(VerificationError, match="damaged") as caught:
        store.find("convert", KEY)
    assert "a.bin" in caught.value.facts[0]
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"format": 2, "files": []}', b'{"format": 1, "files": [{"x": 1}]}'],
)
def test_a_manifest_that_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(text)
    with pytest.raises(VerificationError, match="not a valid manifest"):
        read_artifact(tmp_path)


@pytest.mark.parametrize("name", ["../up", "/abs", "a/../../up"])
def test_a_manifest_may_not_name_files_outside(tmp_path: Path, name: str) -> None:
    document = {
        "format": 1,
        "stage": "convert",
        "key": KEY,
        "inputs": {},
        "facts": {},
        "files": [{"path": name, "size_bytes": 0, "blake3": "00"}],
    }
    (tmp_path / MANIFEST_NAME).write_bytes(canonical_json(document))
    with pytest.raises(VerificationError, match="outside"):
        read_artifact(tmp_path)


def test_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(VerificationError, match="symbolic link"):
        list_files(tmp_path)


def test_the_second_publisher_gets_the_first_ones(store: Store) -> None:
    first = publish(store, {"a.bin": b"abc"})
    second = publish(store, {"a.bin": b"abc"})
    assert second == first


def test_export_is_whole_and_replaces_only_its_own(store: Store, tmp_path: Path) -> None:
    artifact = publish(store, {"a.bin": b"abc", "sub/b.bin": b"d"})
    out = tmp_path / "out" / "deep"
    export(artifact, out)
    assert (out / "sub/b.bin").read_bytes() == b"d"
    other = publish(store, {"c.bin": b"xyz"}, key="12" * 32)
    export(other, out)
    assert list_files(out) == [MANIFEST_NAME, "c.bin"]
    assert [path.name for path in out.parent.iterdir()] == ["deep"]
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds files"):
        export(artifact, foreign)
    assert (foreign / "notes.txt").read_text() == "mine"


def test_an_export_to_where_nothing_can_be_is_a_plain_error(store: Store, tmp_path: Path) -> None:
    artifact = publish(store, {"a.bin": b"abc"})
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/none")):
        with pytest.raises(MachineError, match=f"`{out}` cannot be written"):
            export(artifact, out)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_manifest_that_cannot_be_read_is_a_plain_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = publish(store, {"a.bin": b"abc"})

    def refused(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(MachineError, match="cannot be read: Permission denied"):
        read_artifact(artifact.path)


def test_an_export_that_finds_no_room_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = publish(store, {"a.bin": b"abc", "b.bin": b"d"})

    def full(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(source))

    monkeypatch.setattr("pipeline.artifact.place", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        export(artifact, tmp_path / "out" / "here")
    assert list((tmp_path / "out").iterdir()) == []


def hold(root: Path, held: Event, release: Event) -> None:
    with Store(root).exclusive("convert", KEY, timeout_s=5, on_wait=lambda _: None):
        held.set()
        release.wait(20)


def test_another_process_is_waited_for_then_given_up(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(store.root, held, release))
    process.start()
    try:
        assert held.wait(20)
        said: list[str] = []
        with (
            pytest.raises(LockedError, match="another process") as caught,
            store.exclusive("convert", KEY, timeout_s=0.2, on_wait=said.append),
        ):
            pytest.fail("the lock is held by the other process")
        assert caught.value.exit_code == 8
        assert said
        assert "waiting" in said[0]
    finally:
        release.set()
        process.join(20)
    with store.exclusive("convert", KEY, timeout_s=5, on_wait=said.append):
        assert len(said) == 1


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": 1, "a": ["é"]}) == '{"a":["é"],"b":1}'.encode()
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": 2})
