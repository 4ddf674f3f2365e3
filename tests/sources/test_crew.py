"""Jobs in threads, watched from the thread that calls."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.sources import crew
from pipeline.sources.crew import CutOffError, Job, Limits, run_jobs
from pipeline.sources.hub.line import Line

ENOUGH = Limits(stall_s=60, deadline_s=60)


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "INTERVAL_S", 0.01)
    monkeypatch.setattr(crew, "GRACE_S", 0.5)
    monkeypatch.setattr(crew, "HEAD_GRACE_S", 0.5)


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

    def act(_: Job[None]) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    run_jobs([Job(act, ENOUGH) for _ in range(9)], 3)
    assert most == 3


def test_a_failure_ends_the_others_and_begins_no_more() -> None:
    begun: list[str] = []

    def fail(_: Job[None]) -> None:
        time.sleep(0.05)
        raise ValueError("broken")

    def wait(job: Job[None]) -> None:
        begun.append("wait")
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
    give_up_at = time.monotonic() + 20
    while waits.is_asking and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert not waits.is_asking
    with pytest.raises(CutOffError, match="was not waited for"):
        waits.attempt(Line(), lambda _: None)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(stall_s=0.05, deadline_s=60), "sent next to nothing"),
        (Limits(stall_s=60, deadline_s=0.05), "has not finished"),
    ],
)
def test_a_job_that_is_stuck_is_cut(limits: Limits, words: str) -> None:
    with pytest.raises(CutOffError, match=words):
        run_jobs([Job(lambda job: job.attempt(Line(), waiting), limits)], 1)


def test_a_job_that_cannot_be_cut_is_left_behind() -> None:
    done = threading.Event()
    stuck = Job(
        lambda job: job.attempt(Line(), lambda _: done.wait(20)),
        Limits(0.05, 60),
        explain=lambda cut: TimeoutError(cut.reason),
    )
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="sent next to nothing"):
        run_jobs([stuck], 1)
    assert time.monotonic() - began < 10
    done.set()


def test_progress_keeps_a_job_alive() -> None:
    signs = 0

    def act(_: Line) -> str:
        nonlocal signs
        for _ in range(30):
            time.sleep(0.02)
            signs += 1
        return "done"

    limits = Limits(stall_s=0.3, deadline_s=60)
    job = Job(lambda job: job.attempt(Line(), act), limits, lambda: signs)
    assert run_jobs([job], 1) == ["done"]


def test_what_is_done_between_attempts_takes_its_time() -> None:
    def act(job: Job[str]) -> str:
        job.attempt(Line(), lambda _: None)
        time.sleep(0.2)
        return job.attempt(Line(), lambda _: "done")

    assert run_jobs([Job(act, Limits(stall_s=0.1, deadline_s=60))], 1) == ["done"]
