"""The one bounded retry."""

from __future__ import annotations

import pytest

from pipeline.sources.retry import RetryPolicy, Transient, with_retry

BROKE = Transient("broke")


class Flaky:
    """Fails a number of times, then answers."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError(self.calls)
        return "answer"


def try_it(
    action: Flaky, fault: Transient | None = BROKE, **policy: float
) -> tuple[str, list[float], list[str]]:
    waits: list[float] = []
    notes: list[str] = []
    settings = RetryPolicy(sleep=waits.append, **policy)  # type: ignore[arg-type]
    return with_retry(action, lambda _: fault, settings, notes.append), waits, notes


def test_success_at_once() -> None:
    assert try_it(Flaky(0)) == ("answer", [], [])


def test_waits_grow_and_are_bounded() -> None:
    answer, waits, notes = try_it(Flaky(4), max_wait_s=4.0)
    assert answer == "answer"
    bounds = [(0.5, 1), (1, 2), (2, 4), (2, 4)]
    assert all(low <= wait <= high for wait, (low, high) in zip(waits, bounds, strict=True))
    assert notes[0].startswith("broke; attempt 2 of 5 in ")


def test_the_last_failure_is_raised() -> None:
    action = Flaky(9)
    with pytest.raises(ConnectionError, match="5"):
        try_it(action)
    assert action.calls == 5


def test_a_permanent_failure_is_not_tried_again() -> None:
    action = Flaky(9)
    with pytest.raises(ConnectionError, match="1"):
        try_it(action, fault=None)
    assert action.calls == 1


def test_the_server_says_how_long() -> None:
    _, waits, _ = try_it(Flaky(1), fault=Transient("limit", 17.0))
    assert 17.5 <= waits[0] <= 18


def test_a_wait_beyond_the_bound_is_a_failure_now() -> None:
    action = Flaky(1)
    with pytest.raises(ConnectionError):
        try_it(action, fault=Transient("limit", 400.0))
    assert action.calls == 1


def test_an_interrupt_is_never_held_back() -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with_retry(interrupted, lambda _: Transient("x"), RetryPolicy(), lambda _: None)
