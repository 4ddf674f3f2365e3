"""The release manifest: from what a release was made, what is proved about it, and its files.

`manifest.json` is the root of a release: it digests itself (`manifest_sha256`), every other file is
listed in it, and `SHA256SUMS` follows from it. It holds nothing that differs between two runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from pipeline.artifact import Json, canonical_json
from pipeline.checkpoint.strict_json import Limits, listed, parse_object, printable
from pipeline.errors import VerificationError
from pipeline.recipe.schema import RecipeName
from pipeline.release.digests import MAX_RECORD_BYTES, SUMS_NAME
from pipeline.sources.names import why_unsafe

MANIFEST_NAME = "manifest.json"
FORMAT = 1

LIMITS = Limits(MAX_RECORD_BYTES, 1 << 20)
"""Of `manifest.json`, which has three items for every file."""
SELF_DIGEST = "manifest_sha256"

META_NAMES = frozenset({MANIFEST_NAME, SUMS_NAME})
"""The two files that list the others."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def _safe(name: str) -> str:
    reason = why_unsafe(name)
    if reason is not None:
        raise ValueError(f"the name {reason}")
    return name


class Part(BaseModel):
    """A part of the manifest: unknown keys are errors, values are never coerced or changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ListedFile(Part):
    """One file: relative POSIX path, size, SHA-256 in hex."""

    path: Annotated[str, AfterValidator(_safe)]
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class SourceIdentity(Part):
    """What the source checkpoint was. A local folder is its files: its place says nothing."""

    kind: Literal["local", "hub", "modelscope"]
    repo: str | None
    commit: str | None
    files: tuple[ListedFile, ...]


class Lock(Part):
    """All that was pinned: give these again and the same release follows."""

    source: SourceIdentity
    tools: Mapping[str, str]


class Licence(Part):
    """The licence files of the model, as paths in the release; none where the source had none."""

    files: tuple[str, ...]
    status: Literal["from the source", "not in the source"]


class ReleaseManifest(Part):
    """All of `manifest.json` but its own digest.

    `build` is what the build stage said; `engine`, `attention`, `parity` and `smoke` are the
    records that the release also holds as files.
    """

    format: Literal[1]
    name: RecipeName
    recipe: Mapping[str, Json]
    lock: Lock
    stage_keys: Mapping[str, str]
    build: Mapping[str, Json]
    engine: Mapping[str, Json]
    attention: Mapping[str, Json]
    parity: Mapping[str, Json]
    smoke: Mapping[str, Json]
    licence: Licence
    files: tuple[ListedFile, ...]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> ReleaseManifest:
        paths = [file.path for file in self.files]
        if paths != sorted(set(paths)) or not META_NAMES.isdisjoint(paths):
            raise ValueError("`files` is not sorted, or lists a file that it must not")
        missing = sorted(set(self.licence.files) - set(paths))
        if missing or bool(self.licence.files) != (self.licence.status == "from the source"):
            raise ValueError(f"`licence` does not fit the files: {missing or self.licence.status}")
        return self


def encode(manifest: ReleaseManifest) -> bytes:
    """The bytes of `manifest.json`: sorted keys, two spaces, one newline at the end."""
    document = manifest.model_dump(mode="json")
    return _spell({**document, SELF_DIGEST: _self_digest(document)})


def decode(data: bytes) -> ReleaseManifest:
    """Read `manifest.json`. Raises VerificationError where it is not what `encode` wrote."""
    try:
        document = parse_object(data, MANIFEST_NAME, LIMITS)
        digest = document.pop(SELF_DIGEST)
        changed = digest != _self_digest(document)
        changed = changed or _spell({**document, SELF_DIGEST: digest}) != data
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise VerificationError(f"`{MANIFEST_NAME}` cannot be read: {error}") from None
    if changed:
        raise VerificationError(
            f"`{MANIFEST_NAME}` is changed: it does not have its own digest `{SELF_DIGEST}`"
        )
    return _validate(document)


def _validate(document: Json) -> ReleaseManifest:
    if document.get("format") != FORMAT:
        raise VerificationError(
            f"`{MANIFEST_NAME}` has format {printable(str(document.get('format')))}, this version "
            f"reads {FORMAT}",
            hint="use the version of trtllm-pack that wrote the release",
        )
    try:
        return ReleaseManifest.model_validate_json(canonical_json(document))
    except ValidationError as error:
        faults = [
            printable(f"`{'.'.join(map(str, fault['loc']))}`: {fault['msg']}", 600)
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise VerificationError(f"`{MANIFEST_NAME}` is not valid", facts=listed(faults)) from None


def _self_digest(document: Json) -> str:
    return hashlib.sha256(canonical_json(document)).hexdigest()


def _spell(document: Json) -> bytes:
    text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False)
    return (text + "\n").encode()
