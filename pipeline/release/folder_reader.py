"""Lists a folder of others without following links: its files as byte ranges, and what is wrong."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.checkpoint.strict_json import printable
from pipeline.release.digests import Extent
from pipeline.release.tar_reader import MAX_ENTRIES, TarScan
from pipeline.sources.names import why_unsafe


def list_folder(path: Path) -> TarScan:
    """Files and folders below a folder, and entries that are neither, as faults. Raises OSError."""
    scan = TarScan()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(path / folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = f"{folder}{entry.name}"
                if len(scan.files) + len(scan.folders) + len(scan.faults) >= MAX_ENTRIES:
                    scan.faults.append(f"it has more than {MAX_ENTRIES} entries")
                    scan.complete = False
                    return scan
                if _add(scan, path, name, entry):
                    waiting.append(f"{name}/")
    return scan


def _add(scan: TarScan, path: Path, name: str, entry: os.DirEntry[str]) -> bool:
    """Note one entry; whether it is a folder that must be looked into."""
    state = entry.stat(follow_symlinks=False)
    unsafe = why_unsafe(name)
    if unsafe is not None:
        scan.faults.append(f"`{printable(name)}` is refused: the name {unsafe}")
    elif stat.S_ISREG(state.st_mode):
        scan.files[name] = Extent(path / name, 0, state.st_size)
    elif stat.S_ISDIR(state.st_mode):
        scan.folders.add(f"{name}/")
        return True
    else:
        scan.faults.append(f"`{printable(name)}` is neither a regular file nor a folder")
    return False
