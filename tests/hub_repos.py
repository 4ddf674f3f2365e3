"""What an emulated hub holds, and what is asked of it and answered: plain data."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

ServerName = Literal["hub", "cdn", "other"]
"""`other` is a third origin that neither the hub nor its CDN has anything to do with."""

Body = bytes | Callable[[], Iterator[bytes]]
"""The bytes of a body, or what makes its blocks one by one, where it is too large to hold."""


@dataclass(frozen=True)
class Recorded:
    """One request as it came, and what was answered."""

    server: ServerName
    method: str
    path: str
    headers: Mapping[str, str]
    status: int


@dataclass
class Repo:
    """Files of one commit, and who may see them."""

    files: dict[str, bytes]
    lfs: frozenset[str]
    commit: str
    refs: dict[str, str]
    gated: bool | Literal["strict"] = False
    """True: HTTP 403 without a token; "strict": HTTP 401 without, HTTP 403 with any token."""
    private: bool = False
    disabled: bool = False
    xet: bool = False
    hidden_digests: bool = False
    extra_names: tuple[str, ...] = ()
    cached_resolve: bool = False
    """Small files come from `/api/resolve-cache/...`, by a relative redirect of this hub."""


@dataclass(frozen=True)
class Asked:
    """A request: header names are in lower case; `flip_at` is the byte of a file to send wrong."""

    server: ServerName
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    flip_at: int | None = None


@dataclass(frozen=True)
class Answer:
    """What goes back. A header that is None is left out."""

    status: int
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: Body = b""

    def having(self, headers: Mapping[str, str | None]) -> Answer:
        """The same with other values of some headers, whatever their case."""
        changed = {name.lower() for name in headers}
        kept = {k: v for k, v in self.headers.items() if k.lower() not in changed}
        return replace(self, headers={**kept, **headers})

    def compressed(self) -> Answer:
        """The same with a gzip'ed body."""
        assert isinstance(self.body, bytes), "only bodies at hand are compressed"
        body = gzip.compress(self.body, mtime=0)
        return replace(self.having({"Content-Encoding": "gzip"}), body=body)


def as_json(status: int, document: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer of the hub's API."""
    kind = {"Content-Type": "application/json; charset=utf-8"}
    return Answer(status, {**kind, **(headers or {})}, json.dumps(document).encode())


def refusal(status: int, code: str, message: str = "", **headers: str) -> Answer:
    """An error as the hub tells it: in headers, and as JSON."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    told = {"X-Error-Code": code, "X-Error-Message": message or code}
    return as_json(status, {"error": message or code}, {**told, **named})


def git_blob(content: bytes) -> str:
    """Git's id of a file: what the hub publishes of files outside LFS."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def metadata(repo: Repo, file: str) -> dict[str, Any]:
    """Size and digests of a file as `/api/models/...?blobs=true` has them."""
    content = repo.files[file]
    if repo.hidden_digests:
        return {"size": len(content)}
    if file not in repo.lfs:
        return {"size": len(content), "blobId": git_blob(content)}
    sha256 = hashlib.sha256(content).hexdigest()
    pointer = {"size": len(content), "sha256": sha256, "pointerSize": 134}
    return {"size": len(content), "blobId": "f" * 40, "lfs": pointer}


def tree_entry(repo: Repo, file: str) -> dict[str, Any]:
    """A file as `/api/models/.../tree/...` has it."""
    found = metadata(repo, file)
    entry = {"type": "file", "path": file, "size": found["size"], "oid": found.get("blobId")}
    if "lfs" in found:
        pointer = {"oid": found["lfs"]["sha256"], "size": found["size"], "pointerSize": 134}
        entry |= {"lfs": pointer}
        entry |= {"xetHash": found["lfs"]["sha256"]} if repo.xet else {}
    return entry
