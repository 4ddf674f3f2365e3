"""What a loss of power would take: bytes and names that were not synced when they were published.

A kill loses nothing that was written, so this is read off the calls of a run: before a rename shows
a folder to others, every file in it and every folder must have been synced after its last change.
What is written through a memory map is no call, and not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tests.faults.calls import Call
from tests.faults.promises import written_outside
from tests.faults.scene import Place, Scene
from tests.faults.tally import Tally
from tests.faults.warm import Orders, Running

CONTENT = frozenset({"write", "clone", "truncate"})
NAMES = frozenset({"open", "mkdir", "link", "rename"})
"""Kinds of calls that give a folder another name; what comes back after a removal is no loss."""


@dataclass(slots=True)
class _Disk:
    """Paths whose bytes, and folders whose names, a loss of power might still take."""

    unsynced: set[str] = field(default_factory=set)

    def apply(self, call: Call) -> None:
        """What a call that succeeded changes."""
        if call.kind == "sync":
            self.unsynced.discard(call.paths[-1])
        elif call.kind in CONTENT:
            self.unsynced.add(call.paths[-1])
        elif call.kind in NAMES:
            self.unsynced |= {_parent(path) for path in call.paths[-1:]}
        if call.kind == "mkdir":
            self.unsynced.add(call.paths[0])
        elif call.kind == "unlink":
            self.unsynced.discard(call.paths[0])
        elif call.kind == "rename":
            self._move(*call.paths)

    def _move(self, source: str, target: str) -> None:
        """Everything below the old name is now below the new one."""
        moved = {path for path in self.unsynced if _is_at_or_below(path, source)}
        self.unsynced = (self.unsynced - moved) | {target + path[len(source) :] for path in moved}


def published_unsynced(
    calls: Sequence[Call], public: Iterable[str], final: bool = True
) -> tuple[int, list[str]]:
    """How many folders were renamed into the `public` ones, and what was not synced then.

    `final`: also what the public folders themselves lack at the end, the new names.
    """
    disk, shown, found = _Disk(), 0, []
    public = tuple(public)
    for call in calls:
        if call.result is not None and call.result < 0:
            continue
        disk.apply(call)
        if call.kind == "rename" and _parent(call.paths[1]) in public:
            shown += 1
            at_risk = sorted(p for p in disk.unsynced if _is_at_or_below(p, call.paths[1]))
            found += [f"`{path}` was not synced when it was published" for path in at_risk]
            disk.unsynced -= set(at_risk)
    if final:
        found += [f"the names in `{path}` were not synced" for path in disk.unsynced & {*public}]
    return shown, found


def campaign(scene: Scene, tally: Tally) -> None:
    """One undisturbed run into a fresh store, and one more that places an earlier release anew."""
    place = scene.new_place("power")
    for number in range(2):
        ended = Running(place.job(scene), Orders(lambda call: None, place.folder)).wait()
        assert ended.trace is not None
        shown, found = published_unsynced(ended.trace.calls, _public(place))
        found += [] if ended.code == 0 else [ended.told()]
        tally.violated(f"run {number + 1}", found + written_outside(place, ended.trace))
        tally.count("calls looked at", len(ended.trace.calls))
        tally.count("published folders", shown)
        scene.put_earlier(place)
    scene.forget(place)


def _public(place: Place) -> set[str]:
    stages = {str(path.parent) for path in place.store.glob("artifacts/*/*")}
    return {*stages, str(place.out.parent)}


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _is_at_or_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")
