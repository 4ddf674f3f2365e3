"""Artifacts: published folders, the manifests that describe them, and the store that holds them.

An artifact is written in a working folder and renamed into place when whole, so a reader finds
either nothing or all of it. Its identity is the key of the stage that made it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import MachineError, ResourceError, UsageError, VerificationError

MANIFEST_NAME = "artifact.json"
FORMAT = 1

Json = Any
"""What `json` reads and writes; values are checked where they are used."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an artifact: relative POSIX path, size, BLAKE3 digest in hex."""

    path: str
    size_bytes: int
    blake3: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in an artifact, and from what it was made. Holds nothing that differs by run."""

    stage: str
    key: str
    inputs: Mapping[str, str]
    facts: Mapping[str, Json]
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A published folder and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def key(self) -> str:
        """The key of the stage that made it."""
        return self.manifest.key

    @property
    def facts(self) -> Mapping[str, Json]:
        """What the stage said about its work."""
        return self.manifest.facts

    @property
    def size_bytes(self) -> int:
        """Sum of the file sizes."""
        return sum(entry.size_bytes for entry in self.manifest.files)


def canonical_json(value: Json) -> bytes:
    """The one spelling of a JSON value: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def write_json(path: Path, value: Json) -> None:
    """Write a JSON file for people and tools: sorted, indented, one newline at the end."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def digest_json(value: Json) -> str:
    """BLAKE3 of the canonical JSON, in hex."""
    from blake3 import blake3

    return blake3(canonical_json(value)).hexdigest()


def digest_file(path: Path) -> str:
    """BLAKE3 of a file's bytes, in hex; memory-mapped, so flat in memory."""
    from blake3 import blake3

    return blake3().update_mmap(path).hexdigest()


def list_files(folder: Path) -> list[str]:
    """Relative POSIX paths of all regular files below a folder, sorted; links are refused."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise VerificationError(f"`{path}` is a symbolic link; artifacts hold files only")
        if path.is_file():
            found.append(path.relative_to(folder).as_posix())
    return found


def is_inside(name: str) -> bool:
    """Whether a relative POSIX path stays in its folder by its spelling alone."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts


def describe(
    folder: Path, stage: str, key: str, inputs: Mapping[str, str], facts: Mapping[str, Json]
) -> Manifest:
    """The manifest of a folder as it stands, hashing every file once."""
    entries = tuple(
        FileEntry(name, (folder / name).stat().st_size, digest_file(folder / name))
        for name in list_files(folder)
        if name != MANIFEST_NAME
    )
    return Manifest(stage, key, dict(inputs), dict(facts), entries)


def read_artifact(folder: Path) -> Artifact:
    """Open a published folder. Raises VerificationError if it is not one, or a file is amiss."""
    path = folder / MANIFEST_NAME
    try:
        document = json.loads(path.read_bytes())
        files = tuple(FileEntry(**entry) for entry in document.pop("files"))
        if document.pop("format") != FORMAT:
            raise ValueError("unknown format")
        manifest = Manifest(**document, files=files)
    except FileNotFoundError:
        raise VerificationError(f"`{folder}` is not an artifact: no `{MANIFEST_NAME}`") from None
    except OSError as error:
        raise MachineError(
            f"`{path}` cannot be read: {error.strerror}",
            hint="check the permissions, or name another store by `--store`",
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise VerificationError(f"`{path}` is not a valid manifest: {error}") from None
    _check_sizes(folder, manifest)
    return Artifact(folder, manifest)


def _check_sizes(folder: Path, manifest: Manifest) -> None:
    """Cheap check of every reuse: each file is there with its size. Digests are `verify`'s job."""
    amiss = []
    for entry in manifest.files:
        if not is_inside(entry.path):
            raise VerificationError(f"the manifest of `{folder}` names `{entry.path}`, outside it")
        try:
            size_bytes = (folder / entry.path).stat().st_size
        except FileNotFoundError:
            amiss.append(f"`{entry.path}` is missing")
            continue
        if size_bytes != entry.size_bytes:
            amiss.append(f"`{entry.path}` has {size_bytes} bytes, expected {entry.size_bytes}")
    if amiss:
        raise VerificationError(
            f"the artifact `{folder}` is damaged",
            facts=amiss,
            hint="delete this folder and run again",
        )


def check_digests(artifact: Artifact) -> None:
    """Raise VerificationError with every file whose bytes are not those that were published.

    Every reuse compares sizes alone; this reads all bytes, for files that are about to be executed
    or handed out.
    """
    changed = [
        f"`{entry.path}` is changed: BLAKE3 {found}, expected {entry.blake3}"
        for entry in artifact.manifest.files
        if (found := digest_file(artifact.path / entry.path)) != entry.blake3
    ]
    if changed:
        raise VerificationError(
            f"the artifact `{artifact.path}` is damaged",
            facts=changed,
            hint="delete this folder and run again",
        )


def place(source: Path, target: Path) -> None:
    """Make `target` the same bytes as `source`: a hard link where possible, else a copy.

    Published files are read-only, so a shared inode is not a way to change the store.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def export(artifact: Artifact, out_dir: Path) -> None:
    """Place an artifact in a folder of the user's, whole or not at all.

    An earlier export in the same place is replaced. Raises UsageError where the folder holds
    something else, MachineError or ResourceError where it cannot be written.
    """
    try:
        if out_dir.exists() and any(out_dir.iterdir()) and not (out_dir / MANIFEST_NAME).is_file():
            raise UsageError(
                f"`{out_dir}` holds files that are not an earlier artifact",
                hint="name a new or empty folder by `--out`",
            )
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        _replace(artifact, out_dir)
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise (ResourceError if full else MachineError)(
            f"`{out_dir}` cannot be written: {error.strerror}",
            hint="the artifact is whole in the store; name another folder by `--out`",
        ) from None


def _replace(artifact: Artifact, out_dir: Path) -> None:
    """Place the artifact beside `out_dir`, then rename; nothing is left beside it."""
    fresh = out_dir.with_name(f".{out_dir.name}-{uuid.uuid4().hex[:8]}")
    stale = fresh.with_name(fresh.name + "-old")
    try:
        for name in [entry.path for entry in artifact.manifest.files] + [MANIFEST_NAME]:
            place(artifact.path / name, fresh / name)
        if out_dir.exists():
            out_dir.rename(stale)
        fresh.rename(out_dir)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(stale, ignore_errors=True)
