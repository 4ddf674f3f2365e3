"""Lists folders whole, or not at all.

`Path.rglob` leaves out what the system refuses to list (CPython 3.11 to 3.14, `pathlib` and
`glob`): half a folder would be taken for all of it, hashed, and published.
"""

from __future__ import annotations

import os
from pathlib import Path


def entries_below(folder: Path) -> list[os.DirEntry[str]]:
    """All that is below a folder, in the order of its paths; links are listed, not followed.

    Raises OSError where the folder, or one in it, cannot be read.
    """
    return sorted(_entries(folder), key=lambda entry: Path(entry.path))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as scanned:
        found = list(scanned)
    for entry in list(found):
        if entry.is_dir(follow_symlinks=False):
            found += _entries(Path(entry.path))
    return found
