"""GET over HTTPS, by the standard library alone, with every hop, wait and byte bounded.

It is `urllib.request` (whose proxies and certificates hold: HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE),
less what that does by itself: redirects are followed here, where the token is looked after, and no
other kind of address (file, ftp, data) can be opened. Nothing of a request but the host of its
address ever stands in a message: addresses may be signed.
"""

from __future__ import annotations

import functools
import http.client
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from pipeline.sources.http.addresses import (
    Misdirected,
    check_address,
    is_loopback,
    origin,
    redirected,
)
from pipeline.sources.http.pace import NO_ANSWER, TOO_SLOW, Limits, Pace, PacedResponse

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REFUSAL_BYTES = 64 << 10
LIMITS = Limits()
FRAME_BYTES = 1 << 20
"""Room for headers, chunk sizes and redirects beside the bytes that are wanted."""


class ConnectionFailed(ConnectionError):
    """No answer, or not all of one. `untrusted`: the certificate is not accepted."""

    def __init__(self, reason: str, *, untrusted: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.untrusted = untrusted


class Refused(Exception):
    """An answer with another status than 200 and 206, and the beginning of its body.

    `elsewhere` is the host, if it is another than was asked first.
    """

    def __init__(
        self, status: int, headers: Message, body: bytes, elsewhere: str | None = None
    ) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.headers, self.body = status, headers, body
        self.elsewhere = elsewhere


@dataclass(frozen=True, slots=True)
class Get:
    """One request. `secret` headers go to the origin of `address` alone.

    `max_bytes`: what the body may have.
    """

    address: str
    max_bytes: int
    headers: Mapping[str, str] = field(default_factory=dict)
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = LIMITS


class Answer:
    """Status, headers and body of what was asked for; the body is read once, from the start."""

    def __init__(self, response: PacedResponse) -> None:
        self._response = response
        self._left = response.length
        self.status, self.headers = response.status, response.headers

    @property
    def length(self) -> int | None:
        """Bytes still to come, as announced; None where that is not told before the end."""
        return self._left

    def read_into(self, buffer: memoryview) -> int:
        """What comes next, at most a buffer full; 0 at the end.

        Raises ConnectionFailed where the body breaks off. The standard library takes a cut body
        for a short one, and keeps to itself what came before a connection failed.
        """
        room = buffer if self._left is None else buffer[: self._left]
        if not room:
            return 0
        with _failures():
            if self._response.chunked:
                block = self._response.read1(len(room))
                room[: len(block)] = block
                return len(block)
            num_bytes = self._response.bytes_in.readinto1(room)
        if self._left is not None:
            if not num_bytes:
                raise ConnectionFailed(f"it broke off {self._left} bytes before its end")
            self._left -= num_bytes
        return num_bytes

    def read(self, max_bytes: int) -> bytes:
        """The body, no further than `max_bytes`. Raises ConnectionFailed."""
        body = bytearray(max_bytes if self._left is None else min(max_bytes, self._left))
        view, filled = memoryview(body), 0
        while filled < len(body) and (num_bytes := self.read_into(view[filled:])):
            filled += num_bytes
        return bytes(view[:filled])


@contextmanager
def open_address(get: Get) -> Iterator[Answer]:
    """Ask, and follow redirects, until there is an answer with status 200 or 206.

    Raises Refused for any other status, Misdirected where a redirect is not followed, and
    ConnectionFailed. Only the body is left to be read within the `with` statement.
    """
    address, is_ours = get.address, True
    start = check_address(address, loopback=is_loopback(urlsplit(address).hostname or ""))
    loopback = is_loopback(start.hostname or "")
    for _ in range(get.limits.redirects + 1):
        parts = check_address(address, loopback=loopback)
        is_ours = is_ours and origin(parts) == origin(start)
        headers = {**get.headers, **(get.secret if is_ours else {})}
        with _send(address, headers, get) as response:
            if response.status in REDIRECTS:
                address = redirected(address, response.headers.get("Location"))
                continue
            response.pace.start_body()
            answer = Answer(response)
            _refuse_encoding(answer)
            if response.status not in {200, 206}:
                elsewhere = None if is_ours else parts.netloc
                body = answer.read(MAX_REFUSAL_BYTES)
                raise Refused(response.status, response.headers, body, elsewhere)
            yield answer
            return
    raise Misdirected(f"more than {get.limits.redirects} other addresses, one after the other")


def _send(address: str, headers: Mapping[str, str], get: Get) -> PacedResponse:
    """One request without redirects: its answer up to the end of the headers."""
    pace = Pace(get.limits, 8 * get.max_bytes + FRAME_BYTES)
    opener = urllib.request.OpenerDirector()
    # What stays on this machine does not go through a proxy, which would see the token.
    if not is_loopback(urlsplit(address).hostname or ""):
        opener.add_handler(urllib.request.ProxyHandler())
    opener.add_handler(_Http(pace))
    opener.add_handler(_Https(pace, _certificates()))
    opener.add_handler(urllib.request.UnknownHandler())
    request = urllib.request.Request(  # noqa: S310 (check_address has seen the address)
        address, headers={"Accept-Encoding": "identity", **headers}
    )
    with _failures():
        response: Any = opener.open(request, timeout=get.limits.connect_s)
    assert isinstance(response, PacedResponse)
    return response


@functools.cache
def _certificates() -> ssl.SSLContext:
    """The certificates of the system, or of SSL_CERT_FILE and SSL_CERT_DIR; read once."""
    return ssl.create_default_context()


class _Http(urllib.request.HTTPHandler):
    """Plain http at the pace of one exchange."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(
            functools.partial(_connect, http.client.HTTPConnection, self._pace), req
        )


class _Https(urllib.request.HTTPSHandler):
    """The same with TLS."""

    def __init__(self, pace: Pace, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._pace, self._trusted = pace, context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        connect = functools.partial(_connect, http.client.HTTPSConnection, self._pace)
        return self.do_open(connect, req, context=self._trusted)


def _connect(
    kind: type[http.client.HTTPConnection], pace: Pace, host: str, **options: Any
) -> http.client.HTTPConnection:
    connection = kind(host, **options)
    response_class: Any = functools.partial(PacedResponse, pace=pace)
    connection.response_class = response_class
    return connection


@contextmanager
def _failures() -> Iterator[None]:
    """All that can go wrong between us and a server, as one kind of exception."""
    try:
        yield
    except ConnectionFailed:
        raise
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, TimeoutError):
            reason = str(cause) if str(cause) in {NO_ANSWER, TOO_SLOW} else "nothing comes"
            raise ConnectionFailed(reason) from None
        untrusted = isinstance(cause, ssl.SSLCertVerificationError)
        raise ConnectionFailed(type(cause).__name__, untrusted=untrusted) from None


def _refuse_encoding(answer: Answer) -> None:
    """We ask for bytes as they are; a pack that comes all the same may be a bomb."""
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise ConnectionFailed("a packed body, which was not asked for")
