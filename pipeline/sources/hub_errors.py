"""What failures of the hub client mean: whether they may pass, and how to tell them to people.

The client speaks through `requests` before its version 1, through `httpx` and later `httpx2` after.
Their exceptions are told apart by what has been imported, so that neither is needed here. Messages
never quote the client's own: these can hold signed addresses.
"""

from __future__ import annotations

import errno
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from re import search
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import MachineError, PipelineError, RecipeError, RemoteError, ResourceError
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
OFFLINE_HINT = "run once with network access and the same store, or name a folder by `source.path`"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for when something failed. `name` is a file, None for the repo itself."""

    endpoint: str
    repo: str
    revision: str
    name: str | None = None

    @property
    def what(self) -> str:
        """The subject of a message."""
        return f"`{self.name}` of `{self.repo}`" if self.name else f"the repo `{self.repo}`"

    @property
    def host(self) -> str:
        """Host and port of the hub."""
        return urlsplit(self.endpoint).netloc.rpartition("@")[2] or self.endpoint


def judge(error: Exception) -> Transient | None:
    """Whether a failure may pass by itself: its reason, or None where trying again is useless."""
    response = _response(error)
    if response is not None:
        status = response.status_code
        if status not in TRANSIENT_STATUSES and status < 500:
            return None
        return Transient(f"the hub answered with HTTP {status}", _wished_wait_s(response.headers))
    if _is_offline(error) or _certificate_refused(error) or _not_a_hub(error):
        return None
    for cause in _chain(error):
        if isinstance(cause, (ConnectionError, TimeoutError, *_transport_errors())):
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

    response = _response(error)
    if response is not None:
        return _explain_answer(error, response, request)
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
    return _explain_disk(error) or _explain_network(error, request)


def from_xet(error: Exception) -> bool:
    """The failure came from the client's xet storage path, which plain HTTP can replace."""
    for cause in _chain(error):
        frame = cause.__traceback__
        while frame is not None:
            if frame.tb_frame.f_code.co_name == "xet_get":
                return True
            frame = frame.tb_next
    return False


def _explain_answer(error: Exception, response: Any, request: Request) -> PipelineError:
    """The hub answered, but not with what was wanted."""
    from huggingface_hub import errors

    status = response.status_code
    if isinstance(error, errors.GatedRepoError):
        return RemoteError(
            f"`{request.repo}` is gated: the hub refuses its files (HTTP {status})",
            hint=f"accept its terms at {request.endpoint}/{request.repo}, then set `HF_TOKEN` to a "
            "token of that account",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return RemoteError(
            f"`{request.repo}` has no revision `{request.revision}`",
            hint="check `source.revision`: a commit, tag or branch of this repo",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return RemoteError(
            f"the repo `{request.repo}` does not exist, or is private",
            hint="check `source.repo`; for a private repo set `HF_TOKEN` to a token that may read",
        )
    if isinstance(error, errors.EntryNotFoundError) or status == 404:
        return RemoteError(f"{request.what} is not on the hub (HTTP {status})")
    if status in {401, 403}:
        return RemoteError(
            f"`{request.host}` refuses access to {request.what} (HTTP {status})",
            hint="check that the token in `HF_TOKEN`, or of `hf auth login`, is valid and may read",
        )
    hint = "try again later" if judge(error) else None
    if status == 429:
        hint = "wait some minutes; with a token in `HF_TOKEN` the limits are higher"
    return RemoteError(f"`{request.host}` answered {request.what} with HTTP {status}", hint=hint)


def _explain_disk(error: Exception) -> PipelineError | None:
    """The client's cache cannot be written."""
    if not isinstance(error, OSError):
        return None
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return ResourceError(
            "the disk of the Hugging Face cache is full",
            hint="free some space, or set `HF_HOME` to a folder on a larger disk",
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        where = f": `{error.filename}`" if error.filename else ""
        return MachineError(
            f"the Hugging Face cache cannot be written{where}",
            hint="check its permissions, or set `HF_HOME` to a writable folder",
        )
    return None


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


def _wished_wait_s(headers: Any) -> float | None:
    """Seconds that the server asks to wait: `Retry-After` (number or date), `RateLimit` (t=)."""
    wish = (headers.get("Retry-After") or "").strip()
    if wish.isdigit():
        return float(wish)
    if wish:
        try:
            date = parsedate_to_datetime(wish)
        except ValueError:
            return None
        return max(0.0, (date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    reset = search(r"\br=0\b.*\bt=(\d+)", headers.get("RateLimit") or "")
    return float(reset[1]) if reset else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what caused it, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _response(error: Exception) -> Any:
    """The hub's answer that an exception carries, or None."""
    answers = (getattr(cause, "response", None) for cause in _chain(error))
    return next((answer for answer in answers if answer is not None), None)


def _is_offline(error: Exception) -> bool:
    """The client was told not to use the network, or has nothing in its cache without it."""
    from huggingface_hub import errors

    causes = list(_chain(error))
    return any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes) or (
        isinstance(error, errors.LocalEntryNotFoundError) and len(causes) == 1
    )


def _not_a_hub(error: Exception) -> bool:
    """An answer came, but without what every hub sends, or not as JSON."""
    from huggingface_hub import errors

    kinds = (errors.FileMetadataError, JSONDecodeError)
    return any(isinstance(cause, kinds) for cause in _chain(error))


def _certificate_refused(error: Exception) -> bool:
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _chain(error))


def _transport_errors() -> tuple[type[Exception], ...]:
    """Connection errors of the HTTP libraries that are in use."""
    found = [
        sys.modules[name].TransportError for name in ("httpx2", "httpx") if name in sys.modules
    ]
    if "requests" in sys.modules:
        exceptions = sys.modules["requests"].exceptions
        found += [
            exceptions.ChunkedEncodingError,
            exceptions.ConnectionError,
            exceptions.ContentDecodingError,
            exceptions.Timeout,
        ]
    return tuple(found)
