"""Real limits instead of faults that are played: small file systems, file sizes, open files."""

from __future__ import annotations

import ctypes
import os
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.calls import Call, Judge
from tests.faults.disk_faults import complete, unclear
from tests.faults.promises import broken_at_any_instant, written_outside
from tests.faults.scene import Place, Scene
from tests.faults.tally import Tally
from tests.faults.warm import Ended, Orders, Running

CLONE_NEWNS = 0x20000
MS_REMOUNT, MS_REC, MS_PRIVATE = 0x20, 0x4000, 0x40000
TMPFS_BYTES = 192 << 20
BALLAST = "ballast"
MOST_LEFT_BYTES = 3_000_000

_libc = ctypes.CDLL(None, use_errno=True)


def why_no_mounts() -> str | None:
    """Make mounts of this process invisible to others; why that cannot be done, or None."""
    if _libc.unshare(CLONE_NEWNS) != 0:
        return f"no file system can be mounted: {os.strerror(ctypes.get_errno())}"
    if _libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        return f"no file system can be mounted: {os.strerror(ctypes.get_errno())}"
    return None


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """A tmpfs with such options in a folder, as long as the context lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount(folder, 0, options)
    try:
        yield
    finally:
        _libc.umount2(os.fsencode(folder), 2)  # MNT_DETACH


def _mount(folder: Path, flags: int, options: str) -> None:
    if _libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options.encode()) != 0:
        failed = ctypes.get_errno()
        raise OSError(failed, os.strerror(failed), str(folder))


def filling_at(number: int, disk: Path, left_bytes: int) -> Judge:
    """At that call, a file appears on the disk that leaves so many bytes free."""

    def decide(call: Call) -> None:
        if call.number == number:
            free = os.statvfs(disk)
            size = free.f_bavail * free.f_frsize - left_bytes
            with (disk / BALLAST).open("wb") as ballast:
                os.posix_fallocate(ballast.fileno(), 0, max(size, 1))

    return decide


def disk_fills(scene: Scene, place: Place, chance: random.Random, tally: Tally, name: str) -> None:
    """The store's disk is full from a random call on; then there is room again."""
    call, left = chance.randint(1, scene.reference.calls), chance.randint(0, MOST_LEFT_BYTES)
    where = f"{name}, {left:,} bytes left from call {call} on"
    with small_disk(place.store, f"size={TMPFS_BYTES}"):
        orders = Orders(filling_at(call, place.store, left), place.folder)
        ended = Running(place.job(scene), orders).wait()
        (place.store / BALLAST).unlink(missing_ok=True)
        _judge(scene, place, ended, {7}, tally, where)
        complete(scene, place, tally, where)


def names_run_out(
    scene: Scene, place: Place, chance: random.Random, tally: Tally, name: str
) -> None:
    """The store's disk takes so many files and no more; then more of them."""
    inodes = chance.randint(2, 80)
    where = f"{name}, {inodes} inodes"
    with small_disk(place.store, f"size={TMPFS_BYTES},nr_inodes={inodes}"):
        ended = Running(place.job(scene), Orders(lambda call: None, place.folder)).wait()
        _judge(scene, place, ended, {7}, tally, where)
        _mount(place.store, MS_REMOUNT, f"size={TMPFS_BYTES},nr_inodes=100000")
        complete(scene, place, tally, where)


def files_too_large(
    scene: Scene, place: Place, chance: random.Random, tally: Tally, name: str
) -> None:
    """No file may be larger than that, but what the run says must fit."""
    size = chance.choice([chance.randint(9_000, 60_000), chance.randint(60_000, 2_500_000)])
    limits = {resource.RLIMIT_FSIZE: size}
    _limited(scene, place, limits, {4, 7}, tally, f"{name}, files of {size:,} bytes at most")


def too_many_open_files(
    scene: Scene, place: Place, chance: random.Random, tally: Tally, name: str
) -> None:
    """No more files may be open at a time."""
    number = chance.randint(5, 24)
    limits = {resource.RLIMIT_NOFILE: number}
    _limited(scene, place, limits, {4, 7}, tally, f"{name}, {number} open files at most")


def _limited(
    scene: Scene, place: Place, limits: dict[int, int], codes: set[int], tally: Tally, where: str
) -> None:
    ended = Running(place.job(scene, limits=limits)).wait()
    _judge(scene, place, ended, codes, tally, where)
    complete(scene, place, tally, where)


def _judge(
    scene: Scene, place: Place, ended: Ended, codes: set[int], tally: Tally, where: str
) -> None:
    found = broken_at_any_instant(scene, place) + unclear(ended, codes)
    if ended.trace is not None:
        found += written_outside(place, ended.trace)
    tally.violated(where, found)
    tally.count("limits")
    tally.count("runs that succeeded all the same" if ended.code == 0 else "clear errors")


def campaign(scene: Scene, rounds: int, tally: Tally) -> None:
    """The kinds of limits in turn; those that need mounts are left out where there are none."""
    chance = tally.chance()
    kinds = [files_too_large, too_many_open_files]
    why = why_no_mounts() or (None if scene.reference.calls else "nothing can be traced")
    if why is None:
        kinds += [disk_fills, names_run_out]
    else:
        tally.skip("small file systems", why)
    for number in range(rounds):
        place = scene.new_place(f"limit-{number}")
        kind = kinds[number % len(kinds)]
        before = len(tally.violations)
        kind(scene, place, chance, tally, f"limit-{number}, {kind.__name__}")
        if len(tally.violations) == before:
            scene.forget(place)
