"""Calls that fail as a full, broken or forbidden disk makes them: one, or all from there on."""

from __future__ import annotations

import errno
import random
import re
from dataclasses import dataclass

from tests.faults.calls import Call, Fail, Judge, Shorten, Trace, Verdict
from tests.faults.promises import broken_at_any_instant, broken_at_the_end, written_outside
from tests.faults.scene import Place, Scene
from tests.faults.tally import Tally
from tests.faults.warm import Ended, Orders, Running

GROWING = frozenset({"open", "write", "clone", "truncate", "rename", "link", "mkdir"})
CHANGING = frozenset({"open", "truncate", "rename", "link", "unlink", "mkdir", "mode"})
ANY = GROWING | CHANGING | {"sync"}

FAULTS = {
    errno.ENOSPC: GROWING | {"sync"},
    errno.EDQUOT: GROWING | {"sync"},
    errno.EIO: ANY,
    errno.EROFS: CHANGING,
    errno.EACCES: CHANGING,
    errno.EMFILE: frozenset({"open"}),
    errno.ENOMEM: ANY - {"write"},
    errno.EINTR: frozenset({"open", "write", "sync"}),
    errno.ENOLCK: frozenset({"lock"}),
    errno.EOPNOTSUPP: frozenset({"lock", "clone", "link"}),
}
"""Errno -> kinds of calls that return it, as the manual pages say."""

CODES = {
    errno.ENOSPC: {7},
    errno.EDQUOT: {7},
    errno.EIO: {4, 6},
    errno.EROFS: {4},
    errno.EACCES: {4},
    errno.EMFILE: {4, 7},
    errno.ENOMEM: {4, 7},
    errno.EINTR: {4},
    errno.ENOLCK: {4, 8},
    errno.EOPNOTSUPP: {4},
}
"""Errno -> exit codes that fit; 0 always does where the release is equal: another way was found."""


UNTOLD = "/profile_"
"""ONNX Runtime does not tell why it could not write its profile: it is found out afterwards."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The first fitting call from `call` on fails; where it `lasts`, all fitting ones after it too.

    `errno` None: a short write, of one byte.
    """

    call: int
    errno: int | None
    lasts: bool = False

    def judge(self) -> Judge:
        """Who decides about the calls of one run."""
        struck = False

        def decide(call: Call) -> Verdict:
            nonlocal struck
            if call.number < self.call or (struck and not self.lasts) or not self.fits(call):
                return None
            struck = True
            return Shorten(1) if self.errno is None else Fail(self.errno)

        return decide

    def fits(self, call: Call) -> bool:
        """Whether such a call can meet this fault at all."""
        if self.errno is None:
            return call.length is not None and call.length > 1
        return call.kind in FAULTS[self.errno]

    def met(self, trace: Trace) -> list[str]:
        """The names of the calls that met it."""
        result = 1 if self.errno is None else -self.errno
        calls = [call for call in trace.calls if call.number >= self.call and self.fits(call)]
        names = [call.name for call in calls if call.result == result]
        return names if self.lasts else names[:1]

    def told(self) -> str:
        """For people, so that it can be done again."""
        what = "a short write" if self.errno is None else errno.errorcode[self.errno]
        return f"{what} {'from' if self.lasts else 'at'} call {self.call}{' on' * self.lasts}"


def play_fault(scene: Scene, place: Place, fault: Fault) -> tuple[list[str], Ended]:
    """One run with a fault; what it breaks."""
    ended = Running(place.job(scene), Orders(fault.judge(), place.folder)).wait()
    assert ended.trace is not None
    found = broken_at_any_instant(scene, place) + written_outside(place, ended.trace)
    found += [f"`{each}` outlived the run" for each in ended.trace.outlived]
    if ended.trace.timed_out:
        found.append("the run did not end in time")
    return found + unclear(ended, _fitting(fault, ended.trace)), ended


def _fitting(fault: Fault, trace: Trace) -> set[int]:
    """The exit codes that fit a fault, beside 0."""
    if fault.errno is None:
        return set()
    if any(UNTOLD in call.paths[-1] and call.result == -fault.errno for call in trace.calls):
        return {4, 7}
    return CODES[fault.errno]


def unclear(ended: Ended, fitting: set[int]) -> list[str]:
    """What is amiss with how a run failed: exit code, one error, a hint, no traceback."""
    found = []
    if ended.code not in {0, *fitting}:
        found.append(f"expected one of {sorted(fitting)}, {ended.told()}")
    elif ended.code != 0:
        errors = re.findall(r"^error: ", ended.stderr, re.MULTILINE)
        if len(errors) != 1 or not re.search(r"^ *hint: .", ended.stderr, re.MULTILINE):
            found.append(f"no single error with a hint, {ended.told()}")
    if "Traceback (most" in ended.stderr:
        found.append(f"a traceback, {ended.told()}")
    return found


def complete(scene: Scene, place: Place, tally: Tally, where: str) -> None:
    """The run after faults: it must complete, and leave what an undisturbed one leaves."""
    ended = Running(place.job(scene)).wait()
    wrong = [] if ended.code == 0 else [f"the next run failed, {ended.told()}"]
    wrong = wrong or broken_at_the_end(scene, place)
    tally.violated(where, wrong)
    tally.count("clean continuations", number=not wrong)


def random_fault(scene: Scene, chance: random.Random) -> Fault:
    """Any call, any errno, every fifth one lasting; now and then a short write."""
    call = chance.randint(1, scene.reference.calls)
    if chance.random() < 0.08:
        return Fault(call, None)
    number = chance.choice(sorted(FAULTS))
    # A call that is interrupted for ever is no fault of a disk: Python asks again for ever.
    return Fault(call, number, lasts=number != errno.EINTR and chance.random() < 0.2)


def campaign(scene: Scene, faults: int, tally: Tally) -> None:
    """Rounds of one to three faults in one store, each round ended by a run that is left alone."""
    chance = tally.chance()
    number = 0
    while tally.counts["faults"] < faults:
        number += 1
        place = scene.new_place(f"disk-{number}")
        told: list[str] = []
        before = len(tally.violations)
        for _ in range(chance.randint(1, 3)):
            fault = random_fault(scene, chance)
            found, ended = play_fault(scene, place, fault)
            assert ended.trace is not None
            met = fault.met(ended.trace)
            told.append(f"{fault.told()} ({' '.join(sorted(set(met))) or 'met nothing'})")
            tally.violated(f"disk-{number}, {', then '.join(told)}", found)
            tally.count("faults", number=bool(met))
            if ended.code == 0:
                tally.count("runs that succeeded all the same", number=bool(met))
                break
            tally.count("clear errors", number=not found)
        complete(scene, place, tally, f"disk-{number}, {', then '.join(told)}")
        if len(tally.violations) == before:
            scene.forget(place)
