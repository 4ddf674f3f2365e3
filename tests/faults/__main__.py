"""`python -m tests.faults [CAMPAIGN...]`: kills, signals, faults of the disk, limits and races.

Each prints its counts; the exit code is 1 where something was violated. With the same seed and
number of lanes the same is tried again, as far as instants and schedulers allow.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults import disk_faults, durability, full_disks, kills, mounts, ptrace, races, signals
from tests.faults.lanes import Lane, play_in_lanes
from tests.faults.scene import RECIPES, Scene, make_scene, with_calls
from tests.faults.served import served
from tests.faults.tally import Tally
from tests.faults.warm import warm_up

MEMORY_DISK = Path("/dev/shm")
ROOM_BYTES = 2 << 30
"""Campaigns play in memory where there is so much of it free: a disk's own time proves nothing."""


@dataclass(frozen=True, slots=True)
class Playing:
    """A share of a campaign: in which scene and lane, with which options, counted where."""

    scene: Scene
    chosen: argparse.Namespace
    lane: Lane
    tally: Tally

    @property
    def traced(self) -> bool:
        """Whether runs can be traced on this machine."""
        return self.scene.reference.calls > 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("campaigns", nargs="*", default=list(CAMPAIGNS), metavar="CAMPAIGN")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--recipe", choices=RECIPES, default="cpu")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument(
        "--resume-each",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="after every kill a run must complete in a copy, too",
    )
    parser.add_argument("--signals", type=int, default=100)
    parser.add_argument("--placing-step", type=int, default=1, help="kill at every such call")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--limits", type=int, default=60)
    parser.add_argument("--mounts", type=int, default=8, help="places, of four kinds in turn")
    parser.add_argument("--races", type=int, default=24)
    parser.add_argument("--processes", type=int, default=8, help="at most, in a race")
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 1, help="side by side")
    parser.add_argument("--no-tracer", action="store_true", help="random instants alone")
    parser.add_argument("--folder", type=Path, help="where to play; kept")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.campaigns) - set(CAMPAIGNS))
    if unknown:
        parser.error(f"no campaign {', '.join(unknown)}; there are {', '.join(CAMPAIGNS)}")
    return chosen


def play_kills(play: Playing) -> None:
    """Kills of whole runs."""
    number, resume_each = play.lane.share(play.chosen.kills), play.chosen.resume_each
    kills.campaign(play.scene, number, play.tally, traced=play.traced, resume_each=resume_each)


def play_placing(play: Playing) -> None:
    """Kills while a release is placed."""
    if play.traced:
        step, lane = play.chosen.placing_step, play.lane
        first = step * (lane.number + 1)
        kills.every_call_of_placing(play.scene, play.tally, first, step * lane.lanes)


def play_signals(play: Playing) -> None:
    """Signals that ask to end."""
    number = play.lane.share(play.chosen.signals)
    signals.campaign(play.scene, number, play.tally, traced=play.traced)


def play_disk(play: Playing) -> None:
    """Faults of the disk, played."""
    if play.traced:
        disk_faults.campaign(play.scene, play.lane.share(play.chosen.faults), play.tally)


def play_limits(play: Playing) -> None:
    """Limits of the system, real ones."""
    full_disks.campaign(play.scene, play.lane.share(play.chosen.limits), play.tally)


def play_mounts(play: Playing) -> None:
    """File systems of other kinds."""
    mounts.campaign(play.scene, play.lane.share(play.chosen.mounts), play.tally)


def play_races(play: Playing) -> None:
    """Several processes."""
    chosen = play.chosen
    races.campaign(play.scene, chosen.races, chosen.processes, play.tally, traced=play.traced)


def play_power(play: Playing) -> None:
    """What a loss of power would take."""
    if play.traced:
        durability.campaign(play.scene, play.tally)


CAMPAIGNS: dict[str, Callable[[Playing], None]] = {
    "kills": play_kills,
    "placing": play_placing,
    "signals": play_signals,
    "power": play_power,
    "disk": play_disk,
    "races": play_races,
    "limits": play_limits,
    "mounts": play_mounts,
}
ALONE = {"power", "races"}
"""Not played side by side: a single run, and those that are several processes anyway."""


def main(arguments: Sequence[str]) -> int:
    """Play the campaigns one after another; 1 where anything was violated."""
    chosen = parse(arguments)
    recipe = RECIPES[chosen.recipe]
    why_not = "not asked for" if chosen.no_tracer else ptrace.why_not()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="faults-", dir=_roomy()))
    wrong = 1
    try:
        with served(recipe.hub) as environment:
            os.environ.update(environment)  # the hub client reads it as it is imported
            warm_up()
            scene = make_scene(folder, recipe, environment)
            scene = with_calls(scene) if why_not is None else scene
            wrong = sum(_play(name, scene, chosen, why_not) for name in chosen.campaigns)
    finally:
        if chosen.folder is None and not wrong:
            shutil.rmtree(folder)
        else:
            sys.stdout.write(f"what was played is kept in {folder}\n")
    return 1 if wrong else 0


def _play(name: str, scene: Scene, chosen: argparse.Namespace, why_not: str | None) -> int:
    """Play one campaign and print its counts; the number of violations."""
    tally = Tally(name, chosen.seed)
    if why_not is not None:
        tally.skip("what needs the tracer", why_not)

    def play(lane: Lane, own: Tally) -> None:
        CAMPAIGNS[name](Playing(replace(scene, lane=lane.name), chosen, lane, own))

    play_in_lanes(tally, 1 if name in ALONE else chosen.lanes, scene.folder, play)
    sys.stdout.write(tally.told() + "\n")
    sys.stdout.flush()
    return len(tally.violations)


def _roomy() -> Path:
    """A folder in memory, or `build/`, where the demo is too."""
    if os.access(MEMORY_DISK, os.W_OK) and shutil.disk_usage(MEMORY_DISK).free > ROOM_BYTES:
        return MEMORY_DISK
    build = Path("build")
    build.mkdir(exist_ok=True)
    return build.resolve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
