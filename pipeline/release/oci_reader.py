"""A release in an OCI image layout, as `oras copy --to-oci-layout` leaves it: strictly read.

One manifest in `index.json`, one layer for each file of the release, titled by its name. Index,
manifest and config are compared with their digests here; layers when all bytes are read. Source:
opencontainers image-spec 1.1, `image-layout.md`; the titles are oras's (`oras push`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.checkpoint.strict_json import Limits, listed, parse_object, printable
from pipeline.errors import VerificationError
from pipeline.release.digests import Extent
from pipeline.release.oci_descriptors import (
    EMPTY,
    EMPTY_TYPE,
    INDEX_TYPE,
    LIMITS,
    MANIFEST_TYPE,
    Descriptor,
    OciManifest,
    parse_index,
    parse_manifest,
)
from pipeline.sources.names import check_names

LAYOUT_NAME = "oci-layout"
INDEX_NAME = "index.json"
BLOBS = "blobs/sha256/"
VERSION = "1.0.0"

TITLE = "org.opencontainers.image.title"
REF_NAME = "org.opencontainers.image.ref.name"
PACKED = "io.deis.oras.content.unpack"
"""The mark of a folder that oras packed into one layer."""

KNOWN_FOLDERS = frozenset({"blobs/", BLOBS, "ingest/"})
"""`ingest` is where oras keeps unfinished downloads (oras-go, `content/oci`); it is empty."""

_HINT = (
    "copy the release again: `oras copy REGISTRY/NAME:TAG --to-oci-layout FOLDER:TAG`, into a "
    "folder of its own"
)


@dataclass(frozen=True, slots=True)
class OciRelease:
    """The files of a release by name, what each layer says its SHA-256 is, and what is wrong."""

    files: Mapping[str, Extent]
    digests: Mapping[str, str]
    faults: tuple[str, ...]


def is_layout(names: Iterable[str]) -> bool:
    """Whether these files are an OCI layout."""
    return LAYOUT_NAME in set(names)


def read_layout(files: Mapping[str, Extent], folders: Iterable[str]) -> OciRelease:
    """The release in a layout, of whose files and folders these are the names.

    Raises VerificationError where the documents do not lead to one manifest of files; what is wrong
    beside that is among the faults, so that files can still be checked.
    """
    try:
        _check_version(files)
        descriptor = _only_manifest(parse_index(_read(files, INDEX_NAME, LIMITS.max_bytes)))
        manifest = parse_manifest(_blob(files, descriptor, "the manifest", LIMITS.max_bytes))
        _check_config(files, manifest.config)
        names = _titles(manifest)
    except VerificationError as error:
        raise VerificationError(
            error.message, facts=error.facts, hint=error.hint or _HINT
        ) from None
    layers = dict(zip(names, manifest.layers, strict=True))
    faults = list(_layer_faults(files, layers))
    used = {descriptor.sha256, manifest.config.sha256, *(one.sha256 for one in manifest.layers)}
    faults += _unknown(files, folders, used)
    there = {name: one for name, one in layers.items() if f"{BLOBS}{one.sha256}" in files}
    return OciRelease(
        {name: files[f"{BLOBS}{one.sha256}"] for name, one in there.items()},
        {name: one.sha256 for name, one in there.items()},
        tuple(faults),
    )


def _check_version(files: Mapping[str, Extent]) -> None:
    document = parse_object(_read(files, LAYOUT_NAME, 1 << 16), LAYOUT_NAME, Limits(1 << 16, 100))
    if document.get("imageLayoutVersion") != VERSION:
        found = printable(str(document.get("imageLayoutVersion")))
        raise VerificationError(f"`{LAYOUT_NAME}` has version `{found}`, expected `{VERSION}`")


def _only_manifest(manifests: tuple[Descriptor, ...]) -> Descriptor:
    if len(manifests) != 1:
        told = [f"`{printable(one.annotations.get(REF_NAME, one.sha256))}`" for one in manifests]
        raise VerificationError(
            f"`{INDEX_NAME}` names {len(manifests)} manifests, expected one", facts=listed(told)
        )
    if manifests[0].media_type == INDEX_TYPE:
        raise VerificationError(
            f"`{INDEX_NAME}` names another index: a release is the same for all platforms"
        )
    if manifests[0].media_type != MANIFEST_TYPE:
        raise VerificationError(
            f"`{INDEX_NAME}` names a `{printable(manifests[0].media_type)}`, expected a "
            f"`{MANIFEST_TYPE}`"
        )
    return manifests[0]


def _check_config(files: Mapping[str, Extent], config: Descriptor) -> None:
    """A config of any type, of which nothing is read; the empty one must be empty."""
    data = _blob(files, config, "the config", LIMITS.max_bytes)
    if config.media_type == EMPTY_TYPE and data != EMPTY:
        raise VerificationError("the config of the OCI layout is said to be empty, and is not")


def _titles(manifest: OciManifest) -> list[str]:
    """The name of the file of each layer."""
    faults, names = [], []
    for number, layer in enumerate(manifest.layers):
        name = layer.annotations.get(TITLE)
        if layer.media_type == EMPTY_TYPE or name is None:
            faults.append(f"`layers[{number}]` has no title `{TITLE}`")
        elif PACKED in layer.annotations:
            faults.append(f"`{printable(name)}` is a folder that was packed: push its files")
        elif name in names:
            faults.append(f"`{printable(name)}` is there twice")
        names.append(name or "")
    if faults:
        raise VerificationError(
            "layers of the OCI layout are no files of a release", facts=listed(faults)
        )
    check_names(names, "the OCI layout")
    return names


def _layer_faults(files: Mapping[str, Extent], layers: Mapping[str, Descriptor]) -> Iterable[str]:
    """Layers whose blob is missing, or of another size, or not the bytes that are embedded."""
    for name, layer in layers.items():
        blob = files.get(f"{BLOBS}{layer.sha256}")
        if blob is None:
            yield f"the blob of `{name}`, `sha256:{layer.sha256}`, is missing"
        elif blob.size_bytes != layer.size_bytes:
            yield f"the blob of `{name}` has {blob.size_bytes} bytes, stated {layer.size_bytes}"
        if layer.data is not None and hashlib.sha256(layer.data).hexdigest() != layer.sha256:
            yield f"the `data` of the layer `{name}` is not what its digest says"


def _unknown(files: Mapping[str, Extent], folders: Iterable[str], used: set[str]) -> Iterable[str]:
    """Files that no descriptor leads to: nobody has checked them, and a release has no others."""
    known = {LAYOUT_NAME, INDEX_NAME, *(f"{BLOBS}{digest}" for digest in used)}
    for name in sorted(files.keys() - known):
        yield f"nothing leads to `{name}`"
    for name in sorted(set(folders) - KNOWN_FOLDERS):
        yield f"nothing leads to the folder `{name}`"


def _blob(files: Mapping[str, Extent], stated: Descriptor, told: str, max_bytes: int) -> bytes:
    """The bytes of a small blob, which are those that its descriptor states."""
    data = _read(files, f"{BLOBS}{stated.sha256}", max_bytes)
    found = hashlib.sha256(data).hexdigest()
    if len(data) != stated.size_bytes or found != stated.sha256:
        raise VerificationError(
            f"{told} of the OCI layout is changed",
            facts=[
                f"stated: {stated.size_bytes} bytes, SHA-256 {stated.sha256}",
                f"found: {len(data)} bytes, SHA-256 {found}",
            ],
        )
    if stated.data is not None and stated.data != data:
        raise VerificationError(f"{told} of the OCI layout is not its embedded `data`")
    return data


def _read(files: Mapping[str, Extent], name: str, max_bytes: int) -> bytes:
    if name not in files:
        raise VerificationError(f"`{name}` of the OCI layout is missing")
    return files[name].read(max_bytes)
