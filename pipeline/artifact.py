"""Artifacts: published folders and the manifests that describe them.

An artifact is written in a working folder and renamed into place when whole, so a reader finds
either nothing or all of it. Its identity is the key of the stage that made it.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import VerificationError
from pipeline.files.digests import digest_once, no_advance
from pipeline.files.folders import entries_below
from pipeline.files.journal import JOURNAL_NAME
from pipeline.files.regular import read_small
from pipeline.system.refusals import file_error

MANIFEST_NAME = "artifact.json"
FORMAT = 1

MAX_MANIFEST_BYTES = 64 << 20
"""Some 400,000 files; an artifact has a few dozen."""

MAX_SHOWN = 100
"""Faults in one error, and letters of a name that is refused."""

_BLAKE3 = re.compile("[0-9a-f]{64}")

DAMAGED_HINT = "delete this folder and run again"

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
    """What is in an artifact, and from what it was made. Holds nothing that differs by run.

    `made_by` is each stage whose work is in it, its own and those of its inputs, with the versions
    of that stage's tools. It is no part of the key, and empty in artifacts of older versions.
    """

    stage: str
    key: str
    inputs: Mapping[str, str]
    facts: Mapping[str, Json]
    files: tuple[FileEntry, ...]
    made_by: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


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
    """Write a JSON file for people and tools, see `encode_json`. Raises OSError."""
    path.write_bytes(encode_json(value))


def encode_json(value: Json) -> bytes:
    """JSON for people and tools: sorted, indented, one newline at the end."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False)
    return f"{text}\n".encode()


def digest_json(value: Json) -> str:
    """BLAKE3 of the canonical JSON, in hex."""
    from blake3 import blake3

    return blake3(canonical_json(value)).hexdigest()


def list_files(folder: Path) -> list[str]:
    """Relative POSIX paths of all regular files below a folder, sorted; links are refused."""
    found = []
    for entry in entries_below(folder):
        if entry.is_symlink():
            raise VerificationError(f"`{entry.path}` is a symbolic link; artifacts hold files only")
        if entry.is_file():
            found.append(Path(entry.path).relative_to(folder).as_posix())
    return found


def is_inside(name: str) -> bool:
    """Whether a relative POSIX path stays in its folder by its spelling alone."""
    path = PurePosixPath(name)
    is_below = not path.is_absolute() and ".." not in path.parts
    return is_below and name.isprintable() and path.name != ""


def describe(
    folder: Path, stage: str, key: str, inputs: Mapping[str, str], facts: Mapping[str, Json]
) -> Manifest:
    """The manifest of a folder as it stands, hashing every file once."""
    entries = tuple(
        FileEntry(name, (folder / name).stat().st_size, digest_once(folder / name))
        for name in list_files(folder)
        if name not in {MANIFEST_NAME, JOURNAL_NAME}
    )
    return Manifest(stage, key, dict(inputs), dict(facts), entries)


def read_artifact(folder: Path) -> Artifact:
    """Open a published folder. Raises VerificationError if it is not one, or a file is amiss."""
    path = folder / MANIFEST_NAME
    try:
        manifest = _decode(read_small(path, MAX_MANIFEST_BYTES))
    except FileNotFoundError:
        raise VerificationError(f"`{folder}` is not an artifact: no `{MANIFEST_NAME}`") from None
    except OSError as error:
        hint = "check the permissions, or name another store by `--store`"
        raise file_error(error, path, "cannot be read", hint) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise VerificationError(
            f"`{path}` is not a valid manifest: {str(error)[:200]}", hint=DAMAGED_HINT
        ) from None
    _check_sizes(folder, manifest)
    return Artifact(folder, manifest)


def _decode(data: bytes) -> Manifest:
    """Read `artifact.json`: every value is of its type. Raises what `json` and a bad type raise."""
    document = json.loads(data)
    entries = document.pop("files")
    if document.pop("format") != FORMAT:
        raise ValueError("unknown format")
    if not all(_is_entry(**entry) for entry in entries):
        raise ValueError("a file has no path, size or digest")
    files = tuple(FileEntry(**entry) for entry in entries)
    manifest = Manifest(**document, files=files)
    groups = (manifest.inputs, *manifest.made_by.values())
    texts = [text for group in groups for pair in group.items() for text in pair]
    texts += [manifest.stage, manifest.key]
    if not all(isinstance(text, str) for text in texts) or not isinstance(manifest.facts, dict):
        raise ValueError("a value is of a wrong type")
    if len({file.path for file in files}) != len(files):
        raise ValueError("a file is there twice")
    return manifest


def _is_entry(path: Json, size_bytes: Json, blake3: Json) -> bool:
    is_size = type(size_bytes) is int and size_bytes >= 0
    return isinstance(path, str) and is_size and _BLAKE3.fullmatch(blake3) is not None


def _check_sizes(folder: Path, manifest: Manifest) -> None:
    """Cheap check of every reuse: each file is there with its size. Digests are `verify`'s job."""
    amiss = []
    real = Path(os.path.realpath(folder))
    linked: dict[PurePosixPath, bool] = {}
    for entry in manifest.files:
        if not is_inside(entry.path):
            shown = ascii(entry.path[:MAX_SHOWN])[1:-1]
            raise VerificationError(f"the manifest of `{folder}` names `{shown}`, outside it")
        try:
            found = (folder / entry.path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            amiss.append(f"`{entry.path}` is missing")
            continue
        except OSError as error:
            amiss.append(f"`{entry.path}` cannot be looked at: {error.strerror}")
            continue
        size_bytes = found.st_size
        parent = PurePosixPath(entry.path).parent
        if parent not in linked:
            linked[parent] = Path(os.path.realpath(folder / parent)) != real / parent
        if linked[parent] or not stat.S_ISREG(found.st_mode):
            amiss.append(f"`{entry.path}` is not a regular file")
        elif size_bytes != entry.size_bytes:
            amiss.append(f"`{entry.path}` has {size_bytes} bytes, expected {entry.size_bytes}")
    if amiss:
        raise damaged(folder, amiss)


def changes(entry: FileEntry, digest: str) -> list[str]:
    """For people, that a file with this digest is not the one that was published; else nothing."""
    if digest == entry.blake3:
        return []
    return [f"`{entry.path}` is changed: BLAKE3 {digest}, expected {entry.blake3}"]


def check_digests(artifact: Artifact, advance: Callable[[int], None] = no_advance) -> None:
    """Raise VerificationError with every file whose bytes are not those that were published.

    All bytes are read, once by a process, of files that are about to be worked on, executed or
    handed out; `advance` is told of them. Raises MachineError where that fails.
    """
    changed = []
    for entry in artifact.manifest.files:
        path = artifact.path / entry.path
        try:
            changed += changes(entry, digest_once(path, advance))
        except OSError as error:
            raise file_error(error, path, "cannot be read") from None
    if changed:
        raise damaged(artifact.path, changed)


def damaged(folder: Path, facts: Sequence[str]) -> VerificationError:
    """The error of an artifact that is not as it was published."""
    more = len(facts) - MAX_SHOWN
    return VerificationError(
        f"the artifact `{folder}` is damaged",
        facts=[*facts[:MAX_SHOWN], *([f"and {more} more"] if more > 0 else [])],
        hint=DAMAGED_HINT,
    )
