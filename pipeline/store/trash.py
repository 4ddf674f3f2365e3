"""Deleting whole folders of a store: renamed away first, so that nobody sees half of one.

Whoever deletes has renamed before, under a name of its own; so of two processes that want the same
folder (to delete it, to go on with it, to put it back) one gets all of it and the other nothing.
Where the file system does not rename a folder, its manifest is what is renamed: see `takedown`.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact import MANIFEST_NAME
from pipeline.placement.takedown import (
    NOT_RENAMED,
    clear_folder,
    is_mark,
    put_up,
    take_down,
    who_takes_down,
)
from pipeline.store.shared_folders import make_folder
from pipeline.system.processes import Process, parse_process, this_process

FOREIGN_S = 3600.0
"""What a process that cannot be seen from here moved aside so long ago, it does not put back."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A file or folder of a store that nobody finds in its place any more; this process has it.

    `aside` is where it is now: in the trash. A folder that the file system does not rename stays,
    without a manifest; then `aside` is the mark in it (see `takedown`).
    """

    path: Path
    aside: Path

    def put_back(self) -> None:
        """Have it in its place again. Raises OSError where something is there by now."""
        if self.aside.parent == self.path:
            put_up(self.aside)
        else:
            self.aside.rename(self.path)

    def remove(self) -> None:
        """Delete it, with all that is in it. Raises OSError."""
        if self.aside.parent == self.path:
            remove_marked(self.path)
        elif self.aside.is_dir() and not self.aside.is_symlink():
            shutil.rmtree(self.aside)
        else:
            self.aside.unlink()


def take(root: Path, path: Path) -> Taken:
    """Let nobody find a file or folder of the store `root` any more, in one step.

    Raises OSError: FileNotFoundError where another process was faster.
    """
    aside = make_folder(root, "trash") / f"{this_process()}.{uuid.uuid4().hex[:8]}"
    try:
        path.rename(aside)
    except OSError as error:
        if error.errno not in NOT_RENAMED or not path.is_dir():
            raise
        aside = take_down(path)
    return Taken(path, aside)


def remove_marked(folder: Path) -> None:
    """Delete a folder that was taken down. Raises OSError, but not where a new one is there."""
    with suppress(FileNotFoundError):  # another process does the same
        clear_folder(folder)
        try:
            folder.rmdir()
        except OSError:
            if not (folder / MANIFEST_NAME).is_file():
                raise


def forgotten(root: Path) -> Iterator[Path]:
    """What processes have moved aside, or taken down, that ended before it was deleted."""
    trash = root / "trash"
    for path in sorted(trash.iterdir()) if trash.is_dir() else ():
        if _is_over(parse_process(path.name.partition(".")[0]), path):
            yield path
    for path in sorted((root / "artifacts").glob("*/*/.*")):
        if is_mark(path.name) and _is_over(who_takes_down(path.name), path):
            yield path.parent


def _is_over(process: Process | None, path: Path) -> bool:
    dead = process.is_dead() if process else True
    return _seconds_there(path) > FOREIGN_S if dead is None else dead


def clear(root: Path, path: Path) -> None:
    """Delete a file or folder of the store that nobody needs. Raises OSError, as `take`."""
    take(root, path).remove()


def _seconds_there(path: Path) -> float:
    """Since the rename, which changes a folder's change time and no other (rename(2), `st_ctime`).

    0 where it is gone.
    """
    try:
        return time.time() - path.lstat().st_ctime
    except OSError:
        return 0.0
