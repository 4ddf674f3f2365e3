"""Running the real command in a child process, as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"


def command_line(*arguments: str | Path) -> list[str]:
    """The argument list of a run of the command with this interpreter."""
    return [sys.executable, "-m", "pipeline", *map(str, arguments)]


def child_environment(**extra: str) -> dict[str, str]:
    """The environment of a child: ours, the package importable from any folder, no colours."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "100", **extra}


def run_command(
    *arguments: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    umask: int = -1,
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; the exit code is the caller's to judge."""
    return subprocess.run(
        command_line(*arguments),
        cwd=cwd,
        env=child_environment(**(env or {})),
        umask=umask,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
