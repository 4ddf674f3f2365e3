"""Plays a case: an emulated hub on this side, plans and downloads in child processes."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.faults.hub.cases import TOKEN, Case
from tests.faults.hub.content import RECIPE, repo_files
from tests.faults.hub.settings import ABSENT, FAILS, RENAMED, SETTINGS, XET
from tests.hub_emulator import HubEmulator, Recorded
from tests.tiny_source import REPO

PATIENCE_S = 150.0
"""Real seconds after which a step hangs; by the child's clock this is more than half an hour."""

ROOT = Path(__file__).parents[3]
FOLDERS = ("cache", "store", "out", "scratch", "here", "home", "answers")


@dataclass
class Step:
    """One run: its answer, what it asked of whom, and what it said though it must be silent."""

    answer: dict[str, Any]
    requests: list[Recorded]
    said: str = ""


@dataclass
class Played:
    """All that is judged about a case."""

    case: Case
    root: Path
    first: Step
    hits: list[int]
    finished: set[str]
    """Files that the first run left complete and right in the client's cache."""
    later: list[Step] = field(default_factory=list)


class Child:
    """The process that steps are forked from (`child.py`); it knows the hub by `HF_ENDPOINT`."""

    def __init__(self, endpoint: str, home: Path) -> None:
        self._endpoint, self._home = endpoint, home

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def step(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out an order; a step that hangs is killed."""
        answer = Path(order["answer"])
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], PATIENCE_S)[0]:
            self._stop()
            self._start()
            return {"kind": "hang", "phase": "unknown"}
        self._process.stdout.readline()
        if not answer.exists():
            return {"kind": "crash", "traceback": "the process died"}
        found: dict[str, Any] = json.loads(answer.read_text())
        return found

    def _start(self) -> None:
        environment = {k: os.environ[k] for k in ("PATH", "LANG") if k in os.environ}
        environment |= {"HF_ENDPOINT": self._endpoint, "NO_PROXY": "127.0.0.1"}
        environment |= {"HF_HOME": str(self._home), "HOME": str(self._home)}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.hub.child"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def _stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                stream and stream.close()


def settle(hub: HubEmulator) -> None:
    """The hub as it is where nothing is wrong."""
    hub.repos.clear()
    hub.renamed.clear()
    hub.history.clear()
    hub.faults.clear()
    hub.requests.clear()
    hub.token, hub.link_uses, hub.forgetful = None, None, False
    hub.add(REPO, repo_files())


def play(case: Case, hub: HubEmulator, child: Child, root: Path) -> Played:
    """Run with the faults, then without them until it works or need not work any more."""
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    for name in ("told", "said"):
        (root / name).touch()
    (root / "recipe.yaml").write_text(RECIPE)
    SETTINGS[case.setting][1](hub)
    hub.faults.extend(case.faults)
    endpoint = hub.nowhere if case.setting == ABSENT else hub.endpoint
    first = _step(case, hub, child, root, 1, endpoint)
    played = Played(case, root, first, [f.hits for f in case.faults], _finished(root, hub))
    hub.faults.clear()
    if SETTINGS[case.setting][0] != FAILS and case.setting != RENAMED:
        hub.link_uses, hub.forgetful = None, False
    else:
        settle(hub)
    for number in (2, 3):
        step = _step(case, hub, child, root, number, hub.endpoint)
        played.later.append(step)
        if "run again" not in (step.answer.get("hint") or ""):
            break
    return played


def _step(
    case: Case, hub: HubEmulator, child: Child, root: Path, number: int, endpoint: str
) -> Step:
    hub.requests.clear()
    order = {
        "number": number,
        "root": str(root),
        "answer": str(root / "answers" / f"{number}.json"),
        "endpoint": endpoint,
        "revision": case.revision,
        "out": str(number),
        "token": TOKEN,
        "command": case.command,
        "xet": case.setting == XET,
    }
    answer = child.step(order)
    words = "".join((root / name).read_text(errors="replace") for name in ("told", "said"))
    for name in ("told", "said"):
        (root / name).write_text("")
    return Step(answer, list(hub.requests), words)


def _finished(root: Path, hub: HubEmulator) -> set[str]:
    found = set()
    for commit, repo in hub.history.items():
        for name, content in repo.files.items():
            for path in (root / "cache").glob(f"*/snapshots/{commit}/{name}"):
                if path.is_file() and path.read_bytes() == content:
                    found.add(name)
    return found


def forget(root: Path) -> None:
    """Remove the folders of a case."""
    shutil.rmtree(root, ignore_errors=True)
