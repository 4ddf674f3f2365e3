"""Signals that ask to end: each becomes an exception that unwinds through every `finally`.

A second one ends the process at once; what it left is swept by the next run, and the kernel ends
its children (`pipeline.tied`, `pipeline.engines.child_setup`, the supervisor of TensorRT-LLM).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any, NoReturn

SAME_WISH_S = 0.2
"""Launchers pass a signal on that the terminal has sent as well: it is one wish."""

_HINT = "run the same command again: what was finished is kept"
_WORDS: dict[int, str] = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hung up",
}


class Stopped(SystemExit):
    """A signal asks to end; its exit code is 128 and `number`, as shells count."""

    number = signal.SIGTERM

    def __init__(self) -> None:
        super().__init__(128 + self.number)


class Interrupted(Stopped, KeyboardInterrupt):
    """SIGINT. Also where libraries look for a KeyboardInterrupt.

    Where the plain one passes through `exec` of a text (imports make classes so), CPython remembers
    that and kills the process by the signal at its end, although it was caught (pythonrun.c).
    """

    number = signal.SIGINT


class Terminated(Stopped):
    """SIGTERM."""


class HungUp(Stopped):
    """SIGHUP: the terminal has gone."""

    number = signal.SIGHUP


_KINDS: dict[int, type[Stopped]] = {kind.number: kind for kind in (Interrupted, Terminated, HungUp)}


class _Received:
    """When the first signal came, on the monotonic clock; whether the user was told."""

    at: float | None = None
    is_told = False


def install() -> None:
    """Take the signals over, but for those that our starter had us ignore (`nohup`, `&`)."""
    for number in _KINDS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    sys.unraisablehook = _unraisable


def end_at_once(number: int) -> NoReturn:
    """End without unwinding."""
    os._exit(128 + number)


def tell_stopped(number: int, *, as_json: bool) -> None:
    """One line on stderr, and in JSON mode the one document on stdout, if there is none yet.

    Once, however often it is asked for; what cannot be written is dropped, as the exit code tells.
    """
    if _Received.is_told:
        return
    _Received.is_told = True
    word = _WORDS[number]
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{word}\n")
        sys.stderr.flush()
    if as_json and not getattr(sys.stdout, "is_used", False):
        error = {"kind": "SignalReceived", "exit_code": 128 + number, "message": word}
        document = {"error": {**error, "facts": [], "hint": _HINT}}
        with suppress(OSError, ValueError, AttributeError):
            sys.stdout.write(json.dumps(document, indent=2, sort_keys=True) + "\n")
            sys.stdout.flush()


def signal_of(end: BaseException) -> int | None:
    """The signal that an end by an exception, or its exit code, stands for."""
    if isinstance(end, Stopped):
        return end.number
    if isinstance(end, KeyboardInterrupt):
        return signal.SIGINT
    code = end.code if isinstance(end, SystemExit) else None
    return code - 128 if isinstance(code, int) and code - 128 in _WORDS else None


def _stop(number: int, _frame: object) -> None:
    now = time.monotonic()
    if _Received.at is not None:
        if now - _Received.at > SAME_WISH_S:
            end_at_once(number)
        return
    _Received.at = now
    raise _KINDS[number]


def _unraisable(unraisable: Any) -> None:
    """A signal that came within a finaliser or a library's callback, where Python drops it.

    It is sent again when that has ended.
    """
    if isinstance(unraisable.exc_value, Stopped):
        _Received.at = None
        number = unraisable.exc_value.number
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
    else:
        sys.__unraisablehook__(unraisable)
