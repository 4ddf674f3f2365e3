"""Remembers SHA-256 digests of local files, so that unchanged gigabytes are hashed once.

A file counts as unchanged while path, size, modification time, inode and device are; a file of
others (`of_others`) only while its time of change is, too. The memory is a convenience: where it is
damaged or cannot be written, it forgets, and files are hashed again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.errors import VerificationError
from pipeline.sources.copying import hash_file
from pipeline.system.refusals import file_error

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")

BUSY_S = 5.0
"""How long one waits for others that read or write the database."""

_GIVEN_UP: set[Path] = set()
"""Databases whose lock this process did not get: a file system without locks says the same (ENOLCK
is SQLITE_BUSY; SQLite 3.40, `os_unix.c`), and would be waited for at every file."""

FILE_NAME = "digests.sqlite"
SETTLED_NS = 2_000_000_000
"""A file changed less than this ago may change again within one tick of its modification time."""

TABLE = """CREATE TABLE IF NOT EXISTS digests (
  path TEXT PRIMARY KEY, state TEXT NOT NULL, sha256 TEXT NOT NULL, seal TEXT NOT NULL)"""


class DigestMemory:
    """The digests in `digests.sqlite` of a store folder, which several processes may share."""

    def __init__(self, root: Path, *, by_change: bool = False) -> None:
        self.root = root
        self._by_change = by_change

    def of_others(self) -> DigestMemory:
        """The same, for files that others may write at any time.

        `cp -p`, `tar` and `rsync` set modification times, and may fill the same inode: a checkpoint
        in place of another, with files of the same sizes and the dates of its archive. Nobody sets
        the time of the change itself (`st_ctime`). Our own files get a new one with each link.
        """
        return DigestMemory(self.root, by_change=True)

    def recall(self, path: Path) -> str | None:
        """SHA-256 of an unchanged file in hex, or None. Raises OSError where it is not there."""
        real, state = self.state(path)

        def select(connection: sqlite3.Connection) -> tuple[str, str] | None:
            query = "SELECT sha256, seal FROM digests WHERE path = ? AND state = ?"
            found: tuple[str, str] | None = connection.execute(query, (real, state)).fetchone()
            return found

        found = self._try(select) if (self.root / FILE_NAME).is_file() else None
        if found is None or found[1] != _seal(real, state, found[0]):
            return None
        return found[0]

    def digest(self, path: Path) -> str:
        """SHA-256 of a file in hex, from memory or by reading it, then remembered.

        Raises VerificationError where the file changes meanwhile, MachineError where it cannot be
        read.
        """
        try:
            known = self.recall(path)
            if known is not None:
                return known
            before = self.state(path)
            sha256 = hash_file(path, git_blob=False).sha256
            if self.state(path) != before:
                raise VerificationError(
                    f"`{path}` changes while it is read",
                    hint="wait until whatever writes it has finished",
                )
            self.remember(path, before, sha256)
        except OSError as error:
            raise file_error(error, path, "cannot be read") from None
        return sha256

    def state(self, path: Path) -> tuple[str, str]:
        """The real path, and what would differ if the file had changed: take it before reading."""
        real = os.path.realpath(path)
        stat = os.stat(real)  # noqa: PTH116 (a plain path: it is a key)
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_dev]
        if self._by_change:
            state.append(stat.st_ctime_ns)
        return real, " ".join(map(str, state))

    def remember(self, path: Path, state: tuple[str, str], sha256: str) -> None:
        """Keep the digest of a file as it was in `state`, if it still is and has settled."""
        try:
            young = time.time_ns() - path.stat().st_mtime_ns < SETTLED_NS
            if young or self.state(path) != state:
                return
        except OSError:
            return
        row = (*state, sha256, _seal(*state, sha256))

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(TABLE)
            connection.execute("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?)", row)

        self._try(insert)

    def forget(self, path: Path) -> None:
        """Drop what is known of a file, because it proved wrong."""
        real = os.path.realpath(path)

        def delete(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM digests WHERE path = ?", (real,))

        self._try(delete)

    def _try(self, action: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do something with the database, or nothing where that fails; a damaged one is removed."""
        import sqlite3

        path = self.root / FILE_NAME
        if path in _GIVEN_UP:
            return None
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=BUSY_S)) as connection, connection:
                return action(connection)
        except (sqlite3.Error, OSError, UnicodeError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                _GIVEN_UP.add(path)
            # Locks and permissions are OperationalError, a subclass; this type itself is damage.
            if type(error) is sqlite3.DatabaseError:
                _remove(path)
            return None


def _seal(path: str, state: str, sha256: str) -> str:
    """A checksum of a row: a digest that was damaged on disk must not become a wrong answer."""
    return hashlib.sha256(f"{path}\0{state}\0{sha256}".encode(errors="surrogateescape")).hexdigest()


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        return
