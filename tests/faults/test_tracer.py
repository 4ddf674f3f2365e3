"""The tracer itself: what it sees, what it can make go wrong, whom it follows."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command import ROOT, child_environment
from tests.faults.seccomp import JUMP_EQUAL, RET_TRACE, RETURN, program
from tests.faults.syscalls import BY_NAME, CALLS

Traced = Callable[..., dict[str, Any]]
CANNOT = 77
SCRIPT = """
import os, sys
os.mkdir("made")
with open("made/one", "wb", buffering=0) as file:
    sys.exit(0 if file.write(b"x" * 100) == 100 else 3)
"""


@pytest.fixture
def traced(tmp_path: Path) -> Traced:
    """Trace a Python script in `tmp_path`; skips where that is not permitted."""

    def trace(script: str, **orders: object) -> dict[str, Any]:
        text = json.dumps({"inside": str(tmp_path.resolve()), **orders})
        whole = f"import os; os.chdir({str(tmp_path)!r})\n{script}"
        tracing = [sys.executable, "-m", "tests.faults.traced_command", text]
        done = subprocess.run(
            [*tracing, sys.executable, "-c", whole],
            cwd=ROOT,
            env=child_environment(PYTHONDONTWRITEBYTECODE="1"),
            capture_output=True,
            text=True,
            timeout=580,
            check=False,
        )
        if done.returncode == CANNOT:
            pytest.skip(done.stderr)
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    return trace


def counted(document: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Name, last part of the path, and result of the calls inside the folder."""
    calls = [call for call in document["calls"] if call["number"]]
    return [(call["name"], Path(call["paths"][-1]).name, call["result"]) for call in calls]


def test_every_call_is_seen_in_order_with_its_path_and_result(traced: Traced) -> None:
    seen = counted(traced(SCRIPT))
    assert [(name, path) for name, path, _ in seen] == [
        ("mkdir", "made"),
        ("openat", "one"),
        ("write", "one"),
    ]
    assert [seen[0][2], seen[2][2]] == [0, 100]


def test_calls_that_change_nothing_are_not_seen(traced: Traced) -> None:
    document = traced("open(os.devnull, 'w').write('x'); open(os.__file__).read(); os.listdir('.')")
    assert document["calls"] == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_call_fails_with_an_errno_and_is_not_carried_out(
    traced: Traced, tmp_path: Path, number: int
) -> None:
    script = f"""
try:
    os.mkdir("made")
except OSError as error:
    assert error.errno == {number}, error
else:
    raise SystemExit(9)
os.mkdir("other")
"""
    document = traced(script, at=1, fail=number)
    assert document["status"] == 0
    assert [result for _, _, result in counted(document)] == [-number, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_all_calls_from_there_on_fail(traced: Traced, tmp_path: Path) -> None:
    script = """
os.mkdir("first")
for name in ("second", "third"):
    try:
        os.mkdir(name)
    except OSError:
        continue
    raise SystemExit(9)
"""
    assert traced(script, at=2, on=True, fail=errno.ENOSPC)["status"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_a_write_is_short(traced: Traced, tmp_path: Path) -> None:
    document = traced(SCRIPT, at=3, shorten=7)
    assert os.waitstatus_to_exitcode(document["status"]) == 3
    assert (tmp_path / "made/one").stat().st_size == 7


@pytest.mark.parametrize(("when", "size_bytes"), [("before", 0), ("after", 100)])
def test_a_kill_comes_before_or_after_a_call(
    traced: Traced, tmp_path: Path, when: str, size_bytes: int
) -> None:
    document = traced(SCRIPT, at=3, kill=when)
    assert os.waitstatus_to_exitcode(document["status"]) == -signal.SIGKILL
    assert document["killed_at"] == 3
    assert (tmp_path / "made/one").stat().st_size == size_bytes


CHILDREN = """
import subprocess, sys, threading, time
thread = threading.Thread(target=os.mkdir, args=("by-a-thread",))
thread.start(); thread.join()
child = os.fork()
if child == 0:
    os.mkdir("by-a-fork"); os._exit(0)
os.waitpid(child, 0)
subprocess.run([sys.executable, "-c", "import os; os.mkdir('by-another-program')"], check=True)
"""


def test_threads_forks_and_other_programs_are_followed(traced: Traced, tmp_path: Path) -> None:
    document = traced(CHILDREN)
    assert document["status"] == 0
    names = ["by-a-thread", "by-a-fork", "by-another-program"]
    assert [path for _, path, _ in counted(document)] == names
    assert traced(CHILDREN, at=4, kill="before")["status"] != 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_what_outlives_its_parent_is_told(traced: Traced) -> None:
    script = """
import time
if os.fork() == 0:
    while not os.path.exists("made"):
        time.sleep(0.01)
    time.sleep(0.2); os.mkdir("late"); os._exit(0)
os.mkdir("made")
"""
    document = traced(script, at=1, kill="after", whole_tree=False)
    assert document["outlived"] == []  # it ended by itself, soon after
    assert sorted(path for _, path, _ in counted(document)) == ["late", "made"]


def test_both_paths_of_a_rename_and_of_a_relative_one_are_seen(
    traced: Traced, tmp_path: Path
) -> None:
    script = """
os.mkdir("a")
folder = os.open("a", os.O_RDONLY)
os.close(os.open("x", os.O_CREAT | os.O_WRONLY))
os.rename("x", "y", src_dir_fd=None, dst_dir_fd=folder)
"""
    rename = next(call for call in traced(script)["calls"] if call["kind"] == "rename")
    folder = tmp_path.resolve()
    assert rename["paths"] == [str(folder / "x"), str(folder / "a" / "y")]


def test_the_filter_names_every_call_once_and_jumps_within_itself() -> None:
    lines = program()
    numbers = [constant for code, _, _, constant in lines[3:] if code == JUMP_EQUAL]
    assert {call.number for call in CALLS} <= set(numbers)
    assert len(BY_NAME) == len(CALLS) == len({call.number for call in CALLS})
    jumps = [(n, yes, no) for n, (_, yes, no, _) in enumerate(lines) if yes or no]
    assert all(n + 1 + max(yes, no) < len(lines) for n, yes, no in jumps)
    assert sum(line == (RETURN, 0, 0, RET_TRACE) for line in lines) == len(CALLS)
