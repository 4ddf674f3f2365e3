"""OCI layouts of a release as oras leaves them, sound ones and spoilt ones. For tests alone."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

TITLE = "org.opencontainers.image.title"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"

Files = dict[str, bytes]
Document = dict[str, Any]
Edit = Callable[[Document], None]


def nothing(document: Document) -> None:
    """Leave it as it is."""


def descriptor(data: bytes, media_type: str, /, **more: Any) -> Document:
    """What a document says of these bytes."""
    digest = hashlib.sha256(data).hexdigest()
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data), **more}


def layout_of(
    release: Path, edit_manifest: Edit = nothing, edit_index: Edit = nothing, config: bytes = b"{}"
) -> Files:
    """Every file of a layout that holds a release folder, one layer for each of its files."""
    files: Files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(data: bytes) -> bytes:
        files[f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"] = data
        return data

    layers = []
    for path in sorted(release.rglob("*")):
        if path.is_file():
            title = {TITLE: path.relative_to(release).as_posix()}
            data = blob(path.read_bytes())
            layers.append(
                descriptor(data, "application/vnd.oci.image.layer.v1.tar", annotations=title)
            )
    blob(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.trtllm-pack.release",
        "config": descriptor(config, EMPTY, data=base64.b64encode(config).decode()),
        "layers": layers,
        "annotations": {"org.opencontainers.image.created": "1980-01-01T00:00:00Z"},
    }
    edit_manifest(manifest)
    data = blob(json.dumps(manifest).encode())
    tag = {"org.opencontainers.image.ref.name": "v1"}
    index = {"schemaVersion": 2, "manifests": [descriptor(data, MANIFEST, annotations=tag)]}
    edit_index(index)
    files["index.json"] = json.dumps(index).encode()
    return files


def write_layout(folder: Path, files: Files) -> Path:
    """The layout as a folder, with the empty folder that oras leaves in it."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "ingest").mkdir()
    return folder


def tar_layout(path: Path, files: Files, form: int = tarfile.PAX_FORMAT, prefix: str = "") -> Path:
    """The layout as a tar of the standard library, with owners, times and folders."""
    with tarfile.open(path, "w", format=form) as tar:
        folders = [f"{prefix}blobs", f"{prefix}blobs/sha256"]
        for name in ([prefix.rstrip("/")] if prefix else []) + folders:
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for name, data in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size, member.uid, member.uname, member.mtime = len(data), 1000, "me", 1.5
            tar.addfile(member, io.BytesIO(data))
    return path
