"""Follows a process and all that it starts; a judge decides about every call that changes files.

The caller must have no other child: it waits for whichever process reports next.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.faults import ptrace
from tests.faults.calls import Call, Fail, Judge, Kill, Shorten, Trace, Verdict, describe, is_below
from tests.faults.syscalls import BY_NUMBER

CALL_STOP = signal.SIGTRAP | 0x80
STOPPING = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
AFTERLIFE_S = 60.0
"""So long may what the first process started live after it."""


class _TooLong(Exception):
    """The alarm clock rang."""


class Tracer:
    """Traces one process; counts the calls inside a folder, or all of them where it is None."""

    def __init__(self, judge: Judge, inside: Path | None = None) -> None:
        self._judge = judge
        self._inside = inside
        self._trace = Trace()
        self._living: set[int] = set()
        self._pending: dict[int, tuple[Call, Verdict]] = {}
        self._count = 0
        self._first = 0
        self._killing = False

    def follow(self, pid: int, deadline_s: float) -> Trace:
        """Run a process that was seized to its end, and that of its children; then tell."""
        self._first = pid
        self._living.add(pid)
        signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, deadline_s)
        try:
            self._wait_for_all()
        except _TooLong:
            self._trace.timed_out = self._first in self._living
            self._trace.outlived = [_command(each) for each in self._living if each != self._first]
            self._kill_all()
            self._wait_for_all()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return self._trace

    def _wait_for_all(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, ptrace.WALL)
            except ChildProcessError:
                return
            if os.WIFSTOPPED(status):
                self._living.add(pid)
                with suppress(ptrace.Gone):
                    self._stopped(pid, os.WSTOPSIG(status), status >> 16)
            else:
                self._ended(pid, status)

    def _ended(self, pid: int, status: int) -> None:
        self._living.discard(pid)
        self._pending.pop(pid, None)
        if pid == self._first:
            self._trace.status = status
            if not self._killing:
                signal.setitimer(signal.ITIMER_REAL, AFTERLIFE_S)

    def _stopped(self, pid: int, number: int, event: int) -> None:
        """One stop of one thread: a call, its end, a signal, or something new to follow."""
        if self._killing:
            _kill(pid)
        elif event == ptrace.EVENT_SECCOMP:
            self._at_call(pid)
        elif number == CALL_STOP:
            self._at_exit(pid)
        elif event == ptrace.EVENT_STOP and number in STOPPING:
            ptrace.listen(pid)
        else:
            ptrace.resume(pid, 0 if event else number)

    def _at_call(self, pid: int) -> None:
        entry = ptrace.entry(pid)
        call = describe(pid, BY_NUMBER[entry.number], entry.arguments)
        if call is None:
            ptrace.resume(pid)
            return
        counted = self._inside is None or any(is_below(p, self._inside) for p in call.paths)
        self._trace.calls.append(call)
        verdict = None
        if counted:
            self._count += 1
            call.number = self._count
            verdict = self._judge(call)
        self._carry_out(pid, call, verdict)

    def _carry_out(self, pid: int, call: Call, verdict: Verdict) -> None:
        match verdict:
            case Fail(errno):
                call.result = -errno
                ptrace.refuse(pid, errno)
                ptrace.resume(pid)
            case Kill(after=False):
                call.result = -1
                self._kill(verdict, call)
                ptrace.resume(pid)
            case _:
                position = BY_NUMBER[ptrace.entry(pid).number].length
                if isinstance(verdict, Shorten) and position is not None:
                    ptrace.set_argument(pid, position, verdict.length)
                self._pending[pid] = (call, verdict)
                ptrace.resume(pid, to_exit=True)

    def _at_exit(self, pid: int) -> None:
        call, verdict = self._pending.pop(pid)
        call.result = ptrace.result(pid)
        if isinstance(verdict, Kill):
            self._kill(verdict, call)
        ptrace.resume(pid)

    def _kill(self, verdict: Kill, call: Call) -> None:
        self._trace.killed_at = call.number
        if verdict.number != signal.SIGKILL:
            with suppress(ProcessLookupError):
                send = os.killpg if verdict.whole_tree else os.kill
                send(self._first, verdict.number)
        elif verdict.whole_tree:
            self._kill_all()
        else:
            _kill(self._first)

    def _kill_all(self) -> None:
        self._killing = True
        for pid in self._living:
            _kill(pid)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _command(pid: int) -> str:
    """What a process runs, for people."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return str(pid)
    return text.replace(b"\0", b" ").decode(errors="replace").strip() or str(pid)


def _ring(_number: int, _frame: object) -> None:
    raise _TooLong
