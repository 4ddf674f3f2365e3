"""Carries out a conversion plan in bounded memory.

Bytes that pass unchanged are copied inside the kernel; the rest goes through blocks of rows. The
result is the same to the byte for any block size and any number of threads.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checkpoint.safetensors_file import TensorInfo, read_header
from pipeline.checkpoint.trtllm import CONFIG_NAME
from pipeline.errors import VerificationError
from pipeline.progress import Progress
from pipeline.weights.expressions import Cast, Expression, byte_ranges, leaves, num_bytes
from pipeline.weights.files import allocate, copy_range, open_all, translated, write_all
from pipeline.weights.layout import ConversionPlan

if TYPE_CHECKING:
    from pipeline.weights.blocks import Reader

MAX_BLOCK_BYTES = 8 << 20
"""For all threads together. Larger blocks leave the caches and are slower."""

MAX_THREADS = 4


@dataclass(frozen=True, slots=True)
class Write:
    """An expression's place: a rank file and the first byte in it."""

    file: str
    offset: int
    expression: Expression


@dataclass(frozen=True)
class _Work:
    """What the threads share. `stop` is set when one of them has failed."""

    sources: Mapping[str, int]
    targets: Mapping[str, int]
    progress: Progress
    lock: threading.Lock
    stop: threading.Event
    block_bytes: int

    def done(self, amount: int) -> None:
        """Count bytes as written; the place where a stopped thread leaves."""
        if self.stop.is_set():
            raise _Stopped
        with self.lock:
            self.progress.advance(amount)


class _Stopped(Exception):
    """Another thread has failed, or the user interrupted."""


def write_checkpoint(
    plan: ConversionPlan,
    source_dir: Path,
    out_dir: Path,
    progress: Progress,
    max_block_bytes: int = MAX_BLOCK_BYTES,
    num_threads: int | None = None,
) -> None:
    """Write the rank files and, when they are whole, config.json into an empty folder.

    `max_block_bytes` bounds the blocks of all threads together. Raises VerificationError where the
    source is not what was planned (changed, truncated, values that are not finite where they are
    cast, a tied tensor that differs), RecipeError where a cast overflows, ResourceError without
    disk space. What it leaves after an error is not a checkpoint: there is no config.json.
    """
    check_source(plan, source_dir)
    threads = num_threads or min(MAX_THREADS, os.cpu_count() or 1)
    jobs = list(_jobs(plan))
    progress.start("writing rank files", sum(rank.num_bytes for rank in plan.ranks))
    with (
        open_all(source_dir, plan.source.weight_files, os.O_RDONLY) as sources,
        open_all(
            out_dir, [rank.file for rank in plan.ranks], os.O_RDWR | os.O_CREAT | os.O_EXCL
        ) as targets,
    ):
        block_bytes = max(1, max_block_bytes // threads)
        work = _Work(sources, targets, progress, threading.Lock(), threading.Event(), block_bytes)
        _check_equal(plan, work)
        for rank in plan.ranks:
            with translated(rank.file):
                allocate(targets[rank.file], rank.num_bytes)
                write_all(targets[rank.file], memoryview(rank.header), 0)
            work.done(len(rank.header))
        _run(jobs, work, threads)
    text = json.dumps(plan.config, indent=4, ensure_ascii=False) + "\n"
    with translated(CONFIG_NAME):
        (out_dir / CONFIG_NAME).write_text(text, encoding="utf-8")


def check_source(plan: ConversionPlan, source_dir: Path) -> None:
    """Raise VerificationError unless the weight files have the headers that were planned with."""
    for file in plan.source.weight_files:
        planned = {info.name: info for info in plan.source.tensors.values() if info.file == file}
        if read_header(source_dir / file, file) != planned:
            raise VerificationError(
                f"the weight file `{file}` is not the one that the conversion was planned for",
                hint="plan again; the source changed in between",
            )


def _jobs(plan: ConversionPlan) -> Iterator[tuple[Write, ...]]:
    """Writes that share source bytes, in the order of these bytes.

    The tp ranks of one tensor go together: where each takes a column range, a block of whole rows
    is read once for all of them.
    """
    groups: dict[tuple[int, str], list[Write]] = {}
    for number, rank in enumerate(plan.ranks):
        for tensor, offset in zip(rank.tensors, rank.offsets(), strict=True):
            key = (number // plan.parallelism.tp_size, tensor.name)
            groups.setdefault(key, []).append(Write(rank.file, offset, tensor.expression))

    def first_byte(writes: list[Write]) -> tuple[str, int]:
        boxes = [leaf.tensor for write in writes for leaf in leaves(write.expression)]
        return min(((info.file, info.offset) for info in boxes), default=("", 0))

    return (tuple(writes) for writes in sorted(groups.values(), key=first_byte))


def _run(jobs: list[tuple[Write, ...]], work: _Work, threads: int) -> None:
    """Run all jobs. The first failure stops the rest; bad casts are gathered over all of them."""
    with ThreadPoolExecutor(threads, thread_name_prefix="convert") as pool:
        futures = [pool.submit(_run_job, job, work) for job in jobs]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # After a failure, and after Ctrl-C, what has not begun never does.
            for future in futures:
                future.cancel()
            if not all(future.done() for future in futures):
                work.stop.set()
    ended = [future for future in futures if not future.cancelled()]
    failures = [error for future in ended if (error := future.exception()) is not None]
    for error in failures:
        if not isinstance(error, _Stopped):
            raise error
    bad_casts = [cast for future in ended for cast in future.result()]
    if bad_casts:
        from pipeline.weights.cast_faults import cast_error

        raise cast_error(bad_casts, work.sources, work.block_bytes)


def _run_job(writes: tuple[Write, ...], work: _Work) -> list[Cast]:
    """Make the tensors of a job; returns the casts that met a value that is not finite."""
    computed = []
    try:
        for write in writes:
            ranges = byte_ranges(write.expression)
            if ranges is None:
                computed.append(write)
                continue
            position = write.offset
            for item in ranges:
                if item.file is None:
                    work.done(item.num_bytes)  # the file was made of zeros
                else:
                    _copy(item.file, item.offset, write.file, position, item.num_bytes, work)
                position += item.num_bytes
        return _compute(computed, work) if computed else []
    except BaseException:
        work.stop.set()
        raise


def _copy(
    source: str, offset: int, target: str, target_offset: int, count: int, work: _Work
) -> None:
    with translated(target):
        copy_range(
            work.sources[source],
            offset,
            work.targets[target],
            target_offset,
            count,
            source,
            work.done,
        )


def _compute(writes: list[Write], work: _Work) -> list[Cast]:
    """Evaluate expressions of equal shape block by block, side by side."""
    from pipeline.weights.blocks import NotFinite, Reader, row_cost_bytes

    reader = Reader(work.sources)
    rows = writes[0].expression.shape[0]
    cost = max(row_cost_bytes(write.expression) for write in writes)
    step = max(1, work.block_bytes // max(cost, 1))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        for write in writes:
            try:
                _write_rows(write, start, stop, reader, work)
            except NotFinite as fault:
                return [fault.cast]
    return []


def _write_rows(write: Write, start: int, stop: int, reader: Reader, work: _Work) -> None:
    import numpy as np

    from pipeline.weights.blocks import evaluate

    values = np.ascontiguousarray(evaluate(write.expression, start, stop, reader))
    data = memoryview(values.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    row_bytes = num_bytes(write.expression) // write.expression.shape[0]
    with translated(write.file):
        write_all(work.targets[write.file], data, write.offset + start * row_bytes)
    work.done(len(data))


def _check_equal(plan: ConversionPlan, work: _Work) -> None:
    """Tensors that were dropped because they repeat another must do so to the byte."""
    for dropped, other in plan.coverage.equal:
        if not _same_bytes(dropped, other, work):
            raise VerificationError(
                f"`{dropped.name}` differs from `{other.name}`, but `config.json` of the source "
                "ties them",
                hint="set `tie_word_embeddings` to false in the source if both are meant",
            )


def _same_bytes(one: TensorInfo, other: TensorInfo, work: _Work) -> bool:
    from pipeline.weights.files import read_into

    step = 4 << 20
    buffers = [memoryview(bytearray(step)) for _ in (one, other)]
    for begin in range(0, one.num_bytes, step):
        count = min(step, one.num_bytes - begin)
        parts = [buffer[:count] for buffer in buffers]
        for info, part in zip((one, other), parts, strict=True):
            with translated(info.file):
                read_into(work.sources[info.file], part, info.offset + begin, info.file)
        if parts[0] != parts[1]:
            return False
    return True
