"""`python -m tests.faults [CAMPAIGN...]`: kills, disk faults, limits and races, in their long form.

Each prints its counts; the exit code is 1 where something was violated. With the same seed the same
is tried again, in the same order, as far as instants and schedulers allow.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults import disk_faults, durability, full_disks, kills, ptrace, races
from tests.faults.scene import Scene, make_scene, with_calls
from tests.faults.tally import Tally
from tests.faults.warm import warm_up

PR_SET_CHILD_SUBREAPER = 36
MEMORY_DISK = Path("/dev/shm")
ROOM_BYTES = 2 << 30
"""Campaigns play in memory where there is so much of it free: a disk's own time proves nothing."""

RECIPES = {
    "cpu": ("--variant", "cpu"),
    "cpu-tp2": ("--variant", "cpu", "--set", "checkpoint.tp_size=2"),
    "tensorrt": (),
}
"""Options for the shipped recipe: ONNX Runtime for speed, two ranks, and a builder in a child."""


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
    parser.add_argument("--placing-step", type=int, default=1, help="kill at every such call")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--limits", type=int, default=60)
    parser.add_argument("--races", type=int, default=24)
    parser.add_argument("--processes", type=int, default=8, help="at most, in a race")
    parser.add_argument("--no-tracer", action="store_true", help="random instants alone")
    parser.add_argument("--folder", type=Path, help="where to play; kept")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.campaigns) - set(CAMPAIGNS))
    if unknown:
        parser.error(f"no campaign {', '.join(unknown)}; there are {', '.join(CAMPAIGNS)}")
    return chosen


def play_kills(scene: Scene, chosen: argparse.Namespace, tally: Tally) -> None:
    """Kills of whole runs."""
    traced = scene.reference.calls > 0
    kills.campaign(scene, chosen.kills, tally, traced=traced, resume_each=chosen.resume_each)


def play_placing(scene: Scene, chosen: argparse.Namespace, tally: Tally) -> None:
    """Kills while a release is placed."""
    if scene.reference.calls:
        kills.every_call_of_placing(scene, tally, chosen.placing_step)


def play_disk(scene: Scene, chosen: argparse.Namespace, tally: Tally) -> None:
    """Faults of the disk, played."""
    if scene.reference.calls:
        disk_faults.campaign(scene, chosen.faults, tally)


def play_limits(scene: Scene, chosen: argparse.Namespace, tally: Tally) -> None:
    """Limits of the system, real ones."""
    full_disks.campaign(scene, chosen.limits, tally)


def play_races(scene: Scene, chosen: argparse.Namespace, tally: Tally) -> None:
    """Several processes."""
    traced = scene.reference.calls > 0
    races.campaign(scene, chosen.races, chosen.processes, tally, traced=traced)


def play_power(scene: Scene, _chosen: argparse.Namespace, tally: Tally) -> None:
    """What a loss of power would take."""
    if scene.reference.calls:
        durability.campaign(scene, tally)


Campaign = Callable[[Scene, argparse.Namespace, Tally], None]
CAMPAIGNS: dict[str, Campaign] = {
    "kills": play_kills,
    "placing": play_placing,
    "power": play_power,
    "disk": play_disk,
    "races": play_races,
    "limits": play_limits,  # last: it takes a name space of mounts for itself
}


def main(arguments: Sequence[str]) -> int:
    """Play the campaigns one after another; 1 where anything was violated."""
    chosen = parse(arguments)
    warm_up()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans become ours, and are seen
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="faults-", dir=_roomy()))
    why_not = "not asked for" if chosen.no_tracer else ptrace.why_not()
    wrong = 0
    try:
        scene = make_scene(folder, RECIPES[chosen.recipe])
        scene = with_calls(scene) if why_not is None else scene
        for name in chosen.campaigns:
            tally = Tally(name, chosen.seed)
            if why_not is not None:
                tally.skip("what needs the tracer", why_not)
            CAMPAIGNS[name](scene, chosen, tally)
            sys.stdout.write(tally.told() + "\n")
            sys.stdout.flush()
            wrong += len(tally.violations)
    finally:
        if chosen.folder is None and not wrong:
            shutil.rmtree(folder)
        else:
            sys.stdout.write(f"what was played is kept in {folder}\n")
    return 1 if wrong else 0


def _roomy() -> Path:
    """A folder in memory, or `build/`, where the demo is too."""
    if os.access(MEMORY_DISK, os.W_OK) and shutil.disk_usage(MEMORY_DISK).free > ROOM_BYTES:
        return MEMORY_DISK
    build = Path("build")
    build.mkdir(exist_ok=True)
    return build.resolve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
