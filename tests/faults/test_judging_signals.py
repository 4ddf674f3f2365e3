"""What the campaign of signals takes for wrong, and what becomes of the counts of lanes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ROOT, child_environment
from tests.faults.signals import Wish, amiss
from tests.faults.warm import Ended

WISH = Wish(signal.SIGTERM, "to the process")
ANSWER = json.dumps({"error": {"exit_code": 143}})


@pytest.mark.parametrize(
    ("code", "stdout", "stderr", "wrong"),
    [
        (143, ANSWER, "terminated\n", None),
        (0, json.dumps({"stages": []}), "", None),
        (-15, "", "", None),
        (-15, "", "half a line", "the system's default"),
        (1, ANSWER, "terminated\n", "expected 143"),
        (143, ANSWER, "", "the last line is not"),
        (143, ANSWER, "interrupted\n", "the last line is not"),
        (143, ANSWER, "terminated\nterminated\n", "more than once"),
        (143, ANSWER, "Exception ignored in\nterminated\n", "was said"),
        (143, "", "terminated\n", "not one document"),
        (143, ANSWER + ANSWER, "terminated\n", "not one document"),
        (143, ANSWER.replace("143", "130"), "terminated\n", "not one document"),
    ],
)
def test_an_end_by_a_signal_is_judged(
    code: int, stdout: str, stderr: str, wrong: str | None
) -> None:
    found = amiss(Ended(code, stdout, stderr, 0.0), WISH, "--json")
    assert found == [] if wrong is None else any(wrong in each for each in found)


def test_counts_of_lanes_are_added_and_a_lane_that_fails_is_a_violation(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from tests.faults.lanes import play_in_lanes\n"
        "from tests.faults.tally import Tally\n"
        "def play(lane, tally):\n"
        "    assert lane.number < 2, 'the third one fails'\n"
        "    tally.count('rounds', lane.share(5))\n"
        "    tally.violated(lane.name, ['found'] * lane.number)\n"
        "tally = Tally('some', 1)\n"
        f"play_in_lanes(tally, 3, Path({str(tmp_path)!r}), play)\n"
        "print(tally.counts['rounds'], *sorted(tally.violations), sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=580,
        check=True,
    )
    found = ["4", "lane-1: found", "lane-2: it failed with exit code 1"]
    assert done.stdout.splitlines() == found
    assert "the third one fails" in done.stderr
