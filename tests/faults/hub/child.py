"""The process that plans and downloads: forked anew per step from one that has imported all.

It lives by a fast clock (`fast_clock.py`), else nothing of the client or of ours is changed. Orders
come as lines of JSON on standard input; the answer to each lies in the step's folder when a line
with its number comes back.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from tests.faults.hub import fast_clock

MEMORY_BYTES = 3 << 30
"""Address space of a step: a bomb fails here and not on the machine."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def main() -> None:
    """Serve orders until standard input ends."""
    fast_clock.install()
    import tests.faults.hub.client_steps  # noqa: F401 (imports all, before the first fork)

    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _live(order)
        os.waitpid(pid, 0)
        sys.stdout.write(f"{order['number']}\n")
        sys.stdout.flush()


def _live(order: dict[str, Any]) -> None:
    """Carry out one order in this process, and end it."""
    root = Path(order["root"])
    answer: dict[str, Any] = {"kind": "crash"}
    try:
        _settle_in(order, root)
        watch = fast_clock.Stopwatch()
        outside = _watch_writes(root)
        answer = _outcome(order, root)
        answer["elapsed_s"] = watch.elapsed_s()
        answer["outside"] = sorted(set(outside))
        answer["slept_s"] = max(fast_clock.slept, default=0.0)
        answer["memory_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - order["base_kb"]
    except BaseException:  # noqa: BLE001 (whatever it is, it is told)
        answer["traceback"] = traceback.format_exc()
    finally:
        try:
            Path(order["answer"]).write_text(json.dumps(answer))
        finally:
            os._exit(0)


def _settle_in(order: dict[str, Any], root: Path) -> None:
    """Folders, environment, standard streams and limits of this step."""
    from huggingface_hub import constants

    for number, name in ((1, "told"), (2, "said")):
        os.dup2(os.open(root / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.chdir(root / "here")
    tempfile.tempdir = str(root / "scratch")
    os.environ.update(HOME=str(root / "home"), HF_TOKEN=order["token"])
    constants.HF_HUB_CACHE = str(root / "cache")
    constants.HF_HUB_DISABLE_XET = not order["xet"]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    order["base_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _watch_writes(root: Path) -> list[str]:
    """What this process opens for writing, makes or renames outside of its cache, store and out."""
    own = ("cache", "store", "out", "scratch", "answers", "told")
    allowed = (*(str(root / name) for name in own), os.environ["HF_HOME"])
    outside: list[str] = []

    def look(path: Any, folder: int = -1) -> None:
        # Names below an open folder are not looked at: that was opened, and so looked at, before.
        if isinstance(path, (str, bytes, os.PathLike)) and folder == -1:
            name = os.path.realpath(os.fsdecode(path))
            if not name.startswith(allowed) and name != os.devnull:
                outside.append(name)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
            look(arguments[0])
        elif event in {"os.mkdir", "os.remove", "os.rmdir"}:
            look(arguments[0], arguments[-1])
        elif event in {"os.rename", "os.link", "os.symlink"}:
            look(arguments[1], arguments[-1])

    sys.addaudithook(hook)
    return outside


def _outcome(order: dict[str, Any], root: Path) -> dict[str, Any]:
    """Plan and download: what came of it."""
    from pipeline.errors import PipelineError
    from tests.faults.hub.client_steps import plan_and_fetch, run_command

    act = run_command if order["command"] else plan_and_fetch
    answer: dict[str, Any] = {"kind": "ok", "phase": "plan", "notes": []}
    try:
        act(order, root, answer)
    except PipelineError as error:
        answer |= {
            "kind": type(error).__name__,
            "exit_code": error.exit_code,
            "message": error.message,
            "hint": error.hint,
            "facts": error.facts,
        }
    except BaseException:  # noqa: BLE001
        answer |= {"kind": "crash", "traceback": traceback.format_exc()}
    return answer


if __name__ == "__main__":
    main()
