"""What a hub says of a repo, well or badly meant."""

from __future__ import annotations

import json
import time

import pytest

from pipeline.artifact import Json
from pipeline.errors import RemoteError, VerificationError
from pipeline.sources.hub.listing import parse_listing
from pipeline.sources.listing import SourceFile

COMMIT, BLOB, SHA256 = "c" * 40, "b" * 40, "a" * 64
GIT = {"rfilename": "config.json", "size": 3, "blobId": BLOB}
LFS = {
    "rfilename": "m.safetensors",
    "size": 9,
    "blobId": BLOB,
    "lfs": {"sha256": SHA256, "size": 9},
}


def parse(*siblings: Json, **more: Json) -> tuple[str, tuple[SourceFile, ...]]:
    document = {"sha": COMMIT, "siblings": list(siblings), "gated": False, **more}
    return parse_listing(json.dumps(document).encode(), "acme/tiny")


def test_files_and_digests() -> None:
    commit, files = parse(GIT, LFS)
    assert commit == COMMIT
    assert files == (
        SourceFile("config.json", 3, git_blob=BLOB),
        SourceFile("m.safetensors", 9, sha256=SHA256),
    )


@pytest.mark.parametrize("size", [-1, "3", 3.0, True, None, [], 2**61, 10**30])
def test_sizes_that_are_none_come_without_a_digest(size: Json) -> None:
    lfs = {**LFS, "lfs": {"sha256": SHA256, "size": size}}
    _, files = parse({**GIT, "size": size}, lfs)
    assert files == (SourceFile("config.json", 0), SourceFile("m.safetensors", 0))


@pytest.mark.parametrize("digest", ["", "x" * 40, "A" * 64, 7, None, ["a"], "../" * 20])
def test_digests_that_are_none(digest: Json) -> None:
    lfs = {**LFS, "lfs": {"sha256": digest, "size": 9}}
    _, files = parse({**GIT, "blobId": digest}, lfs)
    assert [file.identity() for file in files] == [None, None]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"siblings": []}',
        b'{"sha": 1, "siblings": []}',
        b'{"sha": "x", "siblings": {}}',
        b'{"sha": "x", "siblings": [1]}',
        b'{"sha": "x", "siblings": [{"rfilename": 1}]}',
    ],
)
def test_what_no_hub_says(text: bytes) -> None:
    with pytest.raises(RemoteError, match="does not answer like a Hugging Face Hub"):
        parse_listing(text, "acme/tiny")


@pytest.mark.parametrize(
    "text", [b'{"sha": ', b'{"sha": "x", "sha": "y"}', b'{"a": NaN}', b'{"\xff": 1}']
)
def test_broken_json(text: bytes) -> None:
    with pytest.raises(VerificationError, match="listing of acme/tiny"):
        parse_listing(text, "acme/tiny")


def test_a_name_twice() -> None:
    with pytest.raises(VerificationError, match="lists files twice"):
        parse(GIT, GIT)


def test_hostile_names_are_kept_for_the_one_validator() -> None:
    _, files = parse({**GIT, "rfilename": "../../evil"})
    assert files[0].name == "../../evil"


def test_bombs_cost_little() -> None:
    began = time.process_time()
    for bomb in (
        b'{"siblings": [' + b"{}," * 2_000_000,
        b"{" + b'"a":[' * 100_000,
        b"{" * 33_000_000,
    ):
        with pytest.raises(VerificationError):
            parse_listing(bomb, "acme/tiny")
    assert time.process_time() - began < 20
