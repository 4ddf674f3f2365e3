"""Puts an artifact in a folder in place of an earlier one.

What stood there before stays until the new folder is whole, and is then exchanged for it in one
step where the file system can do that (Linux, renameat2(2), RENAME_EXCHANGE). A folder that cannot
be renamed at all (see `takedown`), or whose own folder cannot be written, is cleared and filled
where it is, its manifest last; then it is no artifact for a moment.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from pipeline.artifact import MANIFEST_NAME, Artifact
from pipeline.errors import MachineError
from pipeline.files.durable import is_over, sync, sync_tree
from pipeline.placement.placing import place
from pipeline.placement.takedown import NOT_RENAMED, clear_folder, is_mark, take_down
from pipeline.system.processes import parse_process, this_process

NAME_BYTES = 180
"""Of the 255 that a name may have; a process and an ending take up to 50."""

NOT_OURS = frozenset({"lost+found"})
"""What stands in the top folder of a new file system (mke2fs(8)), and stays there."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_OLD = "-old"


def replace(artifact: Artifact, out_dir: Path) -> None:
    """Have an artifact in `out_dir`; nothing is left beside it. Raises OSError, MachineError."""
    if _stays(out_dir):
        _fill(artifact, out_dir)
        return
    fresh = _fresh(out_dir, out_dir.parent)
    stale = fresh.with_name(fresh.name + _OLD)
    try:
        _place_all(artifact, fresh)
        if not out_dir.exists():
            fresh.rename(out_dir)
        elif not _exchange(fresh, out_dir):
            _swap(artifact, fresh, out_dir, stale)
        sync(out_dir.parent)
    finally:
        if stale.exists() and not out_dir.exists():
            stale.rename(out_dir)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(stale, ignore_errors=True)


def _swap(artifact: Artifact, fresh: Path, out_dir: Path, stale: Path) -> None:
    """In two steps, or in place where the old folder cannot be renamed."""
    try:
        out_dir.rename(stale)
    except OSError as error:
        if error.errno not in NOT_RENAMED:
            raise
        _fill(artifact, out_dir, fresh)
    else:
        fresh.rename(out_dir)


def _stays(out_dir: Path) -> bool:
    """Whether nothing can be put beside a folder that is there, to be renamed over it."""
    is_writable = os.access(out_dir.parent, os.W_OK | os.X_OK)
    return out_dir.is_dir() and (os.path.ismount(out_dir) or not is_writable)


def _fill(artifact: Artifact, out_dir: Path, beside: Path | None = None) -> None:
    """Replace what is in a folder, in the order in which nobody takes half of it for an artifact.

    `beside` has it all already, and may be moved. Raises OSError where nothing has been touched.
    """
    fresh = _fresh(out_dir, out_dir)
    try:
        if beside is None or not _moves(beside, fresh):
            _place_all(artifact, fresh)
        mark = take_down(out_dir)
        try:
            clear_folder(out_dir, frozenset({mark.name, *NOT_OURS, *_at_work(out_dir)}))
            _move_up(fresh, out_dir, mark)
        except OSError as error:
            raise MachineError(
                f"`{out_dir}` could not be filled again: {error.strerror or error}",
                facts=[f"`{error.filename}`", "it is cleared in part, and no artifact now"],
                hint="the artifact is whole in the store; run again, or name another folder",
            ) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _move_up(fresh: Path, out_dir: Path, mark: Path) -> None:
    """All into the folder itself, the manifest last: it becomes the mark, then the mark it."""
    for path in sorted(fresh.iterdir()):
        if path.name != MANIFEST_NAME:
            path.rename(out_dir / path.name)
    sync(out_dir)
    if not mark.exists():
        raise OSError(errno.EBUSY, "another process replaces it too", str(out_dir))
    (fresh / MANIFEST_NAME).replace(mark)
    mark.rename(out_dir / MANIFEST_NAME)
    sync(out_dir)


def _moves(beside: Path, fresh: Path) -> bool:
    with suppress(OSError):  # another device after all
        beside.rename(fresh)
        return True
    return False


def _fresh(out_dir: Path, folder: Path) -> Path:
    """Where in `folder` this process puts together what is to be in `out_dir`; nothing yet."""
    fresh = folder / f".{_stem(out_dir)}.{this_process()}"
    shutil.rmtree(fresh, ignore_errors=True)
    return fresh


def _place_all(artifact: Artifact, fresh: Path) -> None:
    for name in [*(entry.path for entry in artifact.manifest.files), MANIFEST_NAME]:
        place(artifact.path / name, fresh / name)
    sync_tree(fresh)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    done: int = renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    return done == 0


def _stem(out_dir: Path) -> str:
    """What the names beside a folder begin with: its own, where there is room for more."""
    name = os.fsencode(out_dir.name)
    is_short = len(name) <= NAME_BYTES
    return out_dir.name if is_short else hashlib.sha256(name).hexdigest()


def holds_nothing(out_dir: Path) -> bool:
    """Whether there is nothing in a folder but what runs put together there. Raises OSError."""
    return not {path.name for path in out_dir.iterdir()} - NOT_OURS - _leftovers(out_dir).keys()


def was_taken_down(out_dir: Path) -> bool:
    """Whether a process was killed while it replaced what is in a folder. Raises OSError."""
    return any(is_mark(path.name) for path in out_dir.iterdir())


def restore(out_dir: Path) -> None:
    """Put back what a killed process had moved aside, and remove what it left. Raises OSError."""
    for leftover, has_ended in _leftovers(out_dir, beside=True).items():
        path = out_dir.with_name(leftover)
        if not has_ended:
            continue
        if leftover.endswith(_OLD) and not out_dir.exists():
            path.rename(out_dir)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _at_work(out_dir: Path) -> list[str]:
    """What living processes, this one too, put together in the folder itself."""
    return [name for name, has_ended in _leftovers(out_dir).items() if not has_ended]


def _leftovers(out_dir: Path, *, beside: bool = False) -> dict[str, bool]:
    """What runs put in a folder or beside it, in order, and whether the process is over."""
    folder = out_dir.parent if beside else out_dir
    pattern = re.compile(rf"\.{re.escape(_stem(out_dir))}\.([0-9a-f-]+?)(?:{_OLD})?")
    found = {}
    with suppress(OSError):
        for name in sorted(path.name for path in folder.iterdir()):
            match = pattern.fullmatch(name)
            process = parse_process(match[1]) if match else None
            if process is not None:
                found[name] = is_over(process, folder / name)
    return found
