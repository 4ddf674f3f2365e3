"""Conversion against `cp` and against loading the whole model: processes in turn, side by side."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import RecipeError
from pipeline.families import find_family
from tests.bench.children import CONVERT, LOAD_ALL, measured, timed, torch_python
from tests.bench.sources import MIXTRAL, SMALL, of_size, write_source

Pair = TypeVar("Pair")

ROUNDS = 5
LOAD_ALL_ROUNDS = 2


@dataclass(frozen=True)
class Case:
    """A conversion to measure."""

    title: str
    config: dict[str, Any]
    tp_size: int
    dtype: str


CASES = (
    Case("tp 1", SMALL, 1, "bfloat16"),
    Case("tp 8", SMALL, 8, "bfloat16"),
    Case("tp 1, bf16 to fp16", SMALL, 1, "float16"),
    Case("64 experts, tp 1", MIXTRAL, 1, "bfloat16"),
    Case("64 experts, tp 8", MIXTRAL, 8, "bfloat16"),
)


@dataclass
class Times:
    """Wall seconds by round: ours, `cp` of the source, and loading everything."""

    ours: list[float] = field(default_factory=list)
    cp: list[float] = field(default_factory=list)
    load_all: list[float] = field(default_factory=list)
    growth: float = 1.0
    peak_mb: float = 0.0
    load_all_peak_mb: float = 0.0


def is_supported(config: dict[str, Any]) -> bool:
    """Whether there is a family for it; without one the case is left out."""
    try:
        find_family(config["architectures"][0])
    except RecipeError:
        return False
    return True


def measure(folder: Path, size_bytes: int) -> Iterator[str]:
    """One line per case: ratios of wall times, and peak memory."""
    python = torch_python()
    yield f"conversion of about {size_bytes / 1e9:.2f} GB, {ROUNDS} rounds, medians of ratios"
    if python is None:
        yield "  loading everything: skipped, no torch and transformers (name one by BENCH_PYTHON)"
    source = folder / "source"
    written: dict[str, Any] | None = None
    for case in CASES:
        if not is_supported(case.config):
            yield f"  {case.title:<19} left out: no family for {case.config['architectures'][0]}"
            continue
        if written is not case.config:
            shutil.rmtree(source, ignore_errors=True)
            write_source(source, of_size(case.config, size_bytes))
            written = case.config
        yield _told(case, _run(case, source, folder, python))
    shutil.rmtree(source, ignore_errors=True)


def _run(case: Case, source: Path, folder: Path, python: str | None) -> Times:
    times = Times()
    out, copy = folder / "out", folder / "copy"
    given = [str(source), str(out), str(case.tp_size), case.dtype]
    for number in range(ROUNDS + 1):  # the first round warms the page cache
        ours, peak_mb = _fresh(out, lambda: measured(CONVERT, *given), keep=True)
        times.growth = _num_bytes(out) / _num_bytes(source)
        # Never two copies at once: the kernel would begin to wait for the disk.
        shutil.rmtree(out)
        cp, _ = _fresh(copy, lambda: timed(["cp", "-r", f"{source}/.", str(copy)]))
        if number == 0:
            continue
        times.ours.append(ours)
        times.cp.append(cp)
        times.peak_mb = max(times.peak_mb, peak_mb)
        if python is not None and number <= LOAD_ALL_ROUNDS:
            seconds, peak_mb = _fresh(out, lambda: measured(LOAD_ALL, *given, python=python))
            times.load_all.append(seconds)
            times.load_all_peak_mb = max(times.load_all_peak_mb, peak_mb)
    return times


def _fresh(folder: Path, action: Callable[[], Pair], *, keep: bool = False) -> Pair:
    """Do it with an empty folder, which is taken away again."""
    folder.mkdir()
    result = action()
    if not keep:
        shutil.rmtree(folder)
    return result


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _told(case: Case, times: Times) -> str:
    ratios = [ours / cp for ours, cp in zip(times.ours, times.cp, strict=True)]
    ratio = statistics.median(ratios)
    line = (
        f"  {case.title:<19} {ratio:.2f} x cp of the source ({min(ratios):.2f} to "
        f"{max(ratios):.2f}), by bytes written {ratio / times.growth:.2f}, "
        f"peak {times.peak_mb:.0f} MB"
    )
    if times.load_all:
        share = statistics.median(times.ours) / statistics.median(times.load_all)
        line += f"; {share:.2f} x loading everything, whose peak is {times.load_all_peak_mb:.0f} MB"
    return line
