"""What differs between two locks, as a document: for `lock` to print and for reviewers to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.artifact import Json
from pipeline.lock.document import Lock, LockedFile, LockedSource, encode
from pipeline.lock.reading import LockFile

Pair = tuple[LockedSource | None, LockedSource | None]
"""A source as it was locked and as it would be."""


def changes(old: LockFile | None, new: Lock) -> dict[str, Json]:
    """What the new lock changes: `sources`, `tools`, and whether only the spelling differs.

    A change is `added`, `removed` or `changed`, with what it was (`from`) and is (`to`).
    """
    before = () if old is None else old.lock.sources
    sources = [_source_change(*pair) for pair in _pairs(before, new.sources)]
    found = {
        "sources": [change for change in sources if change is not None],
        "tools": list(_all_tool_changes(None if old is None else old.lock, new)),
    }
    said = any(found.values())
    # A checkout may have turned the ends of lines, and turns them back when it commits.
    is_respelt = old is not None and old.data.replace(b"\r\n", b"\n") != encode(new)
    return {**found, "spelling": is_respelt and not said}


def is_changed(found: Mapping[str, Json]) -> bool:
    """Whether the lock file would be another one."""
    return any(found.values())


def _pairs(old: Sequence[LockedSource], new: Sequence[LockedSource]) -> list[Pair]:
    """What answers the same question; then what is of one repo or folder, asked otherwise."""
    before = {source.key: source for source in old}
    after = {source.key: source for source in new}
    pairs: list[Pair] = [(before[key], after[key]) for key in before.keys() & after.keys()]
    gone = [source for source in old if source.key not in after]
    for source in (source for source in new if source.key not in before):
        same = [each for each in gone if _origin(each) == _origin(source)]
        if same:
            gone.remove(same[0])
        pairs.append((same[0] if same else None, source))
    pairs += [(source, None) for source in gone]
    return sorted(pairs, key=lambda pair: (pair[1] or pair[0] or new[0]).key)


def _origin(source: LockedSource) -> Json:
    return source.asked.get("repo"), source.asked.get("path")


def _source_change(old: LockedSource | None, new: LockedSource | None) -> dict[str, Json] | None:
    if old == new:
        return None
    facts = {
        "asked": _both(old, new, lambda source: dict(source.asked)),
        "kind": _both(old, new, lambda source: source.kind),
        "commit": _both(old, new, lambda source: source.commit),
        "num_files": _both(old, new, lambda source: len(source.files)),
        "total_bytes": _both(old, new, lambda source: source.total_bytes),
    }
    files = list(_file_changes(old.files if old else (), new.files if new else ()))
    return {"change": _kind(old, new), **facts, "files": files}


def _file_changes(
    old: Sequence[LockedFile], new: Sequence[LockedFile]
) -> Iterator[dict[str, Json]]:
    before = {file.path: file for file in old}
    after = {file.path: file for file in new}
    for path in sorted(before.keys() | after.keys()):
        pair = before.get(path), after.get(path)
        if pair[0] != pair[1]:
            facts = _both(*pair, lambda file: file.model_dump(exclude={"path"}, exclude_none=True))
            yield {"change": _kind(*pair), "path": path, **facts}


def _all_tool_changes(old: Lock | None, new: Lock) -> Iterator[dict[str, Json]]:
    """Tools of ours first (`backend` is None), then those of each engine backend."""
    yield from _tool_changes(None, old.tools if old else {}, new.tools)
    before = old.build_tools if old else {}
    for backend in sorted(before.keys() | new.build_tools.keys()):
        yield from _tool_changes(backend, before.get(backend, {}), new.build_tools.get(backend, {}))


def _tool_changes(
    backend: str | None, old: Mapping[str, str], new: Mapping[str, str]
) -> Iterator[dict[str, Json]]:
    for name in sorted(old.keys() | new.keys()):
        pair = old.get(name), new.get(name)
        if pair[0] != pair[1]:
            yield {
                "change": _kind(*pair),
                "backend": backend,
                "name": name,
                "from": pair[0],
                "to": pair[1],
            }


def _both(old: Json, new: Json, fact: Json) -> dict[str, Json]:
    return {
        "from": None if old is None else fact(old),
        "to": None if new is None else fact(new),
    }


def _kind(old: object | None, new: object | None) -> str:
    return "added" if old is None else "removed" if new is None else "changed"
