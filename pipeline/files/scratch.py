"""Temporary folders outside a store that tell whose they are, so that none is left for good.

Whoever makes one removes those of processes that have ended without doing so.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.system.processes import parse_process, this_process

_NAME = re.compile(r"trtllm-pack-([0-9a-f]{8}-\d+-\d+)-[0-9a-f]{4}")

SOCKET_FOLDER_BYTES = 64
"""For the path of a folder that holds sockets, whose own paths may have 107 bytes (Linux,
unix(7)): Open MPI needs some 40 below it."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of this process alone; gone at the end of the block."""
    folder = scratch_path()
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def scratch_path(longest_bytes: int | None = None) -> Path:
    """A path for a new folder; with a limit, in a folder whose own path is short enough for it.

    Those of dead processes beside it are removed.
    """
    name = f"trtllm-pack-{this_process()}-{uuid.uuid4().hex[:4]}"
    paths = [root / name for root in _roots()]
    fitting = [p for p in paths if longest_bytes is None or len(os.fsencode(p)) <= longest_bytes]
    path = (fitting or paths)[0]
    sweep(path.parent)
    return path


def sweep(root: Path) -> None:
    """Remove the folders of this user's dead processes in a temporary folder."""
    with suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            found = _NAME.fullmatch(entry.name)
            owner = parse_process(found[1]) if found else None
            if owner is not None and owner.is_dead() and _is_ours(entry):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    stat = entry.stat(follow_symlinks=False)
    return entry.is_dir(follow_symlinks=False) and stat.st_uid == os.getuid()


def _roots() -> list[Path]:
    """Where temporary files go now, as a stage has its own place; then the user's, the system's."""
    now = Path(tempfile.gettempdir()).absolute()
    others = [os.environ.get("TMPDIR", ""), "/tmp"]  # noqa: S108 - only where it is the shortest
    usable = [Path(root) for root in others if root and os.access(root, os.W_OK | os.X_OK)]
    return [now, *(root for root in usable if root.is_absolute())]
