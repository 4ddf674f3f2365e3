"""Signals that ask to end: each becomes an exception that unwinds through every `finally`.

A second one ends the process at once; what it left is swept by the next run, and the kernel ends
its children (`pipeline.tied`, `pipeline.engines.child_setup`, the supervisor of TensorRT-LLM).

Between the signal and the end stands code that is not ours, so not all rests on the exception:
where other code would drop it (a finaliser, an import) it is raised a moment later, where it was
turned into another error the chain of that error still tells (`signal_of`), and where it was
swallowed the next stage does not begin (`check`).
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

SAME_WISH_S = 0.2
"""Launchers pass a signal on that the terminal has sent as well: it is one wish."""

LONGEST_IMPORT_S = 5.0
"""An import is let end before the exception is raised: cut off, it leaves half a module, and what
runs within it makes other errors of ours (CPython 3.11, `type.__new__`: each error of a
`__set_name__` becomes a RuntimeError)."""

_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"
"""The file of its code, as CPython names it; the module's own name depends on how early it is."""
_MOMENT_S = 0.01
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
    """When the first signal came, on the monotonic clock; which; whether the user was told."""

    at: float | None = None
    number = 0
    is_told = False


def install() -> None:
    """Take the signals over, but for those that our starter had us ignore (`nohup`, `&`)."""
    for number in _KINDS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    signal.signal(signal.SIGALRM, _moment_later)
    # The interpreter gives signals back at its end; an alarm would kill it then.
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
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


def check() -> None:
    """Raise what a signal asked for, if any came: other code has swallowed it."""
    if _Received.at is not None:
        raise _KINDS[_Received.number]


def signal_of(end: BaseException) -> int | None:
    """The signal that an end by an exception, or its exit code, stands for.

    Also where other code has made another error of it: an error that came up while a signal was
    being handled is no news beside it.
    """
    for error in _chain(end):
        if isinstance(error, Stopped):
            return error.number
        if isinstance(error, KeyboardInterrupt):
            return signal.SIGINT
    code = end.code if isinstance(end, SystemExit) else None
    return code - 128 if isinstance(code, int) and code - 128 in _WORDS else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, all that it was made of, and all that was being handled meanwhile."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__context__, each.__cause__]


def _stop(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _Received.at is not None:
        if now - _Received.at > SAME_WISH_S:
            end_at_once(number)
        return
    _Received.at, _Received.number = now, number
    _raise_outside_of_imports(frame)


def _moment_later(_alarm: int, frame: FrameType | None) -> None:
    if _Received.at is not None:
        _raise_outside_of_imports(frame)


def _raise_outside_of_imports(frame: FrameType | None) -> None:
    assert _Received.at is not None
    if _is_importing(frame) and time.monotonic() - _Received.at < LONGEST_IMPORT_S:
        _wait_a_moment()
    else:
        raise _KINDS[_Received.number]


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False


def _wait_a_moment() -> None:
    """No thread could be started while the interpreter ends, or at a limit; a timer can."""
    signal.setitimer(signal.ITIMER_REAL, _MOMENT_S)


def _unraisable(unraisable: Any) -> None:
    """A signal that came within a finaliser or a library's callback, where Python drops it.

    It is raised again when that has ended.
    """
    if isinstance(unraisable.exc_value, Stopped):
        _wait_a_moment()
    else:
        sys.__unraisablehook__(unraisable)
