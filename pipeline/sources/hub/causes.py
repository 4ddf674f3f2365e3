"""What an exception of the hub client came from, and whether that may pass by itself.

The client speaks through `requests` before its version 1, through `httpx` and later `httpx2` after.
Their exceptions are told apart by what has been imported, so that neither is needed here.
"""

from __future__ import annotations

import errno
import ssl
import sys
from collections.abc import Callable, Iterator
from json import JSONDecodeError
from re import search
from typing import Any, TypeVar

from pipeline.sources.crew import CutOffError
from pipeline.sources.http.retry_after import retry_after_s
from pipeline.sources.hub.answers import is_storage
from pipeline.sources.hub.checks import NoAddressError, WrongAnswerError
from pipeline.sources.retry import Transient

TRANSIENT_STATUSES = frozenset({408, 425, 429})
NETWORK_ERRNOS = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ETIMEDOUT,
    }
)
_NO_ADDRESS = frozenset({"InvalidSchema", "InvalidURL", "MissingSchema", "UnsupportedProtocol"})
"""How the HTTP libraries refuse what a redirect, or `HF_ENDPOINT`, names."""

_CIRCLES = frozenset({"TooManyRedirects", "RecursionError"})
"""How the HTTP libraries, and versions of the client that follow by recursion, end it."""

E = TypeVar("E", bound=BaseException)


def judge(error: Exception) -> Transient | None:
    """Whether a failure may pass by itself: its reason, or None where trying again is useless."""
    if isinstance(error, CutOffError):
        return None if error.final else Transient(f"the hub {error.reason}")
    response = response_of(error)
    if response is not None:
        status = response.status_code
        if is_storage(response):
            return Transient("the storage did not take an address that the hub had signed")
        if status not in TRANSIENT_STATUSES and status < 500:
            return None
        return Transient(f"the hub answered with HTTP {status}", _wished_wait_s(response.headers))
    if any(certain(error) for certain in _CERTAIN):
        return None
    for cause in chain(error):
        transport = isinstance(cause, (ConnectionError, TimeoutError, *transport_errors()))
        if transport or _session_lost(cause):
            return Transient(f"the connection failed ({type(cause).__name__})")
        if isinstance(cause, FileNotFoundError):
            continue  # the client's "not in the cache": what counts is why it was not fetched
        # A download that ends early is an OSError without a number.
        if isinstance(cause, OSError) and cause.errno in {None, *NETWORK_ERRNOS}:
            return Transient(f"the connection failed ({type(cause).__name__})")
    return None


def from_xet(error: Exception) -> bool:
    """The failure came from the client's xet storage path, which plain HTTP can replace."""
    for cause in chain(error):
        frame = cause.__traceback__
        while frame is not None:
            if frame.tb_frame.f_code.co_name == "xet_get":
                return True
            frame = frame.tb_next
    return False


def _session_lost(error: BaseException) -> bool:
    """One thread of the client saw a connection fail, and closed the session of all (1.x, 2.x)."""
    if isinstance(error, AttributeError):
        return module_that_broke(error) == "huggingface_hub.utils._http"
    return isinstance(error, RuntimeError) and "client has been closed" in str(error)


def asked_address(error: BaseException) -> str | None:
    """Which address was asked when an exception of an HTTP library arose, where it tells."""
    for cause in chain(error):
        try:
            return str(cause.request.url)  # type: ignore[attr-defined]
        except (AttributeError, RuntimeError):  # httpx raises the latter where it knows of none
            continue
    return None


def module_that_broke(error: BaseException) -> str | None:
    """The module whose code raised an exception."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else str(trace.tb_frame.f_globals.get("__name__"))


def _wished_wait_s(headers: Any) -> float | None:
    """Seconds that the server asks to wait: `Retry-After` (number or date), `RateLimit` (t=)."""
    wish_s = retry_after_s(headers)
    if wish_s is not None:
        return wish_s
    reset = search(r"\br=0\b.*\bt=([0-9]{1,9})\b", headers.get("RateLimit") or "")
    return float(reset[1]) if reset else None


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what caused it, outermost first.

    httpcore hides the system's error behind its own, which says less (httpcore2 2.16, `connect_tcp`
    and `start_tls`: a refused certificate looks like a host that is down).
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        hides = error.__suppress_context__ and not type(error).__module__.startswith("httpcore")
        error = error.__cause__ or (None if hides else error.__context__)


def response_of(error: Exception) -> Any:
    """The hub's answer that an exception carries, or None. Those of urllib3 carry other things."""
    answers = (getattr(cause, "response", None) for cause in chain(error))
    return next((answer for answer in answers if hasattr(answer, "status_code")), None)


def is_offline(error: Exception) -> bool:
    """The client was told not to use the network, or has nothing in its cache without it."""
    from huggingface_hub import errors

    causes = list(chain(error))
    return any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes) or (
        isinstance(error, errors.LocalEntryNotFoundError) and len(causes) == 1
    )


def not_a_hub(error: Exception) -> bool:
    """An answer came, but without what every hub sends, not as JSON, or leads to no address."""
    from huggingface_hub import errors

    kinds = (errors.FileMetadataError, JSONDecodeError, NoAddressError)
    return any(
        isinstance(cause, kinds) or type(cause).__name__ in _NO_ADDRESS for cause in chain(error)
    )


def wrong_answer(error: Exception) -> str | None:
    """What the hub must not say, or None where it said nothing like that."""
    wrong = cause_of(error, WrongAnswerError)
    if wrong is not None:
        return wrong.reason
    circles = (type(cause).__name__ in _CIRCLES for cause in chain(error))
    return "redirects in a circle" if any(circles) else None


def cause_of(error: Exception, kind: type[E]) -> E | None:
    """The first exception of a kind among an exception and what caused it."""
    return next((cause for cause in chain(error) if isinstance(cause, kind)), None)


def certificate_refused(error: Exception) -> bool:
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain(error))


def transport_errors() -> tuple[type[Exception], ...]:
    """Connection errors of the HTTP libraries that are in use."""
    libraries = [sys.modules[name] for name in ("httpx2", "httpx") if name in sys.modules]
    found = [kind for lib in libraries for kind in (lib.TransportError, lib.DecodingError)]
    if "requests" in sys.modules:
        exceptions = sys.modules["requests"].exceptions
        found += [
            exceptions.ChunkedEncodingError,
            exceptions.ConnectionError,
            exceptions.ContentDecodingError,
            exceptions.Timeout,
        ]
    return tuple(found)


_CERTAIN: tuple[Callable[[Exception], object], ...] = (
    is_offline,
    certificate_refused,
    not_a_hub,
    wrong_answer,
)
"""What no other attempt will change."""
