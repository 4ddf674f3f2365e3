"""Small parts of the HTTP client: what a server asks to wait, and files that fill up."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from pathlib import Path

import pytest

from pipeline.sources.http.pace import Limits, Pace
from pipeline.sources.http.partial import open_partial
from pipeline.sources.http.retry_after import retry_after_s
from pipeline.sources.http.transport import ConnectionFailed, Get, open_address

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def headers(wish: str) -> Message:
    message = Message()
    message["Retry-After"] = wish
    return message


@pytest.mark.parametrize(
    ("wish", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("9" * 30, 999_999_999.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("\u0663", None),
        ("Wed, 99 Foo 2026 00:00:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)
def test_what_a_server_asks_to_wait(wish: str, seconds: float | None) -> None:
    assert retry_after_s(headers(wish)) == seconds


def test_a_date_to_wait_for() -> None:
    later = datetime.now(UTC) + timedelta(seconds=90)
    assert 80 < (retry_after_s(headers(format_datetime(later, usegmt=True))) or 0) <= 90


def test_a_body_may_be_slow_but_not_too_slow() -> None:
    pace = Pace(Limits(idle_s=1, slow_s=10, slow_bytes=100), 10**6)
    pace.start_body()
    for _ in range(5):
        pace.count(100, 9.9)
        assert pace.next_wait_s() == 1
        pace.count(0, 0.1)
        assert pace.next_wait_s() == 1
    pace.count(99, 10)
    with pytest.raises(TimeoutError, match="too slow"):
        pace.next_wait_s()


def test_an_answer_must_begin_in_time_whatever_comes() -> None:
    pace = Pace(Limits(answer_s=10), 10**6)
    pace.count(10**5, 9.0)
    assert pace.next_wait_s() == pytest.approx(1.0)
    pace.count(10**5, 1.0)
    with pytest.raises(TimeoutError, match="no answer in time"):
        pace.next_wait_s()


def test_an_answer_has_an_end() -> None:
    pace = Pace(Limits(), 1000)
    pace.count(1000, 0)
    with pytest.raises(ConnectionError, match="without end"):
        pace.count(1, 0)


def test_a_port_where_nobody_answers() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        get = Get(f"http://127.0.0.1:{deaf.getsockname()[1]}/", 10, limits=Limits(answer_s=0.1))
        with (
            pytest.raises(ConnectionFailed, match=r"nothing comes|no answer in time"),
            open_address(get),
        ):
            pass


def test_a_file_fills_up_over_openings(tmp_path: Path) -> None:
    final, there = tmp_path / "a" / DIGEST, []
    for begin in range(0, len(CONTENT), 4096):
        with open_partial(final, len(CONTENT), there.append, lambda: None) as partial:
            assert partial is not None
            assert partial.num_bytes == begin
            partial.append(memoryview(CONTENT)[begin : begin + 4096])
            if partial.is_whole(DIGEST):
                partial.finish()
    assert final.read_bytes() == CONTENT
    assert [path.name for path in final.parent.iterdir()] == [DIGEST]
    with open_partial(final, len(CONTENT), there.append, lambda: None) as partial:
        assert partial is None
    assert sum(there) == 4096 + 8192


def test_a_new_start_is_another_file_and_locked(tmp_path: Path) -> None:
    final = tmp_path / DIGEST
    with open_partial(final, len(CONTENT), lambda _: None, lambda: None) as partial:
        assert partial is not None
        partial.append(memoryview(b"wrong"))
        before = partial.path.stat().st_ino
        kept = os.open(partial.path, os.O_RDONLY)
        partial.restart()
        assert os.read(kept, 10) == b"wrong"
        assert partial.path.stat().st_ino != before
        other = os.open(partial.path, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
        os.close(kept)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_taken_away_gets_no_name(tmp_path: Path) -> None:
    final = tmp_path / DIGEST
    with open_partial(final, len(CONTENT), lambda _: None, lambda: None) as partial:
        assert partial is not None
        partial.append(memoryview(CONTENT))
        partial.path.rename(tmp_path / "elsewhere")
        partial.path.write_bytes(b"not whole")
        with pytest.raises(OSError, match="took it away"):
            partial.finish()
    assert not final.exists()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_not_written_to(kind: str, tmp_path: Path) -> None:
    final, victim = tmp_path / "store" / DIGEST, tmp_path / "victim"
    victim.write_bytes(b"mine")
    final.parent.mkdir()
    path = final.with_name(f"{DIGEST}.partial")
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    if kind == "pipe":
        with open_partial(final, len(CONTENT), lambda _: None, lambda: None) as partial:
            assert partial is not None
            partial.append(memoryview(CONTENT))
            partial.finish()
        assert final.read_bytes() == CONTENT
    else:
        with (
            pytest.raises(OSError, match=DIGEST),
            open_partial(final, len(CONTENT), lambda _: None, lambda: None),
        ):
            pass
    assert victim.read_bytes() == b"mine"
