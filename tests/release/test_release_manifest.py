"""The release manifest: one spelling, its own digest, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifact import canonical_json
from pipeline.errors import VerificationError
from pipeline.release.manifest import SELF_DIGEST, decode, encode
from tests.release.made import release_in


@pytest.fixture(scope="module")
def manifest_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return (release_in(tmp_path_factory.mktemp("made")) / "manifest.json").read_bytes()


def spoiled(data: bytes, **changes: Any) -> bytes:
    """The manifest with changed values, sealed again: only what it says is wrong."""
    document = json.loads(data) | changes
    del document[SELF_DIGEST]
    document[SELF_DIGEST] = hashlib.sha256(canonical_json(document)).hexdigest()
    return (json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def test_what_is_written_is_read_back(manifest_bytes: bytes) -> None:
    assert encode(decode(manifest_bytes)) == manifest_bytes


def test_every_changed_byte_is_seen(manifest_bytes: bytes) -> None:
    for position in range(len(manifest_bytes)):
        for mask in (1, 0x20, 0x80):
            data = bytearray(manifest_bytes)
            data[position] ^= mask
            with pytest.raises(VerificationError, match=r"`manifest\.json`"):
                decode(bytes(data))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000, b'{"a": 1e999}']
)
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(VerificationError, match=r"`manifest\.json`"):
        decode(data)


def test_equal_meaning_in_another_spelling_is_refused(manifest_bytes: bytes) -> None:
    compact = json.dumps(json.loads(manifest_bytes), sort_keys=True).encode()
    with pytest.raises(VerificationError, match="is changed"):
        decode(compact)


FILE = {"path": "a", "size_bytes": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"files": [FILE | {"path": "../a"}]}, "`files.0.path`"),
        ({"files": [FILE | {"size_bytes": -1}]}, "`files.0.size_bytes`"),
        ({"files": [FILE | {"sha256": "ABC"}]}, "`files.0.sha256`"),
        ({"files": [FILE, FILE]}, "`files` is not sorted"),
        ({"files": [FILE | {"path": "manifest.json"}]}, "lists a file that it must not"),
        ({"licence": {"files": ["GONE"], "status": "from the source"}}, "GONE"),
        ({"licence": {"files": [], "status": "from the source"}}, "`licence` does not fit"),
        ({"name": "Not A Name"}, "`name`"),
        ({"stage_keys": {"build": 7}}, "`stage_keys.build`"),
    ],
)
def test_a_sealed_manifest_that_is_wrong(
    manifest_bytes: bytes, changes: dict[str, Any], fact: str
) -> None:
    with pytest.raises(VerificationError) as caught:
        decode(spoiled(manifest_bytes, **changes))
    assert fact in "\n".join(caught.value.facts)


def test_another_format_is_said(manifest_bytes: bytes) -> None:
    with pytest.raises(VerificationError, match="has format 2, this version reads 1"):
        decode(spoiled(manifest_bytes, format=2))


def test_it_holds_nothing_of_the_run(manifest_bytes: bytes, tmp_path: Path) -> None:
    assert str(tmp_path.parent).encode() not in manifest_bytes
    assert (release_in(tmp_path) / "manifest.json").read_bytes() == manifest_bytes
