"""Takes artifacts down in their own place, where the system does not rename a folder.

That is so for a folder of a lower layer of overlayfs, what a container image brought along (EXDEV:
Linux, Documentation/filesystems/overlayfs.rst, "Renaming directories"), and for a mount point
(EBUSY, rename(2)). An artifact without its manifest is none, so first its manifest gets another
name, in one step: a mark that stays until all else is gone. Who finds a mark may go on.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from contextlib import suppress
from pathlib import Path

from pipeline.artifact import MANIFEST_NAME
from pipeline.system.processes import Process, parse_process, this_process

NOT_RENAMED = frozenset({errno.EXDEV, errno.EBUSY})
"""What rename(2) answers for a folder that stays where it is."""

_MARK = ".taken-down."


def is_mark(name: str) -> bool:
    """Whether a file tells that the folder that it is in held an artifact, and is being cleared."""
    return name.startswith(_MARK)


def who_takes_down(name: str) -> Process | None:
    """The process that made a mark, if that can be told."""
    return parse_process(name.removeprefix(_MARK).partition(".")[0])


def take_down(folder: Path) -> Path:
    """Let nobody find the artifact of a folder any more; the mark in it that tells so.

    Raises OSError, FileNotFoundError where the folder is gone.
    """
    return _claim(folder, MANIFEST_NAME) or _marked(folder)


def take_over(folder: Path) -> bool:
    """Go on for whoever began to take this folder down; False where nobody did. Raises OSError.

    Of two processes that want it back, or want to clear it, one has its mark. An empty folder is
    what they leave.
    """
    names = [path.name for path in folder.iterdir()]
    marks = [name for name in names if is_mark(name)]
    for name in marks:
        _claim(folder, name)
    return bool(marks) or not names


def put_up(mark: Path) -> None:
    """Have the artifact back that was taken down just now.

    Raises OSError: FileNotFoundError where there was none, or another process goes on clearing it.
    """
    if mark.stat().st_size == 0:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(mark))
    mark.rename(mark.with_name(MANIFEST_NAME))


def _claim(folder: Path, name: str) -> Path | None:
    mark = _new_mark(folder)
    try:
        (folder / name).rename(mark)
    except FileNotFoundError:  # another process was faster
        return None
    return mark


def _marked(folder: Path) -> Path:
    mark = _new_mark(folder)
    mark.touch()
    return mark


def _new_mark(folder: Path) -> Path:
    return folder / f"{_MARK}{this_process()}.{uuid.uuid4().hex[:8]}"


def clear_folder(folder: Path, keep: frozenset[str] = frozenset()) -> None:
    """Delete what is in a folder that was taken down, its marks last, but `keep`. Raises OSError.

    Names are looked up in the folder that was opened: what another process puts in its place
    meanwhile stays. A folder that holds an artifact again is left alone.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        names = set(os.listdir(descriptor))  # noqa: PTH208 - a descriptor
        if MANIFEST_NAME in names:
            return
        for name in sorted(names - keep, key=lambda name: (is_mark(name), name)):
            with suppress(FileNotFoundError):
                _remove(name, descriptor)
    finally:
        os.close(descriptor)


def _remove(name: str, folder: int) -> None:
    state = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISDIR(state.st_mode):
        shutil.rmtree(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)
