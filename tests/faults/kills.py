"""SIGKILL at random instants and at calls that change files, until the run completes after all."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.calls import Call, Kill, Verdict
from tests.faults.promises import broken_at_any_instant, broken_at_the_end, written_outside
from tests.faults.scene import Place, Scene
from tests.faults.tally import Tally
from tests.faults.warm import Ended, Job, Orders, Running

MOST_KILLS = 60
"""In one round; then a run is left alone."""
LEAST_ROUNDS = 2
"""However many kills one takes, which by the clock are more where the machine is busy."""
ORPHANS_END_S = 60.0


@dataclass(frozen=True, slots=True)
class Blow:
    """One kill to come: at a call (before or after it; the first process alone, or all), or at an
    instant, in seconds from the start, where `call` is None."""

    call: int | None
    after: bool = False
    whole_tree: bool = True
    instant_s: float = 0.0

    def judge(self, call: Call) -> Verdict:
        """Kill at the call of that number."""
        return Kill(self.after, self.whole_tree) if call.number == self.call else None

    def told(self) -> str:
        """For people, so that it can be done again."""
        if self.call is None:
            return f"killed {self.instant_s:.3f} s after its start"
        when = "after" if self.after else "before"
        return f"{'all' if self.whole_tree else 'the first process'} killed {when} call {self.call}"


def random_blows(scene: Scene, chance: random.Random, traced: bool) -> Iterator[Blow]:
    """Random calls and random instants, mixed; instants alone where nothing can be traced."""
    while True:
        if not traced or chance.random() < 0.3:
            yield Blow(None, instant_s=chance.uniform(0, scene.reference.seconds))
        else:
            call = chance.randint(1, scene.reference.calls)
            yield Blow(call, chance.random() < 0.5, chance.random() < 0.8)


def stepped_blows(scene: Scene, step: int) -> Iterator[Blow]:
    """The first run is killed at call `step`, the next at the call two steps on, and so forth."""
    number = 0
    while True:
        number += step
        yield Blow(number, after=number // step % 2 == 0)


def strike(scene: Scene, place: Place, blow: Blow, *more: str) -> Ended:
    """One run that is killed on its way, unless it ends before."""
    job = place.job(scene, *more)
    if blow.call is not None:
        return Running(job, Orders(blow.judge, place.folder)).wait()
    return strike_job(job, blow.instant_s)


def strike_job(job: Job, instant_s: float) -> Ended:
    """Any command, killed so many seconds after its start, unless it ends before."""
    running = Running(job)
    end = time.monotonic() + instant_s
    while time.monotonic() < end and running.is_alive():
        time.sleep(min(0.002, max(0.0, end - time.monotonic())))
    running.kill()
    return running.wait()


def play_round(
    scene: Scene, place: Place, blows: Iterator[Blow], tally: Tally, resume_each: bool
) -> None:
    """Runs in one store, killed again and again until one completes; checks after each.

    `resume_each`: after every kill, a run that is left alone must complete in a copy of the place.
    """
    for done, blow in enumerate(blows):
        where = f"{place.folder.name}, kill {done + 1} ({blow.told()})"
        if done == MOST_KILLS:
            blow = Blow(None, instant_s=1e9)
        ended = strike(scene, place, blow)
        tally.violated(where, after_strike(scene, place, ended))
        if ended.code == 0:
            tally.count("completed runs")
            wrong = broken_at_the_end(scene, place)
            tally.violated(where, wrong)
            tally.count("equal digests", number=not wrong)
            return
        if ended.code != -9:
            tally.violated(where, [f"it did not complete, {ended.told()}"])
            return
        tally.count("kills")
        if resume_each:
            wrong = _resumed(scene, place)
            tally.violated(f"{where}, then resumed", wrong)
            tally.count("resumed with an equal digest", number=not wrong)


def _resumed(scene: Scene, place: Place) -> list[str]:
    """What is wrong after a run in a copy of a place, as the kill left it."""
    copy = scene.copy_of(place)
    ended = Running(copy.job(scene)).wait()
    wrong = broken_at_the_end(scene, copy) if ended.code == 0 else [ended.told()]
    if not wrong:
        scene.forget(copy)
    return wrong


def after_strike(scene: Scene, place: Place, ended: Ended) -> list[str]:
    """What a run that was ended on its way has broken, and what outlived it."""
    found = broken_at_any_instant(scene, place) + orphans()
    if ended.trace is not None:
        found += written_outside(place, ended.trace)
        found += [f"`{each}` outlived the run" for each in ended.trace.outlived]
        if ended.trace.timed_out:
            found.append("the run did not end in time")
    return found


def orphans() -> list[str]:
    """What still runs after the group of a run was killed; this process adopts such processes."""
    end = time.monotonic() + ORPHANS_END_S
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        children = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
        if not children:
            return []
        if time.monotonic() > end:
            return [f"process {pid} outlived the run: {_command(pid)}" for pid in children]
        time.sleep(0.01)


def _command(pid: str) -> str:
    with suppress(OSError):
        return Path("/proc", pid, "cmdline").read_text().replace("\0", " ")
    return ""


def campaign(scene: Scene, kills: int, tally: Tally, *, traced: bool, resume_each: bool) -> None:
    """Rounds, and so many kills in all or more: random ones, and by steps of many sizes in turn."""
    chance = tally.chance()
    number = 0
    while tally.counts["kills"] < kills or number < LEAST_ROUNDS:
        number += 1
        place = scene.new_place(f"round-{number}")
        if traced and number % 4 == 0:
            step = chance.randint(max(scene.reference.calls // 30, 1), scene.reference.calls // 8)
            blows = stepped_blows(scene, step)
        else:
            blows = random_blows(scene, chance, traced)
        before = len(tally.violations)
        play_round(scene, place, blows, tally, resume_each)
        if len(tally.violations) == before:
            scene.forget(place)


def every_call_of_placing(scene: Scene, tally: Tally, first: int = 1, step: int = 1) -> None:
    """A finished store, an earlier release in place: killed at calls of placing the new one.

    At call `first`, and at each that is `step` further on.
    """
    place = scene.new_place("placing")
    done = Running(place.job(scene)).wait()
    tally.violated("placing", [] if done.code == 0 else [done.told()])
    number = first
    while True:
        scene.put_earlier(place)
        blow = Blow(number, after=number // step % 2 == 0)
        ended = strike(scene, place, blow)
        where = f"placing ({blow.told()})"
        tally.violated(where, after_strike(scene, place, ended))
        if ended.code == 0:
            break
        tally.count("kills while placing")
        number += step
    tally.violated("placing, at the end", broken_at_the_end(scene, place))
    scene.forget(place)
