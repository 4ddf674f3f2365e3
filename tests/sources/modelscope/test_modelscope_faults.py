"""A ModelScope, its CDN or the network misbehave: no wrong file is accepted, no request endless."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from modelscope_emulator import ModelScopeEmulator
from modelscope_opening import QUICK, Counting, Opening
from tiny_source import REPO

from pipeline.errors import (
    MachineError,
    PipelineError,
    RemoteError,
    ResourceError,
    VerificationError,
)
from pipeline.progress import Silent
from pipeline.sources.http import partial as http_partial
from pipeline.sources.http.pace import Limits
from pipeline.sources.http.transport import LIMITS

WEIGHTS = "model-00001-of-00002.safetensors"
HTML = {"Content-Type": "text/html"}
MAX_ATTEMPTS = 5


@pytest.fixture
def site() -> Iterator[ModelScopeEmulator]:
    with ModelScopeEmulator() as emulator:
        yield emulator


@pytest.fixture
def opening(site: ModelScopeEmulator, tmp_path: Path, files: dict[str, bytes]) -> Opening:
    site.add(REPO, files)
    return Opening(site, tmp_path)


@pytest.fixture
def size(files: dict[str, bytes]) -> int:
    return len(files[WEIGHTS])


def asked_for_weights(site: ModelScopeEmulator, files: dict[str, bytes]) -> int:
    """How often the CDN was asked for the file that the tests fetch."""
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    return sum(digest in path for path in site.paths("cdn"))


def limits_for(fault: dict[str, Any]) -> Limits:
    """Short ones only where a server is slow on purpose."""
    if not {"stall_at", "trickle_s"} & fault.keys():
        return LIMITS
    return replace(QUICK, answer_s=0.3) if "raw" in fault else QUICK


PASSING: dict[str, dict[str, Any]] = {
    "cut": {"cut_at": 100_000},
    "cut at once": {"cut_at": 0},
    "cut before its last byte": {"cut_at": 400_159},
    "reset": {"reset_at": 100_000},
    "stall": {"stall_at": 100_000},
    "trickle": {"trickle_s": 0.01},
    "one wrong byte": {"flip_at": 7},
    "503": {"status": 503, "times": 4},
    "500 and more": {"status": 500, "times": 2},
    "429 that says for how long": {"status": 429, "headers": {"Retry-After": "7"}},
    "a signed address that has expired": {"status": 403, "body": b"<Error>", "times": 2},
    "HTML in place of the file": {"status": 200, "headers": HTML, "body": b"<html>login"},
    "shorter, as it says itself": {"length": 1000, "cut_at": 1000},
    "longer, as it says itself": {"length": 999_999},
    "longer than it says": {"more": b"more", "length": 400_160},
    "longer, in chunks": {"more": b"more", "chunked": True},
    "cut, in chunks": {"chunked": True, "cut_at": 100_000},
    "no length, and cut": {"length": -1, "cut_at": 100_000},
    "a range that nobody asked for": {"span": "bytes 0-400159/400160"},
    "packed": {"headers": {"Content-Encoding": "gzip"}, "status": 200, "body": b"\x1f\x8b"},
    "no HTTP": {"raw": b"220 mail.example ESMTP\r\n"},
    "a header without end": {"raw": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000},
    "too many headers": {"raw": b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 500 + b"\r\n"},
    "100 again and again": {"raw": b"HTTP/1.1 100 Continue\r\n\r\n" * 200_000},
    "chunks of no size": {
        "raw": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n\r\n"
    },
    "nothing at all": {"raw": b""},
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_file_survives_what_passes(
    fault: str, site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    site.fail("cdn", digest, **PASSING[fault])
    opening.limits = limits_for(PASSING[fault])
    progress = Counting()
    assert opening.fetch_one(WEIGHTS, progress) == files[WEIGHTS]
    assert progress.advanced + progress.skipped == len(files[WEIGHTS])
    assert asked_for_weights(site, files) <= MAX_ATTEMPTS
    assert set(opening.stored()) >= {digest}
    assert not any(name.endswith(".partial") for name in opening.stored())


LASTING: dict[str, tuple[dict[str, Any], type[PipelineError], str, int]] = {
    "cut": ({"cut_at": 0}, RemoteError, "cannot be reached, or breaks off", 5),
    "reset": ({"reset_at": 0}, RemoteError, "cannot be reached, or breaks off", 5),
    "stall": ({"stall_at": 0}, RemoteError, "cannot be reached, or breaks off", 2),
    "trickle": ({"trickle_s": 0.02}, RemoteError, "cannot be reached, or breaks off", 2),
    "trickled headers": (
        {"raw": b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 90, "trickle_s": 0.02},
        RemoteError,
        "cannot be reached, or breaks off",
        2,
    ),
    "503": ({"status": 503}, RemoteError, "with HTTP 503", 5),
    "429": ({"status": 429}, RemoteError, "gets too many requests", 5),
    "404": ({"status": 404}, RemoteError, rf"sends us, answered `{WEIGHTS}` .* HTTP 404", 1),
    "403": ({"status": 403}, RemoteError, "sends us, answered .* HTTP 403", 5),
    "400": ({"status": 400}, RemoteError, "with HTTP 400", 1),
    "204": ({"status": 204}, RemoteError, "with HTTP 204", 1),
    "416": ({"status": 416}, RemoteError, "with HTTP 416", 1),
    "one wrong byte": ({"flip_at": -1}, VerificationError, "is not what ModelScope published", 2),
    "HTML": (
        {"status": 200, "headers": HTML, "body": b"<html>"},
        VerificationError,
        "is not what ModelScope published",
        2,
    ),
    "shorter": ({"length": 10, "cut_at": 10}, VerificationError, "is not what ModelScope", 2),
    "longer": ({"more": b"x"}, VerificationError, "is not what ModelScope published", 2),
    "longer, in chunks": ({"more": b"x", "chunked": True}, VerificationError, "is not what", 2),
    "shorter, in chunks": (
        {"chunked": True, "status": 200, "body": b"x"},
        RemoteError,
        "breaks",
        5,
    ),
    "wrong part": ({"span": "bytes 5-9/400160"}, RemoteError, "cannot be reached, or breaks", 5),
    "no HTTP": ({"raw": b"SSH-2.0-x\r\n"}, RemoteError, "cannot be reached, or breaks off", 5),
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_file_is_given_up(
    fault: str, site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    how, kind, message, attempts = LASTING[fault]
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    site.fail("cdn", digest, times=10**6, **how)
    opening.limits, opening.attempts = limits_for(how), max(attempts, 2)
    with pytest.raises(kind, match=message) as caught:
        opening.fetch_one(WEIGHTS)
    assert caught.value.hint
    assert asked_for_weights(site, files) == attempts
    assert digest not in opening.stored()


def test_a_file_goes_on_where_it_broke_off(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes], size: int
) -> None:
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    site.fail("cdn", digest, cut_at=30_000, times=3)
    assert opening.fetch_one(WEIGHTS) == files[WEIGHTS]
    ranges = [r.headers.get("range") for r in site.requests if digest in r.path]
    offsets = [30_000, 60_000, 90_000]
    assert ranges == [None, *(f"bytes={offset}-{size - 1}" for offset in offsets)]


def test_many_cuts_are_survived_while_there_is_progress(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    """Five attempts in a row bring 100,000 bytes here, which earns five more."""
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    site.fail("cdn", digest, cut_at=30_000, times=10**6)
    assert opening.fetch_one(WEIGHTS) == files[WEIGHTS]
    assert asked_for_weights(site, files) == 14


@pytest.mark.parametrize(
    "answer",
    [
        {"ignore_range": True},
        {"span": "bytes 0-400159/400160"},
        {"span": "bytes 50000-400159/400160"},
        {"span": "bytes 100000-200000/400160"},
        {"span": "bytes */400160"},
        {"span": "pages 1-2/3"},
        {"span": "bytes 100000-400159/400161"},
        {"status": 416},
    ],
)
def test_resuming_from_a_server_with_ranges_of_its_own(
    answer: dict[str, Any], site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    site.fail("cdn", digest, cut_at=100_000)
    site.fail("cdn", digest, **answer)
    progress = Counting()
    assert opening.fetch_one(WEIGHTS, progress) == files[WEIGHTS]
    assert asked_for_weights(site, files) <= MAX_ATTEMPTS
    assert progress.advanced == len(files[WEIGHTS])


def test_the_commit_changes_between_listing_and_download(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    source = opening()
    commit = site.repos[REPO].branches["master"]
    site.repos[REPO].commits[commit] = {**files, "LICENSE": b"no longer free"}
    with pytest.raises(VerificationError, match="`LICENSE` of `acme/tiny` is not what ModelScope"):
        source.fetch(opening.out(), Silent())
    planned = opening(commit)
    site.repos[REPO].commits.clear()
    with pytest.raises(RemoteError, match=r"is not on `127\.0\.0\.1"):
        planned.fetch(opening.out("again"), Silent())


def test_waits_are_what_the_server_asks_for(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    site.fail("cdn", digest, status=429, headers={"Retry-After": "42"})
    opening.fetch_one(WEIGHTS)
    assert [int(wait) for wait in opening.waits] == [42]
    assert 42 <= opening.waits[0] < 44


def test_planning_says_that_it_asks_once_more(site: ModelScopeEmulator, opening: Opening) -> None:
    site.fail("api", "commits", status=503, times=2)
    notes: list[str] = []
    replace(opening.client(), note=notes.append).describe("master")
    assert [note.partition("; ")[2].partition(" in ")[0] for note in notes] == [
        "attempt 2 of 5",
        "attempt 3 of 5",
    ]


def test_a_wait_beyond_the_deadline_is_not_begun(
    site: ModelScopeEmulator, opening: Opening
) -> None:
    site.fail("api", "commits", status=503, headers={"Retry-After": "86400"})
    with pytest.raises(RemoteError, match="answered the repo `acme/tiny` with HTTP 503"):
        opening()
    assert opening.waits == []


def envelope(**data: Any) -> bytes:
    return json.dumps({"Code": 200, "Success": True, "Data": data}).encode()


NOT_A_SITE: dict[str, dict[str, Any]] = {
    "HTML": {"status": 200, "headers": HTML, "body": b"<html>"},
    "HTML with 404": {"status": 404, "headers": HTML, "body": b"<html>"},
    "a list": {"status": 200, "body": b"[]"},
    "no code": {"status": 200, "body": b'{"Data": {}}'},
    "no data": {"status": 200, "body": b'{"Code": 200, "Data": null, "Success": true}'},
    "cut JSON": {"status": 200, "body": b'{"Code": 200, "Data": {'},
    "deep": {"status": 200, "body": b'{"Code": 200, "Data": ' + b"[" * 100_000},
    "a bomb": {"status": 200, "body": b'{"Code": 200, "Data": [' + b"{}," * 600_000 + b"{}]}"},
    "keys twice": {"status": 200, "body": b'{"Code": 200, "Code": 200, "Data": {}}'},
    "a commit that is none": {"status": 200, "body": envelope(Commit=[{"Id": "../x"}])},
    "a commit of another shape": {"status": 200, "body": envelope(Commit={"Id": 1})},
}


@pytest.mark.parametrize("answer", NOT_A_SITE)
def test_something_else_answers(answer: str, site: ModelScopeEmulator, opening: Opening) -> None:
    site.fail("api", "commits", **NOT_A_SITE[answer])
    with pytest.raises(RemoteError, match="does not answer like a ModelScope") as told:
        opening()
    assert "MODELSCOPE_ENDPOINT" in (told.value.hint or "")
    assert len(site.requests) == 1


def test_an_answer_without_end_is_left(site: ModelScopeEmulator, opening: Opening) -> None:
    site.fail("api", "commits", status=200, body=b" " * (40 << 20))
    with pytest.raises(RemoteError, match="does not answer like a ModelScope"):
        opening()
    assert len(site.requests) == 1


LISTINGS: dict[str, tuple[bytes, str]] = {
    "no list": (envelope(Files={"a": 1}), "does not answer like"),
    "entries that are none": (envelope(Files=[1]), "does not answer like"),
    "no path": (envelope(Files=[{"Type": "blob"}]), "does not answer like"),
    "nothing": (envelope(Files=None), "has no revision"),
    "of another commit": (
        envelope(Files=[], LatestCommitter={"Id": "f" * 40}),
        "does not answer like",
    ),
}


@pytest.mark.parametrize("answer", LISTINGS)
def test_listings_that_are_none(answer: str, site: ModelScopeEmulator, opening: Opening) -> None:
    body, message = LISTINGS[answer]
    site.fail("api", "repo/files", status=200, body=body)
    with pytest.raises(RemoteError, match=message):
        opening()


@pytest.mark.parametrize(
    "name",
    [
        "additional_chat_templates/a\x1b[31m.jinja",
        "additional_chat_templates/CON.jinja",
        "additional_chat_templates/..\\x.jinja",
    ],
)
def test_hostile_names(
    name: str, site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    site.add(REPO, {**files, name: b"x"})
    with pytest.raises(VerificationError, match="file names that are refused"):
        opening()
    assert opening.stored().keys() <= {
        hashlib.sha256(files["model.safetensors.index.json"]).hexdigest()
    }


@pytest.mark.parametrize("name", ["../x.safetensors", "/x.safetensors", "a/../../x.safetensors"])
def test_hostile_names_in_an_index(
    name: str, site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    index = json.dumps({"metadata": {}, "weight_map": {"a": name}}).encode()
    site.add(REPO, {**files, "model.safetensors.index.json": index, name: b"x"})
    with pytest.raises(VerificationError, match=r"bad names|file names that are refused"):
        opening()
    assert set(opening.stored()) == {hashlib.sha256(index).hexdigest()}


def test_a_file_listed_twice(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    entry = {"Path": "LICENSE", "Type": "blob", "Size": 4, "Sha256": "0" * 64}
    body = envelope(Files=[entry, {**entry, "Size": 5}])
    site.fail("api", "repo/files", status=200, body=body)
    with pytest.raises(VerificationError, match="lists `LICENSE` twice"):
        opening()


@pytest.mark.parametrize("size", [-1, 1.5, "4", None, True, 1 << 60])
def test_sizes_that_are_none(
    size: Any, site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    site.add(REPO, files, changes={"LICENSE": {"Size": size}})
    with pytest.raises(VerificationError, match="ModelScope publishes no size and digest of files"):
        opening()


@pytest.mark.parametrize("more", [{}, {"NOTICE": b"free"}])
def test_a_wrong_size_is_no_file(
    more: dict[str, bytes], site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    site.add(REPO, {**files, **more}, changes={"LICENSE": {"Size": 3}})
    with pytest.raises(VerificationError, match="`LICENSE` of `acme/tiny` is not what") as told:
        opening().fetch(opening.out(), Silent())
    if not more:
        assert "what came: 4 bytes" in told.value.facts


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_elsewhere_gets_no_token(
    status: int, site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    site.add(REPO, files, token="ms-secret")
    location = {"Location": f"{site.cdn}/api/v1/models/{REPO}/commits?Ref=master"}
    site.fail("api", "commits", status=status, headers=location)
    site.fail("cdn", "commits", status=404)
    with pytest.raises(RemoteError):
        opening(token="ms-secret")
    (elsewhere,) = [request for request in site.requests if request.server == "cdn"]
    assert not {"authorization", "cookie"} & elsewhere.headers.keys()


def test_a_redirect_back_gets_no_token_either(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    site.add(REPO, files, token="ms-secret")
    there, back = {"Location": f"{site.cdn}/x"}, {"Location": f"{site.endpoint}/steal"}
    site.fail("api", "commits", status=302, headers=there)
    site.fail("cdn", "/x", status=302, headers=back)
    with pytest.raises(RemoteError):
        opening(token="ms-secret")
    assert site.requests[-1].path == "/steal"
    assert "authorization" not in site.requests[-1].headers


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("{api}/api/v1/models/acme/tiny/commits", "more than 5 other addresses"),
        ("http://192.0.2.1/x", "without encryption"),
        ("file:///etc/passwd", "of the kind `file`"),
        ("ftp://example.org/x", "of the kind `ftp`"),
        ("https://user:pass@example.org/x", "with a name and password"),
        ("https:///x", "without a host"),
        (f"https://{'a' * 70}.example/x", "without a host"),
        ("https://a..example/x", "without a host"),
        ("http://[::1", "that is not one"),
        ("http://127.0.0.1:99999/", "that is not one"),
        ("", "nowhere"),
        ("https://example.org/" + "x" * 20_000, "that is not one"),
    ],
)
def test_redirects_that_are_not_followed(
    location: str, reason: str, site: ModelScopeEmulator, opening: Opening
) -> None:
    headers = {"Location": location.format(api=site.endpoint)}
    site.fail("api", "commits", status=302, headers=headers, times=10**6)
    with pytest.raises(RemoteError, match="sends us elsewhere") as told:
        opening()
    assert reason in told.value.facts[0]
    assert len(site.requests) <= 6


def test_missing_repo(site: ModelScopeEmulator, opening: Opening) -> None:
    with pytest.raises(RemoteError, match="`acme/none` does not exist on `127") as told:
        opening(repo="acme/none")
    assert "source.repo" in (told.value.hint or "")
    assert "MODELSCOPE_PREFER_AI_SITE" in (told.value.hint or "")
    assert len(site.requests) == 1


def test_private_repo(site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]) -> None:
    site.add(REPO, files, token="ms-secret")
    for token in (None, "ms-wrong"):
        with pytest.raises(RemoteError, match="it is private, or its terms must be") as told:
            opening(token=token)
        assert "MODELSCOPE_API_TOKEN" in (told.value.hint or "")
        assert f"{site.endpoint}/models/acme/tiny" in (told.value.hint or "")
    assert len(site.requests) == 2


@pytest.mark.parametrize("revision", ["v9", "0123456789" * 4])
def test_missing_revision(revision: str, site: ModelScopeEmulator, opening: Opening) -> None:
    with pytest.raises(RemoteError, match=f"`acme/tiny` has no revision `{revision}`") as told:
        opening(revision)
    assert "`master`" in (told.value.hint or "")
    assert len(site.requests) == 1


def test_a_site_that_cannot_be_reached(
    site: ModelScopeEmulator, opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "endpoint", "http://127.0.0.1:9")
    with pytest.raises(RemoteError, match="cannot be reached, or breaks off") as told:
        opening()
    assert told.value.facts == ("ConnectionRefusedError",)
    assert len(opening.waits) == MAX_ATTEMPTS - 1


def test_headers_of_weights_survive_what_passes(site: ModelScopeEmulator, opening: Opening) -> None:
    site.fail("cdn", "/lfs/", cut_at=3)
    site.fail("cdn", "/lfs/", status=503)
    site.fail("cdn", "/lfs/", ignore_range=True)
    site.fail("cdn", "/lfs/", span="bytes 5-9/100")
    assert set(opening().checkpoint().tensors) == {"a", "b", "c"}
    assert len(site.paths("cdn")) <= 10


@pytest.mark.parametrize("length", [b"\xff" * 8, b"\x01" + bytes(7), b""])
def test_headers_that_are_none(
    length: bytes, site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    site.add(REPO, {**files, WEIGHTS: length + b"x" * 100})
    with pytest.raises(VerificationError, match=WEIGHTS):
        opening().checkpoint()
    assert site.sent_bytes < 100_000


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.ENOSPC, ResourceError, "to the store ran out of disk space"),
        (errno.EDQUOT, ResourceError, "to the store is over the disk quota"),
        (errno.EIO, MachineError, "to the store met a failing disk"),
    ],
)
def test_the_disk_does_not_take_it(
    number: int,
    kind: type[PipelineError],
    message: str,
    site: ModelScopeEmulator,
    opening: Opening,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = opening()
    real, written = os.pwrite, 0

    def pwrite(descriptor: int, block: Any, offset: int) -> int:
        nonlocal written
        written += len(block)
        if written > 100_000:
            raise OSError(number, os.strerror(number))
        return real(descriptor, block, offset)

    monkeypatch.setattr(http_partial.os, "pwrite", pwrite)
    with pytest.raises(kind, match=message):
        source.fetch(opening.out(), Silent())
    monkeypatch.undo()
    source.fetch(opening.out("again"), Silent())
    assert (opening.out("again") / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_an_interrupt_ends_all_and_loses_nothing(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    source = opening()

    class Interrupting(Counting):
        def advance(self, amount: int) -> None:
            super().advance(amount)
            if self.advanced > 100_000:
                raise KeyboardInterrupt

    before = set(threading.enumerate())  # another test may have left one that waits for its hub
    with pytest.raises(KeyboardInterrupt):
        source.fetch(opening.out(), Interrupting())
    # The emulator's own come and go; what it has not quite started cannot be joined yet.
    ours = [each for each in threading.enumerate() if each.name.startswith("source-")]
    for thread in set(ours) - before:
        thread.join(120)
        assert not thread.is_alive()
    partial = opening.stored()[f"{digest}.partial"]
    assert partial
    assert files[WEIGHTS].startswith(partial)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_files_are_not_shared(
    number: int,
    opening: Opening,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def flock(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(http_partial.fcntl, "flock", flock)
    assert opening.fetch_one(WEIGHTS) == files[WEIGHTS]
    names = opening.stored()
    assert hashlib.sha256(files[WEIGHTS]).hexdigest() in names
    assert sum(name.endswith(".partial") for name in names) == 0


def test_two_at_once_fetch_a_file_once(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    one_waits = threading.Event()
    site.fail("cdn", digest, stall_at=100_000, stalled=one_waits)
    waiting = f"another process is fetching `{WEIGHTS}`: waiting for it"
    results: list[bytes] = []

    class Telling(Counting):
        def note(self, message: str) -> None:
            super().note(message)
            if message == waiting:
                one_waits.set()

    progress = [Telling(), Telling()]
    threads = [
        threading.Thread(target=lambda one=one: results.append(opening.fetch_one(WEIGHTS, one)))
        for one in progress
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results == [files[WEIGHTS]] * 2
    assert asked_for_weights(site, files) == 2  # the stall, and the rest after it
    assert sorted([waiting in one.notes for one in progress]) == [False, True]
