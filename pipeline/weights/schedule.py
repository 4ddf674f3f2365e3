"""The order of a conversion: every source file once, from its first byte to its last.

What goes to several ranks is read once and written to all of them. The steps are independent of
each other, so any number of threads may carry them out; taken by one thread, they do not go back in
a source file, except where a target needs rows of several tensors, or columns, at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pipeline.errors import ResourceError
from pipeline.weights.layout import ConversionPlan, TargetTensor
from pipeline.weights.patches import AnyPatch, Patch, byte_ranges, matrix

_COPY_STEP_BYTES = 8 << 20
"""Small enough that the last steps do not leave the other threads idle."""

Place = tuple[str, int]
"""A file and a byte in it."""


@dataclass(frozen=True, slots=True)
class Band:
    """Whole rows of a target tensor: their place in a rank file, and what fills them from row 0."""

    file: str
    offset: int
    row_bytes: int
    dtype: str
    patches: tuple[AnyPatch, ...]

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return max(patch.row + patch.num_rows for patch in self.patches)


@dataclass(frozen=True, slots=True)
class Copy:
    """Source bytes that pass unchanged, and where they go."""

    file: str
    offset: int
    num_bytes: int
    targets: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Compute:
    """Rows `start:stop` of bands that read the same rows of the source."""

    bands: tuple[Band, ...]
    start: int
    stop: int


Step = Copy | Compute


@dataclass(frozen=True, slots=True)
class Pace:
    """What cuts the work into steps, in bytes of a thread's memory.

    A block takes `block_bytes`, or `most_bytes` where every block reads its sources whole.
    """

    block_bytes: int
    most_bytes: int

    def threads_within(self, max_bytes: int) -> int:
        """How many threads may work at this pace in this memory; 0 where not one may."""
        return min(max_bytes // self.block_bytes, max_bytes // 2 // max(1, self.most_bytes))


def pace_of(max_block_bytes: int, max_bytes: int, threads: int) -> Pace:
    """The pace of threads that share this memory, of which all blocks take `max_block_bytes`."""
    return Pace(max(1, min(max_block_bytes, max_bytes) // threads), max_bytes // 2 // threads)


_Range = tuple[str, int, int, str, int]
"""Source file, first byte, byte after the last; target file, first byte."""


@dataclass
class Work:
    """All that a plan writes, by kind and in order. `zero_bytes` are those that need no writing."""

    ranges: list[_Range] = field(default_factory=list)
    groups: list[tuple[Band, ...]] = field(default_factory=list)
    zero_bytes: int = 0


def all_work(plan: ConversionPlan) -> Work:
    """What is copied and what is computed; the latter in groups that read the same source rows."""
    work = Work()
    groups: dict[tuple[object, ...], list[Band]] = {}
    for rank in plan.ranks:
        for tensor, offset in zip(rank.tensors, rank.offsets(), strict=True):
            for band in _bands(rank.file, offset, tensor):
                if not _take_ranges(band, work):
                    groups.setdefault(_rows_read(band), []).append(band)
    work.ranges.sort()
    work.groups = sorted((tuple(group) for group in groups.values()), key=_first_byte)
    return work


def fitting_threads(work: Work, max_bytes: int, threads: int) -> int:
    """How many threads may work in this memory.

    Raises ResourceError where a single row of a target takes more while it is computed.
    """
    if not work.groups:
        return threads
    from pipeline.weights.blocks import cost_bytes

    band = max(
        (band for group in work.groups for band in group),
        key=lambda band: cost_bytes(band.patches, band.dtype),
    )
    cost = cost_bytes(band.patches, band.dtype)
    if cost > max_bytes:
        raise ResourceError(
            f"a row of `{band.patches[0].reads[0].name}` takes {cost:,} bytes while it is "
            f"converted; {max_bytes:,} are left for it",
            hint="allow more by `--max-memory`",
        )
    return max(1, min(threads, max_bytes // max(cost, 1)))


def steps(work: Work, pace: Pace) -> Iterator[Step]:
    """The steps in the order of the source's bytes: the same ones for equal work and pace.

    Each may be done at any time, and again: it reads nothing but the source, and writes the same.
    """
    computed = (step for group in work.groups for step in _blocks(group, pace))
    return heapq.merge(_copies(work.ranges), computed, key=_position)


def _position(step: Step) -> Place:
    return (step.file, step.offset) if isinstance(step, Copy) else _first_byte(step.bands)


def _bands(file: str, offset: int, tensor: TargetTensor) -> Iterator[Band]:
    """The tensor cut between rows where no patch spans the cut."""
    rows, _ = matrix(tensor.shape)
    row_bytes = tensor.num_bytes // max(rows, 1)
    first = end = 0
    held: list[AnyPatch] = []
    for patch in sorted(tensor.patches, key=lambda patch: patch.row):
        if held and patch.row >= end:
            yield Band(file, offset + first * row_bytes, row_bytes, tensor.dtype, tuple(held))
            held = []
        if not held:
            first = patch.row
        held.append(patch.moved(patch.row - first))
        end = max(end, patch.row + patch.num_rows)
    if held:
        yield Band(file, offset + first * row_bytes, row_bytes, tensor.dtype, tuple(held))


def _take_ranges(band: Band, work: Work) -> bool:
    """Note the bytes of a band that is one range; False where it must be computed."""
    patch = band.patches[0]
    if len(band.patches) > 1:
        return False
    ranges = byte_ranges(band.patches, band.dtype, (patch.num_rows, patch.num_columns))
    for item in ranges or ():
        if item.file is None:
            work.zero_bytes += item.num_bytes  # the file is made of zeros
        elif item.num_bytes:
            end = item.offset + item.num_bytes
            work.ranges.append((item.file, item.offset, end, band.file, band.offset))
    return ranges is not None


def _rows_read(band: Band) -> tuple[object, ...]:
    """What bands must share to be made side by side from the same blocks of rows."""
    read: list[object] = [band.num_rows]
    for patch in band.patches:
        read += [(info.file, info.offset) for info in patch.reads]
        if isinstance(patch, Patch):
            read += [patch.source_row, patch.row_step, patch.row, patch.num_rows]
    return tuple(read)


def _first_byte(group: tuple[Band, ...]) -> Place:
    return min((_first_read(patch) for patch in group[0].patches if patch.reads), default=("", 0))


def _first_read(patch: AnyPatch) -> Place:
    if not isinstance(patch, Patch) or patch.source is None:
        return min((info.file, info.offset) for info in patch.reads)
    rows = max(matrix(patch.source.shape)[0], 1)
    row_bytes = patch.source.num_bytes // rows
    return patch.source.file, patch.source.offset + patch.source_row * row_bytes


def _copies(ranges: Sequence[_Range]) -> Iterator[Copy]:
    """Ranges that overlap (ranks that repeat a tensor) are cut so that no byte is read twice."""
    first = 0
    while first < len(ranges):
        file, _, end = ranges[first][:3]
        last = first + 1
        while last < len(ranges) and ranges[last][0] == file and ranges[last][1] < end:
            end = max(end, ranges[last][2])
            last += 1
        for copy in _cut(ranges[first:last]):
            yield from _portions(copy)
        first = last


def _cut(cluster: Sequence[_Range]) -> Iterator[Copy]:
    bounds = sorted({bound for item in cluster for bound in item[1:3]})
    for begin, end in pairwise(bounds):
        targets = tuple(
            (target, place + begin - start)
            for _, start, stop, target, place in cluster
            if start <= begin and end <= stop
        )
        yield Copy(cluster[0][0], begin, end - begin, targets)


def _portions(copy: Copy) -> Iterator[Copy]:
    """Steps of a bounded size that end where a page of the first target does."""
    done = 0
    while done < copy.num_bytes:
        room = _COPY_STEP_BYTES - (copy.targets[0][1] + done) % _COPY_STEP_BYTES
        count = min(room, copy.num_bytes - done)
        targets = tuple((file, offset + done) for file, offset in copy.targets)
        yield Copy(copy.file, copy.offset + done, count, targets)
        done += count


def _blocks(group: tuple[Band, ...], pace: Pace) -> Iterator[Compute]:
    from pipeline.weights.blocks import cost_bytes, reads_columns

    rows = group[0].num_rows
    cost = max(1, *(cost_bytes(band.patches, band.dtype) for band in group))
    is_whole = any(reads_columns(band.patches) for band in group)
    count = max(1, (pace.most_bytes if is_whole else pace.block_bytes) // cost)
    for start in range(0, rows, count):
        yield Compute(group, start, min(start + count, rows))
