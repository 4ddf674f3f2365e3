"""Puts published files elsewhere: by links where possible, and whole folders at once.

What stood in a place before stays there until the new folder is whole, and is then exchanged for
it in one step where the file system can do that (Linux, renameat2(2), RENAME_EXCHANGE).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.artifact import MANIFEST_NAME, Artifact, read_artifact
from pipeline.durable import sync, sync_tree
from pipeline.errors import PipelineError, UsageError
from pipeline.processes import parse_process, this_process
from pipeline.system_errors import file_error

COPY_BYTES = 32 << 20
FOREIGN_S = 86_400.0
"""What a process that cannot be seen from here left beside a folder is dead after a day."""

NAME_BYTES = 180
"""Of the 255 that a name may have; a process and an ending take up to 50."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_OLD = "-old"


def place(source: Path, target: Path) -> None:
    """Make `target` the same bytes as `source`: a hard link where possible, else a copy.

    Published files are read-only, so a shared inode is not a way to change the store. A copy shares
    its blocks where the file system can do that. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        _copy(source, target)


def export(artifact: Artifact, out_dir: Path) -> None:
    """Place an artifact in a folder of the user's, whole or not at all.

    An earlier export of the same stage (and, of a release, the same name) is replaced. Raises
    UsageError where the folder holds something else, MachineError or ResourceError where it cannot
    be written. Where `out_dir` is a link to a folder, that folder is meant.
    """
    try:
        # `.` and `..` have no name to put another beside.
        out_dir = (
            out_dir.resolve()
            if out_dir.is_symlink() or out_dir.name in {"", ".."}
            else out_dir.absolute()
        )
        check_out_dir(out_dir, artifact.manifest.stage, artifact.facts.get("folder"))
        _restore(out_dir)
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        _replace(artifact, out_dir)
    except OSError as error:
        hint = "the artifact is whole in the store; name another folder by `--out`"
        raise file_error(error, out_dir, "cannot be written", hint) from None


def check_out_dir(out_dir: Path, stage: str, release: str | None) -> None:
    """Refuse a folder that an artifact of `stage` may not replace, before any work is done for it.

    `release` is the name of the release, None for other artifacts. Raises UsageError, MachineError.
    """
    try:
        if not out_dir.exists() or not any(out_dir.iterdir()):
            return
        if not (out_dir / MANIFEST_NAME).is_file():
            raise UsageError(
                f"`{out_dir}` holds files that are not an earlier artifact",
                hint="name a new or empty folder by `--out`",
            )
    except OSError as error:
        hint = "name another folder by `--out`"
        raise file_error(error, out_dir, "cannot be used", hint) from None
    try:
        earlier = read_artifact(out_dir)
    except PipelineError:
        return  # damaged: what is put in its place is whole
    there = _title(earlier.manifest.stage, earlier.facts.get("folder"))
    ours = _title(stage, release)
    if there != ours:
        raise UsageError(
            f"`{out_dir}` holds {there}, which {ours} would replace",
            hint="name another folder by `--out`, or remove this one",
        )


def _title(stage: str, release: str | None) -> str:
    """What a folder holds, for people; a release has a name of its own."""
    return f"the artifact of `{stage}`" if release is None else f"the release `{release}`"


def _replace(artifact: Artifact, out_dir: Path) -> None:
    """Place the artifact beside `out_dir`, then rename; nothing is left beside it."""
    fresh = out_dir.with_name(f".{_stem(out_dir)}.{this_process()}")
    stale = fresh.with_name(fresh.name + _OLD)
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        for name in [entry.path for entry in artifact.manifest.files] + [MANIFEST_NAME]:
            place(artifact.path / name, fresh / name)
        sync_tree(fresh)
        if not out_dir.exists():
            fresh.rename(out_dir)
        elif not _exchange(fresh, out_dir):
            out_dir.rename(stale)
            fresh.rename(out_dir)
        sync(out_dir.parent)
    finally:
        if stale.exists() and not out_dir.exists():
            stale.rename(out_dir)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(stale, ignore_errors=True)


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


def _restore(out_dir: Path) -> None:
    """Put back what a killed process had moved aside, and remove what it left."""
    for leftover in _dead_leftovers(out_dir):
        if leftover.name.endswith(_OLD) and not out_dir.exists():
            leftover.rename(out_dir)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def _dead_leftovers(out_dir: Path) -> Iterator[Path]:
    pattern = re.compile(rf"\.{re.escape(_stem(out_dir))}\.([0-9a-f-]+?)(?:{_OLD})?")
    try:
        names = sorted(path.name for path in out_dir.parent.iterdir())
    except OSError:
        return
    for name in names:
        found = pattern.fullmatch(name)
        process = parse_process(found[1]) if found else None
        if process is None:
            continue
        dead = process.is_dead()
        path = out_dir.with_name(name)
        if dead or (dead is None and time.time() - path.lstat().st_mtime > FOREIGN_S):
            yield path


def _copy(source: Path, target: Path) -> None:
    """A copy with the original's mode; half of one is removed."""
    try:
        with source.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
            while copy_in_kernel(reader.fileno(), writer.fileno(), COPY_BYTES):
                pass
            # At the end this finds nothing; where the kernel cannot copy, it does all the work.
            shutil.copyfileobj(reader, writer, COPY_BYTES)
            with suppress(PermissionError):  # FAT and some network file systems have no modes
                os.fchmod(writer.fileno(), os.fstat(reader.fileno()).st_mode & 0o777)
    except FileExistsError:
        raise
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def copy_in_kernel(reader: int, writer: int, most_bytes: int) -> int:
    """Bytes copied by the kernel: 0 at the end, and where it refuses (other file systems)."""
    try:
        return os.copy_file_range(reader, writer, most_bytes)
    except (OSError, AttributeError):
        # A real fault (a full disk, say) shows again in the plain copy, with the same message.
        return 0
