"""Reads every byte of a store and compares it with what was published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact import MANIFEST_NAME, changes, list_files, read_artifact
from pipeline.errors import PipelineError
from pipeline.files.digests import digest_file
from pipeline.progress import Progress
from pipeline.store.catalogue import Entry
from pipeline.store.proofs import manifest_faults, note_proof, take_proof


@dataclass(frozen=True, slots=True)
class Checked:
    """An artifact, and what is wrong with it; no faults: it is as it was published."""

    entry: Entry
    faults: tuple[str, ...]


def check_artifacts(entries: Sequence[Entry], progress: Progress) -> list[Checked]:
    """Check artifacts, all bytes of each; what this process or an earlier one has read counts not.

    That one is sound is noted, so that a run does not read it again (see `proofs`).
    An artifact that is deleted meanwhile is left out.
    """
    progress.start("check", sum(entry.size_bytes for entry in entries))
    found = []
    for entry in entries:
        faults = _faults(entry, progress)
        if faults and not entry.path.exists():
            continue
        found.append(Checked(entry, tuple(faults)))
    return found


def _faults(entry: Entry, progress: Progress) -> list[str]:
    try:
        artifact = read_artifact(entry.path)
        proof = take_proof(artifact)
    except PipelineError as error:
        return [error.message, *error.facts]
    manifest = artifact.manifest
    faults = manifest_faults(artifact, proof, entry.root)
    if (manifest.stage, manifest.key) != (entry.stage, entry.key):
        faults.append(f"its manifest is that of `{manifest.stage}/{manifest.key}`")
    for file in manifest.files:
        try:
            faults += changes(file, digest_file(entry.path / file.path, progress.advance))
        except OSError as error:
            faults.append(f"`{file.path}` cannot be read: {error.strerror}")
    faults += _extra(entry.path, {file.path for file in manifest.files})
    if not faults:
        note_proof(entry.root, artifact, proof)
    return faults


def _extra(folder: Path, named: set[str]) -> list[str]:
    try:
        found = set(list_files(folder)) - {MANIFEST_NAME}
    except PipelineError as error:
        return [error.message]
    return [f"`{name}` is not in the manifest" for name in sorted(found - named)]
