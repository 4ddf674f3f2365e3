"""Signals that ask to end: each becomes an exception that unwinds through every `finally`.

A second one ends the process at once; what it left is swept by the next run, and the kernel ends
its children (`tied`, `engines.child_setup`, the supervisor of TensorRT-LLM).

Between the signal and the end stands code that is not ours, so not all rests on the exception:
where other code would drop it (a finaliser, an import) it is raised a moment later, where it was
turned into another error the chain of that error still tells (`signal_of`), and where it was
swallowed it is raised again, half a second later or where the next stage would begin (`check`). A
timer that ticks from the first signal on sees to that. What comes before the first `try` of ours,
or after the last, is told when the interpreter ends (`_at_exit`).
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
TICK_S = 0.02
LOST_TICKS = 25
"""So many ticks in a row without the exception in sight: other code has swallowed it."""

_HINT = "run the same command again: what was finished is kept"
_WORDS: dict[int, str] = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hung up",
}
_LOST = (OSError, ValueError, AttributeError, RuntimeError)
"""A stream that is closed, or that the signal found at work (`reentrant call`)."""


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
    is_due = False
    """It is still to be raised."""
    num_unseen = 0
    """Ticks since the exception was last seen on its way."""
    is_told = False
    is_over = False
    """All is done but the end of the interpreter, which would drop what a handler raises."""


def install() -> None:
    """Take the signals over, but for those that our starter had us ignore (`nohup`, `&`)."""
    sys.unraisablehook = _unraisable
    atexit.unregister(_at_exit)
    atexit.register(_at_exit)
    for number in _KINDS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


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
    with suppress(*_LOST):
        sys.stderr.write(f"{word}\n")
        sys.stderr.flush()
    if as_json and not getattr(sys.stdout, "is_used", False):
        error = {"kind": "SignalReceived", "exit_code": 128 + number, "message": word}
        document = {"error": {**error, "facts": [], "hint": _HINT}}
        with suppress(*_LOST):
            sys.stdout.write(json.dumps(document, indent=2, sort_keys=True) + "\n")
            sys.stdout.flush()


def check() -> None:
    """Raise what a signal asked for, if any came: other code has swallowed it."""
    if _Received.at is not None:
        _raise()


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


def _at_exit() -> None:
    """The last that the interpreter calls: after this, a signal has nothing to unwind."""
    _Received.is_over = True
    # The interpreter gives signals back at its end; an alarm would kill it then.
    signal.setitimer(signal.ITIMER_REAL, 0)
    with suppress(*_LOST):
        sys.stdout.flush()
    if _Received.at is not None:
        _tell_and_end(_Received.number)


def _tell_and_end(number: int) -> NoReturn:
    tell_stopped(number, as_json="--json" in sys.argv)
    end_at_once(number)


def _stop(number: int, frame: FrameType | None) -> None:
    if _Received.is_over:
        _tell_and_end(number)
    now = time.monotonic()
    if _Received.at is not None:
        if now - _Received.at > SAME_WISH_S:
            end_at_once(number)
        return
    _Received.at, _Received.number, _Received.is_due = now, number, True
    # No thread could be started while the interpreter ends, or at a limit; a timer can. Until now
    # SIGALRM was as our starter left it: an alarm that it set ends us.
    signal.signal(signal.SIGALRM, _tick)
    signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
    _raise_outside_of_imports(frame)


def _tick(_alarm: int, frame: FrameType | None) -> None:
    if _Received.is_told or _Received.is_over:
        return
    # What is being handled where this interrupts: in a `finally`, an `except`, an `__exit__`.
    is_seen = any(isinstance(error, Stopped) for error in _chain(sys.exc_info()[1]))
    _Received.num_unseen = 0 if is_seen else _Received.num_unseen + 1
    if _Received.is_due or _Received.num_unseen > LOST_TICKS:
        _raise_outside_of_imports(frame)


def _raise_outside_of_imports(frame: FrameType | None) -> None:
    assert _Received.at is not None
    if not _is_importing(frame) or time.monotonic() - _Received.at > LONGEST_IMPORT_S:
        _raise()


def _raise() -> NoReturn:
    _Received.is_due, _Received.num_unseen = False, 0
    raise _KINDS[_Received.number]


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False


def _unraisable(unraisable: Any) -> None:
    """A signal that came within a finaliser or a library's callback, where Python drops it.

    It is raised again when that has ended.
    """
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)
    elif unraisable.object is _at_exit:
        _at_exit()
    else:
        _Received.is_due = True
