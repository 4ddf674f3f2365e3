"""A child process for a builder: fixed environment, fixed addresses, killed with its parent."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pipeline
from pipeline.artifact import Json
from pipeline.errors import ToolFailed

ADDR_NO_RANDOMIZE = 0x0040000
"""`personality` flag of Linux: the kernel places stack, heap and libraries at fixed addresses."""

_CURRENT = 0xFFFFFFFF
KEPT_VARIABLES = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
"""What a builder may need of our environment; nothing else reaches it, secrets least of all."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a child said last, and whether its addresses were fixed."""

    result: dict[str, Json]
    fixed_addresses: bool


def can_fix_addresses() -> bool:
    """Whether this process may start children without address-space randomisation."""
    libc = ctypes.CDLL(None)
    before = libc.personality(_CURRENT)
    if before == -1 or libc.personality(before | ADDR_NO_RANDOMIZE) == -1:
        return False
    libc.personality(before)
    return True


def run_child(
    module: str,
    job: Mapping[str, Json],
    folder: Path,
    on_event: Callable[[dict[str, Any]], None],
) -> Finished:
    """Run `python -m module job.json` in a folder; its JSON lines go to `on_event`.

    The last line is its result. Raises ToolFailed with the child's own error, or with the end of
    its stderr where it died. Whatever ends this call ends the child and all that it started.
    """
    (folder / "job.json").write_text(json.dumps(job, sort_keys=True))
    fixed = can_fix_addresses()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-m", module, "job.json"],
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            preexec_fn=_fix_addresses if fixed else None,  # noqa: PLW1509 - no threads run here
        )
        try:
            last = _follow(process, on_event)
            code = process.wait()
        finally:
            _kill_group(process)
        if last.get("event") == "result" and code == 0:
            return Finished({k: v for k, v in last.items() if k != "event"}, fixed)
        errors.seek(0)
        raise _failure(last, code, errors.read().decode(errors="replace"))


def _environment() -> dict[str, str]:
    """The same for every run; the package is found where this one was."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    home = str(Path(pipeline.__file__).parent.parent)
    return kept | {
        "LC_ALL": "C",
        "PATH": "/usr/bin:/bin",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": home,
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _fix_addresses() -> None:
    """Runs in the child before it becomes the builder.

    Besides addresses, the order in which threads run decides which memory each gets: on one
    processor and as a batch job, a new thread waits until the one that made it waits for it.
    """
    libc = ctypes.CDLL(None)
    libc.personality(libc.personality(_CURRENT) | ADDR_NO_RANDOMIZE)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _follow(
    process: subprocess.Popen[str], on_event: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Pass events on until the child closes its end; the last one."""
    last: dict[str, Any] = {}
    assert process.stdout is not None
    for line in process.stdout:
        try:
            last = json.loads(line)
        except ValueError:
            continue  # a library's own chatter on stdout
        if last.get("event") not in {"result", "error"}:
            on_event(last)
    return last


def _kill_group(process: subprocess.Popen[str]) -> None:
    """End the child's whole session: whatever it started goes too."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _failure(last: Mapping[str, Any], code: int, stderr: str) -> ToolFailed:
    if last.get("event") == "error":
        return ToolFailed(
            f"the engine could not be built: {last['message']}",
            facts=last["log"],
            hint="see the builder's messages above; `plan` may say more",
        )
    died = f"signal {-code}" if code < 0 else f"exit code {code}"
    return ToolFailed(
        f"the builder ended with {died}",
        facts=stderr.strip().splitlines()[-20:],
        hint="signal 9 is often the kernel's answer to too little memory" if code == -9 else None,
    )
