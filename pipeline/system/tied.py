"""Small programs of the system, `nvidia-smi` say: with no secrets, and ended with us.

Also the launcher that ties them: `python -I -S -B tied.py PARENT PROGRAM ARGUMENT...`. The kernel
kills the program when the thread that started it ends, in whatever way (Linux:
`PR_SET_PDEATHSIG`, which survives `exec`). As a file it needs nothing of this package.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
NOT_STARTED = 127
"""Exit code where the program cannot be started, as shells have it."""

_KEPT = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


def tied(argv: Sequence[str]) -> list[str]:
    """The command line that runs a program, named by its path, for as long as we live."""
    return [sys.executable, "-I", "-S", "-B", __file__, str(os.getpid()), *argv]


def tool_environment() -> dict[str, str]:
    """What such a program needs of our environment."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, "LC_ALL": "C"}


def main(parent: int, argv: list[str]) -> int:
    """Become the program; an exit code where that fails."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before that call
        return NOT_STARTED
    try:
        os.execv(argv[0], argv)  # noqa: S606 - a list of arguments, no shell
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        return NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
