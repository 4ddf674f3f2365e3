"""What dead sessions have left in a store: what of it can be gone on with, and what goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.files.durable import remove_dead_partials
from pipeline.files.journal import JOURNAL_NAME
from pipeline.store.owners import SUFFIX, is_dead, is_unlocked, session_files
from pipeline.store.trash import clear, forgotten

STRANGE_S = 3600.0
"""What is no session file is removed from their folder after so long."""


def dead_work(root: Path, now: float) -> Iterator[Path]:
    """Folders below `work/` whose process has ended, also those that can be gone on with.

    `now` is the file system's own time.
    """
    try:
        folders = sorted((root / "work").iterdir())
    except OSError:
        return
    dead: dict[str, bool] = {}
    for folder in folders:
        session = folder.name.rpartition("-")[2]
        if session not in dead:
            dead[session] = is_dead(root / "sessions" / f"{session}{SUFFIX}", now)
        if dead[session]:
            yield folder


def has_journal(folder: Path) -> bool:
    """Whether a working folder can be gone on with; false where that cannot be seen."""
    return os.path.lexists(folder / JOURNAL_NAME)


def sweep(root: Path, own: Path, now: float) -> None:
    """Remove what dead sessions have left, but not what a later run can go on with.

    `own` is the session file of this process. What cannot be removed (another user's) stays.
    """
    for folder in dead_work(root, now):
        if not has_journal(folder):
            with suppress(OSError):  # another process does the same
                clear(root, folder)
    with suppress(OSError):
        for path in forgotten(root):
            with suppress(OSError):
                clear(root, path)
    for file in session_files(root):
        if file != own and is_dead(file, now):
            with suppress(OSError):
                file.unlink()
    _forget_holders(root, now)
    for name in ("runs", "sessions"):
        remove_dead_partials(root / name)
    with suppress(OSError):
        for file in (root / "sessions").iterdir():
            if file.suffix != SUFFIX and now - file.lstat().st_mtime > STRANGE_S:
                file.unlink()


def _forget_holders(root: Path, now: float) -> None:
    """Remove what dead sessions wrote of the locks that they held.

    One whose lock is still taken stays: it tells those who wait that nobody will give it back.
    """
    for holder in (root / "locks").glob("*.holder"):
        with suppress(OSError):
            session = root / "sessions" / holder.read_text()
            if is_dead(session, now) and is_unlocked(holder.with_suffix(".lock")):
                holder.unlink()


def adopt(root: Path, prefix: str, folder: Path, now: float) -> bool:
    """Rename a dead session's folder that can be gone on with to `folder`; False if there is none.

    `prefix` is what its name begins with: stage and key. Another user's that we may not write in
    stays where it is.
    """
    for leftover in dead_work(root, now):
        is_usable = os.access(leftover, os.W_OK | os.X_OK) and has_journal(leftover)
        if not leftover.name.startswith(prefix) or not is_usable:
            continue
        with suppress(OSError):  # another process was faster
            leftover.rename(folder)
            return True
    return False
