"""Jobs in threads, watched from the thread that calls."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.sources import crew
from pipeline.sources.crew import CutOffError, Job, Limits, run_jobs
from pipeline.sources.hub.line import Line

ENOUGH = Limits(stall_s=600, deadline_s=600)
LONG_S = 120
"""Reached where a test fails alone."""


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "INTERVAL_S", 0.01)
    monkeypatch.setattr(crew, "GRACE_S", 0.5)
    monkeypatch.setattr(crew, "HEAD_GRACE_S", 0.5)


class Clock:
    """The time of the crew: it stands still unless the test moves it; `looks` counts who asks."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return self.now

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait_for_looks(self, number: int) -> None:
        """Until the crew has looked so often."""
        end, give_up_at = self.looks + number, time.monotonic() + LONG_S
        while self.looks < end and time.monotonic() < give_up_at:
            time.sleep(0.005)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock by which a machine that is busy loses no time."""
    made = Clock()
    monkeypatch.setattr(crew, "time", made)
    return made


def waiting(line: Line) -> None:
    """Waits like a client that can be cut off."""
    while True:
        line.check()
        time.sleep(0.005)


def test_results_come_in_order_and_are_told_as_they_end() -> None:
    def job(number: int) -> Job[int]:
        def act(_: Job[int]) -> int:
            time.sleep(0.03 * (3 - number % 3))
            return number

        return Job(act, ENOUGH)

    told: list[tuple[int, int]] = []
    assert run_jobs([job(n) for n in range(7)], 3, lambda *pair: told.append(pair)) == [*range(7)]
    assert sorted(told) == [(n, n) for n in range(7)]
    assert run_jobs([], 3) == []


def test_no_more_threads_than_allowed() -> None:
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(3)

    def act(_: Job[None]) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(LONG_S)
        time.sleep(0.02)
        with lock:
            running -= 1

    run_jobs([Job(act, ENOUGH) for _ in range(9)], 3)
    assert most == 3


def test_a_failure_ends_the_others_and_begins_no_more() -> None:
    begun: list[str] = []
    has_begun = threading.Event()

    def fail(_: Job[None]) -> None:
        has_begun.wait(LONG_S)
        raise ValueError("broken")

    def wait(job: Job[None]) -> None:
        begun.append("wait")
        has_begun.set()
        job.attempt(Line(), waiting)

    with pytest.raises(ValueError, match="broken"):
        run_jobs([Job(wait, ENOUGH), Job(fail, ENOUGH), Job(wait, ENOUGH)], 2)
    assert begun == ["wait"]


def test_what_interrupts_the_caller_ends_the_jobs() -> None:
    waits = Job(lambda job: job.attempt(Line(), waiting), ENOUGH)
    short = Job(lambda _: None, ENOUGH)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([waits, short], 2, interrupt)
    assert waits.stopped is not None
    give_up_at = time.monotonic() + LONG_S
    while waits.is_asking and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert not waits.is_asking
    with pytest.raises(CutOffError, match="was not waited for"):
        waits.attempt(Line(), lambda _: None)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(stall_s=0.05, deadline_s=600), "sent next to nothing"),
        (Limits(stall_s=600, deadline_s=0.05), "has not finished"),
    ],
)
def test_a_job_that_is_stuck_is_cut(limits: Limits, words: str) -> None:
    with pytest.raises(CutOffError, match=words):
        run_jobs([Job(lambda job: job.attempt(Line(), waiting), limits)], 1)


def test_a_job_that_cannot_be_cut_is_left_behind() -> None:
    done = threading.Event()
    stuck = Job(
        lambda job: job.attempt(Line(), lambda _: done.wait(LONG_S)),
        Limits(0.05, 600),
        explain=lambda cut: TimeoutError(cut.reason),
    )
    with pytest.raises(TimeoutError, match="sent next to nothing"):
        run_jobs([stuck], 1)
    assert stuck.is_asking  # until now
    done.set()


def test_progress_keeps_a_job_alive(clock: Clock) -> None:
    """There is some at every look, and so there are many looks, a while apart."""
    signs, enough = 0, threading.Event()

    def sign() -> int:
        nonlocal signs
        signs += 1
        clock.now += 0.2
        if signs == 30:
            enough.set()
        return signs

    def act(line: Line) -> bool:
        happened = enough.wait(LONG_S)
        line.check()
        return happened

    limits = Limits(stall_s=0.3, deadline_s=60)
    job = Job(lambda job: job.attempt(Line(), act), limits, sign)
    assert run_jobs([job], 1) == [True]


def test_what_is_done_between_attempts_takes_its_time(clock: Clock) -> None:
    def act(job: Job[str]) -> str:
        job.attempt(Line(), lambda _: None)
        clock.now += 20
        clock.wait_for_looks(3)
        return job.attempt(Line(), lambda _: "done")

    assert run_jobs([Job(act, Limits(stall_s=10, deadline_s=60))], 1) == ["done"]
