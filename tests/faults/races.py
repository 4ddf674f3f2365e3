"""Several processes on one recipe and one store: one makes each artifact, the others wait."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.calls import Call, Fail, Kill, Verdict
from tests.faults.promises import broken_at_the_end
from tests.faults.scene import Place, Scene, read_tree
from tests.faults.tally import Tally
from tests.faults.warm import Ended, Orders, Running

WAIT_S = 600.0
SHARED = ("download", "convert", "verify", "build")
"""Stages that do not depend on the prompts of the smoke test."""

WAITED_FOR = ("convert", "build", "smoke", "package")
"""Stages that take long enough to be waited for."""


def made_by(ended: Sequence[Ended]) -> Counter[str]:
    """How many processes made each stage, of those that completed."""
    stages = [stage for each in ended for stage in json.loads(each.stdout)["stages"]]
    return Counter(stage["stage"] for stage in stages if not stage["reused"])


def same_recipe(scene: Scene, place: Place, processes: int, chance: random.Random) -> list[str]:
    """All on one recipe, into one output folder or one each: one build, equal releases."""
    apart = chance.random() < 0.5
    runs = []
    for number in range(processes):
        out = place.folder / "out" / f"release-{number}" if apart else None
        runs.append(Running(place.job(scene, "--json", name=f"job-{number}", out=out)))
        time.sleep(chance.choice([0.0, 0.0, 0.02, 0.2]))
    ended = [run.wait() for run in runs]
    found = _all_succeeded(ended)
    if found:
        return found
    outs = [place.folder / "out" / f"release-{n}" for n in range(processes)] if apart else []
    found = [f"`{out}` differs" for out in outs if read_tree(out) != scene.reference.out]
    for out in outs[1:]:
        shutil.rmtree(out)
    if outs:
        shutil.rmtree(place.out)
        outs[0].rename(place.out)
    twice = {stage: times for stage, times in made_by(ended).items() if times != 1}
    found += [f"made more than once: {twice}"] if twice else []
    return found + broken_at_the_end(scene, place)


def two_recipes(scene: Scene, place: Place, processes: int, chance: random.Random) -> list[str]:
    """Half of them with other prompts: what both need is made once, each release is right."""
    runs = []
    for number in range(processes):
        other = scene.made_of.earlier if number % 2 else ()
        out = place.folder / "out" / f"release-{number}"
        job = place.job(scene, *other, "--json", name=f"job-{number}", out=out)
        runs.append(Running(job))
        time.sleep(chance.choice([0.0, 0.05]))
    ended = [run.wait() for run in runs]
    found = _all_succeeded(ended)
    if found:
        return found
    made = made_by(ended)
    shared = scene.stages.intersection(SHARED)
    if any(made[stage] != 1 for stage in shared) or made["package"] != 2:
        found.append(f"not each made once: {dict(made)}")
    for number in range(processes):
        expected = scene.earlier if number % 2 else scene.reference.out
        if read_tree(place.folder / "out" / f"release-{number}") != expected:
            found.append(f"release {number} differs")
    return found


@dataclass(frozen=True, slots=True)
class Held:
    """A traced run that stands still at a call until it is told what becomes of it."""

    running: Running
    reached: int
    told: int

    def wait_until_there(self) -> bool:
        """Whether it came to that call; False where it ended before."""
        return os.read(self.reached, 1) == b"!"

    def end(self, verdict: bytes) -> None:
        """Let it go on (`g`) or kill it (`k`)."""
        os.write(self.told, verdict)
        os.close(self.told)
        os.close(self.reached)

    def process(self) -> str:
        """The number of the process that is traced."""
        pid = self.running.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]


def hold_in_stage(scene: Scene, place: Place, stage: str) -> Held:
    """Start a run that stands still once it writes in the working folder of a stage."""
    reached_read, reached_write = os.pipe()
    told_read, told_write = os.pipe()
    there = False

    def judge(call: Call) -> Verdict:
        nonlocal there
        at_work = any(f"/work/{stage}-" in path for path in call.paths) and call.kind == "write"
        if there or not at_work:
            return None
        there = True
        os.write(reached_write, b"!")
        return Kill() if os.read(told_read, 1) == b"k" else None

    job = place.job(scene, "--json", name="held")
    running = Running(job, Orders(judge, place.folder))
    os.close(reached_write)
    os.close(told_read)
    return Held(running, reached_read, told_write)


def the_builder_dies(
    scene: Scene, place: Place, processes: int, chance: random.Random
) -> list[str]:
    """Others wait for a process, and say for which; it is killed; one of them takes over."""
    stage = chance.choice(sorted(scene.stages.intersection(WAITED_FOR)))
    held = hold_in_stage(scene, place, stage)
    if not held.wait_until_there():
        return [f"the first run never wrote in `{stage}`, {held.running.wait().told()}"]
    holder = held.process()
    others = [
        Running(place.job(scene, "--json", name=f"job-{number}")) for number in range(processes - 1)
    ]
    found = _until(lambda: all("waiting for" in run.said() for run in others), "nobody waits")
    said = [_waiting_lines(run.said()) for run in others]
    if not any(re.search(rf"\b{holder}\b", " ".join(lines)) for lines in said):
        found.append(f"process {holder} holds `{stage}`, but nobody says so: {said}")
    held.end(b"k")
    first = held.running.wait()
    found += [] if first.code == -9 else [f"the first run was not killed, {first.told()}"]
    ended = [run.wait() for run in others]
    found += _all_succeeded(ended)
    if not found:
        made = made_by(ended)
        twice = {name: times for name, times in made.items() if times != 1}
        found += [f"made more than once after the kill: {twice}"] if twice else []
        found += [] if made[stage] == 1 else [f"nobody took over `{stage}`: {dict(made)}"]
        # What the dead one left is swept when the next run starts.
        found += _all_succeeded([Running(place.job(scene)).wait()])
        found += broken_at_the_end(scene, place)
    return found


def beside_deletion(scene: Scene, place: Place, processes: int, chance: random.Random) -> list[str]:
    """While `cache gc` runs again and again: what a run reads stays, and releases are right."""
    runs = [
        Running(place.job(scene, "--json", name=f"job-{number}"))
        for number in range(max(processes - 1, 1))
    ]
    found = []
    while any(run.is_alive() for run in runs):
        gc = place.command(*GC, "--store", str(place.store), name="gc")
        ended = Running(gc).wait()
        if ended.code not in {0, 8}:
            found.append(f"`cache gc` failed, {ended.told()}")
    ended_runs = [run.wait() for run in runs]
    found += _all_succeeded(ended_runs)
    if read_tree(place.out) != scene.reference.out:
        found.append("the release differs")
    found += _all_succeeded([Running(place.job(scene)).wait()])  # makes again what was deleted
    return found or broken_at_the_end(scene, place)


def some_die(scene: Scene, place: Place, processes: int, chance: random.Random) -> list[str]:
    """All but one of them are killed, at random calls of theirs; that one completes."""

    def killed_at(number: int) -> Orders:
        whole_tree = chance.random() < 0.8
        return Orders(
            lambda c: Kill(True, whole_tree) if c.number == number else None, place.folder
        )

    others = [
        Running(
            place.job(scene, "--json", name=f"job-{number}"),
            killed_at(chance.randint(1, scene.reference.calls)),
        )
        for number in range(processes - 1)
    ]
    survivor = Running(place.job(scene, "--json", name="survivor"))
    ended = [run.wait() for run in others]
    found = _all_succeeded([each for each in ended if each.code != -9])
    found += [
        f"`{name}` outlived it" for each in ended if each.trace for name in each.trace.outlived
    ]
    found += _all_succeeded([survivor.wait()])
    found += _all_succeeded([Running(place.job(scene)).wait()])  # sweeps what the dead ones left
    return found or broken_at_the_end(scene, place)


def without_locks(scene: Scene, place: Place, processes: int, chance: random.Random) -> list[str]:
    """On a file system that has no locks they may work twice, but what they publish is right."""
    orders = Orders(lambda call: Fail(errno.ENOLCK) if call.kind == "lock" else None, place.folder)
    outs = [place.folder / "out" / f"release-{number}" for number in range(processes)]
    runs = [
        Running(place.job(scene, "--json", name=f"job-{number}", out=out), orders)
        for number, out in enumerate(outs)
    ]
    found = _all_succeeded([run.wait() for run in runs])
    found += [
        f"`{out}` differs" for out in outs if found == [] and read_tree(out) != scene.reference.out
    ]
    for out in outs:
        shutil.rmtree(out, ignore_errors=True)
    found += _all_succeeded([Running(place.job(scene)).wait()])
    return found or broken_at_the_end(scene, place)


GC = ("cache", "gc", "--max-size", "1")
"""Asks for all that is not in use to be deleted."""

Race = Callable[[Scene, Place, int, random.Random], list[str]]
RACES: dict[str, Race] = {
    "same recipe": same_recipe,
    "two recipes": two_recipes,
    "the builder dies": the_builder_dies,
    "beside deletion": beside_deletion,
    "some die": some_die,
    "without locks": without_locks,
}
NEED_TRACER = ("the builder dies", "some die", "without locks")


def campaign(scene: Scene, rounds: int, processes: int, tally: Tally, *, traced: bool) -> None:
    """Races of two to `processes` processes, the kinds in turn; the last ones with all of them."""
    chance = tally.chance()
    kinds = [kind for kind in RACES if traced or kind not in NEED_TRACER]
    for number in range(rounds):
        kind = kinds[number % len(kinds)]
        crowd = processes if number >= rounds - len(kinds) else chance.randint(2, processes)
        place = scene.new_place(f"race-{number}")
        found = RACES[kind](scene, place, crowd, chance)
        tally.violated(f"race-{number}, {kind}, {crowd} processes", found)
        tally.count("races")
        tally.count("processes", crowd)
        if not found:
            tally.count(f"right ({kind})")
            scene.forget(place)


def _all_succeeded(ended: Sequence[Ended]) -> list[str]:
    return [f"a run failed, {each.told()}" for each in ended if each.code != 0]


def _waiting_lines(said: str) -> list[str]:
    return [line for line in said.splitlines() if "waiting for" in line]


def _until(condition: Callable[[], bool], otherwise: str) -> list[str]:
    end = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end:
            return [f"{otherwise} after {WAIT_S:.0f} s"]
        time.sleep(0.02)
    return []
