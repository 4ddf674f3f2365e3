"""Hostile `artifact.json` in a store: no file outside is looked at, nothing but a plain error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifact import MANIFEST_NAME, describe, read_artifact, write_json
from pipeline.errors import VerificationError

KEY = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound artifact of two files."""
    folder = tmp_path / "artifact"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"abc")
    (folder / "sub" / "b.bin").write_bytes(b"de")
    manifest = describe(folder, "convert", KEY, {"download": KEY}, {"some": "fact"})
    files = [
        {"path": f.path, "size_bytes": f.size_bytes, "blake3": f.blake3} for f in manifest.files
    ]
    document = {"format": 1, "stage": "convert", "key": KEY, "inputs": {}, "facts": {}}
    write_json(folder / MANIFEST_NAME, document | {"files": files})
    return folder


def test_the_artifact_is_sound(folder: Path) -> None:
    assert read_artifact(folder).size_bytes == 5


ENTRY = {"path": "a.bin", "size_bytes": 3, "blake3": "0" * 64}

DOCUMENTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no files": lambda d: d.pop("files"),
    "files are a text": lambda d: d.update(files="abc"),
    "files are none": lambda d: d.update(files=None),
    "an entry is a list": lambda d: d.update(files=[["a.bin", 3, "0"]]),
    "negative size": lambda d: d.update(files=[ENTRY | {"size_bytes": -1}]),
    "size of a fraction": lambda d: d.update(files=[ENTRY | {"size_bytes": 3.0}]),
    "size is true": lambda d: d.update(files=[ENTRY | {"size_bytes": True}]),
    "size is a text": lambda d: d.update(files=[ENTRY | {"size_bytes": "3"}]),
    "huge size": lambda d: d.update(files=[ENTRY | {"size_bytes": 10**30}]),
    "path is a number": lambda d: d.update(files=[ENTRY | {"path": 5}]),
    "path is none": lambda d: d.update(files=[ENTRY | {"path": None}]),
    "path with NUL": lambda d: d.update(files=[ENTRY | {"path": "a\0b"}]),
    "path of controls": lambda d: d.update(files=[ENTRY | {"path": "a\x1b[2J"}]),
    "half a character": lambda d: d.update(files=[ENTRY | {"path": "\ud800"}]),
    "path outside": lambda d: d.update(files=[ENTRY | {"path": "../secret"}]),
    "absolute path": lambda d: d.update(files=[ENTRY | {"path": "/etc/hostname"}]),
    "path of the folder": lambda d: d.update(files=[ENTRY | {"path": "."}]),
    "path of a folder": lambda d: d.update(files=[ENTRY | {"path": "sub"}]),
    "path through a file": lambda d: d.update(files=[ENTRY | {"path": "a.bin/x"}]),
    "endless path": lambda d: d.update(files=[ENTRY | {"path": "x" * 5000}]),
    "deep path": lambda d: d.update(files=[ENTRY | {"path": "x/" * 3000 + "y"}]),
    "digest is none": lambda d: d.update(files=[ENTRY | {"blake3": None}]),
    "digest is short": lambda d: d.update(files=[ENTRY | {"blake3": "00"}]),
    "twice": lambda d: d.update(files=[ENTRY, ENTRY]),
    "unknown key of an entry": lambda d: d.update(files=[ENTRY | {"mode": 1}]),
    "unknown key": lambda d: d.update(more=1),
    "stage is a list": lambda d: d.update(stage=["convert"]),
    "inputs are a list": lambda d: d.update(inputs=[]),
    "inputs of numbers": lambda d: d.update(inputs={"a": 1}),
    "facts are a list": lambda d: d.update(facts=[]),
    "other format": lambda d: d.update(format=True) or d.update(format="1"),
    "many files": lambda d: d.update(
        files=[ENTRY | {"path": f"f{number}"} for number in range(100_000)]
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_hostile_manifests(name: str, folder: Path) -> None:
    document = json.loads((folder / MANIFEST_NAME).read_text())
    DOCUMENTS[name](document)
    (folder / MANIFEST_NAME).write_text(json.dumps(document))
    with pytest.raises(VerificationError) as caught:
        read_artifact(folder)
    told = "\n".join([caught.value.message, *caught.value.facts])
    assert all(line.isprintable() for line in told.split("\n"))
    assert len(told) < 50_000


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"files":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"{" + b" " * (65 << 20) + b"}",
        b"\xff\xfe",
        b"\0" * 100,
        b'{"files": [], "format": ' + b"9" * 10_000 + b"}",
    ],
    ids=["open", "deep", "huge", "bytes", "NUL", "digits"],
)
def test_manifests_that_are_bombs(text: bytes, folder: Path) -> None:
    (folder / MANIFEST_NAME).write_bytes(text)
    with pytest.raises(VerificationError):
        read_artifact(folder)


@pytest.mark.parametrize("kind", ["file", "folder", "manifest", "pipe", "pipe manifest"])
def test_links_and_pipes_in_an_artifact(kind: str, folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    match kind:
        case "file":
            (folder / "a.bin").rename(elsewhere)
            (folder / "a.bin").symlink_to(elsewhere)
        case "folder":
            (folder / "sub").rename(elsewhere)
            (folder / "sub").symlink_to(elsewhere)
        case "manifest":
            elsewhere.write_bytes(b"{}")
            (folder / MANIFEST_NAME).unlink()
            (folder / MANIFEST_NAME).symlink_to(elsewhere)
        case "pipe":
            (folder / "a.bin").unlink()
            os.mkfifo(folder / "a.bin")
        case "pipe manifest":
            (folder / MANIFEST_NAME).unlink()
            os.mkfifo(folder / MANIFEST_NAME)
    with pytest.raises(VerificationError, match=r"damaged|regular file|not a valid manifest"):
        read_artifact(folder)
