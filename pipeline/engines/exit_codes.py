"""What the exit code of a child process means, in words."""

from __future__ import annotations

import signal

KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Exit codes of a program that was killed, and of a shell or launcher whose program was."""


def how_ended(code: int) -> str:
    """For example `exit code 3`, `signal SIGSEGV`; real-time signals have no names."""
    if code >= 0:
        return f"exit code {code}"
    names = {number.value: number.name for number in signal.Signals}
    return f"signal {names.get(-code, -code)}"
