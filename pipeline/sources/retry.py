"""One bounded retry for what passes by itself: exponential back-off, jitter, the server's wish."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long. Times in seconds.

    `deadline_s` bounds attempts and waits together, for something small; `deadline` adds the time
    that many bytes may take. A wait that would go beyond it is not begun.
    """

    attempts: int = 5
    first_wait_s: float = 1.0
    max_wait_s: float = 30.0
    deadline_s: float = 300.0
    bytes_per_s: float = 100e3
    """A mean rate that is too slow to be worth waiting for: 5 GB would take 14 hours."""

    sleep: Callable[[float], None] = time.sleep

    def deadline(self, size_bytes: int) -> float:
        """Seconds after which something of this size is given up."""
        return self.deadline_s + size_bytes / self.bytes_per_s


@dataclass(frozen=True, slots=True)
class Transient:
    """A failure that may pass: what it is in a few words, and how long the server asks to wait."""

    reason: str
    wait_s: float | None = None


def with_retry(
    action: Callable[[], T],
    judge: Callable[[Exception], Transient | None],
    policy: RetryPolicy,
    note: Callable[[str], None],
    size_bytes: int = 0,
) -> T:
    """Do something until it succeeds, its failure is permanent, or the policy is spent.

    `judge` says of an exception whether it may pass. The last exception is raised as it is.
    `size_bytes` is what the action moves: its deadline depends on it.
    """
    began, waited_s = time.monotonic(), 0.0
    for attempt in range(1, policy.attempts + 1):
        try:
            return action()
        except Exception as error:
            fault = judge(error)
            if fault is None or attempt == policy.attempts:
                raise
            wait_s = _wait(policy, attempt, fault)
            spent_s = max(time.monotonic() - began, waited_s)
            if spent_s + wait_s > policy.deadline(size_bytes):
                raise
            note(f"{fault.reason}; attempt {attempt + 1} of {policy.attempts} in {wait_s:.0f} s")
        policy.sleep(wait_s)
        waited_s += wait_s
    raise AssertionError("the last attempt returns or raises")


def _wait(policy: RetryPolicy, attempt: int, fault: Transient) -> float:
    """What the server asks for, else doubling waits; spread so that clients do not meet again."""
    spread = random.uniform(0.5, 1.0)  # noqa: S311 (not a secret)
    own_s = min(policy.first_wait_s * 2.0 ** (attempt - 1), policy.max_wait_s) * spread
    return own_s if fault.wait_s is None else fault.wait_s + own_s
