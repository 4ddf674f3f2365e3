"""Store and release on file systems of other kinds: layers of an image, mount points, devices.

Where the release has to be replaced in its place, it may be no artifact for a moment; all else
holds as ever.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline.artifact import MANIFEST_NAME
from pipeline.placement.takedown import is_mark
from tests.faults.disk_faults import complete, unclear
from tests.faults.full_disks import TMPFS_BYTES, small_disk, why_no_mounts
from tests.faults.kills import random_blows, strike, strike_job
from tests.faults.promises import broken_at_any_instant
from tests.faults.scene import Place, Scene, read_tree
from tests.faults.tally import Tally

KILLS = 4
IMAGE_BYTES = 400 << 20
MAKERS = {
    "ext2": ("mkfs.ext2", "-q"),
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
    "vfat": ("mkfs.vfat",),
}
"""What makes a file system of a kind; kinds that this machine cannot make or mount are skipped."""


@contextmanager
def layered(folder: Path, lower: Path) -> Iterator[None]:
    """What is in `lower` seen in `folder` as what a container image brought along."""
    above = [lower.with_name(f"{lower.name}-{name}") for name in ("upper", "work")]
    for path in (folder, *above):
        path.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={above[0]},workdir={above[1]}"
    _run("mount", "-t", "overlay", "overlay", "-o", options, str(folder))
    try:
        yield
    finally:
        _run("umount", "-l", str(folder))
        for path in (lower, *above):
            shutil.rmtree(path)


@contextmanager
def disk_of(kind: str, folder: Path, image: Path) -> Iterator[None]:
    """An empty file system of a kind in a folder. Raises OSError where it cannot be had."""
    folder.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    try:
        _run(*MAKERS[kind], str(image))
        _run("mount", "-o", "loop", str(image), str(folder))
        shutil.rmtree(folder / "lost+found", ignore_errors=True)
        try:
            yield
        finally:
            _run("umount", "-l", str(folder))
    finally:
        image.unlink()


def image_layers(scene: Scene, place: Place, chance: random.Random, tally: Tally) -> None:
    """An image brought a finished store, and an earlier release in `--out`."""
    layers = place.folder.with_name(f"{place.folder.name}-layers")
    shutil.copytree(scene.folder / "undisturbed" / "store", layers / "store")
    shutil.copytree(scene.folder / "earlier" / "out", layers / "out")
    shutil.rmtree(place.out.parent)
    with ExitStack() as stack:
        stack.enter_context(layered(place.store, layers / "store"))
        stack.enter_context(layered(place.out.parent, layers / "out"))
        _kill_runs(scene, place, chance, tally)
        _kill_deletions(scene, place, chance, tally)
        complete(scene, place, tally, place.folder.name)
    shutil.rmtree(layers)


def mount_point(scene: Scene, place: Place, chance: random.Random, tally: Tally) -> None:
    """`--out` is a mount point, with the folder that mke2fs(8) makes in it."""
    with small_disk(place.out, f"size={TMPFS_BYTES}"):
        shutil.copytree(scene.folder / "earlier" / "out" / "release", place.out, dirs_exist_ok=True)
        _kill_runs(scene, place, chance, tally)


def two_devices(scene: Scene, place: Place, chance: random.Random, tally: Tally) -> None:
    """The release lies on another device than the store."""
    with small_disk(place.out.parent, f"size={TMPFS_BYTES}"):
        scene.put_earlier(place)
        _kill_runs(scene, place, chance, tally)


def other_kinds(scene: Scene, place: Place, chance: random.Random, tally: Tally) -> None:
    """The store on a file system of each kind that can be had here."""
    for kind in MAKERS:
        try:
            image = place.folder.with_suffix(f".{kind}")
            with disk_of(kind, place.store, image):
                scene.put_earlier(place)
                _kill_runs(scene, place, chance, tally)
                _kill_deletions(scene, place, chance, tally)
                complete(scene, place, tally, f"{place.folder.name}, {kind}")
                tally.count(f"on {kind}")
        except OSError as error:
            tally.skip(f"stores on {kind}", str(error))


Kind = Callable[[Scene, Place, random.Random, Tally], None]
KINDS: tuple[Kind, ...] = (image_layers, mount_point, two_devices, other_kinds)


def campaign(scene: Scene, rounds: int, tally: Tally) -> None:
    """All kinds, so many times; nothing where there are no mounts."""
    why = why_no_mounts()
    if why is not None:
        tally.skip("all", why)
        return
    chance = tally.chance()
    for number in range(rounds):
        kind = KINDS[number % len(KINDS)]
        place = scene.new_place(f"mounts-{number}-{kind.__name__}")
        before = len(tally.violations)
        kind(scene, place, chance, tally)
        tally.count("places")
        if len(tally.violations) == before:
            scene.forget(place)


def _kill_runs(scene: Scene, place: Place, chance: random.Random, tally: Tally) -> None:
    """Some runs are killed on their way, or done before; then one is left alone."""
    blows = random_blows(scene, chance, traced=scene.reference.calls > 0)
    for _ in range(KILLS):
        blow = next(blows)
        ended = strike(scene, place, blow)
        found = _broken(scene, place)
        if ended.code not in {0, -9}:
            found.append(f"it did not complete, {ended.told()}")
        tally.violated(f"{place.folder.name}, {blow.told()}", found)
        tally.count("kills", number=ended.code != 0)
    complete(scene, place, tally, place.folder.name)


def _broken(scene: Scene, place: Place) -> list[str]:
    """As ever, but for a release that is replaced in its place: the new one is put together there,
    in a hidden folder, and what has no manifest is no release."""
    found = broken_at_any_instant(scene, place)
    out = {name: digest for name, digest in read_tree(place.out).items() if name[0] != "."}
    if MANIFEST_NAME in out and out not in (scene.earlier, scene.reference.out):
        return found
    return [each for each in found if not each.startswith("the release in")]


def _kill_deletions(scene: Scene, place: Place, chance: random.Random, tally: Tally) -> None:
    """`cache gc` is killed on its way, then left alone: nothing of an artifact is left."""
    for left_alone in (*(False for _ in range(KILLS)), True):
        instant_s = 1e9 if left_alone else chance.uniform(0, 0.3)
        job = place.command("cache", "gc", "--max-size", "0", "--store", str(place.store))
        ended = strike_job(job, instant_s)
        found = [] if ended.code == -9 else unclear(ended, set())
        for folder in place.store.glob("artifacts/*/*"):
            names = {path.name for path in folder.iterdir()}
            if left_alone:
                found.append(f"`{folder}` is left")
            elif MANIFEST_NAME not in names and not any(map(is_mark, names)):
                found.append(f"`{folder}` is neither an artifact nor marked")
        tally.violated(f"{place.folder.name}, gc killed after {instant_s:.3f} s", found)
        tally.count("deletions", number=ended.code == 0)


def _run(*command: str) -> None:
    """Raises OSError where it fails, or is not there."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command[:4])}: {done.stderr.strip()[-200:]}")
