"""The parent's side of work in a child process: fixed environment, events, nothing left."""

from __future__ import annotations

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
from typing import IO, Any

import pipeline
from pipeline.artifact import Json
from pipeline.engines.exit_codes import how_ended
from pipeline.errors import (
    MachineError,
    PipelineError,
    ResourceError,
    ToolFailed,
    VerificationError,
)
from pipeline.system.refusals import explain

KEPT_VARIABLES = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
"""What a builder may need of our environment; nothing else reaches it, secrets least of all."""

ALLOCATOR = "glibc.malloc.tcache_count=65535:glibc.malloc.mmap_threshold=131072"
"""What a thread frees stays with that thread, and large blocks never enter a heap.

TensorRT's own threads race with the one that builds for who frees what they share. With glibc's
defaults the loser's memory goes back to the builder's heap, so that its later addresses, and with
them the engine's bytes, follow the race (measured: see `child_setup`).
"""

LOG_LINES = 20
"""Lines of a failed builder's output that an error shows."""

_KINDS = {
    kind.__name__: kind for kind in (ToolFailed, ResourceError, MachineError, VerificationError)
}
"""What a child may say that its error is."""

_LIMITS = {
    signal.SIGXFSZ: (
        "needs a larger file than is allowed",
        "raise the limit: `ulimit -f unlimited`",
    ),
    signal.SIGXCPU: (
        "needs more processor time than is allowed",
        "raise the limit: `ulimit -t unlimited`",
    ),
}
"""Signals of resource limits."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a child said last, and why its addresses were not fixed (None where they were)."""

    result: dict[str, Json]
    why_random: str | None


def run_child(
    module: str,
    job: Mapping[str, Json],
    folder: Path,
    on_event: Callable[[dict[str, Any]], None],
    who: str = "the builder",
) -> Finished:
    """Run `python -m module` on a job, in a folder; its JSON lines go to `on_event`.

    The last line is its result; `who` is what errors call the child, whose home and temporary
    folder is `folder`. Raises the child's own error (ToolFailed, ResourceError, MachineError,
    VerificationError), or one with the end of its output where it died. Whatever ends this call, an
    exception of `on_event` or the death of this process included, ends the child and all that it
    started.
    """
    path = folder / "job.json"
    path.write_text(json.dumps({**job, "parent": os.getpid()}, sort_keys=True), encoding="utf-8")
    with tempfile.TemporaryFile() as output:
        process = _start(module, path.name, folder, output, who)
        try:
            why_random, last = _follow(process, on_event)
            code = process.wait()
        finally:
            _kill_group(process)
        if last.get("event") == "result" and code == 0:
            return Finished({k: v for k, v in last.items() if k != "event"}, why_random)
        output.seek(0)
        raise _failure(last, code, output.read().decode(errors="replace"), who)


def _start(
    module: str, job: str, folder: Path, output: IO[bytes], who: str
) -> subprocess.Popen[str]:
    """The child. Raises ResourceError or MachineError where the system does not start it."""
    own = {"HOME": str(folder.absolute()), "TMPDIR": str(folder.absolute())}
    try:
        # No `-I`: it would ignore PYTHONHASHSEED. `-P -s` and the explicit path isolate as well.
        return subprocess.Popen(
            [sys.executable, "-P", "-s", "-m", module, job],
            cwd=folder,
            env={**child_environment(), **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        raise explain(error, f"starting {who}") or error from None


def child_environment() -> dict[str, str]:
    """The same for every run; modules are found where this process finds them.

    What a child loads is on this machine: neither hub clients nor transformers may look elsewhere.
    """
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    folders = [Path(pipeline.__file__).parent.parent, *(Path(entry) for entry in sys.path)]
    paths = dict.fromkeys(str(folder.resolve()) for folder in folders if folder.is_dir())
    return kept | {
        "GLIBC_TUNABLES": ALLOCATOR,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "LC_ALL": "C",
        "PATH": "/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(paths),
        "TRANSFORMERS_OFFLINE": "1",
    }


def _follow(
    process: subprocess.Popen[str], on_event: Callable[[dict[str, Any]], None]
) -> tuple[str | None, dict[str, Any]]:
    """Pass events on until the child closes its end; why its addresses are random, its last."""
    why_random: str | None = None
    last: dict[str, Any] = {}
    assert process.stdout is not None
    for line in process.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a library's own chatter on stdout
        if not isinstance(event, dict) or "event" not in event:
            continue
        last = event
        if event["event"] == "ready":
            why_random = event["why_random"]
        elif event["event"] not in {"result", "error"}:
            on_event(event)
    return why_random, last


def _kill_group(process: subprocess.Popen[str]) -> None:
    """End the child's whole session: whatever it started goes too."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _failure(last: Mapping[str, Any], code: int, output: str, who: str) -> PipelineError:
    if last.get("event") == "error":
        kind = _KINDS.get(last["kind"], ToolFailed)
        return kind(last["message"], facts=last["facts"][-LOG_LINES:], hint=last["hint"])
    facts = output.strip().splitlines()[-LOG_LINES:]
    if code == -signal.SIGKILL:
        return ResourceError(
            f"{who} was killed, most likely for want of memory",
            facts=facts,
            hint="use a machine with more memory, or raise the container's limit",
        )
    if -code in _LIMITS:
        said, hint = _LIMITS[signal.Signals(-code)]
        return ResourceError(f"{who} {said}", facts=facts, hint=hint)
    return ToolFailed(f"{who} died with {how_ended(code)}", facts=facts)
