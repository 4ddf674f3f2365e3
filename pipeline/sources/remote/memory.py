"""Remembers what a repo holds at a commit: its listing, small files, weight-file headers.

A commit never changes, so a later plan of the same commit needs no request and no client of a site.
Each entry carries its own checksum; one that is damaged, missing or cannot be written is forgotten.

    <store>/listings/<owner>/<name>/refs/<revision>.commit    commit that a revision stood for
    <store>/listings/<owner>/<name>/<commit>/files            all files of the repo, JSON
    <store>/listings/<owner>/<name>/<commit>/texts/<file>     small files, as they are
    <store>/listings/<owner>/<name>/<commit>/heads/<file>     length and header of weight files
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from pipeline.artifact import canonical_json
from pipeline.errors import RecipeError, VerificationError
from pipeline.sources.listing import SourceFile

SEAL_BYTES = 65
"""A newline and 64 hex digits: SHA-256 of what stands before them."""


@dataclass(frozen=True, slots=True)
class RepoMemory:
    """The entries of one repo below a store folder."""

    root: Path
    repo: str

    def commit_of(self, revision: str) -> str | None:
        """The commit that a branch or tag stood for when it was last resolved."""
        found = self._load(_ref(revision))
        return None if found is None else found.decode()

    def remember_commit(self, revision: str, commit: str) -> None:
        """Keep what a branch or tag was resolved to."""
        self._save(_ref(revision), commit.encode())

    def files(self, commit: str) -> tuple[SourceFile, ...] | None:
        """All files of the repo at a commit."""
        found = self._load(Path(commit, "files"))
        try:
            return None if found is None else tuple(SourceFile(**e) for e in json.loads(found))
        except TypeError:  # written by another version of this package
            return None

    def remember_files(self, commit: str, files: Sequence[SourceFile]) -> None:
        """Keep the files of the repo at a commit."""
        self._save(Path(commit, "files"), canonical_json([asdict(file) for file in files]))

    def text(self, commit: str, name: str) -> bytes | None:
        """A small file that was verified when it was fetched."""
        return self._load(Path(commit, "texts", name))

    def remember_text(self, commit: str, name: str, text: bytes) -> None:
        """Keep a verified small file."""
        self._save(Path(commit, "texts", name), text)

    def head(self, commit: str, name: str) -> bytes | None:
        """Length and header of a weight file."""
        return self._load(Path(commit, "heads", name))

    def remember_head(self, commit: str, name: str, head: bytes) -> None:
        """Keep length and header of a weight file."""
        self._save(Path(commit, "heads", name), head)

    def forget_head(self, commit: str, name: str) -> None:
        """Drop a header that proved wrong."""
        with suppress(OSError):
            (self._folder / commit / "heads" / name).unlink()

    def forget(self, commit: str) -> None:
        """Drop all that is known of a commit."""
        with suppress(OSError):
            shutil.rmtree(self._folder / commit)

    @contextmanager
    def doubting(self, commit: str) -> Iterator[None]:
        """Where something is not what it should be, what is remembered may be why: forget it."""
        try:
            yield
        except (VerificationError, RecipeError):
            self.forget(commit)
            raise

    @property
    def _folder(self) -> Path:
        return self.root.joinpath("listings", *self.repo.split("/"))

    def _load(self, name: Path) -> bytes | None:
        try:
            sealed = (self._folder / name).read_bytes()
        except OSError:
            return None
        content = sealed[:-SEAL_BYTES]
        return content if sealed == _sealed(content) else None

    def _save(self, name: Path, content: bytes) -> None:
        path = self._folder / name
        partial = path.with_name(f".{uuid.uuid4().hex[:8]}.partial")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                partial.write_bytes(_sealed(content))
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)


def _ref(revision: str) -> Path:
    return Path("refs", quote(revision, safe="") + ".commit")


def _sealed(content: bytes) -> bytes:
    return content + b"\n" + hashlib.sha256(content).hexdigest().encode()
