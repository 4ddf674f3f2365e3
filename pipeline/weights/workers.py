"""The threads that carry out the steps of a conversion."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.progress import Progress
from pipeline.weights.files import copy_range, translated, write_all
from pipeline.weights.journal import Reached
from pipeline.weights.keeper import Keeper
from pipeline.weights.schedule import Band, Compute, Copy, Step

if TYPE_CHECKING:
    from pipeline.weights.blocks import NotFinite, Reader

COPY_BYTES = 128 << 10
"""A thread's buffer, for what the kernel cannot copy by itself: it stays in the cache."""


@dataclass
class Run:
    """What the threads share. `stop` is set when one of them has failed."""

    sources: Mapping[str, int]
    targets: Mapping[str, int]
    progress: Progress
    steps: Iterator[tuple[Step, Reached]]
    clamp: bool
    keeper: Keeper | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)

    def next_step(self) -> tuple[Step, Reached] | None:
        """The next step in the order of the source; None at the end, and after a failure."""
        with self.lock:
            return None if self.stop.is_set() else next(self.steps, None)

    def wrote(self, amount: int) -> None:
        """Count bytes as written."""
        with self.lock:
            self.progress.advance(amount)

    def finished(self, reached: Reached) -> None:
        """Count the step that ends here as done."""
        if self.keeper is not None:
            self.keeper.finished(reached)


def run_all(run: Run, threads: int) -> list[NotFinite]:
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


def _work(run: Run) -> list[NotFinite]:
    """One thread: takes steps until there are none. Returns casts that are not finite."""
    buffer = memoryview(bytearray(COPY_BYTES))
    compute: Callable[[Compute], NotFinite | None] | None = None
    bad_casts: list[NotFinite] = []
    try:
        while (found := run.next_step()) is not None:
            step, reached = found
            if isinstance(step, Copy):
                _copy(step, buffer, run)
            else:
                compute = compute or _computer(run)
                bad_cast = compute(step)
                if bad_cast is not None:  # not finished: whoever goes on from here meets it again
                    bad_casts.append(bad_cast)
                    continue
            run.finished(reached)
    except BaseException:
        run.stop.set()
        raise
    return bad_casts


def _copy(step: Copy, buffer: memoryview, run: Run) -> None:
    targets = [(run.targets[file], offset) for file, offset in step.targets]
    with translated(step.targets[0][0]):
        copy_range(run.sources[step.file], step.offset, targets, step.num_bytes, step.file, buffer)
    run.wrote(step.num_bytes * len(targets))


def _computer(run: Run) -> Callable[[Compute], NotFinite | None]:
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


def _write_rows(band: Band, start: int, stop: int, reader: Reader, run: Run) -> None:
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
    run.wrote(len(data))
