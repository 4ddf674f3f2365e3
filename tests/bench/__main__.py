"""`make bench`: print every ratio. Sizes by environment: BENCH_GB (conversion, default 2)."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.bench import conversion, decoding


def main() -> None:
    """Run the benches in a scratch folder below the current one, on the disk that is meant."""
    size_bytes = int(float(os.environ.get("BENCH_GB", "2")) * 1e9)
    scratch = Path("build")
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        for line in conversion.measure(Path(name), size_bytes):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        for line in decoding.measure(Path(name)):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
