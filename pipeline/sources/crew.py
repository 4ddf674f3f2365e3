"""Runs jobs that wait for a server in threads, and watches them from the thread that called.

A thread that waits inside somebody else's code cannot be interrupted, so the calling thread never
waits there itself: an interrupt, the failure of another job, or a job that makes no progress ends
all at once. What a job was waiting for is shut (`Attempt.cut`); a thread that does not end even so
is left behind, and with it the process, which is about to end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
A = TypeVar("A")
L = TypeVar("L", bound="Attempt")

INTERVAL_S = 0.25
GRACE_S = 3.0
"""How long a shut connection may take to end its thread."""

HEAD_GRACE_S = 65.0
"""How long that may take where no answer has begun: the client asks again after a minute at most
(its `_ETAG_RETRY_TIMEOUT`), and is stopped then."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: how long without any progress, and how long in all."""

    stall_s: float
    deadline_s: float


class CutOffError(Exception):
    """We ended an attempt. `final`: no other attempt is to follow."""

    def __init__(self, reason: str, *, final: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final


class Attempt(Protocol):
    """One attempt at something, in one thread, that others may look at and end."""

    cut_at: float
    """When it was cut, by the monotonic clock."""

    @property
    def sign(self) -> Hashable:
        """Changes while there is progress."""

    @property
    def can_be_shut(self) -> bool:
        """There is a connection in hand, so a cut ends the attempt at once."""

    @property
    def outcome(self) -> CutOffError | None:
        """How the attempt was cut, or None."""

    def held(self) -> AbstractContextManager[None]:
        """While it lasts. Raises CutOffError in place of whatever fails after `cut`."""

    def cut(self, reason: str, *, final: bool = False) -> None:
        """End it, from any thread."""


class Job(Generic[T]):
    """Something to do, in one attempt or more.

    `signs` changes while there is progress; `explain` makes an error of an attempt that was cut.
    """

    def __init__(
        self,
        action: Callable[[Job[T]], T],
        limits: Limits,
        signs: Callable[[], Hashable] = lambda: None,
        explain: Callable[[CutOffError], Exception] = lambda cut: cut,
    ) -> None:
        self._action = action
        self._limits = limits
        self._signs = signs
        self._explain = explain
        self._attempt: Attempt | None = None
        self._began = self._changed = 0.0
        self._seen: Hashable = None
        self.stopped: CutOffError | None = None

    def run(self) -> T:
        """Do it."""
        self._began = self._changed = time.monotonic()
        return self._action(self)

    def attempt(self, line: L, ask: Callable[[L], A]) -> A:
        """One attempt, which can be cut off from outside."""
        if self.stopped is not None:
            raise self.stopped
        self._changed = time.monotonic()
        self._attempt = line
        try:
            with line.held():
                return ask(line)
        finally:
            self._attempt = None

    def check(self) -> None:
        """Look after it: cut an attempt that is stuck. Raises what explains that it was no use."""
        line, now = self._attempt, time.monotonic()
        if line is None:
            return
        seen = (self._signs(), line.sign)
        if seen != self._seen:
            self._seen, self._changed = seen, now
        if now - self._began > self._limits.deadline_s:
            line.cut(f"has not finished after {self._limits.deadline_s:,.0f} s", final=True)
        elif now - self._changed > self._limits.stall_s:
            line.cut(f"has sent next to nothing for {self._limits.stall_s:,.0f} s")
        if line.outcome is not None:
            hopeful = not (line.can_be_shut or line.outcome.final)
            if now - line.cut_at > (HEAD_GRACE_S if hopeful else GRACE_S):
                raise self._explain(line.outcome)

    def stop(self) -> None:
        """End the attempt at hand, and begin no other."""
        self.stopped = CutOffError("was not waited for", final=True)
        line = self._attempt
        if line is not None:
            line.cut(self.stopped.reason, final=True)

    @property
    def is_asking(self) -> bool:
        """An attempt is under way."""
        return self._attempt is not None


@dataclass(frozen=True, slots=True)
class _End(Generic[T]):
    """How a job ended: with its result, or with an error."""

    number: int
    result: list[T]
    error: BaseException | None = None


@dataclass
class _Crew(Generic[T]):
    """Jobs in the order in which they are taken, and those that have ended."""

    jobs: Sequence[Job[T]]
    taken: int = 0
    lock: Lock = field(default_factory=Lock)
    ended: SimpleQueue[_End[T]] = field(default_factory=SimpleQueue)

    def work(self) -> None:
        while True:
            with self.lock:
                number = self.taken
                if number >= len(self.jobs):
                    return
                self.taken += 1
            try:
                self.ended.put(_End(number, [self.jobs[number].run()]))
            except BaseException as error:  # noqa: BLE001 (it is raised where the crew is watched)
                self.ended.put(_End(number, [], error))
                return


def run_jobs(
    jobs: Sequence[Job[T]], num_threads: int, finished: Callable[[int, T], None] = lambda *_: None
) -> list[T]:
    """Do all jobs, some at a time; their results in order.

    `finished` gets the number and the result of each as it ends, in the calling thread. The first
    failure stops the other jobs and is raised; so does whatever interrupts the calling thread.
    """
    crew = _Crew(jobs)
    for number in range(min(num_threads, len(jobs))):
        Thread(target=crew.work, name=f"source-{number}", daemon=True).start()
    results: dict[int, T] = {}
    try:
        while len(results) < len(jobs):
            for end in _ended(crew):
                if end.error is not None:
                    raise end.error
                (results[end.number],) = end.result
                finished(end.number, results[end.number])
            for job in jobs:
                job.check()
    except BaseException:
        _stop(crew)
        raise
    return [results[number] for number in range(len(jobs))]


def _ended(crew: _Crew[T]) -> Iterator[_End[T]]:
    """The next job that ends, if one does within the interval."""
    try:
        yield crew.ended.get(timeout=INTERVAL_S)
    except Empty:
        return


def _stop(crew: _Crew[T]) -> None:
    """End all attempts, and give the client the time to clear up after them."""
    with crew.lock:
        crew.taken = len(crew.jobs)
    for job in crew.jobs:
        job.stop()
    give_up_at = time.monotonic() + GRACE_S
    while any(job.is_asking for job in crew.jobs) and time.monotonic() < give_up_at:
        time.sleep(0.01)
