"""`python -m tests.faults.served KIND`: a hub of the shipped checkpoint, in a process of its own.

It says on stdout, as JSON, with which environment a run finds it, and ends with its stdin. The
campaigns fork, so they can have no thread that serves.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
CHECKPOINT = ROOT / "recipes" / "demo" / "checkpoint"
REPO = "acme/demo"


@contextmanager
def served(kind: str | None) -> Iterator[Mapping[str, str]]:
    """The environment of runs that find such a hub, as long as the context lasts; None: no hub."""
    if kind is None:
        yield {}
        return
    argv = [sys.executable, "-m", "tests.faults.served", kind]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        environment = json.loads(process.stdout.readline())
        try:
            yield environment | {"NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
        finally:
            process.stdin.close()


def main(kind: str) -> None:
    """Serve until stdin ends."""
    files = {path.name: path.read_bytes() for path in CHECKPOINT.iterdir()}
    emulator: Any
    if kind == "huggingface":
        from tests.hub_emulator import HubEmulator

        emulator, variable = HubEmulator(), "HF_ENDPOINT"
    else:
        sys.path.insert(0, str(ROOT / "tests"))
        from modelscope_emulator import ModelScopeEmulator

        emulator, variable = ModelScopeEmulator(), "MODELSCOPE_ENDPOINT"
    with emulator as hub:
        hub.add(REPO, files)
        sys.stdout.write(json.dumps({variable: hub.endpoint}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
