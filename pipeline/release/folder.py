"""The release folder: which artifact files go where, the generated files, and their digests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Artifact, Json, place
from pipeline.checkpoint.huggingface import CONFIG_NAME, INDEX_NAME
from pipeline.progress import Progress
from pipeline.release.digests import SUMS_NAME, Extent, digest_all, encode_sums
from pipeline.release.manifest import (
    MANIFEST_NAME,
    Licence,
    ListedFile,
    Lock,
    ReleaseManifest,
    encode,
)
from pipeline.release.readme import README_NAME, render_readme
from pipeline.sources.listing import WEIGHT_SUFFIX
from pipeline.sources.selection import LICENCE_NAME

GENERATION_CONFIG_NAME = "generation_config.json"
RECORDS = {"convert": "ledger.json", "verify": "parity.json", "smoke": "smoke.json"}
"""Stage -> its record, which the release keeps at its top."""


def choose_files(inputs: Mapping[str, Artifact]) -> dict[str, Path]:
    """Release name -> artifact file. What the source has beyond weights, config and licence is its
    tokenizer: the download's allow-list leaves nothing else."""
    chosen = {}
    for name, path in _files(inputs["download"]).items():
        if name == INDEX_NAME or name.endswith(WEIGHT_SUFFIX):
            continue
        if name == CONFIG_NAME:
            chosen["source_config.json"] = path
        elif name == GENERATION_CONFIG_NAME or LICENCE_NAME.fullmatch(name):
            chosen[name] = path
        else:
            chosen[f"tokenizer/{name}"] = path
    for name, path in _files(inputs["build"]).items():
        chosen[f"engine/{name}"] = path
    for stage, name in RECORDS.items():
        chosen[name] = inputs[stage].path / name
    return chosen


def find_licence(names: Mapping[str, Path]) -> Licence:
    """The licence files among the release's top-level names."""
    files = tuple(sorted(name for name in names if LICENCE_NAME.fullmatch(name)))
    return Licence(files=files, status="from the source" if files else "not in the source")


def write_folder(
    folder: Path,
    chosen: Mapping[str, Path],
    *,
    name: str,
    recipe: Mapping[str, Json],
    lock: Lock,
    stage_keys: Mapping[str, str],
    progress: Progress,
) -> ReleaseManifest:
    """Place the files, write `README.md`, `manifest.json` and `SHA256SUMS`; hash each file once.

    Raises OSError where the folder cannot be written.
    """
    for release_name, path in chosen.items():
        place(path, folder / release_name)
    records = {
        "attention": _read(chosen["engine/attention.json"]),
        "engine": _read(chosen["engine/config.json"]),
        "parity": _read(chosen["parity.json"]),
        "smoke": _read(chosen["smoke.json"]),
    }
    licence = find_licence(chosen)
    _write(folder / README_NAME, render_readme(name, lock.source, licence, records).encode())
    extents = list_extents(folder)
    digests = digest_all(extents, progress)
    manifest = ReleaseManifest(
        format=1,
        name=name,
        recipe=recipe,
        lock=lock,
        stage_keys=stage_keys,
        licence=licence,
        files=tuple(
            ListedFile(path=path, size_bytes=extents[path].size_bytes, sha256=digests[path])
            for path in sorted(extents)
        ),
        **records,
    )
    _write(folder / MANIFEST_NAME, encode(manifest))
    digests |= digest_all({MANIFEST_NAME: _extent(folder, MANIFEST_NAME)}, progress)
    _write(folder / SUMS_NAME, encode_sums(digests))
    return manifest


def list_extents(folder: Path) -> dict[str, Extent]:
    """All files below a folder that we wrote, by relative name."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in paths]
    return {name: _extent(folder, name) for name in names}


def _extent(folder: Path, name: str) -> Extent:
    return Extent(folder / name, 0, (folder / name).stat().st_size)


def _files(artifact: Artifact) -> dict[str, Path]:
    return {entry.path: artifact.path / entry.path for entry in artifact.manifest.files}


def _read(path: Path) -> dict[str, Json]:
    document: dict[str, Json] = json.loads(path.read_bytes())
    return document


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
