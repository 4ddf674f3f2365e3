"""The build stage's own call: `python -m tests.bench.our_builder CHECKPOINT OUT`.

Prints the seconds of the call, then the peaks of this process and of the one that compiles, added,
in KiB.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines import find_engine
from pipeline.progress import Silent
from pipeline.recipe.schema import EngineSettings
from tests.bench.children import own_peak

TARGETS = ("sm80", "sm86", "sm89", "sm120")
SETTINGS = EngineSettings(
    backend="tensorrt", targets=TARGETS, max_batch_size=8, max_input_len=1024, max_seq_len=2048
)


def main(checkpoint: str, out: str) -> None:
    """See the module."""
    opened = open_trtllm_checkpoint(Path(checkpoint))
    began = time.perf_counter()
    find_engine("tensorrt").build(opened, SETTINGS, Path(out), Silent())
    seconds = time.perf_counter() - began
    peak = own_peak() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    sys.stdout.write(f"\n{seconds}\n{peak}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
