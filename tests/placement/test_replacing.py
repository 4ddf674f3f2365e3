"""Replacing what is in a folder that cannot be renamed: cleared and filled in its place."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from published import KEY, publish

from pipeline.artifact import MANIFEST_NAME, check_digests, list_files, read_artifact
from pipeline.errors import MachineError, UsageError
from pipeline.placement import replacing
from pipeline.placement.exports import export
from pipeline.placement.takedown import clear_folder, is_mark, take_down
from pipeline.store import Store
from pipeline.system.processes import Process, this_process

OURS = this_process()
DEAD = Process(OURS.space, 4_000_000_000, 1)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a release goes."""
    return tmp_path / "place" / "out"


@pytest.fixture(params=[errno.EXDEV, errno.EBUSY, "mount point", "not ours"])
def stays(request: pytest.FixtureRequest, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder `out` cannot be renamed: of a lower layer, a mount point, or another user's."""
    rename, access = Path.rename, os.access

    def refuse(self: Path, target: Path) -> Path:
        if self == out:
            raise OSError(request.param, "cannot be renamed", str(self))
        return rename(self, target)

    if request.param == "mount point":
        monkeypatch.setattr(os.path, "ismount", lambda path: path == out)
    elif request.param == "not ours":
        monkeypatch.setattr(os, "access", lambda path, mode: path != out.parent and access(path, 0))
    else:
        monkeypatch.setattr(replacing, "_exchange", lambda one, other: False)
        monkeypatch.setattr(Path, "rename", refuse)


@pytest.mark.usefixtures("stays")
def test_the_new_files_are_there_and_none_of_the_old(store: Store, out: Path) -> None:
    export(publish(store, {"a.bin": b"abc", "sub/b.bin": b"d"}), out)
    number = out.stat().st_ino
    export(publish(store, {"c.bin": b"xyz", "sub/d.bin": b"d"}, "12" * 32), out)
    assert list_files(out) == [MANIFEST_NAME, "c.bin", "sub/d.bin"]
    check_digests(read_artifact(out))
    assert out.stat().st_ino == number
    assert names(out.parent) == ["out"]


@pytest.mark.usefixtures("stays")
def test_an_empty_folder_is_filled(store: Store, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "lost+found").mkdir()
    (out / f".out.{DEAD}").mkdir()
    for _ in range(2):
        export(publish(store, {"a.bin": b"abc"}), out)
        assert names(out) == ["a.bin", MANIFEST_NAME, "lost+found"]


@pytest.mark.usefixtures("stays")
def test_a_folder_of_the_users_is_not_filled(store: Store, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds files"):
        export(publish(store, {"a.bin": b"abc"}), out)
    assert names(out) == ["notes.txt"]


@pytest.mark.usefixtures("stays")
@pytest.mark.parametrize("is_moved", [False, True], ids=["cleared in part", "filled in part"])
def test_what_a_killed_process_left_is_replaced(store: Store, out: Path, is_moved: bool) -> None:
    export(publish(store, {"a.bin": b"abc", "b.bin": b"d"}), out)
    take_down(out)
    (out / "a.bin").unlink()
    left = out / ("c.bin" if is_moved else f".out.{DEAD}/c.bin")
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"new")
    export(publish(store, {"c.bin": b"new", "e.bin": b""}, "12" * 32), out)
    assert names(out) == [MANIFEST_NAME, "c.bin", "e.bin"]
    check_digests(read_artifact(out))


@pytest.mark.usefixtures("stays")
def test_what_another_process_puts_together_there_stays(store: Store, out: Path) -> None:
    export(publish(store, {"a.bin": b"abc"}), out)
    living = out / f".out.{Process(OURS.space, os.getppid(), _start(os.getppid()))}"
    living.mkdir()
    export(publish(store, {"a.bin": b"abc"}), out)
    assert names(out) == [living.name, "a.bin", MANIFEST_NAME]


@pytest.mark.usefixtures("stays")
def test_where_no_room_is_found_the_earlier_release_stays(
    store: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(publish(store, {"a.bin": b"abc"}), out)

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    later = publish(store, {"b.bin": b"d"}, "12" * 32)
    monkeypatch.setattr(replacing, "place", full)
    with pytest.raises(Exception, match="No space left"):
        export(later, out)
    assert read_artifact(out).key == KEY
    assert names(out) == ["a.bin", MANIFEST_NAME]


@pytest.mark.usefixtures("stays")
def test_what_fails_in_between_is_no_artifact_and_told(
    store: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(publish(store, {"a.bin": b"abc"}), out)
    later = publish(store, {"b.bin": b"d"}, "12" * 32)

    def fail(folder: Path, keep: frozenset[str]) -> None:
        raise OSError(errno.EIO, "Input/output error", str(folder))

    with monkeypatch.context() as patched:
        patched.setattr(replacing, "clear_folder", fail)
        with pytest.raises(MachineError, match="could not be filled again: Input/output") as caught:
            export(later, out)
    assert any("no artifact now" in fact for fact in caught.value.facts)
    assert not (out / MANIFEST_NAME).exists()
    export(later, out)
    assert names(out) == [MANIFEST_NAME, "b.bin"]


def test_of_two_that_fill_one_folder_one_is_told(
    store: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = publish(store, {"a.bin": b"abc"})
    export(artifact, out)
    monkeypatch.setattr(os.path, "ismount", lambda path: path == out)
    clear = clear_folder

    def beaten(folder: Path, keep: frozenset[str]) -> None:
        clear(folder, keep)
        clear(folder, frozenset(name for name in keep if not is_mark(name)))

    monkeypatch.setattr(replacing, "clear_folder", beaten)
    with pytest.raises(MachineError, match="another process"):
        export(artifact, out)
    assert not (out / MANIFEST_NAME).exists()


def _start(pid: int) -> int:
    """When a process started, in clock ticks (proc(5), field 22 of `stat`)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
