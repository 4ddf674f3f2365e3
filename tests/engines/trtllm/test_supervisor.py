"""A supervised program: its lines, its end, and that nothing which it started outlives it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pipeline.engines.trtllm import program
from pipeline.engines.trtllm.program import Ended, run_supervised
from pipeline.engines.trtllm.supervisor import descendants
from tests.command import ROOT
from tests.engines.trtllm.processes import belonging, wait_until_gone

FAMILY = """
    sleep 1000 &                       # a child that is left alone
    setsid sleep 1000 &                # one in a session of its own
    (setsid sh -c 'sleep 1000 & sleep 1000' &)  # one whose parent has ended
    echo ready
"""
"""A shell script that starts four processes which know nothing of ends."""


def run(work: Path, script: str, *, timeout_s: float = 60) -> tuple[Ended, list[tuple[str, str]]]:
    lines: list[tuple[str, str]] = []
    work.mkdir(exist_ok=True)
    ended = run_supervised(
        ["/bin/sh", "-c", textwrap.dedent(script)],
        {"PATH": os.environ["PATH"]},
        work,
        timeout_s=timeout_s,
        on_line=lambda stream, line: lines.append((stream, line)),
    )
    return ended, lines


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -ABRT $$", -6), ("kill -9 $$", -9)],
)
def test_how_it_ends_is_told(tmp_path: Path, script: str, code: int) -> None:
    assert run(tmp_path, script) == (Ended(code), [])


def test_every_line_comes_with_its_stream(tmp_path: Path) -> None:
    script = "echo one; echo two >&2; printf 'a\\rb\\n\\n'; printf '\\377 end' >&2"
    ended, lines = run(tmp_path, script)
    assert ended == Ended(0)
    assert [line for stream, line in lines if stream == "stdout"] == ["one", "a", "b"]
    assert [line for stream, line in lines if stream == "stderr"] == ["two", "\ufffd end"]


def test_long_output_is_whole(tmp_path: Path) -> None:
    script = (
        "i=0; while [ $i -lt 3000 ]; do echo $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; i=$((i+1)); done"
    )
    _, lines = run(tmp_path, script)
    assert [int(line.split()[0]) for _, line in lines] == list(range(3000))


def test_it_works_in_its_folder_with_a_scratch_home(tmp_path: Path) -> None:
    _, lines = run(tmp_path, 'pwd; echo "$HOME" "$TMPDIR"; touch "$HOME/x"; env | sort')
    texts = [line for _, line in lines]
    assert texts[0] == str(tmp_path)
    home, scratch = texts[1].split()
    assert home == scratch
    assert not Path(home).exists()
    names = {line.partition("=")[0] for line in texts[2:]} - {"_", "OLDPWD", "SHLVL", "PWD"}
    assert names == {"HOME", "PATH", "TMPDIR", program.MARKER}


def test_what_it_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    ended, lines = run(tmp_path, FAMILY)
    assert (ended, lines) == (Ended(0), [("stdout", "ready")])
    assert belonging(tmp_path) == {}


def test_a_time_out_ends_all(tmp_path: Path) -> None:
    ended, _ = run(tmp_path, FAMILY + "sleep 1000", timeout_s=0.3)
    assert ended == Ended(None)
    assert belonging(tmp_path) == {}


def test_an_exception_of_the_reader_ends_all(tmp_path: Path) -> None:
    def refuse(_stream: str, _line: str) -> None:
        assert belonging(tmp_path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_supervised(
            ["/bin/sh", "-c", textwrap.dedent(FAMILY + "sleep 1000")],
            {"PATH": os.environ["PATH"]},
            tmp_path,
            timeout_s=60,
            on_line=refuse,
        )
    assert belonging(tmp_path) == {}


def test_the_death_of_the_supervisor_itself_ends_all(tmp_path: Path) -> None:
    def kill(_stream: str, _line: str) -> None:
        for pid, command in belonging(tmp_path).items():
            if str(program.SUPERVISOR) in command:
                os.kill(pid, signal.SIGKILL)

    ended = run_supervised(
        ["/bin/sh", "-c", textwrap.dedent(FAMILY + "exec sleep 1000 >/dev/null 2>&1")],
        {"PATH": os.environ["PATH"]},
        tmp_path,
        timeout_s=60,
        on_line=kill,
    )
    assert ended == Ended(-signal.SIGKILL)
    assert wait_until_gone(tmp_path) == {}


PARENT = """
import os, sys
from pathlib import Path
from pipeline.engines.trtllm.program import run_supervised
sys.stdout.write("begun\\n"); sys.stdout.flush()
run_supervised(sys.argv[2:], {"PATH": os.environ["PATH"]}, Path(sys.argv[1]), timeout_s=60,
               on_line=lambda *_: None)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("seed", range(2))
def test_the_death_of_the_caller_ends_all(
    tmp_path: Path, number: signal.Signals, seed: int
) -> None:
    argv = ["/bin/sh", "-c", textwrap.dedent(FAMILY + "sleep 1000")]
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        time.sleep(random.Random(f"{seed} {number}").uniform(0, 0.4))
        process.send_signal(number)
        assert process.wait(timeout=30) != 0
    assert wait_until_gone(tmp_path) == {}


def test_descendants_are_found_at_any_depth() -> None:
    script = "sh -c 'sh -c \"sleep 1000 & echo ready; wait\" & wait' & wait"
    with subprocess.Popen(
        ["/bin/sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = descendants(os.getpid())
        assert {process.pid, *descendants(process.pid)} <= set(found)
        assert len(descendants(process.pid)) >= 2
        os.killpg(process.pid, signal.SIGKILL)
