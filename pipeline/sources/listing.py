"""What a source holds: the files that we need of it, with sizes and published digests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pipeline.artifact import Json

WEIGHT_SUFFIX = ".safetensors"
COMMIT = re.compile(r"[0-9a-f]{40}")
"""A full commit id."""

RepoKind = Literal["hub", "modelscope"]
SourceKind = Literal["local", RepoKind]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file: name below the root, size in bytes, digests in hex as far as they are known.

    `sha256` is over the bytes. `git_blob` is git's object id, SHA-1 over `blob <size>`, a NUL and
    the bytes: all that a hub publishes of files outside LFS.
    """

    name: str
    size_bytes: int
    sha256: str | None = None
    git_blob: str | None = None

    def identity(self) -> dict[str, Json] | None:
        """Name, size and the strongest known digest; None where none is known."""
        known: dict[str, Json] = {"name": self.name, "size_bytes": self.size_bytes}
        if self.sha256 is not None:
            return known | {"sha256": self.sha256}
        return known | {"git_blob": self.git_blob} if self.git_blob is not None else None


@dataclass(frozen=True, slots=True)
class SourceListing:
    """The needed files of a source, sorted by name.

    `where` is `owner/name` of a repo, or the local folder as the recipe writes it. `commit` is the
    repo's full commit id, None for a folder. `endpoint` is where a repo comes from, if not from its
    hub's usual place: told to people, and no part of what the source is.
    """

    kind: SourceKind
    where: str
    commit: str | None
    files: tuple[SourceFile, ...]
    endpoint: str | None = None

    @property
    def repo(self) -> str | None:
        """`owner/name`; None for a folder."""
        return None if self.kind == "local" else self.where

    @property
    def weight_files(self) -> tuple[str, ...]:
        """Names of the safetensors files."""
        return tuple(file.name for file in self.files if file.name.endswith(WEIGHT_SUFFIX))

    @property
    def total_bytes(self) -> int:
        """Sum of the file sizes."""
        return sum(file.size_bytes for file in self.files)

    def identity(self) -> Json | None:
        """What the source is, as JSON; None while the digest of a file is not known.

        Where a local folder lies is not part of it: two folders with equal files are one source.
        """
        files = [file.identity() for file in self.files]
        if any(entry is None for entry in files):
            return None
        if self.kind == "local":
            return {"kind": "local", "files": files}
        return {"kind": self.kind, "repo": self.where, "commit": self.commit, "files": files}

    def find(self, name: str) -> SourceFile | None:
        """The file of this name, or None."""
        return next((file for file in self.files if file.name == name), None)
