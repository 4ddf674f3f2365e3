"""What the hub client has of a file that it is fetching, seen from its partial file.

All versions of the client write `blobs/<name>[.<random>].incomplete`; only some can report their
progress to a caller. The name is the ETag of the hub's answer: the digest, unless a mirror has its
own ways.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from pipeline.progress import Progress
from pipeline.sources.listing import SourceFile


class DownloadWatch:
    """Counts a file's bytes as progress while it grows; also follows who else fetches it."""

    def __init__(self, blobs: Path, file: SourceFile, progress: Progress) -> None:
        self._blobs = blobs
        self._size_bytes = file.size_bytes
        self._pattern = f"{file.sha256 or file.git_blob}*.incomplete"
        self._progress = progress
        self._counted = 0
        self._lock = Lock()
        self._before = self._states()

    def look(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Count what is new; the state of all partial files, which changes when one does."""
        states = self._states()
        growing = {n: s for n, s in states.items() if self._before.get(n) != s}
        name = max(growing, key=lambda name: growing[name][0], default=None)
        if name is not None:
            with self._lock:
                self._count(min(growing[name][0], self._size_bytes), self._resumed_bytes(name))
        return tuple(sorted(states.items()))

    def growing(self) -> Path | None:
        """The partial file that is being written, or None."""
        states = self._states()
        names = [name for name, state in states.items() if self._before.get(name) != state]
        return self._blobs / max(names, key=lambda name: states[name][2]) if names else None

    def finish(self, *, was_there: bool) -> None:
        """The file is whole. `was_there`: nothing had to be fetched."""
        with self._lock:
            rest = self._size_bytes - self._counted
            if was_there:
                self._progress.skip(rest)
            else:
                self._progress.advance(rest)
            self._counted = self._size_bytes

    def _resumed_bytes(self, name: str) -> int:
        """How much of a partial file was there before."""
        return self._before[name][0] if name in self._before else 0

    def _count(self, size_bytes: int, resumed_bytes: int) -> None:
        if self._counted == 0 and 0 < resumed_bytes <= size_bytes:
            self._progress.skip(resumed_bytes)
            self._counted = resumed_bytes
        if size_bytes > self._counted:
            self._progress.advance(size_bytes - self._counted)
            self._counted = size_bytes

    def _states(self) -> dict[str, tuple[int, ...]]:
        """Size, blocks and time of change of partial files by name; vanished ones do not count."""
        states: dict[str, tuple[int, ...]] = {}
        for path in self._blobs.glob(self._pattern):
            try:
                state = path.stat()
            except FileNotFoundError:
                continue
            states[path.name] = (state.st_size, state.st_blocks, state.st_mtime_ns)
        return states
