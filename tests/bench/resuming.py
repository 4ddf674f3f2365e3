"""What a conversion's journal costs, and what it saves after a kill: processes in turn."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.children import PLAN
from tests.bench.sources import SMALL, of_size, write_source

ROUNDS = 9
KILLED_AT = 0.8

_CONVERT = f"""\
import os, signal, sys, time
resumable, kill_at = sys.argv.pop(1) == "journal", float(sys.argv.pop(1))
{PLAN}
from pipeline.progress import Silent
from pipeline.weights.stream import write_checkpoint

class Killed(Silent):
    written = skipped = 0

    def advance(self, amount):
        self.written += amount
        if self.written > kill_at * plan.target_bytes:
            os.kill(os.getpid(), signal.SIGKILL)

    def skip(self, amount):
        self.skipped = amount

told = Killed()
began, began_cpu = time.perf_counter(), time.process_time()
write_checkpoint(plan, Path(source), Path(out), told, resumable=resumable)
seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
print(seconds, cpu, told.skipped / plan.target_bytes)
"""


@dataclass(frozen=True)
class Took:
    """Wall and processor seconds of a conversion, and the share that was there before."""

    seconds: float
    cpu_seconds: float
    skipped: float


def measure(folder: Path, size_bytes: int) -> Iterator[str]:
    """For rows that are copied and rows that are cast: the cost, and the rest after a kill."""
    source, out = folder / "source", folder / "out"
    write_source(source, of_size(SMALL, size_bytes))
    yield f"journal of a conversion of {size_bytes / 1e9:.2f} GB, {ROUNDS} rounds, in turn"
    for title, *layout in [("tp 1", "1", "bfloat16"), ("tp 2, bf16 to fp16", "2", "float16")]:
        with_journal, without = [], []
        for number in range(ROUNDS + 1):  # the first round warms the page cache
            pair = [_convert(source, out, how, layout) for how in _order(number)]
            one, other = pair if number % 2 else pair[::-1]
            if number:
                with_journal.append(one)
                without.append(other)
        yield f"  {title:<19} {_ratios(with_journal, without)}"
        yield f"  {title:<19} {_after_kills(source, out, layout, without)}"
    shutil.rmtree(source)


def _order(number: int) -> tuple[str, str]:
    return ("journal", "none") if number % 2 else ("none", "journal")


def _convert(source: Path, out: Path, how: str, layout: list[str]) -> Took:
    """A conversion into an empty folder."""
    out.mkdir()
    took = _run(source, out, how, layout)
    shutil.rmtree(out)
    assert took is not None, "it was not to be killed"
    return took


def _run(source: Path, out: Path, how: str, layout: list[str], kill_at: float = 2.0) -> Took | None:
    command = [sys.executable, "-c", _CONVERT, how, str(kill_at), str(source), str(out), *layout]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == -9:
        return None
    done.check_returncode()
    return Took(*map(float, done.stdout.split()))


def _after_kills(source: Path, out: Path, layout: list[str], whole: list[Took]) -> str:
    rests = []
    for _ in range(3):
        out.mkdir()
        assert _run(source, out, "journal", layout, KILLED_AT) is None, "it was to be killed"
        rest = _run(source, out, "journal", layout)
        assert rest is not None
        rests.append(rest)
        shutil.rmtree(out)
    share = statistics.median(rest.skipped for rest in rests)
    seconds = statistics.median(rest.seconds for rest in rests)
    full = statistics.median(took.seconds for took in whole)
    return (
        f"killed at {KILLED_AT:.0%}: {share:.0%} was there, the rest took {seconds:.2f} s, "
        f"{seconds / full:.2f} x the whole"
    )


def _ratios(ours: list[Took], theirs: list[Took]) -> str:
    pairs = list(zip(ours, theirs, strict=True))
    wall = [one.seconds / other.seconds for one, other in pairs]
    cpu = [one.cpu_seconds / other.cpu_seconds for one, other in pairs]
    return (
        f"{statistics.median(wall):.3f} x the time without ({min(wall):.2f} to {max(wall):.2f}), "
        f"{statistics.median(cpu):.3f} x its processor time ({min(cpu):.2f} to {max(cpu):.2f})"
    )
