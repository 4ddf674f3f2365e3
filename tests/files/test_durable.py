"""Atomic writes: the old file or the new one, and nothing beside it."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.files.durable import remove_dead_partials, sync, sync_tree, write_atomic
from pipeline.system.processes import this_process


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_is_written_with_its_mode(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomic(tmp_path / "a", b"one")
    finally:
        os.umask(before)
    write_atomic(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["write", "fsync", "chmod"])
def test_a_failed_write_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_atomic(tmp_path / "a", b"one")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_modes_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "chmod", refuse)
    write_atomic(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"


@pytest.mark.parametrize("name", ["n" * 255, "\N{SNOWMAN}" * 85], ids=["ascii", "unicode"])
def test_a_long_name_is_no_problem(tmp_path: Path, name: str) -> None:
    write_atomic(tmp_path / name, b"")
    assert names(tmp_path) == [name]


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(
    tmp_path: Path,
) -> None:
    ours = this_process()
    ended = f".{replace(ours, start=ours.start + 1)}.00000001.partial"
    living = f".{ours}.00000002.partial"
    elsewhere = f".{replace(ours, space='f' * 8)}.00000003.partial"
    strange = ".a-file-of-the-user.partial"
    for name in (ended, living, elsewhere, strange):
        (tmp_path / name).touch()
    write_atomic(tmp_path / "a", b"one")
    assert sorted(names(tmp_path)) == sorted([living, elsewhere, strange, "a"])
    os.utime(tmp_path / elsewhere, (0, 0))
    remove_dead_partials(tmp_path)
    assert sorted(names(tmp_path)) == sorted([living, strange, "a"])


def test_everything_below_a_folder_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"a")
    synced: list[str] = []
    monkeypatch.setattr("pipeline.files.durable.sync", lambda path: synced.append(path.name))
    sync_tree(tmp_path)
    assert synced == ["a", "sub", tmp_path.name]


def test_a_disk_that_fails_is_an_error_one_without_sync_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in (errno.EINVAL, errno.EIO):

        def fail(_: int, code: int = code) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fail)
        if code == errno.EIO:
            with pytest.raises(OSError, match="Input/output"):
                sync(tmp_path)
        else:
            sync(tmp_path)
