"""The faults, by name: how each one is played, and what must still be true of its outcome."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import PipelineError, RecipeError, RemoteError, VerificationError
from tests.faults.hub import bombs
from tests.faults.hub.makers import (
    ABSURD_LIMITS,
    ABSURD_WISHES,
    ETAGS,
    Maker,
    altered_listing,
    bomb_json,
    broken_json,
    cut,
    early,
    fixed,
    flip,
    garbled,
    headers,
    location,
    moving,
    odd_chunks,
    one_of,
    plausible_head,
    status,
    wish,
    wrong_json,
)

HARMLESS = "harmless"
"""The run must succeed, however often it happens."""

HEALS = "heals"
"""The run must succeed where it happens seldom."""

OPEN = "open"
"""Success and our own error are both right."""

REMOTE = (RemoteError, VerificationError)
MISTAKEN = (*REMOTE, RecipeError)
TRANSIENT = (408, 425, 429, 500, 502, 503, 504, 520)
PERMANENT = (400, 401, 403, 404, 405, 409, 410, 413, 416, 418, 451)
HOSTILE = [{"status": 206, "body": content} for content in bombs.HOSTILE_HEADS.values()]
ENDLESS_REFUSALS = [{"status": s, "body": bombs.ENDLESS} for s in (302, 401, 404, 429, 503)]
STALLING_REFUSALS = [
    {"status": s, "body": b"no" * 999, "cut_at": 99, "ending": "stall"}
    for s in (302, 401, 404, 503)
]
HOP = {"status": 302, "headers": {"Location": "?hop=1"}}
DISPOSITIONS = ('inline; filename="../../evil"', "attachment; filename*=UTF-8''%00", "x" * 5000)
SIZES = (None, "0", "7", "100000", "-1", "9" * 20, "9" * 5000, "x")
ODD = (204, 205, 206, 226, 300, 304, 305, 399, 599)


@dataclass(frozen=True)
class Kind:
    """One kind of fault. `where`: "files" is all but the listing, "listing" only that."""

    name: str
    make: Maker
    promise: str = OPEN
    where: str = "all"
    errors: tuple[type[PipelineError], ...] = REMOTE
    hides: bool = False
    """Files may be missing of the listing: what is not needed by others is then not missed."""
    method: str | None = None
    """The only one of requests that it is for."""
    slow: bool = False
    """Takes some seconds of real time: rare in the short form."""


CONNECTION = (
    Kind("body cut", cut("close"), HEALS),
    Kind("head cut", cut("close", head=True), HEALS),
    # requests takes what came of the headers for all of them: a shortened address, say.
    Kind("head cut later", cut("close", head=True, late=True)),
    Kind("reset in the body", cut("reset"), HEALS),
    Kind("reset in the head", cut("reset", head=True), HEALS),
    Kind("stall in the body", cut("stall"), HEALS, slow=True),
    Kind("stall in the head", cut("stall", head=True), HEALS, slow=True),
    Kind("trickle", fixed(trickle_s=0.2), slow=True),
    Kind("trickle in the head", fixed(trickle_s=0.2, trickle_head=True), slow=True),
    Kind("a slow start", fixed(pause_s=0.1), HARMLESS),
    Kind("answers nobody asked for", early),
    Kind("more than the answer", one_of({"surplus": b"{}" * 99}, {"surplus": b"HTTP/1.1 200 OK"})),
    Kind("not HTTP", garbled),
    Kind("goes without a word", fixed(leaves=True), HARMLESS),
    Kind("100 Continue", fixed(before=bombs.INTERIM_100), HARMLESS),
    # http.client takes it for the answer itself.
    Kind("103 Early Hints", fixed(before=bombs.INTERIM_103)),
)

FRAMING = (
    Kind("length too short", one_of({"length": "7"}, {"length": "1"}, {"length": "0"})),
    Kind("length too long", one_of({"length": "99999999"}, {"length": "9" * 18})),
    Kind("length that is none", one_of(*({"length": t} for t in ("-5", "x", "9" * 30, "1e3")))),
    Kind("no length", fixed(length=""), HARMLESS, method="GET"),
    Kind("chunks", fixed(chunked=True), HARMLESS, method="GET"),
    Kind("odd chunks", odd_chunks, HARMLESS, "listing"),
    Kind("HTTP/1.0", fixed(old_protocol=True), HARMLESS, method="GET"),
    Kind("gzip", fixed(gzipped=True), where="files"),
    Kind("gzip'ed listing", fixed(gzipped=True), HARMLESS, "listing"),
    Kind("Content-Encoding", headers("Content-Encoding", "gzip", "br", "zstd", "deflate", "x, y")),
    Kind("two framings", headers("Transfer-Encoding", "chunked", "gzip, chunked", "x")),
)

CONTENT = (
    Kind("a flipped byte", flip()),
    Kind("a flipped byte after a resume", flip(on_resume=True), where="files"),
    Kind("range ignored", fixed(ignore_range=True), HARMLESS, "files"),
    Kind("range shifted", one_of(*({"shift_range": n} for n in (1, 8, 4096))), where="files"),
    Kind("Content-Range", headers("Content-Range", None, "bytes 0-1/2", "x", "bytes */*", "1/")),
    Kind("a plausible header", plausible_head, where="files", errors=MISTAKEN),
    Kind("wrong JSON", wrong_json, where="listing", errors=MISTAKEN),
    Kind("altered listing", altered_listing, where="listing", errors=MISTAKEN, hides=True),
    Kind("broken JSON", broken_json),
    Kind("broken listing", broken_json, where="listing"),
    Kind("a branch that moves", moving(forgetful=False), HARMLESS, "listing"),
    Kind("a commit that goes", moving(forgetful=True), where="listing"),
)

ANSWERS = (
    Kind("HTTP that may pass", status(*TRANSIENT), HEALS),
    Kind("HTTP that stays", status(*PERMANENT)),
    Kind("odd HTTP", status(*ODD)),
    Kind("Retry-After", wish("1", "0", "-7", "soon", "", "Thu, 01 Jan 1970 00:00:00 GMT"), HEALS),
    Kind("absurd Retry-After", wish(*ABSURD_WISHES)),
    Kind("absurd RateLimit", one_of(*ABSURD_LIMITS)),
    Kind("redirect", location),
    Kind("one hop more", one_of(HOP), HEALS, "files", method="GET"),
    Kind("X-HF-Warning", headers("X-HF-Warning", "topic; beware", "; ;", "x" * 5000), HARMLESS),
    Kind("Set-Cookie", headers("Set-Cookie", "a=b; Domain=127.0.0.1", "x" * 5000), HARMLESS),
    Kind("Content-Disposition", headers("Content-Disposition", *DISPOSITIONS), HARMLESS),
    Kind("WWW-Authenticate", headers("WWW-Authenticate", "Basic realm=x", "Negotiate"), HARMLESS),
    Kind("ETag", headers("ETag", *ETAGS)),
    Kind("X-Linked-Etag", headers("X-Linked-Etag", *ETAGS)),
    Kind("X-Linked-Size", headers("X-Linked-Size", *SIZES)),
    Kind("odd header", headers("X-Odd", "\xff\xe4\xb8\xad", " " * 99, "a" * 60_000), HARMLESS),
    Kind("X-Repo-Commit", headers("X-Repo-Commit", None, "", "0" * 40, "../../evil", "main")),
    Kind("X-Error-Code", headers("X-Error-Code", "GatedRepo", "RepoNotFound", "x" * 9000)),
    Kind(
        "Link", headers("Link", "<", '<x>; rel="next"', "<>" * 999, '<file:///x>; rel="xet-auth"')
    ),
    Kind("X-Xet-Hash", headers("X-Xet-Hash", "0" * 64, "../../evil", "x")),
)

BOMBS = (
    Kind("large JSON", bomb_json, where="listing", slow=True),
    Kind("gzip bomb", fixed(status=200, body=bombs.GZIPPED, headers=bombs.GZIP), slow=True),
    Kind("endless body", fixed(status=200, body=bombs.ENDLESS), slow=True),
    Kind("many headers", fixed(raw=bombs.many_headers(100_000))),
    Kind("a long header", fixed(raw=bombs.long_header(1_000_000))),
    Kind("headers without end", fixed(raw=bombs.many_headers(4_000_000)), slow=True),
    Kind("interim answers without end", fixed(raw=bombs.many_hints(2_000_000)), slow=True),
    Kind("a hostile header", one_of(*HOSTILE), where="files"),
    Kind("an endless refusal", one_of(*ENDLESS_REFUSALS), slow=True),
    Kind("a refusal that stalls", one_of(*STALLING_REFUSALS), slow=True),
    Kind("an endless range", fixed(status=206, body=bombs.ENDLESS_HEAD), where="files", slow=True),
)

KINDS: tuple[Kind, ...] = (*CONNECTION, *FRAMING, *CONTENT, *ANSWERS, *BOMBS)
BY_NAME = {kind.name: kind for kind in KINDS}
