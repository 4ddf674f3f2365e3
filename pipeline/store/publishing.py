"""The last steps of an artifact's making: nobody writes it any more, and everybody finds it."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from pipeline.artifact import MANIFEST_NAME
from pipeline.errors import MachineError, VerificationError
from pipeline.files.durable import set_mode
from pipeline.files.folders import entries_below
from pipeline.placement.takedown import take_over
from pipeline.store.trash import remove_marked

RENAMES = 5
"""How often a process tries to publish while others delete what is in its place."""


def put_in_place(folder: Path, target: Path) -> bool:
    """Publish a folder; False where an equal artifact of another process has won.

    What is left of one that was being deleted makes way. Raises OSError, VerificationError.
    """
    for _ in range(RENAMES):
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise MachineError(
                    f"`{folder.parent}` and `{target.parent}` are not on one file system",
                    hint="keep all of a store on one, without links and mounts in it",
                ) from None
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        else:
            return True
        with suppress(FileNotFoundError):  # gone just now
            # Listed, not looked up: a network file system may remember that there was none.
            if MANIFEST_NAME in os.listdir(target):  # noqa: PTH208
                return False
            if not take_over(target):
                break
            remove_marked(target)
    raise VerificationError(
        f"`{target}` is not an artifact, but stands where one belongs",
        hint="remove this folder and run again",
    )


def make_read_only(folder: Path, folder_mode: int) -> None:
    """Modes that do not depend on the umask: files 0444, folders `folder_mode`.

    A file that has other names (a blob of the hub client's cache, say) keeps its mode: it is not
    ours alone. So does what is another user's: a read-only mode guards against mistakes only.
    """
    for path in [folder, *(Path(entry.path) for entry in entries_below(folder))]:
        if path.is_dir():
            set_mode(path, folder_mode)
        elif path.stat().st_nlink == 1:
            set_mode(path, 0o444)
