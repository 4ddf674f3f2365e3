"""Starts the command under limits of the system: `python limited.py JSON ARGUMENT...`.

The JSON says which: `{"RLIMIT_NOFILE": 20, "closed": [1], "ignored": ["SIGHUP"], "nobody": true}`.
As nobody it may read all, as root may, but write only what everybody may.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from typing import Any

NOBODY = 65534
_PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _RAISE, _CAPSET = 8, 47, 2, {"x86_64": 126, "aarch64": 91}
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522


def become_nobody() -> None:
    """Give up root, but for reading: the interpreter may lie in root's own folder.

    Source: capabilities(7), "Ambient".
    """
    if os.getuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    mask = 1 << _CAP_DAC_READ_SEARCH
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(struct.pack("6I", mask, mask, mask, 0, 0, 0))
    if libc.syscall(_CAPSET[os.uname().machine], header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    if libc.prctl(_PR_CAP_AMBIENT, _RAISE, _CAP_DAC_READ_SEARCH, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def main(limits: dict[str, Any], arguments: list[str]) -> None:
    """Set the limits, become the command."""
    if limits.pop("nobody", False):
        become_nobody()
    for number in limits.pop("closed", []):
        os.close(number)
    for name in limits.pop("ignored", []):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))
    os.execv(sys.executable, [sys.executable, "-m", "pipeline", *arguments])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
