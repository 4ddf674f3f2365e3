"""How a run is shown: plain lines, events, bars; rates and time left."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline import progress_display
from pipeline.artifact import describe
from pipeline.plan import Plan
from pipeline.progress_display import EventLines, Observing, PlainLines
from pipeline.run import StageResult
from pipeline.run_record import past_seconds, write_run_record
from pipeline.stages.stage import Stage
from pipeline.store import Store
from tests.command import RECIPES, child_environment, command_line
from tests.test_run import toy

STAGE: Stage = toy("convert", ())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test turns."""
    now = [100.0]
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def result(tmp_path: Path) -> StageResult:
    store = Store(tmp_path / "store")
    with store.session() as session, session.working_folder("convert", "ab" * 32) as folder:
        manifest = describe(folder, "convert", "ab" * 32, {}, {"made": "a checkpoint"})
        artifact = session.publish(folder, manifest)
    return StageResult(STAGE, artifact, reused=False, seconds=1.25)


def test_plain_lines_tell_share_and_time_left(clock: list[float], result: StageResult) -> None:
    said: list[str] = []
    observer = Observing(PlainLines(said.append, quiet=False))
    progress = observer.stage_started(STAGE, "ab" * 32)
    progress.start("writing", 1_000_000_000)
    for _ in range(4):
        clock[0] += 2
        progress.advance(100_000_000)
    progress.note("a note")
    observer.stage_finished(result)
    assert said == [
        "convert   abababababab ...",
        "convert   writing: 30% of 1,000,000,000 bytes, 50.0 MB/s, 14 s left",
        "convert   a note",
        "convert   1.2 s   a checkpoint",
    ]


def test_what_was_done_before_does_not_count_for_the_rate(clock: list[float]) -> None:
    said: list[str] = []
    progress = Observing(PlainLines(said.append, quiet=False)).stage_started(STAGE, "ab" * 32)
    progress.start("writing", 1_000_000_000)
    progress.skip(630_000_000)
    clock[0] += 6
    progress.advance(60_000_000)
    assert said[1:] == ["convert   writing: 69% of 1,000,000,000 bytes, 10.0 MB/s, 31 s left"]


def test_a_bar_does_not_take_it_for_speed(clock: list[float]) -> None:
    bars = progress_display.TerminalBars()
    progress = Observing(bars).stage_started(STAGE, "ab" * 32)
    progress.start("writing", 1_000_000_000)
    progress.skip(400_000_000)
    clock[0] += 6
    progress.skip(230_000_000)
    progress.advance(60_000_000)
    assert bars._bars is not None
    fields = bars._bars.tasks[0].fields
    bars.close()
    assert (fields["speed"], fields["left"]) == ("10.0 MB/s", "0:00:31 left")
    assert progress_display.time_left(1e300) == "99 days, 0:00:00 left"


def test_quiet_says_nothing(result: StageResult) -> None:
    said: list[str] = []
    observer = Observing(PlainLines(said.append, quiet=True))
    observer.stage_started(STAGE, "ab" * 32).note("a note")
    observer.stage_finished(result)
    assert said == []


def test_events_are_json_and_not_too_many(clock: list[float], result: StageResult) -> None:
    said: list[str] = []
    observer = Observing(EventLines(said.append))
    progress = observer.stage_started(STAGE, "ab" * 32)
    progress.start("writing", 1000)
    for _ in range(1000):
        clock[0] += 0.01
        progress.advance(1)
    observer.stage_finished(result)
    events = [json.loads(line) for line in said]
    steps = [event for event in events if event["event"] == "progress"]
    assert 9 <= len(steps) <= 12
    assert steps[-1]["done"] == steps[-1]["total"] == 1000
    assert events[-1] == {
        "event": "stage_finished",
        "stage": "convert",
        "key": "ab" * 32,
        "reused": False,
        "seconds": 1.25,
    }


def test_a_terminal_gets_bars_and_keeps_the_outcome(tmp_path: Path) -> None:
    parent, child = pty.openpty()
    arguments = command_line("convert", RECIPES / "demo.yaml", "--store", tmp_path / "store")
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=child, env=child_environment(TERM="xterm")
    )
    os.close(child)
    shown = b""
    while True:
        try:
            block = os.read(parent, 4096)
        except OSError:  # the child closed its end
            break
        if not block:
            break
        shown += block
    os.close(parent)
    out, _ = process.communicate(timeout=580)
    assert process.returncode == 0
    assert b"tensors equal to the byte" in shown
    assert b"\x1b[" in shown
    assert b"\x1b[" not in out


class Sized:
    """As much of a plan as a run record reads."""

    def __init__(self, target_bytes: int) -> None:
        self.recipe = self.engine = self.conversion = self.hardware = self
        self.name, self.target_bytes = "toy", target_bytes
        self.num_cpus, self.gpus = 2, ()


def plan(target_bytes: int) -> Plan:
    return cast("Plan", Sized(target_bytes))


def test_past_times_are_of_comparable_models(tmp_path: Path, result: StageResult) -> None:
    store = Store(tmp_path / "store")
    write_run_record(plan(1000), store, [result])
    assert past_seconds(plan(1900), store) == {"convert": 1.25}
    assert past_seconds(plan(2100), store) == {}
    records = list((store.root / "runs").iterdir())
    assert len(records) == 1
    document: Any = json.loads(records[0].read_text())
    assert document["stages"][0]["seconds"] == 1.25
    records[0].write_text("{")
    assert past_seconds(plan(1000), store) == {}
