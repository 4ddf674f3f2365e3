"""Signals that ask to end: one line, the right exit code, whatever was finished; and no waiting."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.command import ROOT, command_line
from tests.signalled import READY, WORDS, python, start, wait_until_read

LIMITED = ROOT / "tests" / "faults" / "limited.py"


@pytest.mark.parametrize(
    ("number", "option"),
    [(signal.SIGINT, []), (signal.SIGTERM, ["--json"]), (signal.SIGHUP, ["--json"])],
)
def test_a_command_ends_with_one_line(number: signal.Signals, option: list[str]) -> None:
    with start(command_line("migrate", "-", *option)) as child:
        wait_until_read(child.stdin)
        child.send_signal(number)
        out, err = child.communicate(timeout=580)
    assert child.returncode == 128 + number
    assert err == WORDS[number] + "\n"
    if not option:
        assert out == ""
        return
    error = json.loads(out)["error"]
    assert (error["exit_code"], error["message"]) == (128 + number, WORDS[number])
    assert "run the same command again" in error["hint"]


@pytest.mark.parametrize("delay_s", [0.03, 0.07, 0.12, 0.2])
def test_no_traceback_at_any_time_of_starting(delay_s: float) -> None:
    with start(command_line("migrate", "-", "--json")) as child:
        time.sleep(delay_s)
        child.terminate()
        child.wait(580)  # with its stdin open: at the end of that it has nothing more to do
        out, err = child.communicate(timeout=580)
    if child.returncode == -signal.SIGTERM:  # before the first line of ours
        assert (out, err) == ("", "")
        return
    assert (child.returncode, err) == (143, "terminated\n")
    assert json.loads(out)["error"]["exit_code"] == 143


def test_a_second_signal_does_not_wait_for_the_clean_up() -> None:
    code = (
        f"try:\n    {READY}\n    time.sleep(1000)\n"
        "finally:\n    print('cleaning', flush=True)\n    time.sleep(1000)"
    )
    with python(code) as child:
        assert child.stdout is not None
        child.terminate()
        assert child.stdout.readline() == "cleaning\n"
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        assert child.wait(580) == 130


def test_one_wish_that_comes_twice_at_once_is_one() -> None:
    # What is at once is told by the clock, and a busy machine may stand still in between.
    code = (
        "assert 0 < interrupts.SAME_WISH_S < 1\ninterrupts.SAME_WISH_S = 1000.0\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(1000)\n"
        "finally:\n    os.kill(os.getpid(), signal.SIGINT)\n    print('clean', flush=True)"
    )
    with python(code) as child:
        out, _ = child.communicate(timeout=580)
    assert out == "clean\n"
    assert child.returncode == 130


def test_a_signal_that_python_would_drop_is_not_lost() -> None:
    code = (
        "class Dying:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(0.01)\n"
        "Dying()\n"
        "time.sleep(1000)\n"
        "print('not ended')\n"
    )
    with python(code) as child:
        out, err = child.communicate(timeout=580)
    assert (child.returncode, out) == (143, "")
    assert "Exception ignored" not in err


SWALLOWED_OR_TURNED = {
    "turned into a RuntimeError (CPython 3.11)": (
        "class Field:\n"
        "    def __set_name__(self, owner, name):\n"
        f"        {READY}\n"
        "        time.sleep(1000)\n"
        "def work():\n"
        "    class Owner:\n"
        "        field = Field()\n"
    ),
    "turned into an error from None": (
        "def work():\n"
        "    try:\n"
        f"        {READY}\n"
        "        time.sleep(1000)\n"
        "    except BaseException:\n"
        "        raise ValueError('broken') from None\n"
    ),
    "swallowed": (
        "def work():\n"
        "    try:\n"
        f"        {READY}\n"
        "        time.sleep(1000)\n"
        "    except BaseException:\n"
        "        pass\n"
        "    time.sleep(1000)\n"
    ),
    "swallowed before the next stage": (
        "def work():\n"
        "    try:\n"
        f"        {READY}\n"
        "        time.sleep(1000)\n"
        "    except BaseException:\n"
        "        pass\n"
        "    interrupts.check()\n"
    ),
}


@pytest.mark.parametrize("code", SWALLOWED_OR_TURNED.values(), ids=SWALLOWED_OR_TURNED)
def test_what_other_code_makes_of_a_signal_is_still_the_signal(code: str) -> None:
    call = (
        "from pipeline.cli.answering import Mode, answering, ending_in_words\n"
        "with ending_in_words([]), answering(Mode(json=True)):\n"
        "    work()\n"
    )
    with python(code + call) as child:
        child.terminate()
        out, err = child.communicate(timeout=580)
    assert json.loads(out)["error"]["exit_code"] == 143
    assert err == "terminated\n"


def test_a_long_clean_up_is_not_cut_off() -> None:
    code = (
        "from contextlib import ExitStack\n"
        "def clean():\n"
        "    end = time.monotonic() + 4 * interrupts.LOST_TICKS * interrupts.TICK_S\n"
        "    while time.monotonic() < end:\n"
        "        time.sleep(0.01)\n"
        "    print('clean', flush=True)\n"
        "try:\n"
        "    with ExitStack() as stack:\n"
        "        stack.callback(clean)\n"
        f"        {READY}\n"
        "        time.sleep(1000)\n"
        "finally:\n"
        "    clean()\n"
    )
    with python(code) as child:
        child.terminate()
        out, _ = child.communicate(timeout=580)
    assert (child.returncode, out) == (143, "clean\nclean\n")


def test_a_signal_within_an_import_waits_for_its_end(tmp_path: Path) -> None:
    module = tmp_path / "slow.py"
    module.write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.5)\n"
        "except BaseException:\n"
        "    print('cut off', flush=True)\n"
        "    raise\n"
        "print('whole', flush=True)\n"
    )
    code = (
        f"sys.path.insert(0, {str(tmp_path)!r})\ninterrupts.LONGEST_IMPORT_S = 1000.0\n"
        "import slow\ntime.sleep(1000)\n"
    )
    with python(code) as child:
        out, _ = child.communicate(timeout=580)
    assert (child.returncode, out) == (143, "whole\n")


def test_an_import_that_does_not_end_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(f"import sys, time\n{READY}\ntime.sleep(1000)\n")
    code = (
        f"sys.path.insert(0, {str(tmp_path)!r})\ninterrupts.LONGEST_IMPORT_S = 0.2\n"
        f"import endless  # which does: {READY}"
    )
    with python(code) as child:
        child.terminate()
        child.communicate(timeout=580)
    assert child.returncode == 143


def test_what_the_starter_ignores_stays_ignored(tmp_path: Path) -> None:
    limits = json.dumps({"ignored": ["SIGHUP"]})
    with start([sys.executable, str(LIMITED), limits, "migrate", "-"]) as child:
        wait_until_read(child.stdin)
        child.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert child.poll() is None
        child.terminate()
        assert child.wait(580) == 143
