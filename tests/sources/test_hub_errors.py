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
from pipeline.sources.hub_errors import Request, explain, from_xet, judge

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
    ],
)
def test_what_the_server_wishes(headers: dict[str, str], low: float, high: float) -> None:
    fault = judge(Answered(429, **headers))
    assert fault is not None
    assert fault.wait_s is not None
    assert low <= fault.wait_s <= high


@pytest.mark.parametrize(
    "headers", [{"Retry_After": "soon"}, {"RateLimit": '"api";r=9;t=55'}, {"RateLimit": "x"}]
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
        (OSError(errno.ENOSPC, "full"), ResourceError, "cache is full"),
        (PermissionError(errno.EACCES, "no", "/x"), MachineError, "cannot be written: `/x`"),
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
    assert "secret" not in repr((explained.message, explained.hint, explained.facts))


def test_slow_is_not_unreachable() -> None:
    explained = explain(TimeoutError("read"), REQUEST)
    assert explained is not None
    assert "does not answer in time" in explained.message


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), OSError(errno.EIO, "x")])
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
