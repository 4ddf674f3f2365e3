"""What answers of a hub mean that are not what was asked for, told to people.

Told from status and headers alone (`X-Error-Code`, measured; see the hub client's
`utils/_http.py`, 0.36 and 2.4): bodies may be of any length. Addresses that came with an answer are
never quoted whole: they can be signed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from pipeline.checkpoint.strict_json import printable
from pipeline.errors import RemoteError
from pipeline.sources.http.addresses import PORTS
from pipeline.sources.hub.endpoints import without_user
from pipeline.sources.hub.requests import ENDPOINT_HINT

REPO_PATH = re.compile(r"/api/models/([^/?#]+/[^/?#]+)(/revision/[^/?#]+)?/?")
INVALID_TOKEN = "Invalid credentials"  # noqa: S105 (words of a message)

STATUS_HINTS = {
    407: "a proxy in between wants a name and a password: `http://NAME:PASSWORD@HOST:PORT`, in the "
    "variable that names it",
    429: "wait some minutes; with a token in `HF_TOKEN` the limits are higher",
    451: "it may not be given out where this machine is: name another repo, or a folder by "
    "`source.path`",
    511: "log in to the network that this machine is in, then run again",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for when something failed. `name` is a file, None for the repo itself."""

    endpoint: str
    repo: str
    revision: str
    name: str | None = None
    anonymous: bool = False
    """The endpoint gets no token."""

    @property
    def what(self) -> str:
        """The subject of a message."""
        return f"`{self.name}` of `{self.repo}`" if self.name else f"the repo `{self.repo}`"

    @property
    def host(self) -> str:
        """Host and port of the hub."""
        return urlsplit(self.endpoint).netloc.rpartition("@")[2] or self.endpoint

    def who(self, address: object) -> str:
        """The subject of a message: the hub, or where it sends us, if that was asked instead."""
        try:
            asked, own = urlsplit(str(address or self.endpoint)), urlsplit(self.endpoint)
            is_hub = (asked.hostname, _port(asked)) == (own.hostname, _port(own))
        except ValueError:
            is_hub = True
        if is_hub or not asked.hostname:
            return f"`{self.host}`"
        return f"`{printable(asked.netloc.rpartition('@')[2])}`, where `{self.host}` sends us,"


def explain_refusal(response: Any, request: Request, *, may_pass: bool) -> RemoteError:
    """The hub, or the storage that it redirects to, answered with an error."""
    return _explain_code(response, request) or _explain_status(response, request, may_pass=may_pass)


def _explain_code(response: Any, request: Request) -> RemoteError | None:
    """What the hub itself says of a repo; None where it says nothing that we know."""
    status, code = response.status_code, response.headers.get("X-Error-Code")
    if code == "GatedRepo":
        return RemoteError(
            f"`{request.repo}` is gated: the hub refuses its files (HTTP {status})",
            hint=_token_hint(
                request,
                f"accept its terms at {without_user(request.endpoint)}/{request.repo}, then set "
                "`HF_TOKEN` to a token of that account",
            ),
        )
    if code == "RevisionNotFound":
        return RemoteError(
            f"`{request.repo}` has no revision `{request.revision}`",
            hint="check `source.revision`: a commit, tag or branch of this repo",
        )
    if code == "RepoNotFound" or _hides_repo(response, request):
        return RemoteError(
            f"the repo `{request.repo}` does not exist, or is private",
            hint="check `source.repo`; "
            + _token_hint(request, "for a private repo set `HF_TOKEN` to a token that may read"),
        )
    if "is disabled" in (response.headers.get("X-Error-Message") or ""):
        return RemoteError(
            f"the repo `{request.repo}` is disabled on the hub (HTTP {status})",
            hint="its page says why; name another repo, or a folder by `source.path`",
        )
    return None


def _explain_status(response: Any, request: Request, *, may_pass: bool) -> RemoteError:
    """What a bare status means, by whoever answered with it."""
    status, who = response.status_code, request.who(getattr(response, "url", None))
    if status == 404 and who == request.who(None):
        return RemoteError(
            f"{request.what} is not on the hub (HTTP 404)",
            hint="check `source.repo` and `source.revision`; a commit can have been taken back",
        )
    if status == 404:
        return RemoteError(
            f"{who} does not have {request.what} (HTTP 404)",
            hint="the hub lists it: try again later, and tell whoever runs that hub",
        )
    if is_storage(response):
        return RemoteError(
            f"{who} refuses {request.what} (HTTP {status})",
            hint="it did not take an address that the hub had signed: check the clock of this "
            "machine, and proxies in between",
        )
    if status in {401, 403}:
        return RemoteError(
            f"{who} refuses access to {request.what} (HTTP {status})",
            hint=_token_hint(
                request,
                "check that the token in `HF_TOKEN`, or of `hf auth login`, is valid and may read",
            ),
        )
    usual = "try again later" if may_pass else ENDPOINT_HINT
    return RemoteError(
        f"{who} answered {request.what} with HTTP {status}", hint=STATUS_HINTS.get(status, usual)
    )


def _port(parts: SplitResult) -> int | None:
    return parts.port or PORTS.get(parts.scheme)


def is_storage(response: Any) -> bool:
    """Whether it was not the hub that refused, but the storage, asked by a signed address.

    Such an address holds for a while only; asked again, the hub signs another one.
    """
    path = urlsplit(str(getattr(response, "url", ""))).path
    is_hub = "/resolve/" in path or path.startswith("/api/") or not path
    return response.status_code in {401, 403} and not is_hub


def explain_move(asked: str, location: str, request: Request) -> RemoteError:
    """The hub redirects what is asked of a repo: to another name, or to another place."""
    origin = urlsplit(asked)
    try:
        target = urlsplit(urljoin(asked, location))
    except ValueError:
        target = urlsplit("")
    found = REPO_PATH.fullmatch(target.path)
    same_place = (target.scheme, target.netloc) == (origin.scheme, origin.netloc)
    new_name = printable(unquote(found[1])) if found else None
    if same_place and new_name not in {None, request.repo}:
        return RemoteError(
            f"`{request.repo}` is called `{new_name}` on the hub now",
            hint=f"see whether that is still the model that you mean, then set `source.repo: "
            f"{new_name}`",
        )
    if same_place or not target.netloc:
        return RemoteError(
            f"`{request.host}` redirects in a circle, asked for {request.what}",
            hint=ENDPOINT_HINT,
        )
    where = printable(f"{target.scheme}://{target.netloc.rpartition('@')[2]}")
    return RemoteError(
        f"`{request.host}` sends requests for {request.what} to another place, `{where}`",
        hint="if that is the hub that you mean, set `HF_ENDPOINT` to it; otherwise check proxies "
        "and login pages in between",
    )


def _hides_repo(response: Any, request: Request) -> bool:
    """Without a token that may read it, a private repo is answered like one that is not there."""
    message = response.headers.get("X-Error-Message") or ""
    return (
        response.status_code == 401
        and request.endpoint == "https://huggingface.co"
        and not message.startswith(INVALID_TOKEN)
    )


def _token_hint(request: Request, hint: str) -> str:
    if not request.anonymous:
        return hint
    return (
        f"your token is not sent to `{request.host}`, because a recipe names it; set "
        f"`HF_ENDPOINT={request.endpoint}` if it may have it"
    )
