"""The parent's side of a supervised program: its lines as they come, how it ended, nothing left."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SUPERVISOR = Path(__file__).with_name("supervisor.py")
"""Run as a file: it needs nothing of this package, and starts at once."""

MARKER = "TRTLLM_PACK_WORK"
"""In the environment of everything that a build starts: the build's work folder."""

STOP_TIMEOUT_S = 20.0
"""What a supervisor gets to end its processes before it is killed itself."""

_CHUNK_BYTES = 1 << 16

_LOOK_S = 0.5
"""How often a silent program's supervisor is looked at."""

Stream = Literal["stdout", "stderr"]
OnLine = Callable[[Stream, str], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended. `code`: exit code, or minus the signal; None: it was stopped in time."""

    code: int | None


def run_supervised(
    argv: Sequence[str],
    environment: Mapping[str, str],
    work: Path,
    *,
    timeout_s: float,
    on_line: OnLine,
) -> Ended:
    """Run a program in the folder `work`, under a supervisor in a session of its own.

    Every line that it or its children write goes to `on_line`, in the order of arrival. Whatever
    ends this call, an exception of `on_line` or the death of this process included, ends all of
    them, wherever they have gone.
    """
    job = work / "job.json"
    ended = work / "ended.json"
    document = {
        "argv": list(argv),
        "cwd": str(work),
        "ended": str(ended),
        "environment": {**environment, MARKER: str(work)},
        "parent": os.getpid(),
        "timeout_s": timeout_s,
    }
    job.write_text(json.dumps(document, sort_keys=True), encoding="utf-8")
    process = subprocess.Popen(
        supervisor_command(job),
        cwd=work,
        env={name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _read_lines(process, work, on_line)
        process.wait()
    finally:
        _stop(process, work)
    if not ended.exists():
        return Ended(-signal.SIGKILL)  # the supervisor itself was killed
    return Ended(json.loads(ended.read_bytes())["code"])


def supervisor_command(job: Path) -> list[str]:
    """The supervisor's argv: isolated from our environment and from installed packages."""
    return [sys.executable, "-I", "-S", "-B", str(SUPERVISOR), str(job)]


def _read_lines(process: subprocess.Popen[bytes], work: Path, on_line: OnLine) -> None:
    """Pass lines on until both ends are closed, which is when the last writer has ended.

    If the supervisor was killed, who writes on would never end: they are killed as well.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    pieces: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}
    looked = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, "stdout")
        selector.register(process.stderr, selectors.EVENT_READ, "stderr")
        while selector.get_map():
            for key, _ in selector.select(_LOOK_S):
                stream: Stream = key.data
                chunk = os.read(key.fd, _CHUNK_BYTES)
                if not chunk:
                    selector.unregister(key.fileobj)
                *lines, pieces[stream] = _split(pieces[stream] + chunk, is_last=not chunk)
                for line in lines:
                    on_line(stream, line.decode(errors="replace").rstrip())
            if time.monotonic() - looked >= _LOOK_S:
                looked = time.monotonic()
                if process.poll() is not None and process.returncode < 0:
                    _kill_left(process.pid, work)


def _split(data: bytes, *, is_last: bool) -> list[bytes]:
    """Lines that say something, and at the end what has no end yet.

    A carriage return alone redraws a line: its parts are lines to a log.
    """
    *lines, rest = data.replace(b"\r", b"\n").split(b"\n")
    if is_last:
        lines, rest = [*lines, rest], b""
    return [*(line for line in lines if line.strip()), rest]


def _stop(process: subprocess.Popen[bytes], work: Path) -> None:
    """Have the supervisor end all; where it cannot any more, end by name what is left."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(timeout=STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    if process.returncode < 0:
        _kill_left(process.pid, work)


def _kill_left(session: int, work: Path) -> None:
    """End what a killed supervisor left: its session, and by its mark what went elsewhere."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)
    for pid in marked(work):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def marked(work: Path) -> list[int]:
    """Processes whose environment names this work folder."""
    wanted = f"{MARKER}={work}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it has ended, or is another user's
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found
