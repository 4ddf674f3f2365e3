"""How failures of the hub client are told to people: what failed, and what to do about it.

Messages never quote the client's own: these can hold signed addresses.
"""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.checkpoint.strict_json import printable
from pipeline.errors import (
    MachineError,
    PipelineError,
    RecipeError,
    RemoteError,
    VerificationError,
)
from pipeline.sources.crew import CutOffError
from pipeline.sources.hub.answers import Request, explain_move, explain_refusal
from pipeline.sources.hub.causes import (
    NETWORK_ERRNOS,
    asked_address,
    cause_of,
    chain,
    is_offline,
    judge,
    module_that_broke,
    not_a_hub,
    response_of,
    transport_errors,
    wrong_answer,
)
from pipeline.sources.hub.checks import ContradictionError
from pipeline.sources.hub.requests import ENDPOINT_HINT, MovedError
from pipeline.sources.remote.client import OFFLINE_HINT
from pipeline.system.refusals import error_number
from pipeline.system.refusals import explain as explain_system

PLACE_ERRNOS = frozenset({errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENOTDIR})
"""A part of a path is not of the kind that it must be."""

NETWORK_HINT = "check the network and proxy settings; `--offline` uses what is already here"
NETWORK_FAULTS = (
    (
        {"gaierror", "NameResolutionError"},
        "cannot be reached: no address is known for its name",
        NETWORK_HINT,
    ),
    ({"ConnectionRefusedError"}, "cannot be reached: it refuses connections", NETWORK_HINT),
    ({"DecodingError", "ContentDecodingError"}, "sends what cannot be unpacked", ENDPOINT_HINT),
    (
        {"RemoteProtocolError", "ProtocolError", "InvalidHeader", "BadStatusLine"},
        "breaks off, or does not keep to HTTP",
        f"check the network, {ENDPOINT_HINT.removeprefix('check ')}",
    ),
)
"""Kinds of exceptions by what they mean, a reason and a hint; any timeout comes before."""


@contextmanager
def telling(request: Request) -> Iterator[None]:
    """Tell failures of hub, network and cache in our words; others pass as they are."""
    try:
        yield
    except Exception as error:
        explained = explain(error, request)
        if explained is None:
            raise
        raise explained from None


def explain(error: Exception, request: Request) -> PipelineError | None:
    """The error to show instead; None for what is no failure of hub, network or disk."""
    from huggingface_hub.errors import HFValidationError

    if isinstance(error, PipelineError):
        return error
    if isinstance(error, CutOffError):
        return explain_cut(error, request)
    moved = cause_of(error, MovedError)
    if moved is not None:
        return explain_move(moved.asked, moved.location, request)
    response = response_of(error)
    if response is not None:
        return explain_refusal(response, request, may_pass=judge(error) is not None)
    if isinstance(error, HFValidationError):
        return RecipeError(
            f"`{request.repo}` is not a name that a repo can have", hint="check `source.repo`"
        )
    if is_offline(error):
        return RemoteError(
            f"{request.what} is not on this machine, and the network is not to be used",
            hint=OFFLINE_HINT,
        )
    if not_a_hub(error):
        return RemoteError(
            f"`{request.host}` does not answer like a Hugging Face Hub",
            hint="check `HF_ENDPOINT`, and whether a proxy or a login page answers in its place",
        )
    contradiction = cause_of(error, ContradictionError)
    if contradiction is not None:
        return VerificationError(
            f"{request.what} is not what the hub published",
            facts=[f"`{request.host}` {contradiction.reason}"],
            hint=f"run again: the list is then asked for anew; {ENDPOINT_HINT}",
        )
    wrong = wrong_answer(error)
    if wrong is not None:
        return RemoteError(
            f"`{request.host}` {wrong}, asked for {request.what}",
            hint=ENDPOINT_HINT,
        )
    return _explain_disk(error) or _explain_network(error, request) or _explain_odd(error, request)


def explain_cut(error: CutOffError, request: Request, *, by_xet: bool = False) -> RemoteError:
    """We did not wait any longer. `by_xet`: for what may have come by the xet protocol."""
    hint = (
        "check the network and proxy settings; on a slow line raise "
        "`HF_HUB_DOWNLOAD_TIMEOUT` (seconds; 10 where it is not set)"
    )
    if by_xet:
        hint += "; `HF_HUB_DISABLE_XET=1` does without the hub's xet storage"
    return RemoteError(f"`{request.host}` {error.reason}, asked for {request.what}", hint=hint)


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
    who = request.who(asked_address(error))
    refused = cause_of(error, ssl.SSLCertVerificationError)
    if refused is not None:
        reason = getattr(refused, "verify_message", "")
        return RemoteError(
            f"the certificate of {who} is not trusted on this machine",
            facts=[printable(reason)] if reason else [],
            hint="check the clock; name the certificates of a proxy or a hub of your own by "
            "`SSL_CERT_FILE` (huggingface_hub before 1: `REQUESTS_CA_BUNDLE`)",
        )
    fault = judge(error)
    if fault is None and not isinstance(error, transport_errors()):
        return None
    kinds = {type(cause).__name__ for cause in chain(error)}
    reason, hint = _network_fault(kinds)
    return RemoteError(
        f"{who} {reason}, asked for {request.what}", facts=[", ".join(sorted(kinds))], hint=hint
    )


def _network_fault(kinds: set[str]) -> tuple[str, str]:
    """What exceptions of these kinds mean, and what to do."""
    if any("Timeout" in kind for kind in kinds):
        return "does not answer in time", NETWORK_HINT
    for names, reason, hint in NETWORK_FAULTS:
        if not names.isdisjoint(kinds):
            return reason, hint
    return "cannot be reached, or breaks off", NETWORK_HINT


def _explain_odd(error: Exception, request: Request) -> RemoteError | None:
    """The client broke on what it was answered; what breaks in our own code stays as it is."""
    module = module_that_broke(error)
    if module is None or isinstance(error, OSError | MemoryError):
        return None
    if module.partition(".")[0] == __name__.partition(".")[0]:
        return None
    return RemoteError(
        f"`{request.host}` answers in a way that is not understood, asked for {request.what}",
        facts=[f"{type(error).__name__} in `{module}`"],
        hint=ENDPOINT_HINT,
    )
