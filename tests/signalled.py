"""Children of tests that are asked to end: as a shell's foreground job has its signals."""

from __future__ import annotations

import array
import fcntl
import signal
import subprocess
import sys
import termios
import time
from typing import IO

from tests.command import child_environment

READY = "print('ready', file=sys.stderr, flush=True)"
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


def start(argv: list[str]) -> subprocess.Popen[str]:
    """A child whose signals are as a shell's foreground job has them."""

    def take_signals() -> None:
        for number in WORDS:
            signal.signal(number, signal.SIG_DFL)

    pipe = subprocess.PIPE
    return subprocess.Popen(
        argv,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        env=child_environment(),
        preexec_fn=take_signals,
    )


def wait_until_read(stream: IO[str] | None) -> None:
    """Write to a child's stdin and wait until it has read that: it is at work then."""
    assert stream is not None
    stream.write("# nothing\n")
    stream.flush()
    unread = array.array("i", [1])
    end = time.monotonic() + 60
    while unread[0] and time.monotonic() < end:
        fcntl.ioctl(stream.fileno(), termios.FIONREAD, unread)
        time.sleep(0.005)
    assert not unread[0]


def python(code: str) -> subprocess.Popen[str]:
    """A child that runs this after the signals were taken over; it says `ready` where it is."""
    lines = (
        "import os, signal, sys, time\n"
        "from pipeline.system import interrupts\ninterrupts.install()\n"
    )
    child = start([sys.executable, "-c", lines + code])
    if READY in code:
        assert child.stderr is not None
        assert child.stderr.readline() == "ready\n"
    return child
