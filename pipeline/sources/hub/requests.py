"""Requests of our own to a hub, through the client's session and headers, of bounded size.

The client has calls for both (`model_info`, range reads), but reads whatever comes, at any length,
and follows a repo to another name without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from pipeline.checkpoint.safetensors_file import LENGTH_BYTES, header_bytes
from pipeline.errors import VerificationError
from pipeline.sources.hub.line import Line, client_session
from pipeline.sources.listing import SourceFile

MAX_LISTING_BYTES = 32 << 20
"""A file takes some 250 bytes: enough for 100,000 files."""

READ_BYTES = 64 << 10
ENDPOINT_HINT = "check `HF_ENDPOINT` or `source.endpoint`, and proxies in between"


class MovedError(Exception):
    """The hub redirects an API request: to a new name of the repo, or elsewhere."""

    def __init__(self, asked: str, location: str) -> None:
        super().__init__("redirected")
        self.asked = asked
        self.location = location


def read_listing(line: Line, endpoint: str, repo: str, revision: str, token: bool | None) -> bytes:
    """What the hub says of a repo at a revision, with sizes and digests of all its files.

    Raises MovedError where it redirects, VerificationError where the answer is far too long, and
    what the client's session raises.
    """
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(repo)
    url = f"{endpoint}/api/models/{repo}/revision/{quote(revision, safe='')}?blobs=true"
    with _opened(url, token, {}, follow=False) as answer:
        if 300 <= answer.status_code < 400:
            raise MovedError(url, answer.headers.get("Location") or "")
        text = bytearray()
        for block in _blocks(answer):
            line.num_bytes += len(block)
            line.check()
            text += block
            if len(text) > MAX_LISTING_BYTES:
                raise VerificationError(
                    f"the hub's listing of `{repo}` has more than {MAX_LISTING_BYTES} bytes",
                    hint=ENDPOINT_HINT,
                )
    return bytes(text)


def read_head(line: Line, url: str, file: SourceFile, guess: int, token: bool | None) -> bytes:
    """Length and header of a weight file: one range request, or two where `guess` is too short.

    Raises VerificationError where the file cannot have such a header, ConnectionError where less
    comes than was asked for, and what the client's session raises.
    """
    first_bytes = min(max(guess, LENGTH_BYTES), file.size_bytes)
    head = _read_start(line, url, first_bytes, token) if first_bytes else b""
    num_head_bytes = header_bytes(head[:LENGTH_BYTES], file.name, file.size_bytes)
    if num_head_bytes <= len(head):
        return head[:num_head_bytes]
    return _read_start(line, url, num_head_bytes, token)


def _read_start(line: Line, url: str, num_bytes: int, token: bool | None) -> bytes:
    """The first bytes of a file; a server that ignores the range is read no further than that."""
    asked = {"Range": f"bytes=0-{num_bytes - 1}"}
    head = bytearray()
    with _opened(url, token, asked, follow=True) as answer:
        for block in _blocks(answer):
            line.num_bytes += len(block)
            line.check()
            head += block
            if len(head) >= num_bytes:
                break
    if len(head) < num_bytes:
        raise ConnectionError(f"{len(head)} of {num_bytes} bytes came")
    return bytes(head[:num_bytes])


@contextmanager
def _opened(
    url: str, token: bool | None, more: Mapping[str, str], *, follow: bool
) -> Iterator[Any]:
    """An answer whose body has not been read. `token` is False where none may be sent."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers

    headers = {**build_hf_headers(token=token), "Accept-Encoding": "identity", **more}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    session = client_session()
    if callable(getattr(session, "stream", None)):  # httpx; with requests it is a setting
        opened = session.stream(
            "GET", url, headers=headers, timeout=timeout, follow_redirects=follow
        )
    else:
        opened = session.get(
            url, headers=headers, timeout=timeout, allow_redirects=follow, stream=True
        )
    with opened as answer:
        yield answer


def _blocks(answer: Any) -> Iterator[bytes]:
    """The body as it comes."""
    if hasattr(answer, "iter_bytes"):
        yield from answer.iter_bytes()
    else:
        yield from answer.iter_content(READ_BYTES)
