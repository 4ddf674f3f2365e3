"""Brings one file of known size and SHA-256 over HTTPS, and goes on where it broke off.

Nothing that a server says about a file is believed: not its length, not the range that it claims to
send, not an ETag. What does not fit the published size and digest never gets a name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pipeline.progress import Progress
from pipeline.sources.http.partial import PartialFile, open_partial
from pipeline.sources.http.transport import Answer, ConnectionFailed, Refused
from pipeline.sources.listing import SourceFile
from pipeline.sources.retry import RetryPolicy, Transient, with_retry

READ_BYTES = 1 << 20
TRIES = 2
"""How often a file is fetched from its start whose content proves wrong."""

GAIN_BYTES = 64 << 20
"""An attempt that brought so much has earned new attempts: a long file may break off often."""

CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
RANGE_NOT_SATISFIABLE = 416

Ask = Callable[[int | None], AbstractContextManager[Answer]]
"""Asks for the bytes of a file from an offset on; None asks for all of it, without a range."""


class WrongContent(Exception):
    """What came is not what was published; the text says what it is instead."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on, and who says which failures may pass."""

    policy: RetryPolicy
    judge: Callable[[Exception], Transient | None]
    gain_bytes: int = GAIN_BYTES
    check: Callable[[], None] = lambda: None
    """Called for each block; ends the download by raising."""


def download(
    file: SourceFile, final: Path, ask: Ask, patience: Patience, progress: Progress
) -> bool:
    """Fetch a file to `final`, whole and proved; False where another process put it there.

    Its bytes count as progress once, whatever is fetched again. Raises WrongContent, OSError of the
    disk, and what `ask` raises for good.
    """
    meter = _Meter(progress)

    def waiting() -> None:
        progress.note(f"another process is fetching `{file.name}`: waiting for it")

    with open_partial(final, file.size_bytes, meter.skip, waiting) as partial:
        if partial is None:
            meter.skip(file.size_bytes)
            return False
        _Download(file, partial, ask, patience, progress, meter).fill()
        partial.finish()
    return True


@dataclass
class _Download:
    """One file on its way."""

    file: SourceFile
    partial: PartialFile
    ask: Ask
    patience: Patience
    progress: Progress
    meter: _Meter
    by_range: bool = True

    def fill(self) -> None:
        """Get all bytes; those that prove wrong are fetched once more."""
        assert self.file.sha256 is not None, "a file is fetched by its SHA-256"
        for attempt in range(1, TRIES + 1):
            try:
                self._complete()
                if self.partial.is_whole(self.file.sha256):
                    return
                raise WrongContent("other bytes, though as many")
            except WrongContent:
                self.partial.restart()
                if attempt == TRIES:
                    raise
                self.meter.restart()
                self.progress.note(f"`{self.file.name}` came with wrong content: fetched again")

    def _complete(self) -> None:
        """Ask until all bytes are there; after real progress the attempts count anew."""
        policy, size_bytes = self.patience.policy, self.file.size_bytes
        while True:
            before = self.partial.num_bytes
            try:
                with_retry(
                    self._attempt, self.patience.judge, policy, self.progress.note, size_bytes
                )
            except ConnectionFailed:
                if self.partial.num_bytes - before < self.patience.gain_bytes:
                    raise
            else:
                return

    def _attempt(self) -> None:
        """One request for what is missing."""
        if self.partial.num_bytes == self.file.size_bytes:
            return
        offset = self.partial.num_bytes or None if self.by_range else None
        try:
            with self.ask(offset) as answer:
                self._receive(answer, offset)
        except _RangeIgnored:
            self.by_range = False
            raise ConnectionFailed("a part came that was not asked for") from None
        except Refused as error:
            if error.status != RANGE_NOT_SATISFIABLE or offset is None:
                raise
            self.partial.restart()
            self.meter.restart()
            raise ConnectionFailed("there is nothing where the file should go on") from None

    def _receive(self, answer: Answer, offset: int | None) -> None:
        """Append what an answer brings, if it can be the rest of this file."""
        partial = self.partial
        position = _first_byte(answer, offset, partial.size_bytes)
        if answer.length is not None and answer.length != partial.size_bytes - position:
            raise WrongContent(f"{position + answer.length} bytes")
        buffer = memoryview(bytearray(READ_BYTES))
        while position < partial.size_bytes:
            # A whole file may come in place of its rest: what is there is passed over.
            end = partial.num_bytes if position < partial.num_bytes else partial.size_bytes
            self.patience.check()
            num_bytes = answer.read_into(buffer[: end - position])
            if not num_bytes:
                raise ConnectionFailed("it ended before the end of the file")
            if position == partial.num_bytes:
                partial.append(buffer[:num_bytes])
                self.meter.advance(num_bytes)
            position += num_bytes
        if answer.length is None and answer.read_into(buffer[:1]):
            raise WrongContent(f"more than {partial.size_bytes} bytes")


class _RangeIgnored(Exception):
    """A part came, but not the one that was asked for."""


def _first_byte(answer: Answer, offset: int | None, size_bytes: int) -> int:
    """Which byte of the file the answer begins with. A whole file begins with its first."""
    if answer.status != 206:
        return 0
    found = None if offset is None else content_range(answer, offset)
    if found is None or offset is None:
        raise _RangeIgnored
    end, total = found
    if total is not None and total != size_bytes:
        raise WrongContent(f"{total} bytes")
    if end != size_bytes:
        raise _RangeIgnored
    return offset


def content_range(answer: Answer, offset: int) -> tuple[int, int | None] | None:
    """Where a part that begins at `offset` ends (not included), and the size of the whole file.

    The size is None where it is not told, the result where the part begins elsewhere.
    """
    match = CONTENT_RANGE.fullmatch((answer.headers.get("Content-Range") or "").strip())
    if match is None or int(match[1]) != offset or int(match[2]) < offset:
        return None
    return int(match[2]) + 1, None if match[3] == "*" else int(match[3])


class _Meter:
    """Counts a file's bytes as progress, each once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._counted = self._position = 0

    def skip(self, num_bytes: int) -> None:
        """So many bytes were there already."""
        self._progress.skip(num_bytes)
        self._counted += num_bytes
        self._position += num_bytes

    def advance(self, num_bytes: int) -> None:
        """So many bytes came."""
        self._position += num_bytes
        if self._position > self._counted:
            self._progress.advance(self._position - self._counted)
            self._counted = self._position

    def restart(self) -> None:
        """The file begins anew."""
        self._position = 0
