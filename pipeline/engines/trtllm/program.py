"""The parent's side of a supervised program: its lines as they come, how it ended, nothing left."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import MachineError, ToolFailed
from pipeline.files.scratch import SOCKET_FOLDER_BYTES, scratch_path
from pipeline.system.refusals import explain
from pipeline.system.tied import tool_environment

SUPERVISOR = Path(__file__).with_name("supervisor.py")
"""Run as a file: it needs nothing of this package, and starts at once."""

MARKER = "TRTLLM_PACK_WORK"
"""In the environment of everything that a program starts: its work folder."""

STOP_TIMEOUT_S = 20.0
"""What a supervisor gets to end its processes before it is killed itself."""

_CHUNK_BYTES = 1 << 16

LONGEST_LINE_BYTES = 1 << 20
"""What has no end by then is passed on as a line: it would be held, and looked through, as a whole
with every chunk."""

_LOOK_S = 0.5
"""How often a silent program's supervisor is looked at."""

Stream = Literal["stdout", "stderr"]
OnLine = Callable[[Stream, str], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended. `code`: exit code, or minus the signal; None: its time was over."""

    code: int | None


def run_supervised(
    argv: Sequence[str],
    environment: Mapping[str, str],
    work: Path,
    *,
    timeout_s: float,
    on_line: OnLine,
    is_temporary: bool = False,
) -> Ended:
    """Run a program in the folder `work`, under a supervisor in a session of its own.

    `is_temporary`: no later run finds `work`, so that it goes with this process if that is killed.
    Every line that it or its children write goes to `on_line`, in the order of arrival. Whatever
    ends this call, an exception of `on_line` or the death of this process included, ends all of
    them, wherever they have gone. Raises MachineError where the program cannot be started,
    ToolFailed where its supervisor was stopped by somebody else.
    """
    # Sockets of MPI and of Python's workers lie in TMPDIR.
    scratch = scratch_path(SOCKET_FOLDER_BYTES)
    # A pipe, not a file: it has room when the disk is full.
    reads, writes = os.pipe()
    document = {
        "argv": list(argv),
        "cwd": str(work),
        "ended": writes,
        "environment": {**environment, MARKER: str(work)},
        "is_temporary": is_temporary,
        "parent": os.getpid(),
        "scratch": str(scratch),
        "timeout_s": timeout_s,
    }
    with os.fdopen(reads, "rb") as ended:
        try:
            process = _start(work, document, writes)
        finally:
            os.close(writes)
        try:
            _read_lines(process, work, on_line)
            process.wait()
        finally:
            _stop(process, work, scratch)
        told = ended.read()
    return _ended(argv[0], process.returncode, json.loads(told) if told else None)


def _start(work: Path, document: Mapping[str, Any], ended: int) -> subprocess.Popen[bytes]:
    """The supervisor with its job; it inherits `ended`, the pipe by which it tells the end."""
    job = work / "job.json"
    job.write_text(json.dumps(document, sort_keys=True), encoding="utf-8")
    try:
        return subprocess.Popen(
            supervisor_command(job),
            cwd=work,
            env=tool_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(ended,),
            start_new_session=True,
        )
    except OSError as error:
        raise explain(error, f"starting `{document['argv'][0]}`") or error from None


def _ended(program: str, code: int, told: dict[str, Any] | None) -> Ended:
    """What the supervisor told, or what its own end means."""
    if told is None and code < 0:
        return Ended(code)  # by a signal that it does not take: SIGKILL, say
    if told is None:
        raise ToolFailed(f"`{program}` was stopped by another process, with its supervisor")
    if "refused" in told:
        raise MachineError(
            f"`{program}` could not be started: {told['refused']}",
            hint="see whether this file is a program of this machine, and its interpreter exists",
        )
    return Ended(told["code"])


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
    if len(rest) > LONGEST_LINE_BYTES:
        lines, rest = [*lines, rest], b""
    return [*(line for line in lines if line.strip()), rest]


def _stop(process: subprocess.Popen[bytes], work: Path, scratch: Path) -> None:
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
        shutil.rmtree(scratch, ignore_errors=True)


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
