"""`plan` of a remote 70B-shaped repo that was never seen: seconds, bytes and requests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.loopback_hub import REPO, Hub, serving
from tests.bench.sources import LLAMA_70B, tensors, write_holes

ROUNDS = 3
TOKENIZER_BYTES = 9_000_000


def measure(folder: Path) -> Iterator[str]:
    """One line per tensor-parallel size, best of some rounds, each with nothing remembered."""
    source = folder / "giant"
    size_bytes = write_giant(source)
    yield (
        f"plan of a remote repo: {len(tensors(LLAMA_70B))} tensors, {size_bytes / 1e9:,.0f} GB in "
        f"30 files, best of {ROUNDS}"
    )
    with serving(source, digests=False) as hub:
        for tp_size in (1, 8):
            recipe = folder / "recipe.yaml"
            recipe.write_text(
                f"name: giant\nsource: {{repo: {REPO}}}\ncheckpoint: {{tp_size: {tp_size}}}\n"
                "engine: {backend: onnxruntime}\nsmoke: {}\n"
            )
            hub.counts()
            seconds = [
                _plan(folder / f"{tp_size}-{number}", recipe, hub) for number in range(ROUNDS)
            ]
            counts = hub.counts()
            yield (
                f"  tp {tp_size}: {min(seconds):.2f} s, {counts['bytes'] / ROUNDS / 1e6:.3f} MB, "
                f"{counts['requests'] // ROUNDS} requests"
            )


def write_giant(folder: Path) -> int:
    """A repo of the shape of Llama 3.1 70B, without its bytes. Returns how many it claims."""
    size_bytes = write_holes(folder, LLAMA_70B, 30)
    (folder / "tokenizer.json").write_bytes(b" " * TOKENIZER_BYTES)
    (folder / "tokenizer_config.json").write_text(json.dumps({"added": "x" * 50_000}))
    (folder / "generation_config.json").write_text("{}")
    return size_bytes


def _plan(out: Path, recipe: Path, hub: Hub) -> float:
    command = [sys.executable, "-m", "pipeline", "plan", str(recipe), "--json"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--store", str(out / "store")],
        env=hub.environment(out / "hf"),
        capture_output=True,
        check=False,
    )
    seconds = time.monotonic() - began
    # 3: a plan with problems, such as memory that this machine has not.
    if done.returncode not in {0, 3, 4, 7}:
        raise RuntimeError(done.stderr.decode())
    return seconds
