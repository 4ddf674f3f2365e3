"""What tells that an artifact is as it was published, although nobody reads it.

Beside an artifact's last use (`uses/<stage>/<key>`) stand the modification times that its files had
when all their bytes were known: as it was published, or read whole. An artifact whose files have
these times and their sizes is reused at once; any other is read whole, and noted if it is sound:
what was copied without its times, what was written to, what was never noted here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.artifact import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    Artifact,
    check_digests,
    damaged,
    digest_json,
)
from pipeline.errors import VerificationError
from pipeline.files.durable import write_atomic
from pipeline.files.regular import read_small
from pipeline.progress import Progress
from pipeline.store.shared_folders import make_folder
from pipeline.system.refusals import file_error

UNITS_NS = (1, 100, 1_000, 10_000_000, 1_000_000_000, 2_000_000_000)
"""What file systems and archives count modification times in: ext4, NTFS, some network file
systems, exFAT, tar, FAT. A time that was copied to a coarser one is rounded down."""

OTHER_MANIFEST = f"`{MANIFEST_NAME}` is changed, its files are not"


@dataclass(frozen=True, slots=True)
class Proof:
    """How an artifact was: BLAKE3 in hex of what its manifest says, when each file in it was last
    modified, in ns since 1970."""

    manifest: str
    times: Mapping[str, int]


def take_proof(artifact: Artifact) -> Proof:
    """Of an artifact as it stands; whether its bytes are right is the caller's to know.

    Raises MachineError.
    """
    files = artifact.manifest.files
    try:
        times = {file.path: (artifact.path / file.path).lstat().st_mtime_ns for file in files}
    except OSError as error:
        raise file_error(error, error.filename or artifact.path, "cannot be read") from None
    return Proof(digest_json(asdict(artifact.manifest)), times)


def note_proof(root: Path, artifact: Artifact, proof: Proof) -> None:
    """Keep it in the store `root`; where that cannot be written, the next run reads all bytes."""
    with suppress(OSError):
        folder = make_folder(root, f"uses/{artifact.manifest.stage}")
        write_atomic(folder / artifact.key, json.dumps(asdict(proof), sort_keys=True).encode())


def prove(artifact: Artifact, roots: Sequence[Path], reading: Callable[[], Progress]) -> None:
    """Read an artifact whole, unless one of the stores `roots` has noted how its files are.

    The last of them then notes it. `reading` tells somebody that gigabytes are read. Raises
    VerificationError where a byte differs from what was published, MachineError.
    """
    found = take_proof(artifact)
    noted = _noted(artifact, roots)
    if _manifest_was_changed(found, noted):
        raise damaged(artifact.path, [OTHER_MANIFEST])
    of_this = [proof for proof in noted if proof.manifest == found.manifest]
    if any(_are_untouched(found.times, proof.times) for proof in of_this):
        return
    if of_this or not noted:
        progress = reading()
        progress.note("it is not known that its files are as they were published: reading them")
        progress.start("check", artifact.size_bytes)
        check_digests(artifact, progress.advance)
    # Else it was made anew since by another process, which has hashed all files: as if made here.
    note_proof(roots[-1], artifact, found)


def manifest_faults(artifact: Artifact, proof: Proof, root: Path) -> list[str]:
    """For people, that files are as they were noted in the store `root`, but not their manifest."""
    return [OTHER_MANIFEST] if _manifest_was_changed(proof, _noted(artifact, [root])) else []


def _manifest_was_changed(found: Proof, noted: Sequence[Proof]) -> bool:
    """Whether files are as they were noted, but never with this manifest."""
    same_files = [proof for proof in noted if _are_untouched(found.times, proof.times)]
    return bool(same_files) and all(proof.manifest != found.manifest for proof in same_files)


def _noted(artifact: Artifact, roots: Sequence[Path]) -> list[Proof]:
    return [proof for root in roots if (proof := _read_proof(root, artifact)) is not None]


def _read_proof(root: Path, artifact: Artifact) -> Proof | None:
    """What a store has noted; None where that is nothing, or makes no sense."""
    path = root / "uses" / artifact.manifest.stage / artifact.key
    try:
        proof = Proof(**json.loads(read_small(path, MAX_MANIFEST_BYTES)))
        times = {str(name): int(time) for name, time in proof.times.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, VerificationError):
        return None
    return Proof(str(proof.manifest), times)


def _are_untouched(found: Mapping[str, int], noted: Mapping[str, int]) -> bool:
    return found.keys() == noted.keys() and all(
        time in {noted[name] // unit * unit for unit in UNITS_NS} for name, time in found.items()
    )
