"""`make bench`: print every ratio; `python -m tests.bench decoding building`: only these.

Sizes by environment: `BENCH_GB` (conversion, resuming, downloading, default 2), `BENCH_LAYERS`
(layers of the decoders), `BENCH_ROUNDS` (of `making`, `decoding`, `building` and `downloading`).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.bench import (
    building,
    cached,
    conversion,
    decoding,
    downloading,
    gpu,
    judging,
    making,
    planning,
    remote_planning,
    resuming,
)


def _size_bytes() -> int:
    return int(float(os.environ.get("BENCH_GB", "2")) * 1e9)


BENCHES: dict[str, Callable[[Path], Iterator[str]]] = {
    "cached": cached.measure,
    "planning": planning.measure,
    "remote_planning": remote_planning.measure,
    "downloading": lambda folder: downloading.measure(folder, _size_bytes()),
    "judging": lambda _: judging.measure(),
    "conversion": lambda folder: conversion.measure(folder, _size_bytes()),
    "resuming": lambda folder: resuming.measure(folder, _size_bytes()),
    "making": making.measure,
    "decoding": decoding.measure,
    "building": building.measure,
    "gpu": gpu.measure,
}


def main(names: Sequence[str]) -> int:
    """Run benches in a scratch folder below the current one, on the disk that is meant."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        sys.stderr.write(f"no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}\n")
        return 2
    scratch = Path("build")
    scratch.mkdir(exist_ok=True)
    for name in names or BENCHES:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            for line in BENCHES[name](Path(folder)):
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
