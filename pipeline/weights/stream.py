"""Carries out a conversion plan in bounded memory.

Bytes that pass unchanged are copied inside the kernel, the rest goes through blocks of rows. The
result is the same to the byte for any block size, memory limit and number of threads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from pipeline.checkpoint.safetensors_file import TensorInfo, read_header
from pipeline.checkpoint.trtllm import CONFIG_NAME
from pipeline.errors import ResourceError, VerificationError
from pipeline.files.journal import JOURNAL_NAME, clear
from pipeline.progress import Progress
from pipeline.weights.files import allocate, open_all, read_into, translated, write_all
from pipeline.weights.journal import Begun, Reached, begin, find_begun, numbered
from pipeline.weights.keeper import Keeper
from pipeline.weights.layout import ConversionPlan
from pipeline.weights.schedule import (
    Pace,
    Step,
    Work,
    all_work,
    fitting_threads,
    pace_of,
    steps,
)
from pipeline.weights.workers import COPY_BYTES, Run, run_all

DEFAULT_MEMORY_BYTES = 256_000_000
"""What all threads together may hold, beyond the interpreter, its packages and the plan."""

MIN_MEMORY_BYTES = 8 << 20

MAX_BLOCK_BYTES = 8 << 20
"""For all threads together. Larger blocks leave the caches and are slower."""

MAX_THREADS = 4

_TASK = "writing rank files"


@dataclass(frozen=True)
class _Start:
    """With what a conversion begins: its steps to do, at what pace, and what was done before."""

    threads: int
    pace: Pace
    steps: Iterator[tuple[Step, Reached]]
    begun: Begun | None = None


def write_checkpoint(
    plan: ConversionPlan,
    source_dir: Path,
    out_dir: Path,
    progress: Progress,
    max_block_bytes: int = MAX_BLOCK_BYTES,
    num_threads: int | None = None,
    max_memory_bytes: int = DEFAULT_MEMORY_BYTES,
    *,
    resumable: bool = False,
) -> None:
    """Write the rank files and, when they are whole, config.json into an empty folder.

    `max_memory_bytes` bounds what all threads together hold, beyond the interpreter, its packages
    and the plan; `max_block_bytes` is how much of it is used where single rows are no larger.
    With `resumable` the folder may hold what an earlier call left that was ended at any time: this
    one goes on from there, or clears the folder where the journal is of another plan, damaged, or
    of a pace that the memory does not allow. The journal (`journal.JOURNAL_NAME`) stays in the
    folder, complete, for the caller to remove when nothing is left to be done.
    Raises VerificationError where the source is not what was planned (changed, truncated, values
    that are not finite where they are cast, a tied tensor that differs), RecipeError where a cast
    overflows, ResourceError without disk space, or where the memory is too small for one row. What
    it leaves after an error is not a checkpoint: there is no config.json.
    """
    if max_memory_bytes < MIN_MEMORY_BYTES:
        raise ResourceError(
            f"conversion cannot work in {max_memory_bytes:,} bytes of memory",
            hint=f"allow {-(-MIN_MEMORY_BYTES // 1_000_000)} MB or more by `--max-memory`",
        )
    check_source(plan, source_dir)
    work = all_work(plan)
    # The rest is for the threads themselves, their buffers, and what the allocator keeps.
    room = max_memory_bytes * 3 // 4
    threads = fitting_threads(work, room, num_threads or min(MAX_THREADS, os.cpu_count() or 1))
    pace = pace_of(max_block_bytes, room, threads)
    start = _Start(threads, pace, numbered(steps(work, pace)))
    if resumable:
        start = _left_over(plan, work, out_dir, room, threads) or start
        _clear(plan, out_dir, start)
    _write_ranks(plan, work, source_dir, out_dir, progress, start, resumable)
    text = json.dumps(plan.config, indent=4, ensure_ascii=False) + "\n"
    with translated(CONFIG_NAME):
        (out_dir / CONFIG_NAME).write_text(text, encoding="utf-8")


def _write_ranks(
    plan: ConversionPlan,
    work: Work,
    source_dir: Path,
    out_dir: Path,
    progress: Progress,
    start: _Start,
    resumable: bool,
) -> None:
    """Write the rank files whole, from the start on."""
    flags = os.O_RDWR if start.begun else os.O_RDWR | os.O_CREAT | os.O_EXCL
    with (
        open_all(source_dir, plan.source.weight_files, os.O_RDONLY) as sources,
        open_all(out_dir, [rank.file for rank in plan.ranks], flags) as targets,
    ):
        run = Run(sources, targets, progress, start.steps, plan.clamp)
        begun = start.begun
        if begun is not None:
            _tell_begun(plan, work, begun, progress)
        else:
            progress.start(_TASK, plan.target_bytes)
            _check_equal(plan, run)
            _begin_files(plan, work, run)
            begun = begin(plan, out_dir, start.pace) if resumable else None
        with _keeping(begun, run):
            bad_casts = run_all(run, start.threads)
        if bad_casts:
            from pipeline.weights.cast_faults import cast_error

            raise cast_error(bad_casts, sources, start.pace.block_bytes)


def _keeping(begun: Begun | None, run: Run) -> AbstractContextManager[object]:
    """The journal is kept inside, if there is one."""
    if begun is None:
        return nullcontext()
    run.keeper = Keeper(begun, run.targets, run.stop)
    return run.keeper


def _left_over(
    plan: ConversionPlan, work: Work, out_dir: Path, room: int, threads: int
) -> _Start | None:
    """What an earlier call has begun in this folder; None where it cannot be gone on with."""
    begun = find_begun(plan, out_dir)
    if begun is None or begun.pace.threads_within(room) < 1:
        return None
    left = numbered(steps(work, begun.pace))
    reached = Reached()
    for _ in range(begun.reached.num_steps):
        _, reached = next(left, (None, Reached()))
    if reached != begun.reached:
        return None  # these are other steps than the ones that were done
    return _Start(min(threads, begun.pace.threads_within(room)), begun.pace, left, begun)


def _clear(plan: ConversionPlan, out_dir: Path, start: _Start) -> None:
    """Remove what is not gone on with: a config.json says that all rank files are whole."""
    kept = [JOURNAL_NAME, *(rank.file for rank in plan.ranks)] if start.begun else []
    with translated(str(out_dir)):
        clear(out_dir, but=kept)


def _tell_begun(plan: ConversionPlan, work: Work, begun: Begun, progress: Progress) -> None:
    done = sum(len(rank.header) for rank in plan.ranks) + work.zero_bytes + begun.reached.num_bytes
    progress.start(_TASK, plan.target_bytes)
    progress.skip(done)
    progress.note(f"goes on at {100 * done // max(1, plan.target_bytes)} % of an earlier run")


def check_source(plan: ConversionPlan, source_dir: Path) -> None:
    """Raise VerificationError unless the weight files have the headers that were planned with."""
    planned: dict[str, dict[str, TensorInfo]] = {file: {} for file in plan.source.weight_files}
    for info in plan.source.tensors.values():
        planned[info.file][info.name] = info
    for file, tensors in planned.items():
        if read_header(source_dir / file, file) != tensors:
            raise VerificationError(
                f"the weight file `{file}` is not the one that the conversion was planned for",
                hint="plan again; the source changed in between",
            )


def _begin_files(plan: ConversionPlan, work: Work, run: Run) -> None:
    """Give all rank files their size, all zeros, and their headers."""
    for rank in plan.ranks:
        with translated(rank.file):
            allocate(run.targets[rank.file], rank.num_bytes)
            write_all(run.targets[rank.file], memoryview(rank.header), 0)
        run.wrote(len(rank.header))
    run.wrote(work.zero_bytes)


def _check_equal(plan: ConversionPlan, run: Run) -> None:
    """Tensors that were dropped because they repeat another must do so to the byte."""
    for dropped, other in plan.coverage.equal:
        if not _same_bytes(dropped, other, run):
            raise VerificationError(
                f"`{dropped.name}` differs from `{other.name}`, but `config.json` of the source "
                "ties them",
                hint="set `tie_word_embeddings` to false in the source if both are meant",
            )


def _same_bytes(one: TensorInfo, other: TensorInfo, run: Run) -> bool:
    buffers = [memoryview(bytearray(COPY_BYTES)) for _ in (one, other)]
    for first in range(0, one.num_bytes, COPY_BYTES):
        count = min(COPY_BYTES, one.num_bytes - first)
        parts = [buffer[:count] for buffer in buffers]
        for info, part in zip((one, other), parts, strict=True):
            with translated(info.file):
                read_into(run.sources[info.file], part, info.offset + first, info.file)
        if parts[0] != parts[1]:
            return False
    return True
