"""What a stage tells while it works. The console shows it; stages know only this protocol."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Progress of one stage: a number of units done out of a total, and plain notes."""

    def start(self, task: str, total: int, unit: str = "bytes") -> None:
        """Begin a task of `total` units ("bytes", "tokens", "steps"); ends the task before it."""

    def advance(self, amount: int) -> None:
        """Count `amount` more units of the current task as done."""

    def skip(self, amount: int) -> None:
        """Count units that were done before, by an earlier run: they say nothing of the rate."""

    def note(self, message: str) -> None:
        """Say one line that is worth reading later."""


class Silent:
    """A `Progress` that says nothing."""

    def start(self, task: str, total: int, unit: str = "bytes") -> None:
        """Ignore."""

    def advance(self, amount: int) -> None:
        """Ignore."""

    def skip(self, amount: int) -> None:
        """Ignore."""

    def note(self, message: str) -> None:
        """Ignore."""


def no_note(_: str) -> None:
    """Nobody is told."""
