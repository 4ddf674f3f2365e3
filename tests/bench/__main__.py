"""`make bench`: print every ratio. Sizes by environment: BENCH_GB (conversion, default 2)."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench import conversion, judging, planning


def lines(folder: Path) -> Iterator[str]:
    """What every bench has to say."""
    size_bytes = int(float(os.environ.get("BENCH_GB", "2")) * 1e9)
    yield from planning.measure(folder)
    yield from judging.measure()
    yield from conversion.measure(folder, size_bytes)
    if importlib.util.find_spec("torch") is None:
        yield "greedy decoding: skipped, this Python has no torch"
        return
    from tests.bench import decoding

    yield from decoding.measure(folder)


def main() -> None:
    """Run the benches in a scratch folder below the current one, on the disk that is meant."""
    scratch = Path("build")
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        for line in lines(Path(name)):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
