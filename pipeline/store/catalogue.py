"""What a store holds: every artifact with its size, age, what it was made of and who needs it."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact import MANIFEST_NAME, Artifact, read_artifact
from pipeline.errors import LockedError, PipelineError, UsageError
from pipeline.files.folders import entries_below
from pipeline.store.owners import file_time, is_dead, read_owner, session_files

READS, READ_AGAIN_S = 5, 0.02
"""How often a session file that makes no sense is read, and the pause between."""

BLOCK_BYTES = 512
"""Unit of `st_blocks` (stat(2))."""

Inode = tuple[int, int]
"""Device and number: what two hard links share."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An artifact in a store. Times are seconds since 1970; `fault` says why it cannot be used.

    `inputs` and `users` are artifacts, `stage/key`: what it was made of, and what was made of it
    and is still there. `recipes` are names of recipes that ran with it here. `held` tells that a
    process at work may read it. `blocks` are the bytes on disk of each file, by inode.
    """

    stage: str
    key: str
    path: Path
    size_bytes: int
    created: float
    last_used: float
    inputs: tuple[str, ...]
    users: tuple[str, ...]
    recipes: tuple[str, ...]
    held: bool
    fault: str | None
    blocks: Mapping[Inode, int]

    @property
    def name(self) -> str:
        """`stage/key`, unique in a store."""
        return f"{self.stage}/{self.key}"

    @property
    def root(self) -> Path:
        """The store that it is in."""
        return self.path.parents[2]


def list_artifacts(root: Path) -> list[Entry]:
    """All artifacts of a store, those that were not used for longest first.

    One that is deleted meanwhile is left out. Raises OSError where a folder cannot be listed: what
    is in it would count as nothing.
    """
    found = dict(_opened(root))
    users: defaultdict[str, list[str]] = defaultdict(list)
    for name, (artifact, _) in found.items():
        for made_of in _inputs(artifact):
            users[made_of].append(name)
    recipes, held = recipes_by_artifact(root), held_names(root)
    entries = []
    for name, opened in found.items():
        is_held = held is None or name in held
        with suppress(FileNotFoundError):
            entries.append(_entry(root, name, *opened, users[name], recipes.get(name, ()), is_held))
    return sorted(entries, key=lambda entry: (entry.last_used, entry.created, entry.name))


def disk_bytes(entries: Iterable[Entry]) -> int:
    """Bytes on disk of these artifacts together; what hard links share counts once."""
    blocks: dict[Inode, int] = {}
    for entry in entries:
        blocks.update(entry.blocks)
    return sum(blocks.values())


def held_names(root: Path) -> frozenset[str] | None:
    """Artifacts that processes at work may read; None where one does not say what it needs."""
    names: set[str] = set()
    now = file_time(root)
    for file in session_files(root):
        if is_dead(file, now):
            continue
        holds = _holds(file)
        if holds is None:
            return None
        names.update(holds)
    return frozenset(names)


def _holds(file: Path) -> tuple[str, ...] | None:
    """What a living session needs. One that has not written anything yet needs nothing so far."""
    for _ in range(READS):
        owner = read_owner(file)
        if owner is not None:
            return owner.holds
        try:
            if file.stat().st_size == 0:
                return ()
        except FileNotFoundError:
            return ()
        except OSError:
            return None
        time.sleep(READ_AGAIN_S)  # it may be writing just now
    return None


def checked_held_names(root: Path) -> frozenset[str]:
    """As `held_names`. Raises LockedError where it is not known what must stay."""
    held = held_names(root)
    if held is None:
        raise LockedError(
            f"a process is at work in `{root}` that does not say what it needs",
            hint="wait until it has ended",
        )
    return held


def recipes_by_artifact(root: Path) -> dict[str, tuple[str, ...]]:
    """Names of the recipes whose run records name an artifact, sorted."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in (root / "runs").glob("[0-9]*.json"):
        try:
            record = json.loads(path.read_bytes())
            for stage in record["stages"]:
                found[f"{stage['stage']}/{stage['key']}"].add(str(record["name"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # a record of another version says nothing
    return {name: tuple(sorted(recipes)) for name, recipes in found.items()}


def find_entry(entries: Iterable[Entry], wanted: str) -> Entry:
    """The one artifact whose `stage/key`, key or stage begins so. Raises UsageError."""
    stage, _, key = wanted.rpartition("/")
    fitting = [
        entry
        for entry in entries
        if entry.key.startswith(key) and (not stage or entry.stage == stage)
    ]
    if len(fitting) == 1:
        return fitting[0]
    raise UsageError(
        f"{len(fitting) or 'no'} artifacts of this store begin with `{wanted}`",
        facts=[f"`{entry.name}`" for entry in fitting[:10]],
        hint="`trtllm-pack cache ls` lists them; write more of the key",
    )


def _opened(root: Path) -> Iterator[tuple[str, tuple[Artifact | None, str | None]]]:
    """Artifacts by `stage/key`, or why one cannot be used."""
    for path in _artifact_folders(root):
        name = f"{path.parent.name}/{path.name}"
        try:
            yield name, (read_artifact(path), None)
        except PipelineError as error:
            yield name, (None, "; ".join([error.message, *error.facts]))


def _artifact_folders(root: Path) -> Iterator[Path]:
    """In order. Raises OSError where they cannot be listed: that is not the same as none."""
    try:
        stages = sorted((root / "artifacts").iterdir())
    except FileNotFoundError:
        return
    for stage in stages:
        with suppress(NotADirectoryError):
            yield from (path for path in sorted(stage.iterdir()) if path.is_dir())


def _inputs(artifact: Artifact | None) -> tuple[str, ...]:
    if artifact is None:
        return ()
    return tuple(f"{stage}/{key}" for stage, key in sorted(artifact.manifest.inputs.items()))


def _entry(
    root: Path,
    name: str,
    artifact: Artifact | None,
    fault: str | None,
    users: Iterable[str],
    recipes: tuple[str, ...],
    held: bool,
) -> Entry:
    stage, _, key = name.partition("/")
    path = root / "artifacts" / stage / key
    states = [
        entry.stat(follow_symlinks=False)
        for entry in entries_below(path)
        if not entry.is_dir(follow_symlinks=False)
    ]
    manifest = path / MANIFEST_NAME
    created = (manifest if manifest.is_file() else path).stat().st_mtime
    use = root / "uses" / stage / key
    return Entry(
        stage=stage,
        key=key,
        path=path,
        size_bytes=sum(state.st_size for state in states),
        created=created,
        last_used=max(created, use.stat().st_mtime) if use.is_file() else created,
        inputs=_inputs(artifact),
        users=tuple(sorted(users)),
        recipes=recipes,
        held=held,
        fault=fault,
        blocks={(s.st_dev, s.st_ino): s.st_blocks * BLOCK_BYTES for s in states},
    )
