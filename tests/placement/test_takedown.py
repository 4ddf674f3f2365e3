"""Taking an artifact down in its place: invisible in one step, back again, or cleared by one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from published import publish, write_files

from pipeline.artifact import MANIFEST_NAME, check_digests, read_artifact
from pipeline.placement.takedown import (
    clear_folder,
    is_mark,
    put_up,
    take_down,
    take_over,
    who_takes_down,
)
from pipeline.store import Store
from pipeline.system.processes import this_process

FILES = {"a.bin": b"abc", "sub/b.bin": b"d"}


@pytest.fixture
def folder(store: Store) -> Path:
    """A published artifact."""
    return publish(store, FILES).path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_is_no_artifact_then_one_again(folder: Path) -> None:
    mark = take_down(folder)
    assert names(folder) == [mark.name, "a.bin", "sub"]
    assert is_mark(mark.name)
    assert who_takes_down(mark.name) == this_process()
    put_up(mark)
    check_digests(read_artifact(folder))
    assert names(folder) == ["a.bin", MANIFEST_NAME, "sub"]


def test_who_goes_on_for_another_has_it_alone(folder: Path) -> None:
    mark = take_down(folder)
    assert take_over(folder)
    with pytest.raises(FileNotFoundError):
        put_up(mark)
    clear_folder(folder)
    assert not names(folder)


@pytest.mark.parametrize(("files", "may"), [({}, True), (FILES, False)])
def test_what_nobody_took_down_is_not_gone_on_with(
    tmp_path: Path, files: dict[str, bytes], may: bool
) -> None:
    write_files(tmp_path, files)
    assert take_over(tmp_path) is may


def test_what_never_was_an_artifact_does_not_become_one(tmp_path: Path) -> None:
    write_files(tmp_path, FILES)
    mark = take_down(tmp_path)
    with pytest.raises(FileNotFoundError):
        put_up(mark)
    assert names(tmp_path) == [mark.name, "a.bin", "sub"]


def test_marks_go_last_and_what_is_kept_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[str] = []
    unlink = os.unlink

    def remember(name: str, *, dir_fd: int | None = None) -> None:
        gone.append(name)
        unlink(name, dir_fd=dir_fd)

    mark = take_down(folder)
    write_files(folder, {"kept/c.bin": b"c"})
    monkeypatch.setattr(os, "unlink", remember)
    clear_folder(folder, frozenset({"kept"}))
    assert gone == ["a.bin", "b.bin", mark.name]
    assert names(folder) == ["kept"]


def test_an_artifact_that_is_whole_is_not_cleared(folder: Path) -> None:
    clear_folder(folder)
    check_digests(read_artifact(folder))


def test_a_link_in_the_place_of_a_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    take_down(folder)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(OSError, match=r"directory|symbolic"):
        clear_folder(tmp_path / "link")
    assert (folder / "a.bin").exists()
