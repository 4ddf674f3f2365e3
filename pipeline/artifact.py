"""Artifacts: published folders and the manifests that describe them.

An artifact is written in a working folder and renamed into place when whole, so a reader finds
either nothing or all of it. Its identity is the key of the stage that made it.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import VerificationError
from pipeline.folders import entries_below
from pipeline.journal import JOURNAL_NAME
from pipeline.regular_files import read_small
from pipeline.system_errors import file_error

MANIFEST_NAME = "artifact.json"
FORMAT = 1

MAX_MANIFEST_BYTES = 64 << 20
"""Some 400,000 files; an artifact has a few dozen."""

MAX_SHOWN = 100
"""Faults in one error, and letters of a name that is refused."""

_BLAKE3 = re.compile("[0-9a-f]{64}")

READ_BYTES = 1 << 20

DAMAGED_HINT = "delete this folder and run again"

SETTLED_NS = 2_000_000_000
"""A file changed less than this ago may change again within one tick of its modification time."""

_DIGESTS: dict[tuple[int, ...], str] = {}
"""What this process has hashed, by device, inode, size and modification time."""

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


def digest_file(path: Path, advance: Callable[[int], None] = lambda _: None) -> str:
    """BLAKE3 of a file's bytes, in hex; `advance` is told of bytes read. Raises OSError.

    The file is read, not mapped: a disk that fails, or a file that gets shorter meanwhile, would
    end a process that has it mapped by a signal.
    """
    from blake3 import blake3

    digest, block = blake3(), memoryview(bytearray(READ_BYTES))
    with path.open("rb", buffering=0) as stream:
        while size := stream.readinto(block):
            digest.update(block[:size])
            advance(size)
    return digest.hexdigest()


def digest_once(path: Path) -> str:
    """BLAKE3 of a file's bytes, in hex; a file that did not change is read once by a process."""
    state = _state(path)
    if state not in _DIGESTS:
        digest = digest_file(path)
        if _state(path) != state:
            raise VerificationError(f"`{path}` changes while it is read")
        if time.time_ns() - state[-1] < SETTLED_NS:
            return digest
        _DIGESTS[state] = digest
    return _DIGESTS[state]


def _state(path: Path) -> tuple[int, ...]:
    """What would differ if a file had changed."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


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
    texts = (manifest.stage, manifest.key, *manifest.inputs.keys(), *manifest.inputs.values())
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
    more = len(amiss) - MAX_SHOWN
    if amiss:
        raise VerificationError(
            f"the artifact `{folder}` is damaged",
            facts=[*amiss[:MAX_SHOWN], *([f"and {more} more"] if more > 0 else [])],
            hint=DAMAGED_HINT,
        )


def check_digests(artifact: Artifact) -> None:
    """Raise VerificationError with every file whose bytes are not those that were published.

    Every reuse compares sizes alone; this reads all bytes, once by a process, for files that are
    about to be worked on, executed or handed out.
    """
    changed = []
    for entry in artifact.manifest.files:
        path = artifact.path / entry.path
        try:
            found = digest_once(path)
        except OSError as error:
            raise file_error(error, path, "cannot be read") from None
        if found != entry.blake3:
            changed.append(f"`{entry.path}` is changed: BLAKE3 {found}, expected {entry.blake3}")
    if changed:
        raise VerificationError(
            f"the artifact `{artifact.path}` is damaged",
            facts=changed,
            hint=DAMAGED_HINT,
        )
