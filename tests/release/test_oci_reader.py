"""Releases in OCI layouts: sound ones verify as their folders do, all others say why not."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import VerificationError
from pipeline.inspection import inspect_path
from pipeline.release.plain_tar import scan_plain_tar
from pipeline.release.tar import BLOCK
from pipeline.release.verify import verify_release
from tests.release.made import NO_GPU, release_in
from tests.release.oci_layouts import (
    EMPTY,
    INDEX,
    TITLE,
    Document,
    Files,
    descriptor,
    layout_of,
    tar_layout,
    write_layout,
)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release_in(tmp_path_factory.mktemp("made"))


def told_of(path: Path) -> str:
    with pytest.raises(VerificationError) as caught:
        verify_release(path, NO_GPU)
    error = caught.value
    told = "\n".join([error.message, *error.facts])
    assert all(line.isprintable() for line in told.split("\n"))
    assert len(told) < 20_000
    return told


def test_a_sound_layout_is_its_release(release: Path, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", layout_of(release))
    report, folder = verify_release(layout, NO_GPU), verify_release(release, NO_GPU)
    assert report.form == "oci"
    assert (report.manifest, report.num_files) == (folder.manifest, folder.num_files)
    document = inspect_path(layout)
    assert document["form"] == "oci"
    assert document["files"] == inspect_path(release)["files"]


@pytest.mark.parametrize("prefix", ["", "./"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_of_a_layout(release: Path, tmp_path: Path, form: int, prefix: str) -> None:
    path = tar_layout(tmp_path / "x.tar", layout_of(release), form, prefix)
    report = verify_release(path, NO_GPU)
    assert (report.form, report.manifest.name) == ("oci", "tiny")


def manifest(edit: Callable[[Document], Any]) -> Callable[[Path], Files]:
    return lambda release: layout_of(release, edit_manifest=edit)


def index(edit: Callable[[Document], Any]) -> Callable[[Path], Files]:
    return lambda release: layout_of(release, edit_index=edit)


def files(edit: Callable[[Files], Any]) -> Callable[[Path], Files]:
    def made(release: Path) -> Files:
        found = layout_of(release)
        edit(found)
        return found

    return made


def layer(number: int = 0, **more: Any) -> Callable[[Path], Files]:
    return manifest(lambda document: document["layers"][number].update(more))


def entry(**more: Any) -> Callable[[Path], Files]:
    return index(lambda document: document["manifests"][0].update(more))


def titled(title: Any) -> Callable[[Path], Files]:
    return layer(annotations={TITLE: title})


def blob_of(found: Files, size: int) -> str:
    return next(n for n, data in found.items() if n.startswith("blobs/") and len(data) == size)


ENGINE_BYTES = len(b"rank" * 300)
OTHER = descriptor(b"other", "application/vnd.oci.image.manifest.v1+json")

SPOILT: dict[str, tuple[Callable[[Path], Files], str]] = {
    "other version": (
        files(lambda found: found.update({"oci-layout": b'{"imageLayoutVersion":"2.0.0"}'})),
        "has version `2.0.0`",
    ),
    "version is a number": (
        files(lambda found: found.update({"oci-layout": b'{"imageLayoutVersion":1}'})),
        "has version `1`",
    ),
    "layout is no JSON": (files(lambda found: found.update({"oci-layout": b"["})), "not valid"),
    "layout is huge": (
        files(lambda found: found.update({"oci-layout": b" " * (1 << 17)})),
        "at most 65536",
    ),
    "no index": (files(lambda found: found.pop("index.json")), "`index.json` of the OCI layout is"),
    "index is a list": (files(lambda found: found.update({"index.json": b"[]"})), "not a JSON obj"),
    "index bomb": (
        files(lambda found: found.update({"index.json": b'{"a":' + b"[" * 300_000})),
        "items, more than",
    ),
    "repeated key": (
        files(lambda found: found.update({"index.json": b'{"manifests":[],"manifests":[]}'})),
        "repeated key",
    ),
    "schema of Docker": (index(lambda d: d.update(schemaVersion=1)), "`schemaVersion` is `1`"),
    "schema is true": (index(lambda d: d.update(schemaVersion=True)), "`schemaVersion` is `True`"),
    "no schema": (index(lambda d: d.pop("schemaVersion")), "`schemaVersion` is `None`"),
    "type of the index": (index(lambda d: d.update(mediaType="text/x")), "`mediaType` is `text/x`"),
    "key of the index": (index(lambda d: d.update(layers=[])), "unknown key `layers`"),
    "no manifests": (index(lambda d: d.update(manifests=[])), "names 0 manifests"),
    "manifests are none": (index(lambda d: d.update(manifests=None)), "`manifests` is not a list"),
    "two manifests": (index(lambda d: d["manifests"].append(OTHER)), "names 2 manifests"),
    "many manifests": (
        index(lambda d: d.update(manifests=[OTHER] * 20_000)),
        "names 20000 manifests",
    ),
    "nested index": (entry(mediaType=INDEX), "names another index"),
    "image of Docker": (
        entry(mediaType="application/vnd.docker.distribution.manifest.v2+json"),
        "expected a `application/vnd.oci.image.manifest",
    ),
    "descriptor is a text": (index(lambda d: d.update(manifests=["x"])), "is not a descriptor"),
    "urls": (entry(urls=["https://example.org/x"]), "`urls`, which are never followed"),
    "sha512": (entry(digest="sha512:" + "0" * 128), "expected `sha256:`"),
    "digest of capitals": (entry(digest="sha256:" + "A" * 64), "expected `sha256:`"),
    "digest of a path": (entry(digest="sha256:../../index.json"), "expected `sha256:`"),
    "digest of a number": (entry(digest=1), "has the digest `1`"),
    "negative size": (entry(size=-1), "has the size `-1`"),
    "size of a fraction": (entry(size=1.0), "has the size `1.0`"),
    "size of 64 bits": (entry(size=2**63), "has the size"),
    "another size": (entry(size=3), "the manifest of the OCI layout is changed"),
    "missing manifest": (entry(digest="sha256:" + "0" * 64), "is missing"),
    "platform": (entry(platform={"os": "linux"}), "a `platform` without"),
    "unknown key": (entry(newly="x"), "has an unknown key `newly`"),
    "data that is none": (entry(data="%%%"), "`data` that is not base 64"),
    "other data": (entry(data=base64.b64encode(b"x").decode()), "is not its embedded `data`"),
    "annotations of numbers": (entry(annotations={"a": 1}), "is not an object of texts"),
    "media type": (entry(mediaType="none"), "has no media type"),
    "subject": (manifest(lambda d: d.update(subject=OTHER)), "about another artifact"),
    "no config": (manifest(lambda d: d.pop("config")), "`config` is not a descriptor"),
    "missing config": (
        manifest(lambda d: d["config"].update(digest="sha256:" + "1" * 64)),
        "is missing",
    ),
    "config that is not empty": (
        lambda release: layout_of(release, config=b'{"a":1}'),
        "is said to be empty, and is not",
    ),
    "no layers": (manifest(lambda d: d.update(layers=[])), "at least one layer"),
    "layers are none": (manifest(lambda d: d.update(layers={})), "at least one layer"),
    "layer by url": (layer(urls=["file:///etc/passwd"]), "`urls`, which are never followed"),
    "layer without title": (layer(annotations={}), "has no title"),
    "empty layer": (layer(mediaType=EMPTY), "has no title"),
    "packed folder": (
        layer(annotations={TITLE: "engine", "io.deis.oras.content.unpack": "true"}),
        "is a folder that was packed",
    ),
    "title is a number": (titled(1), "is not an object of texts"),
    "title out of the folder": (titled("../x"), "has a part `..`"),
    "absolute title": (titled("/etc/passwd"), "is not a relative name"),
    "title of control characters": (titled("a\x1b[2J"), "control or invisible"),
    "title of a device": (titled("engine/NUL.txt"), "is no file name on Windows"),
    "title that is a folder": (titled("engine"), "clash: a file and a folder"),
    "title twice": (titled("manifest.json"), "`manifest.json` is there twice"),
    "title of other case": (titled("Manifest.json"), "clash"),
    "unknown title": (titled("other.txt"), "`other.txt` is not in the manifest"),
    "layer of another size": (layer(size=5), "stated 5"),
    "layer of other data": (
        layer(data=base64.b64encode(b"x").decode()),
        "is not what its digest says",
    ),
    "layer that is missing": (
        files(lambda found: found.pop(blob_of(found, ENGINE_BYTES))),
        "the blob of `engine/rank0.safetensors`",
    ),
    "layer that is changed": (
        files(lambda found: found.update({blob_of(found, ENGINE_BYTES): b"x" * ENGINE_BYTES})),
        "the blob of `engine/rank0.safetensors` is changed",
    ),
    "extra blob": (
        files(lambda found: found.update({"blobs/sha256/" + "0" * 64: b"hidden"})),
        "nothing leads to `blobs/sha256/000",
    ),
    "blob of another kind": (
        files(lambda found: found.update({"blobs/md5/0": b"hidden"})),
        "nothing leads to `blobs/md5/0`",
    ),
    "extra file": (files(lambda found: found.update({"manifest.json": b"{}"})), "nothing leads to"),
    "file in ingest": (files(lambda found: found.update({"ingest/x": b""})), "nothing leads to"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_layouts(name: str, release: Path, tmp_path: Path) -> None:
    made, reason = SPOILT[name]
    found = made(release)
    if name == "file in ingest":
        path = tmp_path / "layout"
        write_layout(path, {n: data for n, data in found.items() if n != "ingest/x"})
        (path / "ingest" / "x").touch()
    else:
        path = write_layout(tmp_path / "layout", found)
    assert reason in told_of(path)
    assert reason in told_of(tar_layout(tmp_path / "x.tar", found))


def test_a_part_of_a_release(release: Path, tmp_path: Path) -> None:
    found = layout_of(release, edit_manifest=lambda d: d["layers"].pop())
    unused = hashlib.sha256((sorted(release.rglob("*"))[-1]).read_bytes()).hexdigest()
    found.pop(f"blobs/sha256/{unused}", None)
    assert "is missing" in told_of(write_layout(tmp_path / "layout", found))


def test_the_digests_of_all_layers_are_compared(release: Path, tmp_path: Path) -> None:
    """A blob that the release's own manifest would take, but that its layer does not state."""
    found = layout_of(release)
    licence = (release / "LICENSE").read_bytes()
    real = f"blobs/sha256/{hashlib.sha256(licence).hexdigest()}"
    document = json.loads(found[blob_of_manifest(found)])
    for one in document["layers"]:
        if one["annotations"][TITLE] == "LICENSE":
            one["digest"] = "sha256:" + "ab" * 32
    data = json.dumps(document).encode()
    del found[blob_of_manifest(found)]
    found["blobs/sha256/" + "ab" * 32] = found.pop(real)
    found[f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"] = data
    entry = descriptor(data, "application/vnd.oci.image.manifest.v1+json")
    found["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    told = told_of(write_layout(tmp_path / "layout", found))
    assert "the blob of `LICENSE` is changed" in told
    assert "its layer states abab" in told


def blob_of_manifest(found: Files) -> str:
    stated = json.loads(found["index.json"])["manifests"][0]["digest"]
    return f"blobs/sha256/{stated.removeprefix('sha256:')}"


@pytest.mark.parametrize("kind", ["link", "link to a folder", "pipe", "hidden folder"])
def test_what_is_no_file(kind: str, release: Path, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", layout_of(release))
    blob = max((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    match kind:
        case "link":
            blob.rename(tmp_path / "elsewhere")
            blob.symlink_to(tmp_path / "elsewhere")
        case "link to a folder":
            (layout / "blobs").rename(tmp_path / "elsewhere")
            (layout / "blobs").symlink_to(tmp_path / "elsewhere")
        case "pipe":
            blob.unlink()
            os.mkfifo(blob)
        case "hidden folder":
            (layout / "blobs" / "x").mkdir()
    told = told_of(layout)
    expected = "nothing leads to" if kind == "hidden folder" else "neither a regular file"
    assert expected in told or (kind == "link to a folder" and "is missing" in told)


def test_every_cut_of_a_tar_is_found(release: Path, tmp_path: Path) -> None:
    path = tar_layout(tmp_path / "x.tar", layout_of(release))
    data = path.read_bytes()
    end = len(data.rstrip(b"\0"))
    for cut in range(0, end + BLOCK, BLOCK):
        path.write_bytes(data[:cut])
        told_of(path)


TARS: dict[str, tuple[Callable[[tarfile.TarInfo], None], str]] = {
    "link": (lambda m: (setattr(m, "type", b"2"), setattr(m, "linkname", "/etc"))[0], "symbolic"),
    "hard link": (
        lambda m: (setattr(m, "type", b"1"), setattr(m, "linkname", "oci-layout"))[0],
        "hard link",
    ),
    "device": (lambda m: setattr(m, "type", b"3"), "is a device"),
    "pipe": (lambda m: setattr(m, "type", b"6"), "is a pipe"),
    "sparse": (lambda m: setattr(m, "type", b"S"), "neither a regular file"),
    "long name": (lambda m: setattr(m, "name", "blobs/" + "x" * 300), "neither|has `path`"),
    "outside": (lambda m: setattr(m, "name", "../x"), "has a part `..`"),
    "absolute": (lambda m: setattr(m, "name", "/x"), "not a relative name"),
    "twice": (lambda m: setattr(m, "name", "index.json"), "there twice"),
    "extended attributes": (
        lambda m: setattr(m, "pax_headers", {"SCHILY.xattr.user.x": "y"}),
        "has `SCHILY.xattr.user.x`",
    ),
    "another path": (lambda m: setattr(m, "pax_headers", {"path": "/etc/x"}), "has `path`"),
    "negative size": (lambda m: setattr(m, "pax_headers", {"size": "-1"}), "no size that can be"),
}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", TARS)
def test_entries_of_tars_that_are_refused(name: str, form: int, tmp_path: Path) -> None:
    edit, reason = TARS[name]
    if form == tarfile.GNU_FORMAT and name in {"extended attributes", "another path"}:
        pytest.skip("GNU tar's format has none")
    if form == tarfile.GNU_FORMAT and name == "negative size":
        pytest.skip("see the next test")
    path = tar_layout(tmp_path / "x.tar", {"oci-layout": b"{}", "index.json": b"{}"})
    with tarfile.open(path, "a", format=form) as tar:
        member = tarfile.TarInfo("blobs/x")
        edit(member)
        tar.addfile(member)
    scan = scan_plain_tar(path)
    assert any(part in "\n".join(scan.faults) for part in reason.split("|")), scan.faults


@pytest.mark.parametrize(
    ("size", "is_read"),
    [
        (b"\x80" + (5).to_bytes(11, "big"), True),
        (b"00000000005\0", True),
        (b"          5 ", True),
        (b"\xff" * 11 + b"\xfb", False),
        (b"\x80" + (2**64).to_bytes(11, "big"), False),
        (b"\x80" + (2**62).to_bytes(11, "big"), False),
        (b"0000000000-1", False),
        (b"00000000008\0", False),
        (b"\0" * 12, False),
    ],
)
def test_spellings_of_a_size(size: bytes, is_read: bool, tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("oci-layout").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
    path = tmp_path / "x.tar"
    path.write_bytes(bytes(header) + b"{} {}".ljust(BLOCK, b"\0") + bytes(2 * BLOCK))
    scan = scan_plain_tar(path)
    assert scan.complete == is_read
    assert ("oci-layout" in scan.files and scan.files["oci-layout"].size_bytes == 5) == is_read


@pytest.mark.parametrize("more", [b"x", tarfile.TarInfo("x").tobuf(), bytes(2 << 20), b"\0" * 7])
def test_what_follows_the_end_of_a_tar(more: bytes, release: Path, tmp_path: Path) -> None:
    path = tar_layout(tmp_path / "x.tar", layout_of(release))
    path.write_bytes(path.read_bytes() + more)
    if more == b"\0" * 7:
        assert verify_release(path, NO_GPU).form == "oci"
    else:
        assert "its end, from byte" in told_of(path)


def test_padding_that_is_not_zero(release: Path, tmp_path: Path) -> None:
    path = tar_layout(tmp_path / "x.tar", layout_of(release))
    file = next(one for one in scan_plain_tar(path).files.values() if one.size_bytes % BLOCK)
    end = file.offset + file.size_bytes
    data = bytearray(path.read_bytes())
    data[end] = 1
    path.write_bytes(data)
    assert f"the padding at byte {end} is not zero" in told_of(path)


def test_a_checksum_that_is_wrong(release: Path, tmp_path: Path) -> None:
    path = tar_layout(tmp_path / "x.tar", layout_of(release))
    data = bytearray(path.read_bytes())
    data[BLOCK + 10] ^= 1
    path.write_bytes(data)
    assert "is damaged, or of another format" in "\n".join(scan_plain_tar(path).faults)
    assert told_of(path)


@pytest.mark.parametrize(
    ("name", "magic", "command"),
    [
        ("r.tar.gz", b"\x1f\x8b\x08", "gunzip"),
        ("r.tar.zst", b"\x28\xb5\x2f\xfd", "unzstd"),
        ("r.tar.xz", b"\xfd7zXZ\0", "unxz"),
        ("r.zip", b"PK\x03\x04", "unzip"),
        ("r.tar", b"BZh9", "bunzip2"),
    ],
)
def test_compressed_releases_are_told(
    name: str, magic: bytes, command: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(magic + bytes(2000))
    for look in (lambda: verify_release(path, NO_GPU), lambda: inspect_path(path)):
        with pytest.raises(VerificationError) as caught:
            look()
        assert command in (caught.value.hint or "")


def test_nothing_but_the_layout_is_read(release: Path, tmp_path: Path) -> None:
    """A layout beside the release's own files is a layout."""
    folder = tmp_path / "both"
    shutil.copytree(release, folder)
    write_layout(tmp_path / "layout", layout_of(release))
    shutil.copytree(tmp_path / "layout", folder, dirs_exist_ok=True)
    assert "nothing leads to `LICENSE`" in told_of(folder)
