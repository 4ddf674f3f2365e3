"""Keeps a conversion's journal while its threads work; see `journal` for what must survive."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

from pipeline.errors import PipelineError
from pipeline.files.durable import sync
from pipeline.files.journal import JOURNAL_NAME, Journal
from pipeline.weights.files import translated
from pipeline.weights.journal import Begun, Reached

LINE_INTERVAL_S = 0.2
"""Between two lines: what a kill can cost. A line takes a few microseconds."""

SYNC_INTERVAL_S = 10.0
"""Between two syncs of the rank files: with the time that a sync takes, what a power cut costs."""


class Keeper:
    """Keeps the journal while threads work. Whatever ends the block, the last line is written.

    `stop` is set where a disk fails; the error is raised at the end of the block.
    """

    def __init__(self, begun: Begun, targets: Mapping[str, int], stop: threading.Event) -> None:
        self._begun = begun
        self._targets = targets
        self._stop = stop
        self._reached = self._told = begun.reached
        self._synced = begun.synced
        self._ahead: dict[int, Reached] = {}
        self._told_s = time.monotonic()
        self._failure: PipelineError | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        # A daemon: a signal that comes while it starts has nobody call `__exit__`, and must end us.
        self._thread = threading.Thread(
            target=self._sync_now_and_then, name="convert-journal", daemon=True
        )

    def finished(self, reached: Reached) -> None:
        """The step that ends here is done. Steps may come in any order."""
        with self._lock:
            self._ahead[reached.num_steps] = reached
            while (next_one := self._ahead.pop(self._reached.num_steps + 1, None)) is not None:
                self._reached = next_one
            if time.monotonic() - self._told_s >= LINE_INTERVAL_S:
                self._tell()

    def __enter__(self) -> Self:
        with translated(JOURNAL_NAME):
            path = self._begun.folder / JOURNAL_NAME
            self._journal = Journal.continued(path, self._begun.last)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        try:
            with self._lock:
                self._tell()
        except PipelineError as error:
            self._failure = self._failure or error
        finally:
            self._journal.close()
        if self._failure is not None and kind is None:
            raise self._failure

    def _tell(self) -> None:
        """A line on how far it is. It lies where the next would, so a failed one is no harm."""
        self._told_s = time.monotonic()
        if self._failure is None and self._reached != self._told:
            with translated(JOURNAL_NAME):
                self._journal.append(self._reached.values(), synced=False)
            self._told = self._reached

    def _sync_now_and_then(self) -> None:
        while not self._over.wait(SYNC_INTERVAL_S):
            try:
                self._sync()
            except PipelineError as error:
                with self._lock:
                    self._failure = error
                    self._take_back()
                self._stop.set()
                return

    def _sync(self) -> None:
        """Have all bytes on the disk that were written until now, then say so."""
        with self._lock:
            reached = self._reached
        if reached == self._synced:
            return
        for name, descriptor in self._targets.items():
            with translated(name):
                os.fdatasync(descriptor)
        with translated(JOURNAL_NAME):
            sync(self._begun.folder)  # the names of the files
            with self._lock:
                self._journal.append(reached.values(), synced=True)
            self._journal.sync()
        self._synced = reached

    def _take_back(self) -> None:
        """Leave nothing in the journal but what is known to be on the disk."""
        try:
            self._journal.go_back_to(self._begun.header)
            self._journal.append(self._synced.values(), synced=True)
        except OSError:
            with suppress(OSError):
                (self._begun.folder / JOURNAL_NAME).unlink()
