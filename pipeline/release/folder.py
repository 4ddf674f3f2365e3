"""The release folder: which artifact files go where, the generated files, and their digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Artifact, Json
from pipeline.checkpoint.huggingface import CONFIG_NAME, INDEX_NAME
from pipeline.engines.attention_proof import PROOF_NAME
from pipeline.engines.engine import CONFIG_NAME as ENGINE_RECORD_NAME
from pipeline.placement.placing import place
from pipeline.progress import Progress
from pipeline.release.digests import SUMS_NAME, digest_all, encode_sums, list_extents
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
from pipeline.release.triton import ENGINE_CONFIG, triton_serving
from pipeline.release.triton_folder import write_repository
from pipeline.release.triton_readme import triton_section
from pipeline.sources.listing import WEIGHT_SUFFIX
from pipeline.sources.selection import CODE_SUFFIX, LICENCE_NAME, QUANTIZATION_NAMES

GENERATION_CONFIG_NAME = "generation_config.json"
RECORDS = {"convert": "ledger.json", "verify": "parity.json", "smoke": "smoke.json"}
"""Stage -> its record, which the release keeps at its top."""


def choose_files(inputs: Mapping[str, Artifact]) -> dict[str, Path]:
    """Release name -> artifact file. What the source has beyond weights, configs and licence is its
    tokenizer: the download's allow-list leaves nothing else."""
    chosen = {}
    for name, path in list_artifact_files(inputs["download"]).items():
        if name == INDEX_NAME or name.endswith(WEIGHT_SUFFIX) or name in QUANTIZATION_NAMES:
            continue
        if name.endswith(CODE_SUFFIX):  # executed for a comparison alone; a release has no code
            continue
        if name == CONFIG_NAME:
            chosen["source_config.json"] = path
        elif name == GENERATION_CONFIG_NAME or LICENCE_NAME.fullmatch(name):
            chosen[name] = path
        else:
            chosen[f"tokenizer/{name}"] = path
    for name, path in list_artifact_files(inputs["build"]).items():
        chosen[f"engine/{name}"] = path
    observed = inputs["smoke"].path / PROOF_NAME
    if observed.is_file():  # the build's proof, with what the smoke test's traced pass showed
        chosen[f"engine/{PROOF_NAME}"] = observed
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
    cannot be written, VerificationError where Triton is asked for and does not fit the engine.
    """
    chosen = choose_files(inputs)
    for release_name, path in chosen.items():
        place(path, folder / release_name)
    serving = triton_serving(recipe)
    if serving is not None:
        write_repository(folder, serving)
    records: dict[str, dict[str, Json]] = {
        "attention": _read(chosen[f"engine/{PROOF_NAME}"]),
        "build": dict(inputs["build"].facts),
        "engine": _read(chosen[f"engine/{ENGINE_RECORD_NAME}"]),
        "parity": _read(chosen["parity.json"]),
        "smoke": _read(chosen["smoke.json"]),
    }
    source, licence = source_identity(inputs["download"]), find_licence(chosen)
    served = "" if serving is None else triton_section(_read(chosen[ENGINE_CONFIG]), serving)
    readme = render_readme(name, source, licence, records, served)
    (folder / README_NAME).write_bytes(readme.encode())
    return seal(
        folder,
        name=name,
        recipe=recipe,
        tools=tools,
        source=source,
        licence=licence,
        stage_keys={stage: artifact.key for stage, artifact in inputs.items()},
        records=records,
        progress=progress,
    )


def seal(
    folder: Path,
    *,
    name: str,
    recipe: Mapping[str, Json],
    tools: Mapping[str, str],
    source: SourceIdentity,
    licence: Licence,
    stage_keys: Mapping[str, str],
    records: Mapping[str, Mapping[str, Json]],
    progress: Progress,
) -> ReleaseManifest:
    """Hash every file of the folder, and write the two files that list the others.

    `records` are the manifest's, by the names of its fields.
    """
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
        stage_keys=stage_keys,
        licence=licence,
        files=tuple(files),
        **records,
    )
    data = encode(manifest)
    (folder / MANIFEST_NAME).write_bytes(data)
    sums = {**digests, MANIFEST_NAME: hashlib.sha256(data).hexdigest()}
    (folder / SUMS_NAME).write_bytes(encode_sums(sums))
    return manifest


def source_identity(download: Artifact) -> SourceIdentity:
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


def list_artifact_files(artifact: Artifact) -> dict[str, Path]:
    """Every file of an artifact by its name there."""
    return {entry.path: artifact.path / entry.path for entry in artifact.manifest.files}


def _read(path: Path) -> dict[str, Json]:
    document: dict[str, Json] = json.loads(path.read_bytes())
    return document
