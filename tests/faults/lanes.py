"""A campaign on several processors: each lane is a process that plays its share in a folder of its
own, with chances of its own; what they counted is added up."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.tally import Tally

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


@dataclass(frozen=True, slots=True)
class Lane:
    """One of `lanes` that play side by side; the first has number 0."""

    number: int = 0
    lanes: int = 1

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"lane-{self.number}"

    def share(self, number: int) -> int:
        """Its part of so many rounds."""
        return number // self.lanes + (self.number < number % self.lanes)


def play_in_lanes(
    tally: Tally, lanes: int, folder: Path, play: Callable[[Lane, Tally], None]
) -> None:
    """Play in so many processes at a time, and add to the tally what they counted.

    A process for one lane, too: it has no children but the runs, and whatever it does to itself,
    such as taking a name space of mounts, ends with it. A lane that fails is a violation.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    living = {}
    try:
        for number in range(lanes):
            lane = Lane(number, lanes)
            pid = os.fork()
            if pid == 0:
                _be_lane(tally, lane, folder, play)
            living[pid] = lane
        while living:
            pid, status = os.wait()
            lane = living.pop(pid, None)
            if lane is not None:
                _add(tally, lane, folder, os.waitstatus_to_exitcode(status))
    finally:
        for pid in living:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _be_lane(tally: Tally, lane: Lane, folder: Path, play: Callable[[Lane, Tally], None]) -> None:
    """Play, write down what was counted, and end; orphans of the runs become ours, and are seen."""
    code = 1
    try:
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        own = Tally(tally.name, tally.seed, lane.number)
        play(lane, own)
        told = {"counts": own.counts, "violations": own.violations, "skipped": own.skipped}
        _told(lane, folder).write_text(json.dumps(told))
        code = 0
    except BaseException:  # noqa: BLE001 - the frames above belong to the parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _add(tally: Tally, lane: Lane, folder: Path, code: int) -> None:
    if code != 0:
        tally.violated(lane.name, [f"it failed with exit code {code}"])
        return
    told = json.loads(_told(lane, folder).read_text())
    tally.counts += Counter(told["counts"])
    tally.violations += told["violations"]
    tally.skipped += [each for each in told["skipped"] if each not in tally.skipped]


def _told(lane: Lane, folder: Path) -> Path:
    return folder / f"{lane.name}.json"
