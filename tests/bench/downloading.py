"""A download from a hub on loopback against curl with the same hash check, in turn, in one run.

Ours is the whole command `download`: interpreter, listing, headers, plan, fetch, store. Two ways of
curl: to files that `sha256sum` then reads, and through a pipe, where both work at the same time.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.loopback_hub import REPO, Hub, serving
from tests.bench.sources import SMALL, of_size, write_files

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))

CASES = (("one file", 1), ("8 files", 8))


def measure(folder: Path, size_bytes: int) -> Iterator[str]:
    """One line per case: speeds as ratios, and processor times."""
    yield f"download of about {size_bytes / 1e9:.2f} GB from loopback, {ROUNDS} rounds"
    for title, num_files in CASES:
        source = folder / "source"
        write_files(source, of_size(SMALL, size_bytes), num_files)
        with serving(source) as hub:
            yield _told(title, source, folder, hub)
        shutil.rmtree(source)


def _told(title: str, source: Path, folder: Path, hub: Hub) -> str:
    names = sorted(path.name for path in source.iterdir())
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"name: bench\nsource: {{repo: {REPO}}}\nengine: {{backend: onnxruntime}}\n")
    ways: dict[str, Callable[[Path], None]] = {
        "ours": lambda out: _ours(out, recipe, hub),
        "curl, then sha256sum": lambda out: _curl(out, names, hub),
        "curl | tee | sha256sum": lambda out: _piped(out, names, hub),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(ROUNDS + 1):  # the first round warms the page cache
        for way, act in ways.items():
            out = folder / "out"
            out.mkdir()
            began, before = time.monotonic(), _cpu_seconds()
            act(out)
            if number:
                seconds[way].append(time.monotonic() - began)
                cpu[way].append(_cpu_seconds() - before)
            shutil.rmtree(out)
    size_bytes = sum(path.stat().st_size for path in source.iterdir())
    ours = seconds.pop("ours")
    line = f"  {title:<9} {size_bytes / 1e6 / statistics.median(ours):,.0f} MB/s"
    for way, theirs in seconds.items():
        ratios = [other / mine for mine, other in zip(ours, theirs, strict=True)]
        share = statistics.median(cpu["ours"]) / statistics.median(cpu[way])
        line += (
            f"; {statistics.median(ratios):.2f} x the speed of {way} ({min(ratios):.2f} to "
            f"{max(ratios):.2f}), {share:.2f} x its processor time"
        )
    return line


def _cpu_seconds() -> float:
    """Of all processes that were started and waited for; the hub is still running."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ours(out: Path, recipe: Path, hub: Hub) -> None:
    command = [sys.executable, "-m", "pipeline", "download", str(recipe), "--quiet"]
    subprocess.run(
        [*command, "--store", str(out / "store")],
        env=hub.environment(out / "hf"),
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _curl(out: Path, names: list[str], hub: Hub) -> None:
    for name in names:
        subprocess.run(["curl", "-sS", "-o", str(out / name), hub.url(name)], check=True)
    subprocess.run(["sha256sum", *names], cwd=out, check=True, stdout=subprocess.DEVNULL)


def _piped(out: Path, names: list[str], hub: Hub) -> None:
    for name in names:
        script = 'set -o pipefail; curl -sS "$1" | tee "$2" | sha256sum'
        given = [hub.url(name), str(out / name)]
        subprocess.run(["bash", "-c", script, "-", *given], check=True, stdout=subprocess.DEVNULL)
