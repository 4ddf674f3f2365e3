"""Greedy decoding on the CPU against other runtimes: same weights, threads, dtype and tokens.

Each runtime is a process of its own (`decoders`). They take turns, a few steps each, so that all of
them meet the same moments of the machine; the figures are ratios of the medians of their steps.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.children import why_absent
from tests.bench.decoders import DTYPE
from tests.bench.makers import THREADS
from tests.bench.models import M100, M500, cut, title, write_llama

PROMPT, STEPS, SETTLING = 64, 12, 2
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "8"))
MAX_LENGTH = PROMPT + ROUNDS * (STEPS + SETTLING) + 1
BATCHES = (1, 8)
PAUSE_S = 0.3
"""Between turns: threads that wait for work spin for a while."""

TITLES = {
    "ours": "ours",
    "transformers": "transformers eager",
    "genai": "onnxruntime-genai",
}
NEEDS = {"ours": (), "transformers": ("torch",), "genai": ("onnxruntime_genai", "onnx_ir", "torch")}


class Turns:
    """One running decoder."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Have it do something, and wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.heard())
        return answer

    def heard(self) -> str:
        """Its next line. Raises RuntimeError with its own words where it ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a decoder died: {self.process.args}")
        return line


def measure(folder: Path) -> Iterator[str]:
    """Per model, one line per batch size and other runtime."""
    for config in (cut(M100), cut(M500)):
        yield (
            f"greedy decoding, {title(config)}, {DTYPE}, {THREADS} threads, prompts of {PROMPT}, "
            f"{ROUNDS} rounds of {STEPS} steps"
        )
        source = folder / "source"
        write_llama(source, config, DTYPE)
        yield from _of_model(folder, source, config["vocab_size"])
        shutil.rmtree(source)


def _of_model(folder: Path, source: Path, vocab_size: int) -> Iterator[str]:
    with ExitStack() as stack:
        running: dict[str, Turns] = {}
        for name, modules in NEEDS.items():
            absent = why_absent(modules)
            if absent is not None:
                yield f"  {TITLES[name]}: skipped, because {absent}"
                continue
            running[name] = stack.enter_context(_decoder(name, source, folder))
        for batch in BATCHES:
            prompts = np.random.default_rng(batch).integers(3, vocab_size, (batch, PROMPT))
            yield from _told(batch, _alternated(running, prompts.tolist()))
        peaks = {name: turns.ask()["peak_kib"] / 1024 for name, turns in running.items()}
        told = (f"{TITLES[name]} {peak:,.0f} MB" for name, peak in peaks.items())
        yield f"  peak memory, making the decoder included: {', '.join(told)}"


@contextmanager
def _decoder(name: str, source: Path, folder: Path) -> Iterator[Turns]:
    """A running decoder with a work folder of its own; both gone afterwards."""
    work = folder / f"{name}-work"
    work.mkdir()
    command = [sys.executable, "-m", "tests.bench.decoders", name, str(source), str(work)]
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [*command, str(MAX_LENGTH)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        turns = Turns(process)
        assert turns.heard() == "ready\n"
        yield turns
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(work)


def _alternated(
    running: Mapping[str, Turns], prompts: list[list[int]]
) -> dict[str, tuple[list[float], list[list[int]]]]:
    """Median seconds of a step by round, and all tokens, by decoder."""
    found: dict[str, tuple[list[float], list[list[int]]]] = {}
    for name, turns in running.items():
        turns.ask(prompts=prompts)
        found[name] = ([], [])
    for _ in range(ROUNDS):
        for name, turns in running.items():
            # Its first steps find cold caches, and threads of the one before that still spin.
            time.sleep(PAUSE_S)
            first = turns.ask(steps=SETTLING)
            timed = turns.ask(steps=STEPS)
            found[name][0].append(statistics.median(timed["seconds"]))
            found[name][1].extend(first["tokens"] + timed["tokens"])
    return found


def _told(batch: int, found: Mapping[str, tuple[list[float], list[list[int]]]]) -> Iterator[str]:
    ours, tokens = found["ours"]
    yield f"  batch {batch}: ours {statistics.median(ours) * 1e3:.1f} ms a step"
    for name, (seconds, others) in found.items():
        if name == "ours":
            continue
        ratios = [theirs / mine for theirs, mine in zip(seconds, ours, strict=True)]
        same = sum(mine == theirs for mine, theirs in zip(tokens, others, strict=True))
        yield (
            f"    {statistics.median(ratios):.2f} times as fast as {TITLES[name]} "
            f"({statistics.median(seconds) * 1e3:.1f} ms; {min(ratios):.2f} to {max(ratios):.2f}), "
            f"{same} of {len(tokens)} steps with equal tokens"
        )
