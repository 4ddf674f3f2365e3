"""What `cache` answers, for machines and for people."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from pipeline.artifact import Json
from pipeline.console import format_bytes, table
from pipeline.store.catalogue import Entry, disk_bytes
from pipeline.store.checking import Checked
from pipeline.store.collection import Collected
from pipeline.wording import counted

ASKED_NOT = "nobody asked for it"
"""Why a damaged artifact is not deleted without `--delete`."""

KEY_LETTERS = 12
FEW_LETTERS = 4
"""Enough to tell the inputs of one artifact from those of another."""


def listing_document(root: Path, entries: Sequence[Entry]) -> dict[str, Json]:
    """All artifacts; `disk_bytes` counts what hard links share once."""
    return {
        "store": str(root),
        "num_artifacts": len(entries),
        "disk_bytes": disk_bytes(entries),
        "artifacts": [_entry_document(entry) for entry in entries],
    }


def listing_text(document: Mapping[str, Json]) -> str:
    """A table, the artifacts used last at its end."""
    entries = document["artifacts"]
    total = f"{_artifacts(document)}, {format_bytes(document['disk_bytes'])} on disk"
    head = f"{document['store']}: {total}"
    if not entries:
        return head
    rows = [("artifact", "size", "used", "recipes", "made of", "needed by")]
    rows += [
        (
            _short(entry["name"]),
            format_bytes(entry["size_bytes"]),
            _ago(entry["last_used"]),
            ", ".join(entry["recipes"]) or "-",
            _names(entry["inputs"]),
            _needed_by(entry),
        )
        for entry in entries
    ]
    faults = [f"  {_short(e['name'])}: {e['fault']}" for e in entries if e["fault"]]
    return "\n".join([head, "", table(rows), *([""] if faults else []), *faults])


def collected_document(collected: Collected, *, dry_run: bool) -> dict[str, Json]:
    """What was deleted, or would be."""
    return {
        "dry_run": dry_run,
        "artifacts": [_entry_document(entry) for entry in collected.artifacts],
        "leftovers": [{"path": str(p), "size_bytes": size} for p, size in collected.leftovers],
        "refused": [{"path": str(p), "reason": reason} for p, reason in collected.refused],
        "disk_bytes": collected.disk_bytes,
    }


def collected_text(document: Mapping[str, Json]) -> str:
    """One line for each, and what is left."""
    verb = "would delete" if document["dry_run"] else "deleted"
    lines = [
        f"{verb} {_short(e['name'])}  {format_bytes(e['size_bytes'])}, used {_ago(e['last_used'])}"
        for e in document["artifacts"]
    ]
    lines += [
        f"{verb} {each['path']}  {format_bytes(each['size_bytes'])}, left by a process that ended"
        for each in document["leftovers"]
    ]
    lines += [f"not deleted: {each['path']}: {each['reason']}" for each in document["refused"]]
    left = f"artifacts left: {format_bytes(document['disk_bytes'])} on disk"
    lines = [*(lines or ["nothing to delete"]), left]
    if document["refused"]:
        lines += ["", "hint: see to owner, permissions and mount of the store, and run it again"]
    return "\n".join(lines)


def checked_document(checked: Sequence[Checked], kept: Mapping[str, str | None]) -> dict[str, Json]:
    """What was checked, and what is damaged; `kept` says why a damaged one is still there."""
    return {
        "num_artifacts": len(checked),
        "size_bytes": sum(each.entry.size_bytes for each in checked),
        "damaged": [
            {
                "stage": each.entry.stage,
                "key": each.entry.key,
                "path": str(each.entry.path),
                "faults": list(each.faults),
                "deleted": kept[each.entry.name] is None,
                "kept_because": kept[each.entry.name],
            }
            for each in checked
            if each.faults
        ],
    }


def checked_text(document: Mapping[str, Json]) -> str:
    """One line where all is well, else what is wrong with each."""
    size = format_bytes(document["size_bytes"])
    damaged = document["damaged"]
    if not damaged:
        return f"{_artifacts(document)}, {size}: every byte is as it was published"
    lines = [f"damaged: {len(damaged)} of {_artifacts(document)} ({size})"]
    for each in damaged:
        reason = each["kept_because"]
        state = f"not deleted: {reason}" if reason else "deleted"
        lines += ["", f"{each['path']} ({state})", *(f"  {fault}" for fault in each["faults"])]
    if any(each["kept_because"] == ASKED_NOT for each in damaged):
        lines += ["", "hint: `--delete` removes them; the next run makes them again"]
    return "\n".join(lines)


def _entry_document(entry: Entry) -> dict[str, Json]:
    document = asdict(entry)
    del document["blocks"]
    for name in ("created", "last_used"):
        moment = datetime.fromtimestamp(document[name], UTC)
        document[name] = moment.isoformat(timespec="seconds")
    derived = {"name": entry.name, "path": str(entry.path), "disk_bytes": disk_bytes([entry])}
    return document | derived


def _artifacts(document: Mapping[str, Json]) -> str:
    return counted(document["num_artifacts"], "artifact")


def _short(name: str, letters: int = KEY_LETTERS) -> str:
    stage, _, key = name.partition("/")
    return f"{stage}/{key[:letters]}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(_short(name, FEW_LETTERS) for name in names) or "-"


def _needed_by(entry: Mapping[str, Json]) -> str:
    stages = sorted({name.partition("/")[0] for name in entry["users"]})
    return ", ".join([*stages, *(["a process at work"] if entry["held"] else [])]) or "-"


def _ago(moment: str) -> str:
    """How long ago, in the largest fitting unit."""
    seconds = max(0.0, time.time() - datetime.fromisoformat(moment).timestamp())
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"
