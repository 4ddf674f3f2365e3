"""What a release holds, as a folder or as a tar: its files as byte ranges, nothing extracted."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UsageError, VerificationError
from pipeline.release.digests import SUMS_NAME, Extent
from pipeline.release.manifest import MANIFEST_NAME, ReleaseManifest, decode
from pipeline.release.tar_reader import REPACKED_HINT, scan_tar


@dataclass(frozen=True, slots=True)
class Contents:
    """Files by relative name, folders (with a final `/`), and what is structurally wrong.

    `root` is the one folder that a tar holds; None for a release folder, which may be renamed.
    Not `complete`: a damaged tar could not be listed to its end.
    """

    path: Path
    root: str | None
    files: dict[str, Extent]
    folders: frozenset[str]
    faults: tuple[str, ...]
    complete: bool = True

    @property
    def form(self) -> str:
        """`folder` or `tar`."""
        return "folder" if self.root is None else "tar"


def is_release(path: Path) -> bool:
    """Whether a path looks like a release: a folder with its manifest or sums, or a tar."""
    if path.is_dir():
        return any((path / name).is_file() for name in (MANIFEST_NAME, SUMS_NAME))
    return path.suffix == ".tar"


def open_contents(path: Path) -> Contents:
    """List a release. Raises UsageError where nothing is there, VerificationError for others."""
    if not path.exists():
        raise UsageError(f"`{path}` does not exist", hint="name a release folder or its tar")
    if path.is_file():
        return _open_tar(path)
    if not is_release(path):
        inside = sorted(entry.name for entry in path.iterdir() if is_release(entry))
        raise VerificationError(
            f"`{path}` is not a release: it has no `{MANIFEST_NAME}`",
            hint=f"name `{path / inside[0]}`, which is inside it" if inside else None,
        )
    return _open_folder(path)


def read_manifest(path: Path) -> tuple[ReleaseManifest, Contents]:
    """The manifest alone; no other file is read. Raises VerificationError where it is damaged."""
    contents = open_contents(path)
    if contents.faults:
        raise VerificationError(f"`{path}` is not sound", facts=contents.faults, hint=REPACKED_HINT)
    if MANIFEST_NAME not in contents.files:
        raise VerificationError(f"`{path}` has no `{MANIFEST_NAME}`")
    return decode(contents.files[MANIFEST_NAME].read()), contents


def _open_tar(path: Path) -> Contents:
    scan = scan_tar(path)
    roots = Counter(name.partition("/")[0] for name in scan.files)
    # Where a name is damaged, the folder of the other files is the right one.
    root = roots.most_common(1)[0][0] if roots else ""
    faults = list(scan.faults)
    if len(roots) != 1 and not faults:
        faults.append(f"it has {len(roots)} entries at its top, expected one folder")
    prefix = f"{root}/"
    return Contents(
        path,
        root,
        {name.removeprefix(prefix): extent for name, extent in scan.files.items()},
        frozenset(name.removeprefix(prefix) for name in scan.folders if name != prefix),
        tuple(faults),
        scan.complete,
    )


def _open_folder(path: Path) -> Contents:
    files, folders, faults = {}, set(), []
    for entry in _walk(path):
        name = Path(entry.path).relative_to(path).as_posix()
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISREG(mode):
            size_bytes = entry.stat(follow_symlinks=False).st_size
            files[name] = Extent(path / name, 0, size_bytes)
        elif stat.S_ISDIR(mode):
            folders.add(f"{name}/")
        else:
            faults.append(f"`{name}` is neither a regular file nor a folder")
    return Contents(path, None, files, frozenset(folders), tuple(faults))


def _walk(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """All entries below a folder, sorted; links are not followed."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
