"""Processes: told apart though their numbers are used again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipeline.system import processes
from pipeline.system.processes import Process, parse_process, this_process


def test_this_process_is_alive() -> None:
    assert this_process().pid == os.getpid()
    assert this_process().is_dead() is False
    assert parse_process(str(this_process())) == this_process()


def test_another_start_is_another_process() -> None:
    here = this_process()
    assert Process(here.space, here.pid, here.start + 1).is_dead() is True


def test_a_process_that_has_ended_is_dead_before_and_after_it_is_waited_for() -> None:
    code = "from pipeline.system.processes import this_process as p; print(p(), flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        process = parse_process(child.stdout.read().strip())
        assert process is not None
        assert process.pid == child.pid
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, but still in the table
        assert process.is_dead() is True
    assert process.is_dead() is True


def test_a_hidden_process_may_be_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    here = this_process()
    monkeypatch.setattr(processes, "_stat", lambda pid: None)
    assert here.is_dead() is None
    assert Process(here.space, 4_000_000_000, 1).is_dead() is True

    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert here.is_dead() is None


def test_a_process_elsewhere_cannot_be_seen() -> None:
    assert Process("00000000", 1, 1).is_dead() is None


@pytest.mark.parametrize("text", ["", "12345678-1", "1234567g-1-1", "12345678-1-1-old", "../x-1-1"])
def test_other_texts_are_no_processes(text: str) -> None:
    assert parse_process(text) is None
