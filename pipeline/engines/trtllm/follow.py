"""Follows a build by its log: one file per rank as far as lines tell it, progress, fallbacks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pipeline.engines.trtllm.failures import SHOWN_LINES, without_frames
from pipeline.errors import VerificationError
from pipeline.progress import Progress
from pipeline.redaction import redactor
from pipeline.trtllm.log_lines import (
    ABORTED,
    ALL_BUILT,
    BAD_TIMING_CACHE,
    FALLBACKS,
    LOST_RANK,
    OUT_OF_DISK,
    OUT_OF_MEMORY,
    OVERRIDES,
    STEPS,
    find_line,
    rank_told,
    without_times,
)

_LOOKED_AT_LINES = 400
"""Where the lines of an error are looked for: a stack through torch has a hundred of them."""

KEPT_LINES = 50
"""Of each kind of line: a build of many layers repeats itself."""

GENERAL_LOG = "build.log"

_RANK_BEGINS = "Set PluginConfig.dtype to "
"""The first line of `build()` (TensorRT-LLM 1.x `builder.py`)."""


def log_name(rank: int | None) -> str:
    """The log of a rank; None: of all, or of whom it is not known."""
    return GENERAL_LOG if rank is None else f"rank{rank}.log"


@dataclass(slots=True)
class BuildLog:
    """What a build has said. Ranks that are built in turn own what is said meanwhile.

    `is_in_turn`: one rank after another, not several at once. `stop_at_fallback`: do not go on with
    a build whose attention is not fused.
    """

    folder: Path
    world_size: int
    is_in_turn: bool
    progress: Progress
    stop_at_fallback: bool = False
    fallbacks: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    aborts: list[str] = field(default_factory=list)
    is_whole: bool = False
    is_out_of_memory: bool = False
    is_out_of_disk: bool = False
    is_timing_cache_bad: bool = False
    has_lost_rank: bool = False
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=_LOOKED_AT_LINES))
    _files: dict[str, IO[str]] = field(default_factory=dict)
    _begun: int = 0
    _saved: int = 0

    @contextmanager
    def open(self) -> Iterator[BuildLog]:
        """Begin to follow; the files are closed at the end."""
        self.folder.mkdir()
        self.progress.start("build engine", self.world_size * len(STEPS), "steps")
        try:
            yield self
        finally:
            for file in self._files.values():
                file.close()

    def line(self, _stream: str, line: str) -> None:
        """Take one line. Raises VerificationError at a fallback where it must not be."""
        if _RANK_BEGINS in line:
            self._begun += 1
        self._write(self._rank_of(line), line)
        self._tail.append(line)
        self._understand(line)
        if find_line(STEPS, line) is not None:
            self.progress.advance(1)
            self._saved += STEPS[-1].is_in(line)

    def tail(self) -> list[str]:
        """The last lines, oldest first, stacks of Python left out."""
        return without_frames(list(self._tail))[-SHOWN_LINES:]

    def write_clean(self, out_dir: Path, placeholders: Mapping[str, str]) -> list[str]:
        """Write the logs without what differs from run to run; the names of the files.

        `placeholders`: paths of this run -> what is written for them.
        """
        clean = redactor()
        for name in self._files:
            with (
                (self.folder / name).open(encoding="utf-8") as source,
                (out_dir / name).open("w", encoding="utf-8", newline="\n") as target,
            ):
                for line in source:
                    target.write(clean(without_times(_without_paths(line, placeholders))))
        return sorted(self._files)

    def _rank_of(self, line: str) -> int | None:
        told = rank_told(line)
        if told is not None or not self.is_in_turn:
            return told if told is not None and told < self.world_size else None
        return self._begun - 1 if self._saved < self._begun <= self.world_size else None

    def _write(self, rank: int | None, line: str) -> None:
        name = log_name(rank)
        if name not in self._files:
            self._files[name] = (self.folder / name).open("w", encoding="utf-8", newline="\n")
        self._files[name].write(line + "\n")

    def _understand(self, line: str) -> None:
        fallback = find_line(FALLBACKS, line)
        if fallback is not None:
            _keep(self.fallbacks, line)
            if self.stop_at_fallback:
                raise VerificationError(
                    "`engine.attention.require_fused` is true, but TensorRT-LLM computes context "
                    f"attention unfused: {fallback.means}",
                    facts=[f"log: {line}", f"source: {fallback.source}"],
                    hint="`trtllm-pack plan` says what each target supports; "
                    "`engine.attention: {require_fused: false}` accepts the fallback",
                )
        elif find_line(OVERRIDES, line) is not None:
            _keep(self.overrides, line)
        if ABORTED.is_in(line):
            _keep(self.aborts, line)
        self.is_whole |= ALL_BUILT.is_in(line)
        self.is_out_of_memory |= OUT_OF_MEMORY.is_in(line)
        self.is_out_of_disk |= OUT_OF_DISK.is_in(line)
        self.is_timing_cache_bad |= BAD_TIMING_CACHE.is_in(line)
        self.has_lost_rank |= LOST_RANK.is_in(line)


def _without_paths(line: str, placeholders: Mapping[str, str]) -> str:
    for path, placeholder in placeholders.items():
        line = line.replace(path, placeholder)
    return line


def _keep(lines: list[str], line: str) -> None:
    """Add a line that was not there, up to a limit."""
    line = without_times(line)
    if line not in lines and len(lines) < KEPT_LINES:
        lines.append(line)
