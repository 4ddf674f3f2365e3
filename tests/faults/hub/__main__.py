"""`python -m tests.faults.hub --seed 1 --cases 500`: the long form; exit code 1 at a violation."""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.faults.hub.campaign import run


def main() -> int:
    """Play, print the counts, and say what broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.hub")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--slow", type=float, default=0.15, help="share of cases with slow faults")
    parser.add_argument("--keep", type=Path, help="folder for what failing cases leave")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hub-campaign-") as scratch:
        tally = run(
            chosen.seed,
            range(chosen.first, chosen.first + chosen.cases),
            chosen.keep or Path(scratch),
            workers=chosen.workers,
            slow_share=chosen.slow,
            tell=partial(print, file=sys.stderr),
        )
    from huggingface_hub import __version__

    sys.stdout.write(f"huggingface_hub {__version__}, seed {chosen.seed}\n{tally.table()}\n")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
