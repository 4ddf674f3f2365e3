"""What processes that were killed leave in a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from published import KEY, write_files

from pipeline.store import Store
from pipeline.store.owners import encode_owner, this_owner
from pipeline.system.processes import Process, this_process

DEAD = Process(this_process().space, 4_000_000_000, 1)
FOREIGN = Process("00000000", 1, 1)
"""Of another machine, or of another container of this one."""


def leave_session(store: Store, process: Process, name: str = "0" * 12, holds: str = "") -> Path:
    """A session file, as `process` wrote it; its path."""
    (store.root / "sessions").mkdir(parents=True, exist_ok=True)
    owner = replace(this_owner("earlier"), process=str(process), holds=(holds,) if holds else ())
    file = store.root / "sessions" / f"{name}.json"
    file.write_bytes(encode_owner(owner))
    return file


def leave_work(
    store: Store, process: Process, files: Mapping[str, bytes], session: str = "0" * 12
) -> Path:
    """A session, and its working folder of `convert`; the folder."""
    leave_session(store, process, session)
    folder = store.root / "work" / f"convert-{KEY}-{session}"
    write_files(folder, files)
    return folder
