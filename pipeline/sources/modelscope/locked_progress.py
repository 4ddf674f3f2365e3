"""Progress that the threads of a download share."""

from __future__ import annotations

from threading import Lock

from pipeline.progress import Progress


class LockedProgress:
    """Progress that several threads tell of, one after the other."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = Lock()

    def start(self, task: str, total: int, unit: str = "bytes") -> None:
        """See `Progress`."""
        with self._lock:
            self._progress.start(task, total, unit)

    def advance(self, amount: int) -> None:
        """See `Progress`."""
        with self._lock:
            self._progress.advance(amount)

    def skip(self, amount: int) -> None:
        """See `Progress`."""
        with self._lock:
            self._progress.skip(amount)

    def note(self, message: str) -> None:
        """See `Progress`."""
        with self._lock:
            self._progress.note(message)
