"""Progress of a file that the hub client fetches, seen from the size of its partial file.

Both lines of the client write `blobs/<digest>[.<random>].incomplete`; only one of them can report
its progress to a caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from pipeline.progress import Progress
from pipeline.sources.listing import SourceFile

INTERVAL_S = 0.25


@contextmanager
def watching(blobs: Path, file: SourceFile, progress: Progress) -> Iterator[None]:
    """Advance the progress while a file grows; in the end its whole size has been counted."""
    counted = 0
    ended = Event()
    before = _sizes(blobs, file)

    def poll() -> None:
        nonlocal counted
        while not ended.wait(INTERVAL_S):
            growing = [s for path, s in _sizes(blobs, file).items() if before.get(path) != s]
            size_bytes = min(max(growing, default=0), file.size_bytes)
            if size_bytes > counted:
                progress.advance(size_bytes - counted)
                counted = size_bytes

    thread = Thread(target=poll, name="download-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    progress.advance(file.size_bytes - counted)


def _sizes(blobs: Path, file: SourceFile) -> dict[str, int]:
    """Sizes of the partial files of this content; files that vanish meanwhile do not count."""
    sizes = {}
    for path in blobs.glob(f"{file.sha256 or file.git_blob}*.incomplete"):
        try:
            sizes[path.name] = path.stat().st_size
        except FileNotFoundError:
            continue
    return sizes
