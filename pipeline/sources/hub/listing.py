"""What a hub says of a repo: the commit, and its files with sizes and published digests."""

from __future__ import annotations

import re
from collections import Counter
from typing import TypeGuard

from pipeline.artifact import Json
from pipeline.checkpoint.strict_json import Limits, listed, parse_object, printable
from pipeline.errors import RemoteError, VerificationError
from pipeline.sources.hub.requests import ENDPOINT_HINT, MAX_LISTING_BYTES
from pipeline.sources.listing import SourceFile

LIMITS = Limits(MAX_LISTING_BYTES, 1 << 20)
MAX_FILE_BYTES = 1 << 60

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


def parse_listing(text: bytes, repo: str) -> tuple[str, tuple[SourceFile, ...]]:
    """The full commit id, and all files of the repo there.

    A file whose size or digest is not understood comes without a digest: it may be one that nobody
    needs. Raises RemoteError where this is not the answer of a hub, VerificationError where it is
    one that no hub should give.
    """
    if not text.lstrip().startswith(b"{"):
        raise _not_understood(repo)
    document = _parse(text, repo)
    commit, siblings = document.get("sha"), document.get("siblings")
    if not isinstance(commit, str) or not isinstance(siblings, list):
        raise _not_understood(repo)
    files = tuple(_file(entry, repo) for entry in siblings)
    counts = Counter(file.name for file in files)
    repeated = [f"`{printable(name)}`" for name, count in counts.items() if count > 1]
    if repeated:
        raise VerificationError(
            f"`{repo}` lists files twice", facts=listed(repeated), hint=ENDPOINT_HINT
        )
    return commit, files


def _parse(text: bytes, repo: str) -> dict[str, Json]:
    try:
        return parse_object(text, f"the hub's listing of {repo}", LIMITS)
    except VerificationError as error:
        raise VerificationError(error.message, hint=ENDPOINT_HINT, facts=error.facts) from None


def _file(entry: Json, repo: str) -> SourceFile:
    """A file as the hub describes it. LFS files have a SHA-256, all others git's blob id."""
    name = entry.get("rfilename") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise _not_understood(repo)
    lfs = entry.get("lfs")
    if isinstance(lfs, dict):
        size, sha256 = lfs.get("size"), lfs.get("sha256")
        if _is_size(size) and isinstance(sha256, str) and _SHA256.fullmatch(sha256):
            return SourceFile(name, size, sha256=sha256)
    elif lfs is None:
        size, blob = entry.get("size"), entry.get("blobId")
        if _is_size(size) and isinstance(blob, str) and _SHA1.fullmatch(blob):
            return SourceFile(name, size, git_blob=blob)
    return SourceFile(name, 0)


def _is_size(value: Json) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MAX_FILE_BYTES


def _not_understood(repo: str) -> RemoteError:
    return RemoteError(
        f"the hub describes the repo `{repo}` in a way that is not understood: it does not answer "
        "like a Hugging Face Hub",
        hint="check `HF_ENDPOINT` or `source.endpoint`, whether a proxy or a login page answers in "
        "its place, and whether a newer trtllm-pack exists",
    )
