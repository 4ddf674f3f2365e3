"""Random faults of a ModelScope and its CDN, several at once: right files, or a plain error.

`MODELSCOPE_ROUNDS` sets how many rounds; each is told by its number, which is its seed.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from modelscope_emulator import ModelScopeEmulator
from modelscope_opening import QUICK, Opening
from tiny_source import REPO, weight_file

from pipeline.errors import RemoteError, VerificationError
from pipeline.progress import Silent

ROUNDS = int(os.environ.get("MODELSCOPE_ROUNDS", "25"))
FILES = {
    "config.json": b'{"architectures": ["X"]}',
    "LICENSE": b"free",
    "tokenizer_config.json": b"{}",
    "model.safetensors": weight_file("a", num_bytes=300_000),
}
DIGESTS = {hashlib.sha256(content).hexdigest(): content for content in FILES.values()}
MOST_REQUESTS = 60
"""Eight addresses, most of them right at once; the worst of 600 rounds took 21."""


def random_fault(rng: random.Random) -> dict[str, Any]:
    """One fault for one or more requests."""
    kinds: dict[str, Any] = {
        "cut_at": rng.choice([0, 1, 100, rng.randrange(300_000)]),
        "reset_at": rng.choice([0, rng.randrange(300_000)]),
        "flip_at": rng.randrange(10**6),
        "ignore_range": True,
        "length": rng.choice([-1, 0, 5, 10**6]),
        "span": rng.choice(["bytes 0-9/10", "bytes */5", "bytes 7-6/5", "x"]),
        "chunked": True,
        "more": b"more",
        "raw": rng.choice(
            [b"", b"\x00" * 100, b"HTTP/1.1 200\r\n\r\n{}", b"HTTP/1.1 999 X\r\n\r\n"]
        ),
        "status": rng.choice([200, 204, 206, 301, 302, 400, 401, 403, 404, 416, 429, 500, 503]),
    }
    names = rng.sample(sorted(kinds), rng.choice([1, 1, 1, 2]))
    fault = {name: kinds[name] for name in names}
    if "status" in fault:
        fault["body"] = rng.choice([b"", b"<html>", b"{}", b'{"Code": 200}', b"[[[["])
        fault["headers"] = {"Location": rng.choice(["/", "x:y", "http://127.0.0.1:1/"])}
    return fault | {"times": rng.choice([1, 1, 2, 6])}


def play(number: int, folder: Path) -> tuple[str, int]:
    """One round: how it ended, and how many requests it took."""
    rng = random.Random(number)
    with ModelScopeEmulator() as site:
        site.add(REPO, FILES)
        opening = Opening(site, folder / str(number), QUICK)
        opening.folder.mkdir()
        for _ in range(rng.choice([1, 2, 3, 4])):
            server = rng.choice(["api", "cdn", "cdn"])
            site.fail(server, rng.choice(["", "", "files", "repo?", "/lfs/"]), **random_fault(rng))
        try:
            source = opening()
            source.checkpoint()
            source.fetch(opening.out(), Silent())
            ended = "fetched"
        except (RemoteError, VerificationError) as error:
            ended = type(error).__name__
        check(opening, whole=ended == "fetched")
        num_requests = len(site.requests)
        site.faults.clear()
        # Whatever happened, the next run with the same store succeeds.
        opening().fetch(opening.out("again"), Silent())
        check(opening, whole=True, out="again")
    return ended, num_requests


def check(opening: Opening, *, whole: bool, out: str = "out") -> None:
    """No name was given to wrong bytes."""
    for name, content in opening.stored().items():
        assert name.endswith(".partial") or DIGESTS[name] == content
    placed = {path.name: path.read_bytes() for path in opening.out(out).iterdir()}
    assert all(FILES[name] == content for name, content in placed.items())
    assert not whole or placed == FILES


def test_random_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends: dict[str, int] = {}
    most = 0
    for number in range(ROUNDS):
        try:
            ended, num_requests = play(number, tmp_path)
        except BaseException as error:
            error.add_note(f"round {number}")
            raise
        ends[ended] = ends.get(ended, 0) + 1
        most = max(most, num_requests)
        assert num_requests <= MOST_REQUESTS, f"round {number}"
    with capsys.disabled():
        sys.stdout.write(f"\n{ROUNDS} rounds: {ends}; at most {most} requests in one\n")
    assert ends["fetched"] > ROUNDS // 4
    assert len(ends) == 3
