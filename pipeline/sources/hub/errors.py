"""What failures of the hub client mean: whether they may pass, and how to tell them to people.

The client speaks through `requests` before its version 1, through `httpx` and later `httpx2` after.
Their exceptions are told apart by what has been imported, so that neither is needed here. Messages
never quote the client's own: these can hold signed addresses.
"""

from __future__ import annotations

import errno
import os
import ssl
import sys
from collections.abc import Callable, Iterator
from json import JSONDecodeError
from pathlib import Path
from re import search
from typing import Any, TypeVar

from pipeline.errors import MachineError, PipelineError, RecipeError, RemoteError
from pipeline.sources.crew import CutOffError
from pipeline.sources.http.retry_after import retry_after_s
from pipeline.sources.hub.answers import Request, explain_move, explain_refusal, is_storage
from pipeline.sources.hub.line import NoAddressError, WrongAnswerError
from pipeline.sources.hub.requests import ENDPOINT_HINT, MovedError
from pipeline.sources.remote.client import OFFLINE_HINT
from pipeline.sources.retry import Transient
from pipeline.system_errors import error_number
from pipeline.system_errors import explain as explain_system

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
PLACE_ERRNOS = frozenset({errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENOTDIR})
"""A part of a path is not of the kind that it must be."""

_NO_ADDRESS = frozenset({"InvalidSchema", "InvalidURL", "MissingSchema", "UnsupportedProtocol"})
"""How the HTTP libraries refuse what a redirect, or `HF_ENDPOINT`, names."""

_CIRCLES = frozenset({"TooManyRedirects", "RecursionError"})
"""How the HTTP libraries, and versions of the client that follow by recursion, end it."""

E = TypeVar("E", bound=BaseException)


def judge(error: Exception) -> Transient | None:
    """Whether a failure may pass by itself: its reason, or None where trying again is useless."""
    if isinstance(error, CutOffError):
        return None if error.final else Transient(f"the hub {error.reason}")
    response = _response(error)
    if response is not None:
        status = response.status_code
        if is_storage(response):
            return Transient("the storage did not take an address that the hub had signed")
        if status not in TRANSIENT_STATUSES and status < 500:
            return None
        return Transient(f"the hub answered with HTTP {status}", _wished_wait_s(response.headers))
    if any(certain(error) for certain in _CERTAIN):
        return None
    for cause in _chain(error):
        transport = isinstance(cause, (ConnectionError, TimeoutError, *_transport_errors()))
        if transport or _session_lost(cause):
            return Transient(f"the connection failed ({type(cause).__name__})")
        if isinstance(cause, FileNotFoundError):
            continue  # the client's "not in the cache": what counts is why it was not fetched
        # A download that ends early is an OSError without a number.
        if isinstance(cause, OSError) and cause.errno in {None, *NETWORK_ERRNOS}:
            return Transient(f"the connection failed ({type(cause).__name__})")
    return None


def explain(error: Exception, request: Request) -> PipelineError | None:
    """The error to show instead; None for what is no failure of hub, network or disk."""
    from huggingface_hub.errors import HFValidationError

    if isinstance(error, PipelineError):
        return error
    if isinstance(error, CutOffError):
        return explain_cut(error, request)
    moved = _cause(error, MovedError)
    if moved is not None:
        return explain_move(moved.asked, moved.location, request)
    response = _response(error)
    if response is not None:
        return explain_refusal(response, request, may_pass=judge(error) is not None)
    if isinstance(error, HFValidationError):
        return RecipeError(
            f"`{request.repo}` is not a name that a repo can have", hint="check `source.repo`"
        )
    if _is_offline(error):
        return RemoteError(
            f"{request.what} is not on this machine, and the network is not to be used",
            hint=OFFLINE_HINT,
        )
    if _not_a_hub(error):
        return RemoteError(
            f"`{request.host}` does not answer like a Hugging Face Hub",
            hint="check `HF_ENDPOINT`, and whether a proxy or a login page answers in its place",
        )
    wrong = _wrong_answer(error)
    if wrong is not None:
        return RemoteError(
            f"`{request.host}` {wrong}, asked for {request.what}",
            hint=ENDPOINT_HINT,
        )
    return _explain_disk(error) or _explain_network(error, request) or _explain_odd(error, request)


def from_xet(error: Exception) -> bool:
    """The failure came from the client's xet storage path, which plain HTTP can replace."""
    for cause in _chain(error):
        frame = cause.__traceback__
        while frame is not None:
            if frame.tb_frame.f_code.co_name == "xet_get":
                return True
            frame = frame.tb_next
    return False


def explain_cut(error: CutOffError, request: Request) -> RemoteError:
    """We did not wait any longer."""
    return RemoteError(
        f"`{request.host}` {error.reason}, asked for {request.what}",
        hint="check the network and proxy settings; on a slow line raise "
        "`HF_HUB_DOWNLOAD_TIMEOUT` (seconds; 10 where it is not set)",
    )


def _explain_disk(error: Exception) -> PipelineError | None:
    """The system refused what the client does with its cache."""
    from huggingface_hub import constants

    number = error_number(error)
    # TLS has numbers of its own; of a connection that failed, `_explain_network` tells.
    if isinstance(error, ssl.SSLError) or number is None or number in NETWORK_ERRNOS:
        return None
    if not isinstance(error, OSError) or error.errno is None:  # its text can hold an address
        error = OSError(number, os.strerror(number))
    if number in PLACE_ERRNOS:
        return MachineError(
            f"the Hugging Face cache cannot be used: `{error.filename or constants.HF_HUB_CACHE}`: "
            f"{os.strerror(number)}",
            hint="check what `HF_HOME`, `HF_HUB_CACHE` and `HF_TOKEN_PATH` name: folders for the "
            "first two, and a file for the token",
        )
    doing = "the download to the Hugging Face cache"
    return explain_system(error, doing, Path(constants.HF_HUB_CACHE))


def _explain_network(error: Exception, request: Request) -> PipelineError | None:
    """Nothing, or not all, came back."""
    if _certificate_refused(error):
        return RemoteError(
            f"the certificate of `{request.host}` is not trusted on this machine",
            hint="check the clock, and the certificates of a proxy in between",
        )
    fault = judge(error)
    if fault is None and not isinstance(error, _transport_errors()):
        return None
    kinds = {type(cause).__name__ for cause in _chain(error)}
    slow = any("Timeout" in kind for kind in kinds)
    reason = "does not answer in time" if slow else "cannot be reached, or breaks off"
    return RemoteError(
        f"`{request.host}` {reason}, asked for {request.what}",
        facts=[", ".join(sorted(kinds))],
        hint="check the network and proxy settings; `--offline` uses what is already here",
    )


def _explain_odd(error: Exception, request: Request) -> RemoteError | None:
    """The client broke on what it was answered; what breaks in our own code stays as it is."""
    module = _module_that_broke(error)
    if module is None or isinstance(error, OSError | MemoryError):
        return None
    if module.partition(".")[0] == __name__.partition(".")[0]:
        return None
    return RemoteError(
        f"`{request.host}` answers in a way that is not understood, asked for {request.what}",
        facts=[f"{type(error).__name__} in `{module}`"],
        hint=ENDPOINT_HINT,
    )


def _session_lost(error: BaseException) -> bool:
    """One thread of the client saw a connection fail, and closed the session of all (1.x, 2.x)."""
    if isinstance(error, AttributeError):
        return _module_that_broke(error) == "huggingface_hub.utils._http"
    return isinstance(error, RuntimeError) and "client has been closed" in str(error)


def _module_that_broke(error: BaseException) -> str | None:
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


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what caused it, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _response(error: Exception) -> Any:
    """The hub's answer that an exception carries, or None. Those of urllib3 carry other things."""
    answers = (getattr(cause, "response", None) for cause in _chain(error))
    return next((answer for answer in answers if hasattr(answer, "status_code")), None)


def _is_offline(error: Exception) -> bool:
    """The client was told not to use the network, or has nothing in its cache without it."""
    from huggingface_hub import errors

    causes = list(_chain(error))
    return any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes) or (
        isinstance(error, errors.LocalEntryNotFoundError) and len(causes) == 1
    )


def _not_a_hub(error: Exception) -> bool:
    """An answer came, but without what every hub sends, not as JSON, or leads to no address."""
    from huggingface_hub import errors

    kinds = (errors.FileMetadataError, JSONDecodeError, NoAddressError)
    return any(
        isinstance(cause, kinds) or type(cause).__name__ in _NO_ADDRESS for cause in _chain(error)
    )


def _wrong_answer(error: Exception) -> str | None:
    """What the hub must not say, or None where it said nothing like that."""
    wrong = _cause(error, WrongAnswerError)
    if wrong is not None:
        return wrong.reason
    circles = (type(cause).__name__ in _CIRCLES for cause in _chain(error))
    return "redirects in a circle" if any(circles) else None


def _cause(error: Exception, kind: type[E]) -> E | None:
    """The first exception of a kind among an exception and what caused it."""
    return next((cause for cause in _chain(error) if isinstance(cause, kind)), None)


def _certificate_refused(error: Exception) -> bool:
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _chain(error))


def _transport_errors() -> tuple[type[Exception], ...]:
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
    _is_offline,
    _certificate_refused,
    _not_a_hub,
    _wrong_answer,
)
"""What no other attempt will change."""
