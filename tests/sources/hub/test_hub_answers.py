"""What a hub may answer, and who is named where something fails."""

from __future__ import annotations

import socket
import ssl
from types import SimpleNamespace

import pytest

from pipeline.errors import RemoteError, VerificationError
from pipeline.sources.hub.answers import Request
from pipeline.sources.hub.causes import judge
from pipeline.sources.hub.checks import (
    ContradictionError,
    NoAddressError,
    WrongAnswerError,
    check_answer,
)
from pipeline.sources.hub.errors import explain

REQUEST = Request("https://user:secret@hub.example", "acme/tiny", "main", "x.safetensors")


def answer(
    status: int = 200, asked: str | None = "https://hub.example/x", **headers: str
) -> SimpleNamespace:
    """An answer to HEAD of one of the HTTP libraries, as far as it is looked at."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = SimpleNamespace(method="HEAD", url=asked, headers={})
    return SimpleNamespace(status_code=status, headers=named, request=request, url=asked)


@pytest.mark.parametrize(
    "location",
    [
        "https://cdn.example/x?sig=1#part",
        "/elsewhere",
        "../x",
        "//cdn.example/x",
        "http://[::1]:8080/x",
        "",
    ],
)
def test_redirects_that_lead_somewhere(location: str) -> None:
    check_answer(answer(302, Location=location), None, None)


@pytest.mark.parametrize(
    "location",
    [
        "http:///x",
        "ftp://cdn.example/x",
        "javascript:void(0)",
        "file:///etc/passwd",
        "http://[::1",
        "http://cdn.example:99999/",
        "http://cdn.example:port/",
        "http://cdn.example:0/",
        "http:\\\\cdn.example\\x",
        "http://a..b/",
        f"http://{'a' * 64}.example/",
        "http://cdn.example/\x00",
    ],
)
def test_redirects_to_no_address(location: str) -> None:
    """Not tried again: the HTTP libraries take some for connections that failed."""
    with pytest.raises(NoAddressError) as caught:
        check_answer(answer(302, Location=location), None, None)
    assert judge(caught.value) is None
    assert explain(caught.value, REQUEST) is not None


@pytest.mark.parametrize(
    ("status", "headers"), [(304, {}), (302, {}), (300, {"Location": "/x"}), (399, {})]
)
def test_redirects_that_do_not_say_where(status: int, headers: dict[str, str]) -> None:
    with pytest.raises(WrongAnswerError, match=rf"without saying where \(HTTP {status}\)"):
        check_answer(answer(status, **headers), None, None)


def test_another_size_is_told_before_anything_is_fetched() -> None:
    wrong = [
        answer(302, Location="/x", X_Linked_Size="7"),
        answer(200, ETag="a", Content_Length="7"),
    ]
    for each in wrong:
        with pytest.raises(ContradictionError, match="says 7 bytes where it lists 1,000") as caught:
            check_answer(each, None, 1000)
        assert judge(caught.value) is None
        explained = explain(caught.value, REQUEST)
        assert isinstance(explained, VerificationError), "what is remembered is forgotten then"
        assert "run again" in str(explained.hint)
        check_answer(each, None, None)
    for each in (
        answer(200, ETag="a", X_Linked_Size="1000", Content_Length="7"),
        answer(200, ETag="a", Content_Length="7", Content_Encoding="gzip"),
        answer(200, ETag="a", X_Linked_Size="9" * 5000),
        answer(200, ETag="a", Content_Length="²"),
    ):
        check_answer(each, None, 1000)


def test_names_of_files_in_the_cache() -> None:
    """The client takes `X-Linked-Etag`, else `ETag`."""
    digest, other = "ab" * 32, "cd" * 32
    for name in (f'"{digest}"', digest, f'W/"{digest}"', '"a-mirror.s-own"', '"' + "c" * 32 + '"'):
        check_answer(answer(ETag=name), None, None, digest)
    check_answer(answer(X_Linked_Etag=digest, ETag=f'"{other}"'), None, None, digest)
    check_answer(answer(), None, None, digest)
    for name in ("", '""', "../x", "a/b", ".", "a b"):
        with pytest.raises(WrongAnswerError, match="`ETag` that is no name for a file"):
            check_answer(answer(ETag=name), None, None, digest)
    for name in (f'"{other}"', f'W/"{other}"', digest.upper()):
        with pytest.raises(ContradictionError, match="another digest than it lists"):
            check_answer(answer(X_Linked_Etag=name, ETag=digest), None, None, digest)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("https://hub.example/acme/tiny/resolve/main/x", "`hub.example` "),
        ("https://HUB.example:443/x", "`hub.example` "),
        (
            "https://key:sig@cdn.example:8443/x?sig=1",
            "`cdn.example:8443`, where `hub.example` sends us, ",
        ),
        (None, "`hub.example` "),
    ],
)
@pytest.mark.parametrize("status", [404, 500, 403])
def test_who_answered_is_named(address: str | None, words: str, status: int) -> None:
    error = Exception()
    error.response = answer(status, asked=address)  # type: ignore[attr-defined]
    explained = explain(error, REQUEST)
    assert isinstance(explained, RemoteError)
    told = f"{explained.message} {explained.hint}"
    if "cdn" in words or status != 404:
        assert words in f"{explained.message} "
    assert ("cdn.example" in told) == ("cdn" in (address or ""))
    assert "sig" not in told.replace("signed", "")


def hidden(cause: Exception, words: str) -> Exception:
    """A cause that an exception of httpcore hides, as httpx reports it."""
    middle = type("ConnectError", (Exception,), {"__module__": "httpcore2"})(words)
    middle.__context__, middle.__suppress_context__ = cause, True
    outer = ConnectionError(words)
    outer.__cause__ = middle
    return outer


def test_a_refused_certificate_is_seen_behind_httpcore() -> None:
    refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
    refused.verify_message = "self-signed certificate"
    error = hidden(refused, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    assert judge(error) is None
    explained = explain(error, REQUEST)
    assert isinstance(explained, RemoteError)
    assert "certificate of `hub.example` is not trusted" in explained.message
    assert explained.facts == ("self-signed certificate",)
    assert "SSL_CERT_FILE" in str(explained.hint)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (socket.gaierror(-2, "unknown"), "cannot be reached: no address is known for its name"),
        (ConnectionRefusedError(111, "refused"), "cannot be reached: it refuses connections"),
        (type("DecodingError", (Exception,), {})(), "sends what cannot be unpacked"),
        (type("RemoteProtocolError", (Exception,), {})(), "does not keep to HTTP"),
        (type("ReadTimeout", (Exception,), {})(), "does not answer in time"),
    ],
)
def test_what_failed_of_a_connection(cause: Exception, words: str) -> None:
    error = hidden(cause, "failed")
    assert judge(error) is not None
    explained = explain(error, REQUEST)
    assert isinstance(explained, RemoteError)
    assert explained.message.startswith("`hub.example` ")
    assert words in explained.message
    assert explained.hint
