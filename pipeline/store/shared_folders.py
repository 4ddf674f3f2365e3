"""Folders of a store, which several users may share.

Who makes a store decides that by its mode: where the group may write in it, the group may write in
all folders that are made in it, whatever a user's umask says (the group itself is handed down by
the setgid bit). Published files are read-only for everybody.
"""

from __future__ import annotations

import errno
import stat
from contextlib import suppress
from pathlib import Path


def group_bits(root: Path) -> int:
    """The mode bits that folders of this store get beside those of its user: 0 or `S_IWGRP`."""
    with suppress(OSError):
        return root.stat().st_mode & stat.S_IWGRP
    return 0


def make_folder(root: Path, name: str) -> Path:
    """A folder below a store, `a/b`, made with those above it. Raises OSError."""
    root.mkdir(parents=True, exist_ok=True)
    path = root
    for part in Path(name).parts:
        path /= part
        with suppress(FileExistsError):
            path.mkdir()
            share(root, path)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(path))
    return path


def share(root: Path, folder: Path) -> None:
    """Let the group of a store write in a folder of this user, if it may write in the store."""
    bits = group_bits(root)
    if bits:
        with suppress(OSError):  # a file system without modes
            mode = stat.S_IMODE(folder.stat().st_mode)
            folder.chmod(mode | bits | stat.S_IRGRP | stat.S_IXGRP)
