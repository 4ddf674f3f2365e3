"""Artifacts for tests, published by a real session of a real store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Artifact, Json, describe
from pipeline.store import Store

KEY = "ab" * 32


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def publish(
    store: Store,
    files: Mapping[str, bytes],
    key: str = KEY,
    *,
    stage: str = "convert",
    facts: Mapping[str, Json] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Artifact:
    """An artifact of these files."""
    given = {"download": "cd" * 32} if inputs is None else inputs
    with store.session() as session, session.working_folder(stage, key) as folder:
        write_files(folder, files)
        manifest = describe(folder, stage, key, given, {"num": 1} if facts is None else facts)
        return session.publish(folder, manifest)
