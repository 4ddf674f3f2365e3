"""Conversions that are ended early: tiny steps, a line for every step, and what is done again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.files.journal import JOURNAL_NAME
from pipeline.progress import Silent
from pipeline.weights import keeper, schedule, stream
from pipeline.weights.layout import ConversionPlan

STEP_BYTES = 1024


class Told(Silent):
    """What a conversion tells; ends it, as Ctrl-C would, after some advances."""

    def __init__(self, end_after: int = -1, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.total = self.written = self.skipped = 0
        self.left, self.error = end_after, error
        self.notes: list[str] = []

    def start(self, task: str, total: int, unit: str = "bytes") -> None:
        self.total = total

    def advance(self, amount: int) -> None:
        self.written += amount
        self.left -= 1
        if self.left == 0:
            raise self.error

    def skip(self, amount: int) -> None:
        self.skipped += amount

    def note(self, message: str) -> None:
        self.notes.append(message)


def tiny_steps(patch: pytest.MonkeyPatch) -> None:
    """Small steps, and a line after each."""
    patch.setattr(schedule, "_COPY_STEP_BYTES", STEP_BYTES)
    patch.setattr(keeper, "LINE_INTERVAL_S", 0.0)


def convert_on(plan: ConversionPlan, source: Path, out: Path, **options: Any) -> Told:
    """Convert, going on from what is there; what it told."""
    told = options.pop("told", None) or Told()
    given = {"num_threads": 1, "max_block_bytes": STEP_BYTES, **options}
    stream.write_checkpoint(plan, source, out, told, resumable=True, **given)
    return told


def convert_until(
    plan: ConversionPlan, source: Path, out: Path, after: int, **options: Any
) -> Told:
    """Begin in a new folder and be ended after some advances."""
    out.mkdir(exist_ok=True)
    told = Told(after)
    with pytest.raises(KeyboardInterrupt):
        convert_on(plan, source, out, told=told, **options)
    assert not (out / "config.json").exists()
    return told


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the journal."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != JOURNAL_NAME}


@contextmanager
def kept_in_place(folder: Path) -> Iterator[None]:
    """Afterwards all files have the bytes that they had before, and their inodes."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    yield
    for path in set(folder.iterdir()) - before.keys():
        path.unlink()
    for path, data in before.items():
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()
