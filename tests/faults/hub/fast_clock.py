"""A clock that runs faster: sleeps, waits and time-outs of a process pass in a part of their time.

Everything that waits sees one consistent time, so policies with real numbers (minutes) are played
in seconds. CPU time is not shortened: `elapsed_s` leaves it at its real length.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

SPEED = 15.0

_real_sleep = time.sleep
_real_monotonic = time.monotonic
_real_wait = threading.Condition.wait
_real_settimeout = socket.socket.settimeout
_real_gettimeout = socket.socket.gettimeout

LONGEST_SLEEP_S = 9.2e9
"""What the real `time.sleep` takes; it raises OverflowError beyond."""

MOMENT_S = 0.01
"""Of real time."""

slept: list[float] = []
"""All sleeps that were asked for, in seconds of this clock."""


class SleptTooLong(BaseException):
    """Somebody sleeps longer than any policy allows: the case is over."""


def sleep(seconds: float) -> None:
    """Sleep in fast time; more than an hour is never meant."""
    if seconds > LONGEST_SLEEP_S:
        raise OverflowError("timestamp too large to convert to C _PyTime_t")
    slept.append(seconds)
    if seconds > 3600:
        raise SleptTooLong(f"{seconds:.0f} s")
    _real_sleep(seconds / SPEED)


def monotonic() -> float:
    """Seconds of fast time."""
    return _real_monotonic() * SPEED


def _wait(self: threading.Condition, timeout: float | None = None) -> bool:
    return _real_wait(self, None if timeout is None else timeout / SPEED)


def _settimeout(self: socket.socket, value: float | None) -> None:
    _real_settimeout(self, None if value is None else value / SPEED)


def _gettimeout(self: socket.socket) -> float | None:
    value = _real_gettimeout(self)
    return None if value is None else value * SPEED


def install() -> None:
    """Make this process live faster; to be called before anything is imported that waits."""
    changed: list[tuple[Any, str, Any]] = [
        (time, "sleep", sleep),
        (time, "monotonic", monotonic),
        (threading, "_time", monotonic),
        (threading.Condition, "wait", _wait),
        (socket.socket, "settimeout", _settimeout),
        (socket.socket, "gettimeout", _gettimeout),
    ]
    for owner, name, value in changed:
        setattr(owner, name, value)


class Stopwatch:
    """Time since it was made: what was waited at full speed, what was computed as it is.

    A thread counts moments, so that only time counts in which the machine let this process live.
    """

    def __init__(self) -> None:
        self._moments = 0
        self._cpu = time.process_time()
        threading.Thread(target=self._count, daemon=True).start()

    def elapsed_s(self) -> float:
        """Seconds of fast time, the CPU's own share in real ones."""
        real_s = self._moments * MOMENT_S
        cpu_s = min(time.process_time() - self._cpu, real_s)
        return (real_s - cpu_s) * SPEED + cpu_s

    def _count(self) -> None:
        while True:
            _real_sleep(MOMENT_S)
            self._moments += 1
