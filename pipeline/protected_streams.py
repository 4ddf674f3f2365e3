"""stdin, stdout and stderr of the command line: without secrets, and never another file's."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from typing import Any, NoReturn, TextIO, cast

from pipeline.redaction import redact


class RedactedStream:
    """A text stream that redacts what is written, call by call; in all else it is the inner one.

    A secret that is written in two calls passes: who writes pieces (`Console`) redacts the whole.
    `is_used`: whether anything was written.
    """

    def __init__(self, inner: TextIO) -> None:
        self._inner = inner
        self.is_used = False

    def write(self, text: str) -> int:
        """Write the redacted text; the length of what was given, as that is what callers count."""
        shown = redact(text)  # takes its time, in which a signal may come: nothing is written yet
        self.is_used = self.is_used or bool(text)
        self._inner.write(shown)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class ClosedStream:
    """In place of a stream that was closed when this process began: to use it is an OSError."""

    encoding = "utf-8"
    errors = "strict"

    @property
    def buffer(self) -> ClosedStream:
        """The same below the text."""
        return self

    def read(self, _count: int = -1) -> NoReturn:
        """Raise OSError."""
        raise OSError(errno.EBADF, "it is closed")

    def write(self, _text: str) -> NoReturn:
        """Raise OSError."""
        raise OSError(errno.EBADF, "it is closed")

    def flush(self) -> None:
        """There is nothing to flush."""

    def isatty(self) -> bool:
        """It is none."""
        return False


def protect_streams() -> None:
    """Make them so. Where stderr is closed, what is written to it is dropped."""
    _occupy_descriptors()
    if sys.stdin is None:
        sys.stdin = cast(TextIO, ClosedStream())
    if sys.stdout is None:
        sys.stdout = cast(TextIO, ClosedStream())
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = cast(TextIO, RedactedStream(sys.stdout))
    sys.stderr = cast(TextIO, RedactedStream(sys.stderr))


def lead_nowhere(number: int) -> None:
    """Have a descriptor write to nothing from now on.

    What a stream still holds is written once more when the interpreter ends, and fails once more.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != number:
        os.dup2(nothing, number)
        os.close(nothing)


def _occupy_descriptors() -> None:
    """A free 0, 1 or 2 would be given to the next file, which then gets whatever is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            lead_nowhere(number)  # the lowest free one is given out, which is this
            os.set_inheritable(number, True)
