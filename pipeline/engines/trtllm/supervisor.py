"""Runs one program and outlives none of it: `python supervisor.py JOB.json`, in its own session.

It stands between us and a program of TensorRT-LLM, because that program starts others, which may
stay behind, in other sessions too, when it is killed. Orphans of its become children of this
process (Linux: a child subreaper), so that it can end all of them: when the program has ended, at
the time-out, on a signal, and when the process that started it dies in whatever way.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asks to end; it is not an Exception, so that no handler in between takes it."""


def main(job_path: str) -> int:
    """Run the job to its end, tell how it ended, and leave nothing behind."""
    job: dict[str, Any] = json.loads(Path(job_path).read_bytes())
    for number in _STOPPING:
        signal.signal(number, _stop)
    scratch: str = job["scratch"]
    try:
        _tie_to(job["parent"])
        ended = _run(job, scratch)
    except Stopped:
        return 1
    finally:
        _end_all()
        shutil.rmtree(scratch, ignore_errors=True)
        if job["is_temporary"] and os.getppid() != job["parent"]:
            shutil.rmtree(job["cwd"], ignore_errors=True)
    os.write(job["ended"], json.dumps(ended).encode())
    return 0


def _run(job: dict[str, Any], scratch: str) -> dict[str, Any]:
    """Start the program and wait. Its stdout and stderr are this process's own."""
    me = os.getpid()
    try:
        os.mkdir(scratch, mode=0o700)  # noqa: PTH102 - nobody else's, or an error
        process = subprocess.Popen(
            job["argv"],
            cwd=job["cwd"],
            env={**job["environment"], "HOME": scratch, "TMPDIR": scratch},
            stdin=subprocess.DEVNULL,
            # One thread runs here, so it is safe. If this process is killed, the program ends too.
            preexec_fn=lambda: _die_with(me),  # noqa: PLW1509
        )
    except (OSError, ValueError) as error:  # no such interpreter; a NUL in an argument
        return {"refused": str(error)}
    try:
        code = process.wait(timeout=job["timeout_s"])
    except subprocess.TimeoutExpired:
        return {"code": None}
    return {"code": code}


def _tie_to(parent: int) -> None:
    """Adopt orphans, and get SIGTERM when the thread that started this process ends."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before that call
        raise Stopped


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _stop(_signum: int, _frame: object) -> None:
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


def _end_all() -> None:
    """Kill every descendant until there is none: what starts meanwhile is found the next time."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
    while True:
        for pid in descendants(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)


def descendants(root: int) -> list[int]:
    """Processes below one, by `/proc`; those of its orphans that it adopted included."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names alone, as fast as can be
        if entry.isdecimal() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry))
    found, left = [], [root]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def _parent(pid: str) -> int | None:
    try:
        stat = Path("/proc", pid, "stat").read_bytes()
    except OSError:  # it has ended
        return None
    # The name, in parentheses, may hold anything; the parent is the second field after it.
    return int(stat.rpartition(b")")[2].split()[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
