"""`python -m tests.faults.traced_command ORDERS COMMAND...`: trace any command, print what it did.

ORDERS is JSON: `{"inside": FOLDER, "at": N, "fail": ERRNO}`, or `"shorten": BYTES`, or `"kill":
"before"` or `"after"`, perhaps with `"whole_tree": false`; `{}` only watches. With `"on": true` it
is all calls from N on. One JSON document on stdout: the calls, how it ended, who outlived it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults import ptrace, seccomp
from tests.faults.calls import Call, Fail, Kill, Shorten, Trace, Verdict
from tests.faults.tracer import Tracer

DEADLINE_S = 560.0


def trace(command: Sequence[str], orders: Mapping[str, Any]) -> Trace:
    """Run a command under orders, its standard output thrown away."""

    def judge(call: Call) -> Verdict:
        at = orders.get("at", 0)
        if call.number == at or (orders.get("on") and call.number > at > 0):
            return _verdict(orders)
        return None

    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        _become(command, readable)
    ptrace.seize(child)
    os.write(writable, b"!")
    inside = orders.get("inside")
    return Tracer(judge, Path(inside) if inside else None).follow(child, DEADLINE_S)


def _verdict(orders: Mapping[str, Any]) -> Verdict:
    if "fail" in orders:
        return Fail(orders["fail"])
    if "shorten" in orders:
        return Shorten(orders["shorten"])
    return Kill(after=orders["kill"] == "after", whole_tree=orders.get("whole_tree", True))


def _become(command: Sequence[str], readable: int) -> None:
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.read(readable, 1)
        os.close(readable)
        seccomp.install()
        os.execvp(command[0], list(command))
    finally:
        os._exit(127)


def main(arguments: Sequence[str]) -> int:
    """Trace, print; 77 where processes cannot be traced here, with the reason on stderr."""
    why_not = ptrace.why_not()
    if why_not is not None:
        sys.stderr.write(why_not + "\n")
        return 77
    orders, *command = arguments
    sys.stdout.write(json.dumps(asdict(trace(command, json.loads(orders)))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
