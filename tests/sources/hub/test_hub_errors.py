"""What failures of the client mean."""

from __future__ import annotations

import errno
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
from huggingface_hub import errors

from pipeline.errors import MachineError, PipelineError, RemoteError, ResourceError
from pipeline.sources.crew import CutOffError
from pipeline.sources.hub.answers import Request
from pipeline.sources.hub.causes import from_xet, judge
from pipeline.sources.hub.checks import RefusedError, WrongAnswerError
from pipeline.sources.hub.errors import explain

REQUEST = Request("https://user:secret@hub.example:8443", "acme/tiny", "main")
FILE = Request("https://hub.example", "acme/tiny", "c" * 40, "model.safetensors")


class Answered(Exception):
    """An exception that carries an answer, as those of the client do."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = SimpleNamespace(status_code=status, headers=named)


def caused(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass(status: int) -> None:
    fault = judge(Answered(status))
    assert fault is not None
    assert fault.reason == f"the hub answered with HTTP {status}"
    assert fault.wait_s is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416])
def test_what_will_not(status: int) -> None:
    assert judge(Answered(status)) is None


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"Retry_After": "7"}, 7, 7),
        ({"Retry_After": " 120 "}, 120, 120),
        (
            {"Retry_After": format_datetime(datetime.now(UTC) + timedelta(hours=9))},
            8 * 3600,
            9 * 3600,
        ),
        ({"Retry_After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0, 0),
        ({"RateLimit": '"api";r=0;t=55'}, 55, 55),
        ({"Retry_After": "9" * 400}, 999_999_999, 999_999_999),
    ],
)
def test_what_the_server_wishes(headers: dict[str, str], low: float, high: float) -> None:
    fault = judge(Answered(429, **headers))
    assert fault is not None
    assert fault.wait_s is not None
    assert low <= fault.wait_s <= high


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry_After": "soon"},
        {"Retry_After": "²"},
        {"Retry_After": "-1"},
        {"Retry_After": "Fri, 31 Dec 9999 23:59:59 -2359"},
        {"RateLimit": '"api";r=9;t=55'},
        {"RateLimit": "x"},
    ],
)
def test_wishes_that_are_none(headers: dict[str, str]) -> None:
    fault = judge(Answered(429, **headers))
    assert fault is not None
    assert fault.wait_s is None


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset"),
        TimeoutError("slow"),
        OSError("Consistency check failed"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
        caused(errors.LocalEntryNotFoundError("not cached"), ConnectionError("down")),
    ],
)
def test_broken_connections_may_pass(error: Exception) -> None:
    fault = judge(error)
    assert fault is not None
    assert "Error" in fault.reason
    assert "LocalEntry" not in fault.reason
    explained = explain(error, FILE)
    assert isinstance(explained, RemoteError)
    assert "`model.safetensors` of `acme/tiny`" in explained.message


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "full"), ResourceError, "cache ran out of disk space: "),
        (PermissionError(errno.EACCES, "no", "/x"), MachineError, "by the file system: `/x`"),
        (OSError(errno.EDQUOT, "over"), ResourceError, "cache is over the disk quota: "),
        (OSError(errno.EIO, "bad"), MachineError, "cache met a failing disk or file server: "),
        (RuntimeError("x?sig=1: (os error 28)"), ResourceError, "cache ran out of disk space: "),
        (errors.OfflineModeIsEnabled("no"), RemoteError, "network is not to be used"),
        (errors.LocalEntryNotFoundError("no"), RemoteError, "network is not to be used"),
        (errors.FileMetadataError("no etag"), RemoteError, "does not answer like"),
        (
            caused(ConnectionError("x"), ssl.SSLCertVerificationError("self-signed")),
            RemoteError,
            "certificate of `hub.example:8443`",
        ),
        (Answered(404), RemoteError, "is not on the hub"),
        (Answered(403), RemoteError, "refuses access"),
        (Answered(418), RemoteError, "HTTP 418"),
    ],
)
def test_permanent_failures_are_told(
    error: Exception, kind: type[PipelineError], words: str
) -> None:
    assert judge(error) is None
    explained = explain(error, REQUEST)
    assert type(explained) is kind
    assert words in explained.message
    assert "sig=" not in str(explained)
    assert "secret" not in repr((explained.message, explained.hint, explained.facts))


def test_slow_is_not_unreachable() -> None:
    explained = explain(TimeoutError("read"), REQUEST)
    assert explained is not None
    assert "does not answer in time" in explained.message


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), MemoryError()])
def test_what_is_no_failure_of_the_hub_stays_as_it_is(error: Exception) -> None:
    assert judge(error) is None
    assert explain(error, REQUEST) is None


def test_failures_inside_the_xet_path() -> None:
    def xet_get() -> None:
        raise RuntimeError("storage")

    with pytest.raises(RuntimeError) as caught:
        xet_get()
    assert from_xet(caught.value)
    assert from_xet(caused(OSError("outer"), caught.value))
    assert not from_xet(RuntimeError("elsewhere"))


def broken_in(module: str, error: Exception) -> Exception:
    """An exception that was raised by the code of a module."""
    code = "def breaks(error):\n    raise error\n"
    names: dict[str, object] = {"__name__": module}
    exec(code, names)
    with pytest.raises(type(error)) as caught:
        names["breaks"](error)  # type: ignore[operator]
    return caught.value


def test_what_we_cut_off() -> None:
    passing = CutOffError("has sent next to nothing for 40 s", final=False)
    fault = judge(passing)
    assert fault is not None
    assert fault.reason == "the hub has sent next to nothing for 40 s"
    assert judge(CutOffError("has not finished", final=True)) is None
    explained = explain(passing, FILE)
    assert isinstance(explained, RemoteError)
    assert explained.message.startswith("`hub.example` has sent next to nothing for 40 s, asked")
    assert "HF_HUB_DOWNLOAD_TIMEOUT" in (explained.hint or "")


@pytest.mark.parametrize(
    "error",
    [
        WrongAnswerError("redirects in a circle"),
        caused(OSError("client"), WrongAnswerError("redirects in a circle")),
        type("TooManyRedirects", (OSError,), {})("30"),
        RecursionError("deep"),
    ],
)
def test_circles_are_not_tried_again(error: Exception) -> None:
    assert judge(error) is None
    explained = explain(error, FILE)
    assert isinstance(explained, RemoteError)
    assert "redirects in a circle" in explained.message


def test_a_client_that_breaks_on_an_answer() -> None:
    error = broken_in("huggingface_hub.file_download", ValueError("secret"))
    assert judge(error) is None
    explained = explain(error, FILE)
    assert isinstance(explained, RemoteError)
    assert "in a way that is not understood" in explained.message
    assert explained.facts == ("ValueError in `huggingface_hub.file_download`",)


def test_what_breaks_in_our_own_code_is_not_the_hubs_fault() -> None:
    assert explain(broken_in("pipeline.sources.hub.repo", ValueError("bug")), FILE) is None
    assert explain(broken_in("huggingface_hub.x", MemoryError()), FILE) is None


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Cannot send a request, as the client has been closed."),
        broken_in("huggingface_hub.utils._http", AttributeError("'NoneType' object")),
    ],
)
def test_a_session_that_another_thread_closed(error: Exception) -> None:
    assert judge(error) is not None
    assert isinstance(explain(error, FILE), RemoteError)


def test_what_only_looks_like_an_answer() -> None:
    """Exceptions of urllib3 carry a response too, of another kind."""
    error = Exception("broken chunk")
    error.response = object()  # type: ignore[attr-defined]
    assert judge(caused(ConnectionError("broken"), error)) is not None


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (401, {"X_Error_Code": "RepoNotFound"}, "does not exist, or is private"),
        (403, {"X_Error_Code": "GatedRepo"}, "is gated"),
        (404, {"X_Error_Code": "RevisionNotFound"}, "has no revision `main`"),
        (404, {"X_Error_Code": "EntryNotFound"}, "is not on the hub"),
        (403, {"X_Error_Message": "Access to this resource is disabled."}, "is disabled"),
        (401, {}, "refuses access"),
        (400, {}, "HTTP 400"),
        (503, {}, "HTTP 503"),
    ],
)
def test_every_refusal_has_a_hint(status: int, headers: dict[str, str], words: str) -> None:
    explained = explain(RefusedError(Answered(status, **headers).response), REQUEST)
    assert isinstance(explained, RemoteError)
    assert words in explained.message
    assert "sig=" not in str(explained)
    assert explained.hint
    assert "secret" not in repr((explained.message, explained.hint, explained.facts))
