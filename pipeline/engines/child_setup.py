"""The child's side of `child_process`: what a builder does before its work, and how it speaks.

Names and orders inside a TensorRT engine follow the addresses of the builder's objects. They are
the same in each run if the heap is: the kernel must not randomise addresses (`fix_addresses`), the
build runs in a thread (`in_own_heap`), and the builder's own threads take turns (`fix_schedule`).
Measured with TensorRT for RTX 1.7.1 and glibc 2.36: a thread's heap begins at a multiple of 64 MB,
so the lengths of installation paths, the environment, the Python version and the stack limit,
which shift the main heap, change nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pipeline.errors import PipelineError, ToolFailed
from pipeline.system.refusals import explain

ADDR_NO_RANDOMIZE = 0x0040000
"""`personality` flag of Linux: the kernel places stack, heap and libraries at fixed addresses."""

_CURRENT = 0xFFFFFFFF
_PR_SET_PDEATHSIG = 1


def tell(**event: Any) -> None:
    """Write one event for the parent."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def tell_error(error: PipelineError, log: Sequence[str] = ()) -> None:
    """Write the error that ends this process, and the last of what a library logged."""
    tell(
        event="error",
        kind=type(error).__name__,
        message=error.message,
        facts=[*error.facts, *log],
        hint=error.hint,
    )


def as_told(error: Exception, who: str, hint: str | None = None) -> PipelineError:
    """The error to tell for whatever was raised: itself, what the system refused, or a fault.

    `hint` is for a fault of the libraries that `who` stands for, which raise whatever they like.
    """
    if isinstance(error, PipelineError):
        return error
    explained = explain(error, who, Path.cwd())
    if explained is not None:
        return explained
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    return ToolFailed(
        f"{who} failed: {type(error).__name__}: {lines[0]}", facts=lines[1:], hint=hint
    )


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the parent's thread that started it ends."""
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that call
        os.kill(os.getpid(), signal.SIGKILL)


def fix_surroundings() -> None:
    """Fix addresses and schedule, and tell the parent what could not be fixed.

    The build is right either way; only its bytes are not pinned where the kernel refuses.
    """
    refused = [reason for reason in (fix_addresses(), fix_schedule()) if reason is not None]
    tell(event="ready", why_random="; ".join(refused) or None)


def fix_addresses() -> str | None:
    """Start this program anew with address-space randomisation off.

    Returns None in the new program, and a reason in this one where the kernel refuses (Docker's
    default seccomp profile does).
    """
    libc = _libc()
    before = libc.personality(_CURRENT)
    if before != -1 and before & ADDR_NO_RANDOMIZE:
        return None
    if before == -1 or libc.personality(before | ADDR_NO_RANDOMIZE) == -1:
        return f"`personality` was refused: {os.strerror(ctypes.get_errno())}"
    return _start_anew()


def fix_schedule() -> str | None:
    """Run all threads on one processor, as a batch job: none preempts the one that woke it.

    A builder is one thread that now and then hands a piece of work to another and waits for it.
    Returns a reason where the kernel refuses.
    """
    processors = sorted(os.sched_getaffinity(0))
    try:
        # Which one changes nothing; builds that run side by side should not share it.
        os.sched_setaffinity(0, {processors[os.getpid() % len(processors)]})
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError as error:
        return f"scheduling calls were refused: {error.strerror}"
    return None


def in_own_heap(work: Callable[[], int]) -> int:
    """Run `work` in a thread, whose heap nothing else uses; its exit code."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(work()))
    thread.start()
    thread.join()
    return codes[0] if codes else 1  # a traceback went to stderr


def _start_anew() -> NoReturn:
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - this program itself, once more


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
