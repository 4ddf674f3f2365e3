"""What failures of a ModelScope mean: whether they may pass, and how to tell them to people.

It answers with an envelope, `{"Code": .., "Message": .., "Data": .., "Success": ..}`. A repo that
is missing and one that is not for us have the same status 404: only the code tells them apart, and
the message, which is Chinese, is never shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.checkpoint.strict_json import printable
from pipeline.errors import (
    PipelineError,
    RemoteError,
    VerificationError,
)
from pipeline.sources.http.addresses import Misdirected
from pipeline.sources.http.download import WrongContent
from pipeline.sources.http.retry_after import retry_after_s
from pipeline.sources.http.transport import ConnectionFailed, Refused
from pipeline.sources.listing import SourceFile
from pipeline.sources.modelscope.site import Site
from pipeline.sources.retry import Transient
from pipeline.system.refusals import explain as explain_system
from pipeline.system.refusals import file_error

NO_TREE = 10990101004
"""There are no files at this revision."""

NO_ACCESS = 10010200001
"""Private, gated, or not for the owner of this token. (No such repo is 10010205001.)"""

TRANSIENT_STATUSES = frozenset({408, 425, 429})
ASK_FOR_TOKEN = "set `MODELSCOPE_API_TOKEN` to an access token of an account that may read it"  # noqa: S105
ENDPOINT_HINT = "check `MODELSCOPE_ENDPOINT`, and proxies in between"


class NotUnderstood(Exception):
    """An answer came, but not one of a ModelScope."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for when something failed. `file` is None for the repo itself."""

    site: Site
    repo: str
    revision: str
    file: SourceFile | None = None

    @property
    def what(self) -> str:
        """The subject of a message."""
        repo = f"`{self.repo}`"
        return f"`{self.file.name}` of {repo}" if self.file else f"the repo {repo}"


def judge(error: Exception) -> Transient | None:
    """Whether a failure may pass by itself: its reason, or None where trying again is useless."""
    if isinstance(error, Refused):
        if _is_storage(error):
            return Transient("the storage did not take an address that ModelScope had signed")
        if error.status not in TRANSIENT_STATUSES and error.status < 500:
            return None
        reason = f"ModelScope answered with HTTP {error.status}"
        return Transient(reason, retry_after_s(error.headers))
    if isinstance(error, ConnectionFailed) and not error.untrusted:
        return Transient(f"the connection failed ({error.reason})")
    return None


@contextmanager
def telling(request: Request) -> Iterator[None]:
    """Tell failures of site, network and disk in our words; others pass as they are."""
    try:
        yield
    except (Refused, ConnectionFailed, Misdirected, NotUnderstood, WrongContent, OSError) as error:
        explained = explain(error, request)
        if explained is None:
            raise
        raise explained from None


def explain(error: Exception, request: Request) -> PipelineError | None:
    """The error to show instead; None for what has no better words."""
    host = request.site.host
    if isinstance(error, Refused):
        return _explain_refusal(error, request)
    if isinstance(error, ConnectionFailed):
        return _explain_connection(error, request)
    if isinstance(error, Misdirected):
        return RemoteError(
            f"`{host}` sends us elsewhere for {request.what}, which is refused",
            facts=[f"it leads to {error}"],
            hint="check `MODELSCOPE_ENDPOINT`, and whether a proxy answers in its place",
        )
    if isinstance(error, NotUnderstood):
        return not_understood(request, str(error))
    if isinstance(error, WrongContent):
        return _explain_content(error, request)
    return _explain_disk(error) if isinstance(error, OSError) else None


def _explain_refusal(error: Refused, request: Request) -> RemoteError:
    """The site answered, but not with what was wanted."""
    status, code, repo = error.status, _code(error.body), request.repo
    host = request.site.host
    if status == 429:
        return RemoteError(
            f"`{host}` gets too many requests (HTTP 429)",
            hint="wait some minutes; with a token in `MODELSCOPE_API_TOKEN` the limits are higher",
        )
    if error.elsewhere is not None:
        return _explain_elsewhere(error, request)
    if code == NO_TREE:
        return no_revision(request)
    if code == NO_ACCESS or status in {401, 403}:
        return RemoteError(
            f"`{host}` refuses access to {request.what}: it is private, or its terms must be "
            "accepted first",
            facts=[f"HTTP {status}" + (f", code {code}" if code else "")],
            hint=f"accept the terms at {request.site.endpoint}/models/{repo} where it has some, "
            f"and {ASK_FOR_TOKEN}",
        )
    if status == 404 and request.file is not None:
        return RemoteError(
            f"{request.what} is not on `{host}` (HTTP 404)",
            hint="check `source.revision`; a commit can have been taken back",
        )
    if status == 404 and code is None:
        return not_understood(request, "HTTP 404 without a word of why")
    if status == 404:
        return RemoteError(
            f"the repo `{repo}` does not exist on `{host}`, or is private",
            hint=f"check `source.repo`; for a private repo {ASK_FOR_TOKEN}; the international site "
            "is asked with `MODELSCOPE_PREFER_AI_SITE=true`",
        )
    return RemoteError(
        f"`{host}` answered {request.what} with HTTP {status}" + (f", code {code}" if code else ""),
        hint="try again later" if judge(error) else ENDPOINT_HINT,
    )


def _explain_elsewhere(error: Refused, request: Request) -> RemoteError:
    """The storage that the site redirects to does not give what the site lists."""
    hint = "the site lists it: try again later, and check proxies in between"
    if _is_storage(error):
        hint = "check the clock of this machine, and proxies in between"
    return RemoteError(
        f"`{printable(error.elsewhere or '')}`, where `{request.site.host}` sends us, answered "
        f"{request.what} with HTTP {error.status}",
        hint=hint,
    )


def _is_storage(error: Refused) -> bool:
    """It was not the site that refused. A signed address holds for a while only."""
    return error.elsewhere is not None and error.status in {401, 403}


def not_understood(request: Request, reason: str) -> RemoteError:
    """Something answers, but hardly a ModelScope."""
    return RemoteError(
        f"`{request.site.host}` does not answer like a ModelScope",
        facts=[f"asked for {request.what}: {reason}"],
        hint="check `MODELSCOPE_ENDPOINT`, and whether a proxy or a login page answers instead",
    )


def no_revision(request: Request) -> RemoteError:
    """The repo is there, this revision is not."""
    revision = printable(request.revision)
    return RemoteError(
        f"`{request.repo}` has no revision `{revision}` on `{request.site.host}`",
        hint="check `source.revision`: a commit, tag or branch of this repo on ModelScope, whose "
        "main branch is `master`; a commit of another hub is not one of it",
    )


def _explain_connection(error: ConnectionFailed, request: Request) -> RemoteError:
    """Nothing, or not all, came back."""
    host = request.site.host
    if error.untrusted:
        return RemoteError(
            f"the certificate of `{host}`, or of where it sends us, is not trusted on this machine",
            hint="check the clock; name the certificates of a proxy in between by `SSL_CERT_FILE`",
        )
    return RemoteError(
        f"`{host}` cannot be reached, or breaks off, asked for {request.what}",
        facts=[error.reason],
        hint="check the network and proxy settings; run again to go on from what is here; "
        "`--offline` uses only that",
    )


def _explain_content(error: WrongContent, request: Request) -> VerificationError:
    """The bytes are not the published ones, twice."""
    file = request.file
    assert file is not None, "content belongs to a file"
    return VerificationError(
        f"{request.what} is not what ModelScope published",
        facts=[
            f"published: {file.size_bytes} bytes, SHA-256 `{file.sha256}`",
            f"what came: {error}",
        ],
        hint="it was fetched twice: something between here and the site changes it",
    )


def _explain_disk(error: OSError) -> PipelineError:
    """The system refused what was done with the store; what was fetched so far is kept."""
    told = explain_system(error, "the download to the store")
    return told or file_error(error, error.filename or "the store", "cannot be written")


def _code(body: bytes) -> int | None:
    """The code of an envelope; None where the answer is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    code = document.get("Code") if isinstance(document, dict) else None
    return code if isinstance(code, int) and not isinstance(code, bool) else None
