"""The JSON of an OCI layout, strictly: index, manifest, and the descriptors that tie them together.

Sources: opencontainers image-spec 1.1 (`descriptor.md`, `manifest.md`, `image-index.md`,
`media-types.md`, and its `schema/`). The specification lets readers pass over what they do not
know; a reader that says "sound" must know all of it, so keys beyond the specification are refused.
Annotations are free.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.checkpoint.strict_json import Limits, parse_object, printable
from pipeline.errors import VerificationError

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"

LIMITS = Limits(4 << 20, 1 << 18)
"""Of an index or a manifest: registries take manifests up to 4 MiB (distribution-spec, "Pushing
Manifests")."""

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][\w!#$&^.+-]{0,126}/[A-Za-z0-9][\w!#$&^.+-]{0,126}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_KEYS = frozenset(
    {"mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"}
)
_INDEX_KEYS = frozenset(
    {"schemaVersion", "mediaType", "artifactType", "manifests", "subject", "annotations"}
)
_MANIFEST_KEYS = frozenset(
    {"schemaVersion", "mediaType", "artifactType", "config", "layers", "subject", "annotations"}
)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What one document says of another: type, SHA-256 in hex, size, annotations, its bytes."""

    media_type: str
    sha256: str
    size_bytes: int
    annotations: Mapping[str, str]
    data: bytes | None


@dataclass(frozen=True, slots=True)
class OciManifest:
    """A manifest of an artifact: its config, and a layer for each file."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


def parse_index(data: bytes) -> tuple[Descriptor, ...]:
    """The manifests that `index.json` names. Raises VerificationError with what is wrong."""
    document = _document(data, "index.json", INDEX_TYPE, _INDEX_KEYS)
    manifests = document.get("manifests")
    if not isinstance(manifests, list):
        raise _wrong("index.json", "`manifests` is not a list")
    return tuple(
        _descriptor(item, f"`index.json`: `manifests[{number}]`")
        for number, item in enumerate(manifests)
    )


def parse_manifest(data: bytes) -> OciManifest:
    """The manifest of a release. Raises VerificationError with what is wrong."""
    document = _document(data, "manifest", MANIFEST_TYPE, _MANIFEST_KEYS)
    layers = document.get("layers")
    if not isinstance(layers, list) or not layers:
        raise _wrong("manifest", "`layers` is not a list of at least one layer")
    return OciManifest(
        _descriptor(document.get("config"), "manifest: `config`"),
        tuple(
            _descriptor(item, f"manifest: `layers[{number}]`") for number, item in enumerate(layers)
        ),
    )


def _document(data: bytes, told: str, media_type: str, keys: frozenset[str]) -> dict[str, Json]:
    """The object of an index or manifest, with all but its descriptors checked."""
    document = parse_object(data, told, LIMITS)
    unknown = sorted(document.keys() - keys)
    if unknown:
        raise _wrong(told, f"unknown key `{printable(unknown[0])}`")
    version = document.get("schemaVersion")
    if type(version) is not int or version != 2:
        raise _wrong(told, f"`schemaVersion` is `{printable(str(version))}`, expected 2")
    if document.get("mediaType", media_type) != media_type:
        found = printable(str(document["mediaType"]))
        raise _wrong(told, f"`mediaType` is `{found}`, expected `{media_type}`")
    if document.get("subject") is not None:
        raise _wrong(told, "it is about another artifact, its `subject`, and so no release")
    if "artifactType" in document and not _is_media_type(document["artifactType"]):
        raise _wrong(told, "`artifactType` is not a media type")
    _annotations(document, told)
    return document


def _descriptor(item: Json, told: str) -> Descriptor:
    if not isinstance(item, dict):
        raise VerificationError(f"{told} is not a descriptor")
    unknown = sorted(item.keys() - _KEYS)
    if unknown:
        raise VerificationError(f"{told} has an unknown key `{printable(unknown[0])}`")
    if item.get("urls"):
        raise VerificationError(f"{told} lies elsewhere: it has `urls`, which are never followed")
    media_type: Json = item.get("mediaType")
    digest, size = item.get("digest"), item.get("size")
    if not _is_media_type(media_type):
        raise VerificationError(f"{told} has no media type")
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        found = printable(str(digest))
        raise VerificationError(f"{told} has the digest `{found}`, expected `sha256:` and its hex")
    if type(size) is not int or not 0 <= size < 2**63:
        raise VerificationError(f"{told} has the size `{printable(str(size))}`")
    if "artifactType" in item and not _is_media_type(item["artifactType"]):
        raise VerificationError(f"{told} has an `artifactType` that is no media type")
    _check_platform(item.get("platform"), told)
    data = _embedded(item.get("data"), told)
    return Descriptor(media_type, digest[7:], size, _annotations(item, told), data)


def _is_media_type(value: Json) -> bool:
    return isinstance(value, str) and _MEDIA_TYPE.fullmatch(value) is not None


def _check_platform(value: Json, told: str) -> None:
    """Of no meaning for a release, but of a known form."""
    if value is None:
        return
    names = ("architecture", "os")
    if not isinstance(value, dict) or not all(isinstance(value.get(n), str) for n in names):
        raise VerificationError(f"{told} has a `platform` without `architecture` or `os`")


def _embedded(value: Json, told: str) -> bytes | None:
    if value is None:
        return None
    try:
        return base64.b64decode(value if isinstance(value, str) else "!", validate=True)
    except (binascii.Error, ValueError):
        raise VerificationError(f"{told} has `data` that is not base 64") from None


def _annotations(document: Mapping[str, Json], told: str) -> dict[str, str]:
    found = document.get("annotations", {})
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise VerificationError(f"{told}: `annotations` is not an object of texts")
    return found


def _wrong(told: str, reason: str) -> VerificationError:
    return VerificationError(f"`{told}` of the OCI layout is not valid: {reason}")
