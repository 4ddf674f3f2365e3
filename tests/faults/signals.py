"""Signals that ask to end, at random instants and calls: the right exit code, one line, one
document, nothing left; and the next run goes on from there."""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults.calls import Call, Kill, Verdict
from tests.faults.kills import after_strike
from tests.faults.promises import broken_at_the_end
from tests.faults.scene import Place, Scene
from tests.faults.tally import Tally
from tests.faults.warm import Ended, Orders, Running

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
MODES = ("--json", "--quiet", "")
FOREIGN = ("Traceback (most", "Exception ignored", "Fatal Python error", "unexpected ")
"""What must not be said."""

END_S = 300.0
"""A signal ends a run at once, but for what it clears up; this is for a machine that is busy."""
MOST_SIGNALS = 30
"""In one round; then a run is left alone."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One signal to come: how it is sent, and when. `call` None: at an instant, in seconds."""

    number: signal.Signals
    how: str
    call: int | None = None
    after: bool = False
    instant_s: float = 0.0
    pause_s: float = 0.0
    is_fresh: bool = False

    def judge(self, call: Call) -> Verdict:
        """Send it at the call of that number."""
        if call.number != self.call:
            return None
        return Kill(self.after, self.how == "to the group", self.number)

    def told(self) -> str:
        """For people, so that it can be done again."""
        when = f"{self.instant_s:.3f} s after its start" if self.call is None else self._at_call()
        fresh = ", fresh" * self.is_fresh
        return f"{self.number.name} {self.how} {when}{fresh}"

    def _at_call(self) -> str:
        return f"{'after' if self.after else 'before'} call {self.call}"


def to_the_process(running: Running, wish: Wish) -> None:
    """To the process, whichever of its threads takes it."""
    running.send(wish.number)


def to_the_group(running: Running, wish: Wish) -> None:
    """As a terminal does."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, wish.number)


def to_a_thread(running: Running, wish: Wish) -> None:
    """To the thread that was started last: Python handles it in the first one all the same."""
    with suppress(OSError):
        threads = sorted(int(each.name) for each in Path(f"/proc/{running.pid}/task").iterdir())
        ctypes.CDLL(None).tgkill(running.pid, threads[-1], int(wish.number))


def twice(running: Running, wish: Wish) -> None:
    """Once more after a pause, shorter or longer than what counts as one wish."""
    running.send(wish.number)
    time.sleep(wish.pause_s)
    running.send(wish.number)


def after_a_stop(running: Running, wish: Wish) -> None:
    """Stopped as by Ctrl-Z, asked to end, and continued."""
    running.send(signal.SIGSTOP)
    running.send(wish.number)
    time.sleep(wish.pause_s)
    running.send(signal.SIGCONT)


HOWS: dict[str, Callable[[Running, Wish], None]] = {
    "to the process": to_the_process,
    "to the group": to_the_group,
    "to a thread": to_a_thread,
    "twice": twice,
    "after a stop": after_a_stop,
}


def random_wish(scene: Scene, chance: random.Random, traced: bool) -> Wish:
    """Half at calls, half at instants; of these every third in an interpreter of its own."""
    number = chance.choice(list(WORDS))
    if traced and chance.random() < 0.5:
        how = chance.choice(["to the process", "to the group"])
        call = chance.randint(1, scene.reference.calls)
        return Wish(number, how, call, after=chance.random() < 0.5)
    is_fresh = chance.random() < 0.33
    longest = scene.reference.seconds + 1.5 * is_fresh
    return Wish(
        number,
        chance.choice(list(HOWS)),
        instant_s=chance.uniform(0, longest),
        pause_s=chance.choice([0.0, 0.05, 0.3]),
        is_fresh=is_fresh,
    )


def ask(scene: Scene, place: Place, wish: Wish, mode: str) -> tuple[Ended, list[str]]:
    """One run that is asked to end, unless it ends before; what it did wrong if it did not end."""
    job = place.job(scene, *mode.split())
    if wish.call is not None:
        return Running(job, Orders(wish.judge, place.folder)).wait(), []
    running = Running(replace(job, is_fresh=wish.is_fresh))
    if not running.ends_within(wish.instant_s):
        HOWS[wish.how](running, wish)
    found = [] if running.ends_within(END_S) else [f"it did not end within {END_S:.0f} s"]
    if found:
        running.kill()
    return running.wait(), found


def amiss(ended: Ended, wish: Wish, mode: str) -> list[str]:
    """What is wrong with how a run ended that was asked to."""
    word, code = WORDS[wish.number], 128 + wish.number
    lines = ended.stderr.splitlines()
    if ended.code == -wish.number:  # before it took them over, or after it gave them back
        fine = not ended.stderr.strip() or _is_answer(ended, mode, None)
        return [] if fine else [f"ended by the system's default, {ended.told()}"]
    if ended.code == 1 and wish.is_fresh and _before_us(ended, wish):
        return []
    found = [f"`{each}` was said, {ended.told()}" for each in FOREIGN if each in ended.stderr]
    if ended.code not in {0, code}:
        found.append(f"expected {code}, {ended.told()}")
    elif ended.code == code and wish.how != "twice" and lines[-1:] != [word]:
        found.append(f"the last line is not `{word}`, {ended.told()}")
    if lines.count(word) > 1:
        found.append(f"said more than once, {ended.told()}")
    if wish.how != "twice" and not _is_answer(ended, mode, code):
        found.append(f"not one document: {ended.stdout[-300:]!r}")
    return found


def _before_us(ended: Ended, wish: Wish) -> bool:
    """Python's own end of a program that was interrupted before its first line."""
    return wish.number == signal.SIGINT and "/pipeline/" not in ended.stderr


def _is_answer(ended: Ended, mode: str, code: int | None) -> bool:
    """In JSON mode there is one document: that of the run, or that of the signal."""
    if mode != "--json":
        return True
    try:
        document = json.loads(ended.stdout)
    except ValueError:
        return False
    told = document.get("error", {"exit_code": code})["exit_code"]
    return code is None or told == code


def play_round(
    scene: Scene, place: Place, chance: random.Random, tally: Tally, traced: bool
) -> None:
    """Runs in one store, asked to end again and again until one completes; checks after each."""
    for number in range(1, MOST_SIGNALS + 1):
        wish, mode = random_wish(scene, chance, traced), chance.choice(MODES)
        if number == MOST_SIGNALS:
            wish = Wish(signal.SIGTERM, "to the process", instant_s=1e9)
        ended, found = ask(scene, place, wish, mode)
        where = f"{place.folder.name}, signal {number} ({wish.told()}, {mode or 'plain'})"
        left = [f"`{each}` was left" for each in place.temporary.rglob("*")]
        found += amiss(ended, wish, mode) + after_strike(scene, place, ended) + left
        tally.violated(where, found)
        if ended.code == 0:
            tally.count("completed runs")
            wrong = broken_at_the_end(scene, place)
            tally.violated(where, wrong)
            tally.count("equal digests", number=not wrong)
            return
        tally.count("signals")
        tally.count(f"exit code {ended.code}")


def campaign(scene: Scene, signals: int, tally: Tally, *, traced: bool) -> None:
    """Rounds until there were so many signals."""
    chance = tally.chance()
    number = 0
    while tally.counts["signals"] < signals:
        number += 1
        place = scene.new_place(f"signals-{number}")
        before = len(tally.violations)
        play_round(scene, place, chance, tally, traced)
        if len(tally.violations) == before:
            scene.forget(place)
