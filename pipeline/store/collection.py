"""Deletes from a store what nobody needs: least recently used first, never what is in use.

Nobody finds an artifact any more before it is deleted (see `trash`), so nobody sees half of one;
whoever has just begun to need it gets it back.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.artifact import MANIFEST_NAME
from pipeline.store.catalogue import (
    Entry,
    checked_held_names,
    disk_bytes,
    held_names,
    list_artifacts,
)
from pipeline.store.leftovers import dead_work, has_journal
from pipeline.store.locks import deletion_lock
from pipeline.store.owners import file_time
from pipeline.store.trash import Taken, clear, forgotten, take
from pipeline.system.refusals import file_error

STAGE_ORDER = ("download", "convert", "verify", "build", "smoke", "package")
"""Of artifacts last used at the same time, what comes first here is deleted first."""

HELD = "a process at work needs it"

SAME_USE_S = 60.0
"""Artifacts used within a minute are of one run."""

KEPT_WORK_S = 7 * 86_400.0
"""How long work that could be gone on with, and downloads that nothing links to, are kept."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What may stay: artifacts used within `max_age_s` seconds, and `max_bytes` on disk in all.

    None: any age, any size. `keep` are artifacts (`stage/key`) that stay whatever they take.
    """

    max_age_s: float | None = None
    max_bytes: int | None = None
    keep: frozenset[str] = frozenset()


@dataclass(slots=True)
class Collected:
    """What was deleted, or would be: artifacts, and other folders and files with their bytes.

    `refused` is what could not be deleted, and why: another user's, most likely. `disk_bytes` is
    what the artifacts take that are left.
    """

    artifacts: list[Entry] = field(default_factory=list)
    leftovers: list[tuple[Path, int]] = field(default_factory=list)
    refused: list[tuple[Path, str]] = field(default_factory=list)
    disk_bytes: int = 0


def collect(root: Path, policy: Policy, *, dry_run: bool = False) -> Collected:
    """Delete what the policy does not keep, and what dead processes left.

    What cannot be deleted is told, and holds nothing else up. Raises LockedError where a process at
    work does not say what it needs, MachineError where the store cannot be read.
    """
    found = Collected()
    try:
        for path, size_bytes in _leftovers(root):
            if dry_run or _clear(root, path, found):
                found.leftovers.append((path, size_bytes))
        if policy.max_age_s is not None or policy.max_bytes is not None:
            checked_held_names(root)
        entries = list_artifacts(root)
        for entry in choose(entries, policy, file_time(root)):
            why_not = None if dry_run else discard(root, entry)
            if why_not is None:
                found.artifacts.append(entry)
            elif why_not != HELD:
                found.refused.append((entry.path, why_not))
    except OSError as error:
        hint = "check the permissions of the store"
        raise file_error(error, error.filename or root, "cannot be read", hint) from None
    gone = {entry.name for entry in found.artifacts}
    found.disk_bytes = disk_bytes(entry for entry in entries if entry.name not in gone)
    return found


def choose(entries: Sequence[Entry], policy: Policy, now: float) -> list[Entry]:
    """Which artifacts go, in order. Pure."""
    free = [e for e in entries if not e.held and e.name not in policy.keep]
    free.sort(key=_order)
    old = [e for e in free if policy.max_age_s is not None and now - e.last_used > policy.max_age_s]
    old_names = {entry.name for entry in old}
    if policy.max_bytes is None:
        return old
    links = Counter(inode for entry in entries for inode in entry.blocks)
    left_bytes = disk_bytes(entries)
    chosen: list[Entry] = []
    for entry in [*old, *(entry for entry in free if entry.name not in old_names)]:
        if left_bytes <= policy.max_bytes and len(chosen) >= len(old):
            break
        chosen.append(entry)
        for inode, num_bytes in entry.blocks.items():
            links[inode] -= 1
            left_bytes -= 0 if links[inode] else num_bytes
    return chosen


def discard(root: Path, entry: Entry) -> str | None:
    """Delete one artifact; None, or why it is still there: `HELD`, or what the system refused.

    Where there are no locks, another process may begin to need it in this moment: then it comes
    back.
    """
    try:
        with deletion_lock(root, deleting=True):
            if _is_held(root, entry):
                return HELD
            taken = take(root, entry.path)
    except FileNotFoundError:
        return None  # somebody else has deleted it
    except OSError as error:
        return _told(error)
    if _is_held(root, entry):
        with suppress(OSError):
            taken.put_back()
            return HELD
    if (entry.path / MANIFEST_NAME).exists():
        return _removed(taken) or HELD  # made anew in this moment
    for path in (
        root / "uses" / entry.stage / entry.key,
        root / "locks" / f"{entry.stage}-{entry.key}.lock",
        root / "locks" / f"{entry.stage}-{entry.key}.holder",
    ):
        with suppress(OSError):
            path.unlink()
    return _removed(taken)


def _order(entry: Entry) -> tuple[float, int, str]:
    stages = {name: rank for rank, name in enumerate(STAGE_ORDER)}
    return entry.last_used // SAME_USE_S, stages.get(entry.stage, -1), entry.name


def _is_held(root: Path, entry: Entry) -> bool:
    """Whether a process at work may read an artifact, as far as can be told."""
    held = held_names(root)
    return held is None or entry.name in held


def _removed(taken: Taken) -> str | None:
    """Delete what nobody finds any more; why that failed: the next run tries again."""
    try:
        taken.remove()
    except OSError as error:
        return _told(error)
    return None


def _clear(root: Path, path: Path, found: Collected) -> bool:
    """Delete what a dead process left; False where it is gone, or cannot be deleted."""
    try:
        clear(root, path)
    except FileNotFoundError:
        return False  # another process was faster
    except OSError as error:
        found.refused.append((path, _told(error)))
        return False
    return True


def _leftovers(root: Path) -> Iterator[tuple[Path, int]]:
    """Trash, working folders of dead processes, downloads that no artifact has."""
    for path in forgotten(root):
        yield path, _bytes_below(path)
    now = file_time(root)
    for path in dead_work(root, now):
        if not has_journal(path) or _age_s(path, now) > KEPT_WORK_S:
            yield path, _bytes_below(path)
    for path in sorted((root / "downloads").rglob("*")):
        with suppress(FileNotFoundError):
            state = path.lstat()
            if not path.is_dir() and state.st_nlink == 1 and _age_s(path, now) > KEPT_WORK_S:
                yield path, state.st_size


def _told(error: OSError) -> str:
    where = f" (`{error.filename}`)" if error.filename else ""
    return f"{error.strerror or error}{where}"


def _age_s(path: Path, now: float) -> float:
    """Seconds since anything in a folder was written; 0 where it is gone."""
    newest = max((state.st_mtime for _, state in _below(path)), default=now)
    return now - newest


def _bytes_below(path: Path) -> int:
    return sum(state.st_size for _, state in _below(path) if not stat.S_ISDIR(state.st_mode))


def _below(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """A file or folder and all below it that is still there."""
    with suppress(OSError):
        for each in (path, *path.rglob("*")):
            with suppress(OSError):
                yield each, each.lstat()
