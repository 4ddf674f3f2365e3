"""Signals that come before a command, after it, or where nobody would raise them."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.signalled import python, start

OUTSIDE_OF_COMMANDS = {
    "before a command": "os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(1000)\n",
    "while the interpreter ends": (
        "import atexit\n"
        "def late():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(1000)\n"
        "atexit.register(late)\n"
    ),
    "in the very last that it does": (
        "class Out:\n"
        "    def write(self, text):\n"
        "        return len(text)\n"
        "    def flush(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.stdout = Out()\n"
    ),
    "swallowed by the last that a command did": (
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(1000)\n"
        "except SystemExit:\n"
        "    pass\n"
    ),
}


@pytest.mark.parametrize("code", OUTSIDE_OF_COMMANDS.values(), ids=OUTSIDE_OF_COMMANDS)
def test_a_signal_outside_of_every_command_is_told_too(code: str) -> None:
    with python(code) as child:
        out, err = child.communicate(timeout=580)
    assert (child.returncode, out, err) == (143, "", "terminated\n")


def test_an_interrupt_before_our_first_line_shows_no_half_of_an_import() -> None:
    code = (
        "import signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'pipeline.system.interrupts':\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import pipeline.__main__\n"
    )
    with start([sys.executable, "-c", code]) as child:
        out, err = child.communicate(timeout=580)
    assert (child.returncode, out, err) == (-signal.SIGINT, "", "")


def test_what_was_waited_with_is_not_raised_twice(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nprint('whole', flush=True)\n"
    )
    code = (
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "interrupts.LONGEST_IMPORT_S, interrupts._MOMENT_S = 1000.0, 0.2\n"
        "try:\n"
        "    import short\n"
        "    interrupts.check()\n"
        "finally:\n"
        "    time.sleep(0.5)\n"
        "    print('clean', flush=True)\n"
    )
    with python(code) as child:
        out, err = child.communicate(timeout=580)
    assert (child.returncode, out, err) == (143, "whole\nclean\n", "terminated\n")


def test_an_alarm_that_our_starter_has_set_still_ends_us() -> None:
    with python("signal.setitimer(signal.ITIMER_REAL, 0.01)\ntime.sleep(1000)\n") as child:
        assert child.wait(580) == -signal.SIGALRM


def test_a_thread_that_was_just_started_does_not_keep_us_alive() -> None:
    code = (
        "import threading\n"
        "from pathlib import Path\n"
        "from types import SimpleNamespace\n"
        "from pipeline.weights import keeper\n"
        "begun = SimpleNamespace(reached=None, synced=None, folder=Path('.'), last=0)\n"
        "keeper.Journal.continued = lambda *_: None\n"
        "start = threading.Thread.start\n"
        "def interrupted(thread):\n"
        "    start(thread)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(1000)\n"
        "threading.Thread.start = interrupted\n"
        "with keeper.Keeper(begun, {}, threading.Event()):\n"
        "    pass\n"
    )
    with python(code) as child:
        _, err = child.communicate(timeout=580)
    assert (child.returncode, err) == (143, "terminated\n")
