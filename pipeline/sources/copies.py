"""Finished copies in a working folder, written down so that a later process does not copy again.

A line of the journal is a copy that was compared with its SHA-256: name, size, digest, and the
state of the copy (modification time, inode) that would differ if it had changed since. A copy that
the journal does not speak of, or not since the machine was started, is hashed again, which is less
than to copy it; one that is not whole is removed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Self

from pipeline.artifact import digest_json
from pipeline.files.journal import JOURNAL_NAME, Journal, Line, clear, make_writable, read_journal
from pipeline.sources.copying import hash_file
from pipeline.sources.listing import SourceFile, SourceListing

FORMAT = 1


class Copies:
    """The finished copies of a listing's files in a folder. All methods raise OSError.

    What is none of them is removed first. The journal stays until the folder is published.
    """

    def __init__(self, folder: Path, listing: SourceListing) -> None:
        self._folder = folder
        self._path = folder / JOURNAL_NAME
        header = {"format": FORMAT, "copies": digest_json(listing.identity())}
        lines = read_journal(self._path)
        if lines and lines[0].value == header and make_writable(self._path):
            clear(folder, but=[JOURNAL_NAME, *(Path(file.name).parts[0] for file in listing.files)])
            self._journal = Journal.continued(self._path, lines[-1])
        else:
            lines = []
            clear(folder)
            self._journal = Journal.create(self._path)
            self._journal.append(header, synced=True)
        self._lines: list[Line] = lines[1:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def has(self, file: SourceFile) -> bool:
        """Whether the copy of a file is there and whole; what else has its place is removed."""
        path = self._folder / file.name
        try:
            state = path.lstat()
        except FileNotFoundError:
            return False
        if stat.S_ISREG(state.st_mode) and state.st_size == file.size_bytes and file.sha256:
            known = any(
                line.is_trusted and line.value == _line(file, state) for line in self._lines
            )
            if known:
                return True
            if hash_file(path, git_blob=False).sha256 == file.sha256:
                self.add(file)
                return True
        path.unlink()
        return False

    def add(self, file: SourceFile) -> None:
        """The copy of this file is whole and has been compared with its digest."""
        self._journal.append(_line(file, (self._folder / file.name).lstat()), synced=False)


def _line(file: SourceFile, state: os.stat_result) -> list[Any]:
    return [file.name, file.size_bytes, file.sha256, state.st_mtime_ns, state.st_ino]
