"""Carries out a conversion plan in bounded memory.

Bytes that pass unchanged are copied inside the kernel, the rest goes through blocks of rows. The
result is the same to the byte for any block size, memory limit and number of threads.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checkpoint.safetensors_file import TensorInfo, read_header
from pipeline.checkpoint.trtllm import CONFIG_NAME
from pipeline.errors import ResourceError, VerificationError
from pipeline.progress import Progress
from pipeline.weights.files import allocate, copy_range, open_all, read_into, translated, write_all
from pipeline.weights.layout import ConversionPlan
from pipeline.weights.schedule import (
    Band,
    Compute,
    Copy,
    Step,
    Work,
    all_work,
    fitting_threads,
    steps,
)

if TYPE_CHECKING:
    from pipeline.weights.blocks import NotFinite, Reader

DEFAULT_MEMORY_BYTES = 256_000_000
"""What all threads together may hold, beyond the interpreter, its packages and the plan."""

MIN_MEMORY_BYTES = 8 << 20

MAX_BLOCK_BYTES = 8 << 20
"""For all threads together. Larger blocks leave the caches and are slower."""

MAX_THREADS = 4

_COPY_BYTES = 128 << 10
"""A thread's buffer, for what the kernel cannot copy by itself: it stays in the cache."""


@dataclass(frozen=True)
class _Run:
    """What the threads share. `stop` is set when one of them has failed."""

    sources: Mapping[str, int]
    targets: Mapping[str, int]
    progress: Progress
    steps: Iterator[Step]
    clamp: bool
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)

    def next_step(self) -> Step | None:
        """The next step in the order of the source; None at the end, and after a failure."""
        with self.lock:
            return None if self.stop.is_set() else next(self.steps, None)

    def done(self, amount: int) -> None:
        """Count bytes as written."""
        with self.lock:
            self.progress.advance(amount)


def write_checkpoint(
    plan: ConversionPlan,
    source_dir: Path,
    out_dir: Path,
    progress: Progress,
    max_block_bytes: int = MAX_BLOCK_BYTES,
    num_threads: int | None = None,
    max_memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> None:
    """Write the rank files and, when they are whole, config.json into an empty folder.

    `max_memory_bytes` bounds what all threads together hold, beyond the interpreter, its packages
    and the plan; `max_block_bytes` is how much of it is used where single rows are no larger.
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
    threads = num_threads or min(MAX_THREADS, os.cpu_count() or 1)
    # The rest is for the threads themselves, their buffers, and what the allocator keeps.
    room = max_memory_bytes * 3 // 4
    threads = fitting_threads(work, room, threads)
    block_bytes = max(1, min(max_block_bytes, room) // threads)
    progress.start("writing rank files", plan.target_bytes)
    with (
        open_all(source_dir, plan.source.weight_files, os.O_RDONLY) as sources,
        open_all(
            out_dir, [rank.file for rank in plan.ranks], os.O_RDWR | os.O_CREAT | os.O_EXCL
        ) as targets,
    ):
        order = steps(work, block_bytes, room // 2 // threads)
        run = _Run(sources, targets, progress, order, plan.clamp)
        _check_equal(plan, run)
        _begin_files(plan, work, run)
        bad_casts = _run_all(run, threads)
        if bad_casts:
            from pipeline.weights.cast_faults import cast_error

            raise cast_error(bad_casts, sources, block_bytes)
    text = json.dumps(plan.config, indent=4, ensure_ascii=False) + "\n"
    with translated(CONFIG_NAME):
        (out_dir / CONFIG_NAME).write_text(text, encoding="utf-8")


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


def _begin_files(plan: ConversionPlan, work: Work, run: _Run) -> None:
    """Give all rank files their size, all zeros, and their headers."""
    for rank in plan.ranks:
        with translated(rank.file):
            allocate(run.targets[rank.file], rank.num_bytes)
            write_all(run.targets[rank.file], memoryview(rank.header), 0)
        run.done(len(rank.header))
    run.done(work.zero_bytes)


def _run_all(run: _Run, threads: int) -> list[NotFinite]:
    """Carry out all steps. The first failure stops the rest; bad casts are gathered over all."""
    futures: list[Future[list[NotFinite]]] = []
    with ThreadPoolExecutor(threads, thread_name_prefix="convert") as pool:
        try:
            futures += [pool.submit(_work, run) for _ in range(threads)]
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # After Ctrl-C too, what has not begun never does.
            run.stop.set()
    return [fault for future in futures for fault in future.result()]


def _work(run: _Run) -> list[NotFinite]:
    """One thread: takes steps until there are none. Returns casts that are not finite."""
    buffer = memoryview(bytearray(_COPY_BYTES))
    compute: Callable[[Compute], NotFinite | None] | None = None
    bad_casts: list[NotFinite] = []
    try:
        while (step := run.next_step()) is not None:
            if isinstance(step, Copy):
                _copy(step, buffer, run)
                continue
            compute = compute or _computer(run)
            bad_cast = compute(step)
            if bad_cast is not None:
                bad_casts.append(bad_cast)
    except BaseException:
        run.stop.set()
        raise
    return bad_casts


def _copy(step: Copy, buffer: memoryview, run: _Run) -> None:
    targets = [(run.targets[file], offset) for file, offset in step.targets]
    with translated(step.targets[0][0]):
        copy_range(run.sources[step.file], step.offset, targets, step.num_bytes, step.file, buffer)
    run.done(step.num_bytes * len(targets))


def _computer(run: _Run) -> Callable[[Compute], NotFinite | None]:
    """What evaluates blocks of rows, with a memory of its own for what was read last."""
    from pipeline.weights.blocks import NotFinite, Reader

    reader = Reader(run.sources)

    def compute(step: Compute) -> NotFinite | None:
        for band in step.bands:
            try:
                _write_rows(band, step.start, step.stop, reader, run)
            except NotFinite as fault:
                return fault
        return None

    return compute


def _write_rows(band: Band, start: int, stop: int, reader: Reader, run: _Run) -> None:
    import numpy as np

    from pipeline.weights.blocks import Wanted, evaluate, evaluate_patch

    wanted = Wanted(band.dtype, run.clamp)
    if len(band.patches) == 1:
        values = evaluate_patch(band.patches[0].cut(start, stop - start), wanted, reader)
    else:
        values = evaluate(band.patches, wanted, start, stop, reader)
    data = memoryview(np.ascontiguousarray(values).reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    with translated(band.file):
        write_all(run.targets[band.file], data, band.offset + start * band.row_bytes)
    run.done(len(data))


def _check_equal(plan: ConversionPlan, run: _Run) -> None:
    """Tensors that were dropped because they repeat another must do so to the byte."""
    for dropped, other in plan.coverage.equal:
        if not _same_bytes(dropped, other, run):
            raise VerificationError(
                f"`{dropped.name}` differs from `{other.name}`, but `config.json` of the source "
                "ties them",
                hint="set `tie_word_embeddings` to false in the source if both are meant",
            )


def _same_bytes(one: TensorInfo, other: TensorInfo, run: _Run) -> bool:
    buffers = [memoryview(bytearray(_COPY_BYTES)) for _ in (one, other)]
    for begin in range(0, one.num_bytes, _COPY_BYTES):
        count = min(_COPY_BYTES, one.num_bytes - begin)
        parts = [buffer[:count] for buffer in buffers]
        for info, part in zip((one, other), parts, strict=True):
            with translated(info.file):
                read_into(run.sources[info.file], part, info.offset + begin, info.file)
        if parts[0] != parts[1]:
            return False
    return True
