"""How a run's progress is shown: bars on a terminal, plain lines elsewhere, events for machines."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from pipeline.progress import Progress
from pipeline.redaction import redact

if TYPE_CHECKING:
    # rich is needed only where a bar is drawn; a cached run draws none.
    import rich.progress

    # All of the program stands behind these two, and most commands run no stage.
    from pipeline.run import StageResult
    from pipeline.stages.stage import AnyStage

MAX_LEFT_S = 99 * 86_400
LINE_INTERVAL_S = 5.0
"""Between two plain lines of one task."""


class Told(Protocol):
    """A way to show what happens."""

    def begin(self, stage: str, key: str | None) -> None:
        """A stage starts to work, or, without a key, something else that takes long."""

    def task(self, stage: str, task: str, done: int, total: int, unit: str, rate: float) -> None:
        """A task of a stage has done so many of its units; `rate` is units a second."""

    def note(self, stage: str, message: str) -> None:
        """A line worth reading."""

    def end(self, result: StageResult) -> None:
        """A stage has its artifact."""

    def close(self) -> None:
        """The run is over, well or not."""


class Observing:
    """The `Observer` of a run: counts, measures rates, and tells."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def stage_started(self, stage: AnyStage, key: str) -> Progress:
        """Begin to follow one stage."""
        self._told.begin(stage.name, key)
        return _Counting(self._told, stage.name)

    def work_started(self, name: str) -> Progress:
        """Begin to follow work that is no stage's."""
        self._told.begin(name, None)
        return _Counting(self._told, name)

    def stage_finished(self, result: StageResult) -> None:
        """Tell the outcome."""
        self._told.end(result)


class _Counting:
    """The `Progress` that a stage gets. Threads of the stage may advance it together."""

    def __init__(self, told: Told, stage: str) -> None:
        self._told = told
        self._stage = stage
        self._lock = threading.Lock()
        self.start("", 0)

    def start(self, task: str, total: int, unit: str = "bytes") -> None:
        with self._lock:
            self._task, self._total, self._unit = task, total, unit
            self._done, self._skipped, self._started = 0, 0, time.monotonic()

    def advance(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            self._tell()

    def skip(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            self._skipped += amount
            self._tell()

    def _tell(self) -> None:
        seconds = time.monotonic() - self._started
        rate = (self._done - self._skipped) / seconds if seconds > 0 else 0.0
        self._told.task(self._stage, self._task, self._done, self._total, self._unit, rate)

    def note(self, message: str) -> None:
        self._told.note(self._stage, redact(message))


class PlainLines:
    """Lines without control characters, for logs and pipes."""

    def __init__(self, say: Callable[[str], None], *, quiet: bool) -> None:
        self._say = say
        self._quiet = quiet
        self._last_s = 0.0

    def begin(self, stage: str, key: str | None) -> None:
        self._last_s = time.monotonic()
        if key is not None:
            self._line(f"{stage:<9} {key[:12]} ...")

    def task(self, stage: str, task: str, done: int, total: int, unit: str, rate: float) -> None:
        now = time.monotonic()
        if now - self._last_s < LINE_INTERVAL_S:
            return
        self._last_s = now
        seconds = seconds_left(done, total, rate)
        left = "" if seconds is None else f", {speed(rate, unit)}, {seconds:.0f} s left"
        share = f"{100 * done // total}% of " if total else ""
        self._line(f"{stage:<9} {task}: {share}{total:,} {unit}{left}")

    def note(self, stage: str, message: str) -> None:
        self._line(f"{stage:<9} {message}")

    def end(self, result: StageResult) -> None:
        self._line(outcome(result))

    def close(self) -> None:
        pass

    def _line(self, text: str) -> None:
        if not self._quiet:
            self._say(text)


class EventLines:
    """One JSON object a line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last_s = 0.0
        self._task: tuple[str, str] | None = None

    def begin(self, stage: str, key: str | None) -> None:
        if key is not None:
            self._event(event="stage_started", stage=stage, key=key)

    def task(self, stage: str, task: str, done: int, total: int, unit: str, rate: float) -> None:
        now = time.monotonic()
        # The beginning and the end of every task are told, however short it is.
        is_new = self._task != (stage, task)
        if now - self._last_s < 1.0 and done < total and not is_new:
            return
        self._last_s, self._task = now, (stage, task)
        left = seconds_left(done, total, rate)
        self._event(
            event="progress",
            stage=stage,
            task=task,
            done=done,
            total=total,
            unit=unit,
            rate=round(rate, 1),
            seconds_left=None if left is None else round(left, 1),
        )

    def note(self, stage: str, message: str) -> None:
        self._event(event="note", stage=stage, message=message)

    def end(self, result: StageResult) -> None:
        self._event(
            event="stage_finished",
            stage=result.stage.name,
            key=result.artifact.key,
            reused=result.reused,
            seconds=round(result.seconds, 3),
        )

    def close(self) -> None:
        pass

    def _event(self, **event: str | float | bool | None) -> None:
        self._say(json.dumps(event, ensure_ascii=False))


class TerminalBars:
    """A live bar for the task at hand, finished stages as lines above it."""

    def __init__(self) -> None:
        self._bars: rich.progress.Progress | None = None
        self._id: rich.progress.TaskID | None = None

    def begin(self, stage: str, key: str | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[speed]}"),
            # Not rich's own estimate, which takes what was there before for speed.
            TextColumn("{task.fields[left]}"),
        )
        self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
        self._id = self._bars.add_task(f"{stage:<9}", total=None, speed="", left="")
        self._bars.start()

    def task(self, stage: str, task: str, done: int, total: int, unit: str, rate: float) -> None:
        if self._bars is not None and self._id is not None:
            description = f"{stage:<9} {task}"
            seconds = seconds_left(done, total, rate)
            self._bars.update(
                self._id,
                description=description,
                completed=done,
                total=total,
                speed=speed(rate, unit),
                left="" if seconds is None else time_left(seconds),
            )

    def note(self, stage: str, message: str) -> None:
        if self._bars is not None:
            self._bars.console.print(f"{stage:<9} {message}", highlight=False, markup=False)

    def end(self, result: StageResult) -> None:
        self.close()
        sys.stderr.write(outcome(result) + "\n")

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def seconds_left(done: int, total: int, rate: float) -> float | None:
    """How long the rest takes at this rate; None where that is not known, or nothing is left."""
    return (total - done) / rate if rate > 0 and total > done else None


def time_left(seconds: float) -> str:
    """For example `0:03:25 left`."""
    return f"{timedelta(seconds=round(min(seconds, MAX_LEFT_S)))} left"


def speed(rate: float, unit: str) -> str:
    """A rate, for people."""
    if unit == "bytes":
        return f"{rate / 1e6:,.1f} MB/s"
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s"


def outcome(result: StageResult) -> str:
    """One line for a stage that has its artifact."""
    how = "reused" if result.reused else f"{result.seconds:.1f} s"
    return f"{result.stage.name:<9} {how:<7} {result.stage.summary(result.artifact.facts)}"
