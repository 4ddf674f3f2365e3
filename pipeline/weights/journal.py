"""How far a conversion is: the journal in its folder, by which a later process goes on.

The steps of a conversion have one order (`schedule.steps`), depend on nothing but the source, and
write the same bytes whenever they are done. So it is enough to know how many of the first steps are
finished: the others are done, or done again. A line says this number and a digest of these steps
themselves, so that a program which would cut the work in another way finds out, and starts over.

What survives a kill at any system call, in the order of the work:

1. Rank files are made, get their sizes and headers. No journal: the next run clears the folder.
2. The journal gets its header line: the plan, the pace, the inodes of the rank files. Torn: as 1.
3. Steps are done, lines follow. A step is counted after its last write has returned, and only where
   none before it is missing or has met a bad cast. Lines that are not synced hold while the system
   runs on; every few seconds the rank files are synced, and then a synced line follows, which holds
   after a power cut too. Torn: the lines before it hold.
4. A last line says that all steps are done. config.json follows, so where it is, and no power was
   cut, all rank files are whole. A next run writes config.json again.
5. The journal goes when the folder is published, after its files were hashed and synced.

A disk that fails when it is synced may have dropped bytes that were counted: all lines since the
last good sync are then taken back.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifact import digest_json
from pipeline.files.journal import JOURNAL_NAME, Journal, Line, make_writable, read_journal
from pipeline.installed import OURS, installed
from pipeline.weights.files import translated
from pipeline.weights.layout import ConversionPlan, RankPlan
from pipeline.weights.schedule import Copy, Pace, Step

FORMAT = 1

ARITHMETIC = ("ml_dtypes", "numpy")
"""Packages that cast weights and compare them; the constants of decoder graphs are theirs, too."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A place in the order of the steps: how many lie before it, their digest, what they write."""

    num_steps: int = 0
    digest: str = ""
    num_bytes: int = 0

    def values(self) -> list[int | str]:
        """As a line of the journal says it."""
        return [self.num_steps, self.digest, self.num_bytes]


@dataclass(frozen=True, slots=True)
class Begun:
    """A conversion with a journal: its folder, pace, first and last line, and how far it is."""

    folder: Path
    pace: Pace
    header: Line
    last: Line
    reached: Reached = Reached()
    synced: Reached = Reached()


def numbered(steps: Iterable[Step]) -> Iterator[tuple[Step, Reached]]:
    """Each step, and the place that is reached once it and all before it are done."""
    reached, bands, told = Reached(), None, ""
    for step in steps:
        if isinstance(step, Copy):
            what, num_bytes = repr(step), step.num_bytes * len(step.targets)
        else:
            if step.bands is not bands:  # all blocks of a group have the same, which may be long
                bands, told = step.bands, _digest(repr(step.bands))
            what = f"{told} {step.start} {step.stop}"
            num_bytes = (step.stop - step.start) * sum(band.row_bytes for band in step.bands)
        digest = _digest(f"{reached.digest} {what}")
        reached = Reached(reached.num_steps + 1, digest, reached.num_bytes + num_bytes)
        yield step, reached


def begin(plan: ConversionPlan, folder: Path, pace: Pace) -> Begun:
    """Start the journal of a conversion whose rank files have their sizes and headers."""
    with translated(JOURNAL_NAME):
        inodes = [(folder / rank.file).stat().st_ino for rank in plan.ranks]
        journal = Journal.create(folder / JOURNAL_NAME)
        try:
            line = journal.append(_header(plan, pace, inodes), synced=True)
        finally:
            journal.close()
    return Begun(folder, pace, line, line)


def find_begun(plan: ConversionPlan, folder: Path) -> Begun | None:
    """The conversion that was begun in a folder; None where there is none of this plan.

    Whether its steps are those that this program would do shows when they are gone through.
    """
    with translated(JOURNAL_NAME):
        lines = read_journal(folder / JOURNAL_NAME)
        if not lines or not make_writable(folder / JOURNAL_NAME):
            return None
        try:
            pace = Pace(lines[0].value["block_bytes"], lines[0].value["most_bytes"])
            inodes = lines[0].value["inodes"]
        except (TypeError, KeyError):  # whole, but of another format
            return None
        if lines[0].value != _header(plan, pace, inodes) or len(inodes) != len(plan.ranks):
            return None
        ranks = zip(plan.ranks, inodes, strict=True)
        if not all(_is_begun(folder, rank, inode) for rank, inode in ranks):
            return None
    trusted = [Reached(*line.value) for line in lines[1:] if line.is_trusted]
    synced = [Reached(*line.value) for line in lines[1:] if line.is_synced]
    most = [max(found, default=Reached(), key=_num_steps) for found in (trusted, synced)]
    return Begun(folder, pace, lines[0], lines[-1], *most)


def _header(plan: ConversionPlan, pace: Pace, inodes: list[int]) -> dict[str, Any]:
    """The first line: of what plan the steps are, and what cuts them; the files that they fill.

    Files that were copied or restored are other files, whatever a journal beside them says. What
    other versions of the packages that cast have begun is not gone on with: an artifact says by
    which it was made.
    """
    said = {
        "by": installed([OURS, *ARITHMETIC]),
        "rules": plan.family.digest(),
        "config": plan.config,
        "parallelism": repr(plan.parallelism),
        "dtype": plan.dtype,
        "clamp": plan.clamp,
        "source": [repr(tensor) for tensor in plan.source.tensors.values()],
        "ranks": [(rank.file, rank.num_bytes, _digest(rank.header)) for rank in plan.ranks],
    }
    return {
        "format": FORMAT,
        "plan": digest_json(said),
        "block_bytes": pace.block_bytes,
        "most_bytes": pace.most_bytes,
        "inodes": inodes,
    }


def _is_begun(folder: Path, rank: RankPlan, inode: int) -> bool:
    """Whether this is the rank file that was made, of its size and with its header."""
    try:
        state = (folder / rank.file).lstat()
        if not stat.S_ISREG(state.st_mode):
            return False
        if (state.st_size, state.st_ino) != (rank.num_bytes, inode):
            return False
        with (folder / rank.file).open("rb") as stream:
            same = stream.read(len(rank.header)) == rank.header
        return same and make_writable(folder / rank.file)
    except FileNotFoundError:
        return False


def _num_steps(reached: Reached) -> int:
    return reached.num_steps


def _digest(what: str | bytes) -> str:
    data = what.encode() if isinstance(what, str) else what
    return hashlib.blake2b(data, digest_size=16).hexdigest()
