"""Reading off the calls of a run what a loss of power would take."""

from __future__ import annotations

import pytest

from tests.faults.calls import Call
from tests.faults.durability import published_unsynced

PUBLISH = "rename /store/work/a /store/artifacts/build/a"
SAFE = [
    "mkdir /store/work/a",
    "open /store/work/a/one",
    "write /store/work/a/one",
    "sync /store/work/a/one",
    "sync /store/work/a",
    PUBLISH,
    "sync /store/artifacts/build",
]


def look(lines: list[str]) -> tuple[int, list[str]]:
    split = [line.split() for line in lines]
    calls = [Call(n, kind, kind, tuple(paths), result=0) for n, (kind, *paths) in enumerate(split)]
    return published_unsynced(calls, {"/store/artifacts/build"})


def test_what_was_synced_is_safe() -> None:
    assert look(SAFE) == (1, [])


@pytest.mark.parametrize("missing", [line for line in SAFE if line.startswith("sync")])
def test_every_sync_that_is_missing_is_told(missing: str) -> None:
    shown, found = look([line for line in SAFE if line != missing])
    assert shown == 1
    path = missing.removeprefix("sync ").replace("/work/a", "/artifacts/build/a")
    assert [path in each for each in found] == [True]


def test_a_write_after_the_sync_is_told() -> None:
    late = [*SAFE[:4], "write /store/work/a/one", *SAFE[4:]]
    assert look(late)[1] == ["`/store/artifacts/build/a/one` was not synced when it was published"]
