"""Hashing a file while it is written: only bytes that are in the finished file may count."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.sources.hub import following
from pipeline.sources.hub.following import Follower, begin_write_back


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(following, "WRITE_BACK_BYTES", 5000)
    monkeypatch.setattr(following, "INTERVAL_S", 0.001)


def seen(follower: Follower, num_bytes: int) -> None:
    """Wait until so much has been followed."""
    give_up_at = time.monotonic() + 120
    while follower.num_bytes != num_bytes and time.monotonic() < give_up_at:
        time.sleep(0.001)
    assert follower.num_bytes == num_bytes


def check(follower: Follower, path: Path) -> bool:
    """Whether the follower answers; what it answers must be true."""
    found, content = follower.finish(path), path.read_bytes()
    if found is None:
        return False
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.size_bytes == len(content)
    return True


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / "a.incomplete"


def test_a_file_that_grows(partial: Path, tmp_path: Path) -> None:
    follower = Follower(lambda: partial)
    content = random.Random(1).randbytes(20_000)
    with partial.open("wb", buffering=0) as stream:
        for start in range(0, len(content), 3000):
            stream.write(content[start : start + 3000])
            seen(follower, min(start + 3000, len(content)))
    whole = partial.rename(tmp_path / "whole")
    assert check(follower, whole)


def test_what_was_there_when_it_began(partial: Path) -> None:
    partial.write_bytes(b"x" * 5500)
    follower = Follower(lambda: partial)
    with partial.open("ab") as stream:
        stream.write(b"y" * 100)
    assert check(follower, partial)


@pytest.mark.parametrize("new", [b"", b"b", b"b" * 3000, b"b" * 9000])
def test_a_writer_that_begins_anew_in_the_same_file(new: bytes, partial: Path) -> None:
    """As the client does where a server ignores the range on resumption."""
    partial.write_bytes(b"a" * 3000)
    follower = Follower(lambda: partial)
    seen(follower, 3000)
    with partial.open("r+b") as stream:
        stream.truncate()
        stream.write(new)
    check(follower, partial)


def test_bytes_that_change_behind_our_back_never_count(partial: Path) -> None:
    partial.write_bytes(b"a" * 3000)
    follower = Follower(lambda: partial)
    seen(follower, 3000)
    with partial.open("r+b") as stream:
        stream.write(b"b")
    assert follower.finish(partial) is None


def test_holes_that_are_filled_later_never_count(partial: Path) -> None:
    """As storage clients do that write in parallel."""
    with partial.open("wb") as stream:
        os.truncate(stream.fileno(), 4000)
        follower = Follower(lambda: partial)
        seen(follower, 4000)
        stream.seek(1000)
        stream.write(b"late")
    assert follower.finish(partial) is None


def test_a_file_that_was_given_up_for_another(tmp_path: Path) -> None:
    first, second = tmp_path / "1.incomplete", tmp_path / "2.incomplete"
    first.write_bytes(b"a" * 3000)
    found = [first]
    follower = Follower(lambda: found[-1])
    seen(follower, 3000)
    second.write_bytes(b"b" * 2000)
    found.append(second)
    first.unlink()
    seen(follower, 2000)
    assert check(follower, second)


def test_another_file_than_the_followed_one(partial: Path, tmp_path: Path) -> None:
    partial.write_bytes(b"a" * 3000)
    follower = Follower(lambda: partial)
    seen(follower, 3000)
    (tmp_path / "other").write_bytes(b"b" * 3000)
    assert follower.finish(tmp_path / "other") is None


@pytest.mark.parametrize("find", [lambda: None, lambda: Path("/nonexistent/file")])
def test_nothing_to_follow(find: Callable[[], Path | None], partial: Path) -> None:
    partial.write_bytes(b"a")
    assert Follower(find).finish(partial) is None


def test_a_file_that_cannot_be_read_is_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "whole").write_bytes(b"a")
    assert Follower(lambda: tmp_path).finish(tmp_path / "whole") is None


def test_random_writers(partial: Path) -> None:
    """Whatever a writer does, what is answered is true."""
    dice = random.Random(2)
    answered = 0
    for _ in range(60):
        partial.write_bytes(b"")
        follower = Follower(lambda: partial)
        with partial.open("r+b", buffering=0) as stream:
            for _ in range(dice.randrange(12)):
                if dice.random() < 0.12:
                    stream.truncate(dice.randrange(1 + stream.tell()))
                    stream.seek(0, os.SEEK_END)
                elif dice.random() < 0.1:
                    stream.seek(dice.randrange(1 + stream.tell()))
                stream.write(dice.randbytes(dice.randrange(3000)))
                time.sleep(dice.choice((0, 0, 0.002)))
        answered += check(follower, partial)
    assert answered > 10


def test_write_back_of_what_is_no_file() -> None:
    begin_write_back(-1, 0, 10)
