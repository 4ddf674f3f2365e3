"""Deleting whole folders of a store: renamed away first, so that nobody sees half of one.

Whoever deletes has renamed before, under a name of its own; so of two processes that want the same
folder (to delete it, to go on with it, to put it back) one gets all of it and the other nothing.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from pipeline.processes import parse_process, this_process
from pipeline.store.shared_folders import make_folder

FOREIGN_S = 3600.0
"""What a process that cannot be seen from here moved aside so long ago, it does not put back."""


def move_aside(root: Path, path: Path) -> Path:
    """Rename a file or folder of the store `root` into its trash; where it is now.

    Raises OSError: FileNotFoundError where another process was faster.
    """
    aside = make_folder(root, "trash") / f"{this_process()}.{uuid.uuid4().hex[:8]}"
    path.rename(aside)
    return aside


def forgotten(root: Path) -> Iterator[Path]:
    """What processes have moved aside that ended before it was deleted."""
    trash = root / "trash"
    for path in sorted(trash.iterdir()) if trash.is_dir() else ():
        process = parse_process(path.name.partition(".")[0])
        dead = process.is_dead() if process else True
        if dead or (dead is None and _seconds_there(path) > FOREIGN_S):
            yield path


def clear(root: Path, path: Path) -> None:
    """Delete a file or folder of the store that nobody needs. Raises OSError, as `move_aside`."""
    remove(move_aside(root, path))


def remove(path: Path) -> None:
    """Delete a file or a folder with all that is in it. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _seconds_there(path: Path) -> float:
    """Since the rename, which changes a folder's change time and no other (rename(2), `st_ctime`).

    0 where it is gone.
    """
    try:
        return time.time() - path.lstat().st_ctime
    except OSError:
        return 0.0
