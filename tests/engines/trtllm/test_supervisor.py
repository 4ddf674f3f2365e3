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
from pipeline.errors import MachineError
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


@pytest.mark.parametrize("text", ["#!/no/such/python\n", "\x7fELF nonsense"])
def test_a_program_that_cannot_be_started_is_the_machines_fault(tmp_path: Path, text: str) -> None:
    program_path = tmp_path / "program"
    program_path.write_text(text)
    program_path.chmod(0o755)
    for argv in ([str(program_path)], ["/bin/sh", "-c", "a \0 b"]):
        with pytest.raises(MachineError, match="could not be started"):
            run_supervised(argv, {}, tmp_path, timeout_s=60, on_line=lambda *_: None)


def test_a_line_without_an_end_is_passed_on_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "LONGEST_LINE_BYTES", 1 << 17)
    ended, lines = run(tmp_path, "head -c 1000000 /dev/zero | tr '\\0' x; printf 'yz\\nend'")
    assert ended == Ended(0)
    assert "".join(line for _, line in lines) == "x" * 1_000_000 + "yz" + "end"
    assert len(lines) > 5
    assert lines[-1] == ("stdout", "end")


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


def test_the_death_of_the_supervisor_itself_ends_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(program, "scratch_path", lambda _longest_bytes: scratch / "own")

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
    assert list(scratch.iterdir()) == []


PARENT = """
import os, signal, sys
from pathlib import Path
from pipeline.engines.trtllm.program import run_supervised
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
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
        assert process.wait(timeout=120) != 0
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


TEMPORARY = PARENT.replace("timeout_s=60,", "timeout_s=60, is_temporary=True,")


@pytest.mark.parametrize(("parent", "is_left"), [(PARENT, True), (TEMPORARY, False)])
def test_a_temporary_work_folder_goes_with_a_killed_parent(
    tmp_path: Path, parent: str, is_left: bool
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    script = f"touch {work}/begun; sleep 1000"
    with subprocess.Popen(
        [sys.executable, "-c", parent, str(work), "/bin/sh", "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    ) as process:
        while not (work / "begun").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert wait_until_gone(tmp_path) == {}
    assert work.exists() == is_left
