"""Placing files and folders: links or whole copies; exports replace only their own, at once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from published import KEY, publish

from pipeline.artifact import MANIFEST_NAME, check_digests, list_files, read_artifact
from pipeline.errors import MachineError, ResourceError, UsageError
from pipeline.placement import replacing
from pipeline.placement.exports import check_out_dir, export
from pipeline.placement.placing import place
from pipeline.store import Store
from pipeline.system.processes import this_process

DEAD = f"{str(this_process()).partition('-')[0]}-4000000000-1"
"""A process of this machine that cannot be there."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_linked_where_that_is_possible(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"abc")
    place(tmp_path / "one", tmp_path / "deep" / "two")
    assert (tmp_path / "deep" / "two").samefile(tmp_path / "one")
    with pytest.raises(FileExistsError):
        place(tmp_path / "one", tmp_path / "deep" / "two")


@pytest.mark.parametrize("in_kernel", [True, False])
def test_else_it_is_copied_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_kernel: bool
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "other device")

    source, target = tmp_path / "one", tmp_path / "two"
    source.write_bytes(os.urandom(100_000))
    source.chmod(0o444)
    monkeypatch.setattr(os, "link", refuse)
    if not in_kernel:
        monkeypatch.setattr(os, "copy_file_range", refuse)
    place(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert not target.samefile(source)
    assert target.stat().st_mode & 0o777 == 0o444


def test_half_a_copy_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "other device")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "one").write_bytes(b"abc")
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        place(tmp_path / "one", tmp_path / "two")
    assert names(tmp_path) == ["one"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_export_is_whole_and_replaces_only_its_own(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    if not exchanges:
        monkeypatch.setattr(replacing, "_exchange", lambda one, other: False)
    artifact = publish(store, {"a.bin": b"abc", "sub/b.bin": b"d"})
    out = tmp_path / "out" / "deep"
    export(artifact, out)
    assert (out / "sub/b.bin").read_bytes() == b"d"
    other = publish(store, {"c.bin": b"xyz"}, key="12" * 32)
    export(other, out)
    assert list_files(out) == [MANIFEST_NAME, "c.bin"]
    assert names(out.parent) == ["deep"]
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds files"):
        export(artifact, foreign)
    assert (foreign / "notes.txt").read_text() == "mine"


def test_two_folders_are_exchanged_in_one_step(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert replacing._exchange(tmp_path / "one", tmp_path / "two")
    assert names(tmp_path / "one") == ["two"]
    assert not replacing._exchange(tmp_path / "one", tmp_path / "none")


def test_a_release_is_not_replaced_by_that_of_another_recipe(store: Store, tmp_path: Path) -> None:
    release = publish(store, {"a/f": b"a"}, stage="package", facts={"folder": "a"})
    other = publish(store, {"b/f": b"b"}, "12" * 32, stage="package", facts={"folder": "b"})
    checkpoint = publish(store, {"c": b"c"}, "34" * 32)
    out = tmp_path / "out"
    export(release, out)
    for later in (other, checkpoint):
        with pytest.raises(UsageError, match="holds the release `a`"):
            export(later, out)
    assert read_artifact(out).facts == {"folder": "a"}
    check_out_dir(out, "package", "a")
    check_out_dir(tmp_path / "new", "package", "b")


def test_a_link_to_a_folder_stays_one(store: Store, tmp_path: Path) -> None:
    artifact = publish(store, {"a.bin": b"abc"})
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):
        export(artifact, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a.bin").read_bytes() == b"abc"
    assert names(tmp_path) == ["link", "real", "store"]


def test_a_damaged_export_is_replaced(store: Store, tmp_path: Path) -> None:
    artifact = publish(store, {"a.bin": b"abc"})
    export(artifact, tmp_path / "out")
    (tmp_path / "out" / "a.bin").unlink()
    export(artifact, tmp_path / "out")
    check_digests(read_artifact(tmp_path / "out"))


def test_what_a_killed_process_moved_aside_comes_back(store: Store, tmp_path: Path) -> None:
    artifact = publish(store, {"a.bin": b"abc"})
    out = tmp_path / "out"
    export(artifact, out)
    out.rename(tmp_path / f".out.{DEAD}-old")
    (tmp_path / f".out.{DEAD}").mkdir()
    mine = tmp_path / f".out.{this_process()}x"
    mine.mkdir()
    replacing.restore(out)
    assert names(tmp_path) == [mine.name, "out", "store"]
    assert (out / "a.bin").read_bytes() == b"abc"


def test_what_another_process_is_writing_stays(store: Store, tmp_path: Path) -> None:
    artifact = publish(store, {"a.bin": b"abc"})
    alive = tmp_path / f".out.{type(this_process())(this_process().space, 1, 0)}"
    foreign = tmp_path / ".out.00000000-1-1"
    for folder in (alive, foreign):
        folder.mkdir()
    os.utime(foreign, (1, 1))
    export(artifact, tmp_path / "out")
    assert not foreign.exists()  # nobody has touched it for a day
    assert not alive.exists()  # process 1 is there, but started at another time


def test_an_export_to_where_nothing_can_be_is_a_plain_error(store: Store, tmp_path: Path) -> None:
    artifact = publish(store, {"a.bin": b"abc"})
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/none")):
        with pytest.raises(MachineError, match=f"`{out}` cannot be (written|used)"):
            export(artifact, out)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_export_that_finds_no_room_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = publish(store, {"a.bin": b"abc", "b.bin": b"d"})
    out = tmp_path / "out" / "here"
    export(artifact, out)

    def full(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(source))

    monkeypatch.setattr(replacing, "place", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        export(artifact, out)
    assert names(tmp_path / "out") == ["here"]
    check_digests(read_artifact(out))
    assert read_artifact(out).key == KEY


@pytest.mark.parametrize("name", ["n" * 250, "\N{SNOWMAN}" * 84], ids=["ascii", "unicode"])
def test_a_long_name_leaves_room_for_what_is_beside_it(
    store: Store, tmp_path: Path, name: str
) -> None:
    artifact = publish(store, {"a.bin": b"abc"})
    out = tmp_path / "out" / name
    export(artifact, out)
    out.rename(out.with_name(f".{replacing._stem(out)}.{DEAD}-old"))
    export(artifact, out)
    assert names(out.parent) == [name]


def test_the_folder_that_one_is_in_can_be_meant(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = publish(store, {"a.bin": b"abc"})
    (tmp_path / "out" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "out" / "sub")
    export(artifact, Path())
    assert read_artifact(tmp_path / "out" / "sub").key == KEY
    (tmp_path / "out2" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "out2" / "sub")
    with pytest.raises(UsageError, match="holds files"):
        export(artifact, Path(".."))
    assert names(tmp_path) == ["out", "out2", "store"]


def test_a_copy_goes_where_there_are_no_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    (tmp_path / "one").write_bytes(b"abc")
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "fchmod", refuse)
    place(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == b"abc"


def test_the_new_folder_is_synced_before_it_is_renamed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    artifact = publish(store, {"a.bin": b"abc"})
    out = tmp_path / "out"
    monkeypatch.setattr(replacing, "sync_tree", lambda folder: done.append(f"tree {out.exists()}"))
    monkeypatch.setattr(replacing, "sync", lambda folder: done.append(f"{folder} {out.exists()}"))
    export(artifact, out)
    assert done == ["tree False", f"{tmp_path} True"]


def test_what_a_process_of_another_machine_is_writing_stays_for_a_day(
    store: Store, tmp_path: Path
) -> None:
    foreign = tmp_path / ".out.00000000-1-1"
    foreign.mkdir()
    export(publish(store, {"a.bin": b"abc"}), tmp_path / "out")
    assert foreign.exists()


def test_what_this_process_left_itself_is_not_exported(store: Store, tmp_path: Path) -> None:
    stray = tmp_path / f".out.{this_process()}"
    stray.mkdir()
    (stray / "stray").touch()
    export(publish(store, {"a.bin": b"abc"}), tmp_path / "out")
    assert list_files(tmp_path / "out") == ["a.bin", MANIFEST_NAME]
    assert names(tmp_path) == ["out", "store"]


def test_without_an_exchange_the_old_folder_comes_back_where_the_new_one_cannot_come(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(publish(store, {"a.bin": b"abc"}), tmp_path / "out")
    later = publish(store, {"b.bin": b"d"}, "12" * 32)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == f".out.{this_process()}":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(replacing, "_exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(MachineError, match="Input/output"):
        export(later, tmp_path / "out")
    assert read_artifact(tmp_path / "out").key == KEY
    assert names(tmp_path) == ["out", "store"]
