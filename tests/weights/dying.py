"""Conversions that die at every one of their system calls: a program for the tests.

    python -m tests.weights.dying SOURCE FOLDER STRIDE

It forks every conversion. A child dies before its n-th call that changes a file, or in the middle
of it where that is a write; the next one, of another number of threads, dies at its own n-th call;
the third one ends. Prints the digests and the counts as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from pipeline.files.journal import JOURNAL_NAME
from pipeline.weights import blocks, casts, keeper, schedule, stream
from pipeline.weights.layout import ConversionPlan
from tests.weights.converting import plan
from tests.weights.killing import digest
from tests.weights.resuming import Told

LOADED = (ml_dtypes, np, blocks, casts)
"""Before the fork: else every child would load them."""

CALLS = (
    *("open", "pwrite", "copy_file_range", "posix_fallocate", "ftruncate", "unlink", "chmod"),
    *("fdatasync", "fsync"),
)
STEP_BYTES = 16 << 10
DIED = 77


def die_at(number: int, *, half: bool) -> None:
    """Have this process end at a call; `half` of what it would have written is in the file."""
    calls = itertools.count(1)

    def replaced(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*given: Any, **options: Any) -> Any:
            if next(calls) == number:
                if half and name == "pwrite":
                    real(given[0], given[1][: len(given[1]) // 2], given[2])
                if half and name == "copy_file_range":
                    real(*given[:2], given[2] // 2, *given[3:])
                os._exit(DIED)
            return real(*given, **options)

        return call

    for name in CALLS:
        setattr(os, name, replaced(name))


def ended(made: ConversionPlan, source: Path, out: Path, threads: int, at: int, half: bool) -> bool:
    """Whether a child came to its end."""
    child = os.fork()
    if child == 0:
        try:
            schedule._COPY_STEP_BYTES = STEP_BYTES  # type: ignore[misc]
            keeper.LINE_INTERVAL_S = 0.0  # type: ignore[misc]
            die_at(at, half=half)
            given = {"num_threads": threads, "max_block_bytes": STEP_BYTES * threads}
            stream.write_checkpoint(made, source, out, Told(), resumable=True, **given)  # type: ignore[arg-type]
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in {0, DIED}:
        raise AssertionError("a conversion failed")
    return code == 0


def main(source: Path, folder: Path, stride: int) -> None:
    """Every `stride`th call, before it and in the middle of it."""
    made, out, never = plan(source, 2, 1, "float16"), folder / "out", 1 << 30
    digests, deaths = set(), 0
    for half in (False, True):
        for at in itertools.count(1 + half, stride):
            out.mkdir()
            whole = ended(made, source, out, 1, at, half)
            deaths += not whole
            deaths += not ended(made, source, out, 2, at, half)
            ended(made, source, out, 3, never, half)
            (out / JOURNAL_NAME).unlink()
            digests.add(digest(out))
            shutil.rmtree(out)
            if whole:
                break
    sys.stdout.write(json.dumps({"digests": sorted(digests), "deaths": deaths}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
