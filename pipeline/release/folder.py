"""The release folder: which artifact files go where, the generated files, and their digests."""

from __future__ import annotations

import hashlib
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
    SourceIdentity,
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
    inputs: Mapping[str, Artifact],
    *,
    name: str,
    recipe: Mapping[str, Json],
    tools: Mapping[str, str],
    progress: Progress,
) -> ReleaseManifest:
    """Place the files, write `README.md`, `manifest.json` and `SHA256SUMS`; hash each file once.

    `inputs` are the artifacts of all stages before, by stage. Raises OSError where the folder
    cannot be written.
    """
    chosen = choose_files(inputs)
    for release_name, path in chosen.items():
        place(path, folder / release_name)
    records: dict[str, dict[str, Json]] = {
        "attention": _read(chosen["engine/attention.json"]),
        "build": dict(inputs["build"].facts),
        "engine": _read(chosen["engine/config.json"]),
        "parity": _read(chosen["parity.json"]),
        "smoke": _read(chosen["smoke.json"]),
    }
    source, licence = _source_identity(inputs["download"]), find_licence(chosen)
    readme = render_readme(name, source, licence, records)
    (folder / README_NAME).write_bytes(readme.encode())
    extents = list_extents(folder)
    digests = digest_all(extents, progress)
    files = (
        ListedFile(path=path, size_bytes=extents[path].size_bytes, sha256=digests[path])
        for path in sorted(extents)
    )
    manifest = ReleaseManifest(
        format=1,
        name=name,
        recipe=recipe,
        lock=Lock(source=source, tools=tools),
        stage_keys={stage: artifact.key for stage, artifact in inputs.items()},
        licence=licence,
        files=tuple(files),
        **records,
    )
    _seal(folder, manifest, digests)
    return manifest


def _seal(folder: Path, manifest: ReleaseManifest, digests: Mapping[str, str]) -> None:
    """Write the two files that list the others."""
    data = encode(manifest)
    (folder / MANIFEST_NAME).write_bytes(data)
    sums = {**digests, MANIFEST_NAME: hashlib.sha256(data).hexdigest()}
    (folder / SUMS_NAME).write_bytes(encode_sums(sums))


def _source_identity(download: Artifact) -> SourceIdentity:
    """What the download stage said that it fetched."""
    facts = download.facts
    return SourceIdentity(
        kind=facts["kind"],
        repo=facts["repo"],
        commit=facts["commit"],
        files=tuple(
            ListedFile(path=file["name"], size_bytes=file["size_bytes"], sha256=file["sha256"])
            for file in facts["files"]
        ),
    )


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
