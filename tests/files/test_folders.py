"""Folders are listed whole, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifact import list_files
from pipeline.files.durable import sync_tree
from pipeline.files.folders import entries_below
from pipeline.release.digests import list_extents


def test_all_is_listed_in_the_order_of_paths_and_links_are_not_followed(tmp_path: Path) -> None:
    for name in ("b/c/d", "b/a", "a.txt", "b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "z").symlink_to(tmp_path / "b")
    found = [Path(entry.path) for entry in entries_below(tmp_path)]
    assert found == sorted(tmp_path.rglob("*"))
    assert len(found) == 7


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("lists", [entries_below, list_files, list_extents, sync_tree])
def test_a_folder_that_is_refused_is_an_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lists: Callable[[Path], object],
    number: int,
) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "rank0.engine").touch()
    (tmp_path / "config.json").touch()
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "engine":
            raise OSError(number, os.strerror(number), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        lists(tmp_path)
