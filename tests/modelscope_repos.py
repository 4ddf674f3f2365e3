"""Repos of the ModelScope emulator, and how the site lists their files."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Repo:
    """Files by commit, what branches and tags stand for, and who may see them."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    lfs: frozenset[str] = frozenset()
    token: str | None = None
    hidden_digests: bool = False
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Keys of a file's entry in listings that are not as they should be."""


@functools.lru_cache(maxsize=256)
def digest_of(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def commit_of(files: Mapping[str, bytes]) -> str:
    """A commit id that follows from the files."""
    content = "".join(f"{key}\0{hashlib.sha1(files[key]).hexdigest()}" for key in sorted(files))
    return hashlib.sha1(content.encode()).hexdigest()


def resolve(repo: Repo, revision: str) -> str | None:
    """The commit that a revision stands for."""
    if revision in repo.commits:
        return revision
    return repo.branches.get(revision) or repo.tags.get(revision)


def tree(repo: Repo, commit: str, root: str, deep: bool) -> list[dict[str, Any]]:
    """Entries of the folder `root`, folders first; all below it where `deep`."""
    files = {n: c for n, c in repo.commits[commit].items() if not root or n.startswith(f"{root}/")}
    begin = len(root) + 1 if root else 0
    folders: set[str] = set()
    for name in files:
        parts = name[begin:].split("/")[:-1]
        folders |= {name[:begin] + "/".join(parts[: end + 1]) for end in range(len(parts))}
    rows = [_entry(folder, commit, None) for folder in sorted(folders)]
    for name, content in files.items():
        row = _entry(name, commit, content) | {"IsLFS": name in repo.lfs}
        if repo.hidden_digests:
            row["Sha256"] = ""
        rows.append(row | repo.changes.get(name, {}))
    return [row for row in rows if deep or "/" not in row["Path"][begin:]]


def _entry(path: str, commit: str, content: bytes | None) -> dict[str, Any]:
    return {
        "CommitId": "",
        "CommitMessage": "Upload",
        "CommittedDate": 1726000000,
        "CommitterName": "acme",
        "InCheck": False,
        "IsLFS": False,
        "Mode": "33188",
        "Name": path.rpartition("/")[2],
        "Path": path,
        "Revision": commit,
        "Sha256": "" if content is None else digest_of(content),
        "Size": 0 if content is None else len(content),
        "Type": "tree" if content is None else "blob",
    }
