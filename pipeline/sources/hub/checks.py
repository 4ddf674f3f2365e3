"""What a hub may answer: what the client must not act on, and how long a body may be.

The HTTP libraries behind the client (requests, httpx) differ in what they accept, and the client
names files and leads requests by what headers say. So each answer is looked at here before them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

from pipeline.sources.http.addresses import is_web_address

COMMIT_HEADER = "X-Repo-Commit"
ETAG_HEADERS = ("X-Linked-Etag", "ETag")
ETAG = re.compile(r'(W/)?"?[A-Za-z0-9][A-Za-z0-9._-]{0,127}"?')
"""What may become the name of a file in the client's cache."""

HEX = re.compile(r"[0-9A-Fa-f]+")

SPARE_BYTES = 64 << 10
"""How much may come beyond what a file has: answers around it, such as tokens, are that small."""

RANGE = re.compile(r"bytes=(\d{1,18})-")
PART_FROM_START = re.compile(r"bytes 0-\d{1,18}/(\d{1,18}|\*)")
PARTIAL_CONTENT = 206
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_DIGITS = 18


class RefusedError(Exception):
    """The hub, or who it redirects to, answered with an error."""

    def __init__(self, response: Any) -> None:
        super().__init__(f"HTTP {response.status_code}")
        self.response = response


class WrongAnswerError(Exception):
    """The hub says something that the client must not act on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ContradictionError(WrongAnswerError):
    """The hub says of a file what it does not list: one of the two is wrong."""


class NoAddressError(Exception):
    """A redirect leads to what is no address of the web."""


class TooLongError(Exception):
    """More came than the file has that was asked for: whatever it is, it is not that."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"more than {max_bytes} bytes came")
        self.max_bytes = max_bytes


def check_answer(
    answer: Any, commit: str | None, size_bytes: int | None, digest: str | None = None
) -> None:
    """Raise one of the errors above for an answer of which only the headers have come.

    `commit` is what it must be about, `size_bytes` and `digest` (SHA-256, or git's blob id) are
    those of the file that the client is to bring. None where anything goes, and where our own code
    reads no more than it wants.
    """
    status, headers = answer.status_code, answer.headers
    if status >= 400:
        # Its body may be endless, and the client would read it: its headers say enough.
        raise RefusedError(answer)
    found = headers.get(COMMIT_HEADER)
    if None not in {found, commit} and found != commit:
        raise WrongAnswerError("answers for another commit than was asked for")
    if status >= 300:
        _check_redirect(answer)
    if answer.request.method == "HEAD":
        _check_etags(headers, digest)
        _check_size(answer, size_bytes)
    elif status >= 300:
        _bound(answer, SPARE_BYTES, WrongAnswerError("sends a redirect that does not end"))
    elif size_bytes is not None:
        left_bytes = size_bytes - _first_byte(answer) + SPARE_BYTES
        _bound(answer, left_bytes, TooLongError(size_bytes))
    elif status == PARTIAL_CONTENT:
        _check_part(headers)


def _check_redirect(answer: Any) -> None:
    """httpx tells what is no address by errors that look like a connection's."""
    location = answer.headers.get("Location")
    if answer.status_code not in REDIRECTS or location is None:
        raise WrongAnswerError(f"sends us on without saying where (HTTP {answer.status_code})")
    try:
        target = urljoin(str(answer.request.url), location.strip())
    except ValueError:
        target = ""
    if not is_web_address(target):
        raise NoAddressError("redirects to no address of the web")


def _check_etags(headers: Any, digest: str | None) -> None:
    """The client names files of its cache by what `HEAD` says, wherever that name leads.

    A mirror may have ETags of its own; what looks like a digest would be taken for this content by
    everybody else who uses the cache.
    """
    found = [(name, headers[name]) for name in ETAG_HEADERS if headers.get(name) is not None]
    for name, etag in found:
        if not ETAG.fullmatch(etag):
            raise WrongAnswerError(f"sends an `{name}` that is no name for a file")
    said = found[0][1].removeprefix("W/").strip('"') if found else ""
    if digest is not None and len(said) == len(digest) and HEX.fullmatch(said) and said != digest:
        raise ContradictionError("says another digest than it lists")


def _check_size(answer: Any, size_bytes: int | None) -> None:
    """The client fetches a file to its end before it finds that `HEAD` has told another size."""
    headers = answer.headers
    said = headers.get("X-Linked-Size")
    is_whole = answer.status_code < 300 and headers.get("ETag")  # else it is hardly from a hub
    if said is None and is_whole and not headers.get("Content-Encoding"):
        said = headers.get("Content-Length")
    is_size = said is not None and said.isascii() and said.isdigit() and len(said) <= MAX_DIGITS
    if size_bytes is not None and is_size and int(said) != size_bytes:
        raise ContradictionError(f"says {int(said):,} bytes where it lists {size_bytes:,}")


def _check_part(headers: Any) -> None:
    """Our own code asks for the beginning of a file alone (`requests.py`)."""
    if not PART_FROM_START.fullmatch((headers.get("Content-Range") or "").strip()):
        raise WrongAnswerError("sends another part than was asked for")


def _first_byte(answer: Any) -> int:
    """Where in the file a part begins that was asked for."""
    asked = RANGE.match(answer.request.headers.get("Range") or "")
    return int(asked[1]) if asked and answer.status_code == PARTIAL_CONTENT else 0


def _bound(answer: Any, max_bytes: int, error: Exception) -> None:
    """Let whoever reads a body have no more than that, decoded, and raise this error in its place.

    Both HTTP libraries read every body through one method of the answer.
    """
    name = "iter_bytes" if hasattr(answer, "iter_bytes") else "iter_content"
    whole = getattr(answer, name)

    def bounded(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        num_bytes = 0
        for block in whole(*args, **kwargs):
            num_bytes += len(block)
            if num_bytes > max_bytes:
                answer.close()
                raise error
            yield block

    setattr(answer, name, bounded)
