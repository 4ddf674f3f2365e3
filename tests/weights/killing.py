"""Conversions that are killed, and gone on with by other processes: a program for the tests.

    python -m tests.weights.killing SOURCE FOLDER SEED WANTED

Whole conversions, each killed again and again, until so many processes have gone on from where a
killed one was and were killed further on. It forks every one of them, so that a kill costs
milliseconds, and prints what happened as JSON.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np

from pipeline.files.journal import JOURNAL_NAME, read_journal
from pipeline.weights import blocks, casts, keeper, schedule, stream
from pipeline.weights.layout import ConversionPlan
from tests.weights.converting import plan
from tests.weights.resuming import Told

LOADED = (ml_dtypes, np, blocks, casts)
"""Before the fork: else every child would load them."""

STEP_BYTES = 8 << 10
MOST_KILLS = 2000
MEMORY = ([256 << 20], [8 << 20, 256 << 20])
"""In every other round less memory than an earlier process had: that one begins anew."""

Chance = random.Random


def convert(made: ConversionPlan, source: Path, out: Path, memory: int, chance: Chance) -> None:
    """What a child does."""
    schedule._COPY_STEP_BYTES = STEP_BYTES  # type: ignore[misc]
    keeper.LINE_INTERVAL_S = chance.choice([0.0, 0.0, 0.002])  # type: ignore[misc]
    keeper.SYNC_INTERVAL_S = chance.choice([0.003, 10.0])  # type: ignore[misc]
    told = Told()
    threads = chance.randint(1, 4)
    stream.write_checkpoint(
        *(made, source, out, told),
        max_block_bytes=STEP_BYTES * threads,
        num_threads=threads,
        max_memory_bytes=memory,
        resumable=True,
    )
    if told.skipped + told.written != told.total:
        raise AssertionError("bytes were counted twice or not at all")


def killed(
    made: ConversionPlan, source: Path, out: Path, memory: int, chance: Chance, patience: float
) -> bool:
    """One child, which may take `patience` times as long; whether it was killed before its end."""
    longest = chance.choice([0.02, 0.06, 0.2]) * patience
    child = os.fork()
    if child == 0:
        code = 1
        try:
            convert(made, source, out, memory, chance)
            code = 0
        finally:
            os._exit(code)
    time.sleep(chance.uniform(0, longest))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise AssertionError("a conversion failed")
    return os.WIFSIGNALED(status)


def counted(out: Path) -> int:
    """How many steps the journal says are done."""
    try:
        lines = read_journal(out / JOURNAL_NAME)
    except OSError:
        return 0
    return max((line.value[0] for line in lines[1:]), default=0)


def digest(folder: Path) -> str:
    """Of all names and bytes."""
    found = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        found.update(f"{path.name} {path.stat().st_size} ".encode() + path.read_bytes())
    return found.hexdigest()


def main(source: Path, folder: Path, seed: int, wanted: int) -> None:
    """Kill and go on until a conversion ends by itself; again and again."""
    made = plan(source, 2, 1, "float16")
    chance = random.Random(seed)
    digests, kills, went_on, grew = [], 0, 0, True
    for number in itertools.count():
        if went_on >= wanted and number >= len(MEMORY):
            break
        out = folder / f"out{number}"
        out.mkdir()
        before, patience = 0, 1.0
        while killed(made, source, out, chance.choice(MEMORY[number % 2]), chance, patience):
            kills += 1
            now = counted(out)
            # On a busy machine the shortest of times would not be enough to come any further.
            patience = 1.0 if now > before else patience * 1.1
            went_on += now > before > 0
            grew &= now >= before or number % 2 == 1
            before = now
            if kills > MOST_KILLS:
                raise AssertionError("it does not come to an end")
        (out / JOURNAL_NAME).unlink()  # as publishing does
        digests.append(digest(out))
        shutil.rmtree(out)
    facts = {"digests": digests, "kills": kills, "went_on": went_on, "grew": grew}
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
