"""Artifacts: whole or none, damage is seen, bytes are hashed once."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from published import KEY, publish

from pipeline.artifact import (
    MANIFEST_NAME,
    canonical_json,
    check_digests,
    digest_json,
    list_files,
    read_artifact,
)
from pipeline.errors import MachineError, VerificationError
from pipeline.files.digests import READ_BYTES, digest_file
from pipeline.store import Store


def test_published_artifact_is_found_whole(store: Store) -> None:
    made = publish(store, {"a.bin": b"abc", "sub/b.bin": b"defg"})
    found = store.find("convert", KEY)
    assert found == made
    assert [entry.path for entry in made.manifest.files] == ["a.bin", "sub/b.bin"]
    assert made.size_bytes == 7
    assert made.facts == {"num": 1}
    assert made.manifest.inputs == {"download": "cd" * 32}
    assert not list((store.root / "work").iterdir())


def test_a_changed_byte_is_named_where_all_are_read(store: Store) -> None:
    made = publish(store, {"rank0.engine": b"abc", "rank1.engine": b"defg"})
    check_digests(made)
    changed = made.path / "rank1.engine"
    changed.chmod(0o644)
    changed.write_bytes(b"deFg")  # of the same size: opening it sees nothing
    assert store.find("convert", KEY) == made
    with pytest.raises(VerificationError) as caught:
        check_digests(made)
    (fact,) = caught.value.facts
    assert fact.startswith("`rank1.engine` is changed: BLAKE3 ")


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_damage_is_an_error_not_a_reuse(store: Store, damage: str) -> None:
    path = publish(store, {"a.bin": b"abc"}).path / "a.bin"
    path.chmod(0o644)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"ab")
    with pytest.raises(VerificationError, match="damaged") as caught:
        store.find("convert", KEY)
    assert "a.bin" in caught.value.facts[0]
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"format": 2, "files": []}', b'{"format": 1, "files": [{"x": 1}]}'],
)
def test_a_manifest_that_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(text)
    with pytest.raises(VerificationError, match="not a valid manifest"):
        read_artifact(tmp_path)


@pytest.mark.parametrize("name", ["../up", "/abs", "a/../../up"])
def test_a_manifest_may_not_name_files_outside(tmp_path: Path, name: str) -> None:
    document = {
        "format": 1,
        "stage": "convert",
        "key": KEY,
        "inputs": {},
        "facts": {},
        "files": [{"path": name, "size_bytes": 0, "blake3": "0" * 64}],
    }
    (tmp_path / MANIFEST_NAME).write_bytes(canonical_json(document))
    with pytest.raises(VerificationError, match="outside"):
        read_artifact(tmp_path)


@pytest.mark.parametrize(
    "made_by", [None, [], "numpy", {"convert": None}, {"convert": ["numpy"]}, {"convert": {"a": 1}}]
)
def test_a_manifest_says_by_what_it_was_made_or_nothing(tmp_path: Path, made_by: object) -> None:
    document = {"stage": "convert", "key": KEY, "inputs": {}, "facts": {}, "files": [], "format": 1}
    path = tmp_path / MANIFEST_NAME
    path.write_bytes(canonical_json(document))
    assert read_artifact(tmp_path).manifest.made_by == {}
    path.write_bytes(canonical_json({**document, "made_by": {"convert": {"numpy": "2.4.6"}}}))
    assert read_artifact(tmp_path).manifest.made_by == {"convert": {"numpy": "2.4.6"}}
    path.write_bytes(canonical_json({**document, "made_by": made_by}))
    with pytest.raises(VerificationError, match="not a valid manifest"):
        read_artifact(tmp_path)


def test_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(VerificationError, match="symbolic link"):
        list_files(tmp_path)


def test_a_manifest_that_cannot_be_read_is_a_plain_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = publish(store, {"a.bin": b"abc"})

    def refused(path: Path, max_bytes: int) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("pipeline.artifact.read_small", refused)
    with pytest.raises(MachineError, match="cannot be read: Permission denied"):
        read_artifact(artifact.path)


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": 1, "a": ["é"]}) == '{"a":["é"],"b":1}'.encode()
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": 2})


def test_bytes_are_read_once_by_a_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = publish(store, {"a.bin": b"abc"})
    path = made.path / "a.bin"
    settled = time.time_ns() - 3_000_000_000
    os.utime(path, ns=(settled, settled))
    check_digests(made)
    monkeypatch.setattr("pipeline.files.digests.digest_file", lambda *_: pytest.fail("read again"))
    check_digests(made)
    path.chmod(0o644)
    path.write_bytes(b"abd")
    monkeypatch.undo()
    with pytest.raises(VerificationError, match="damaged"):
        check_digests(made)


def test_a_file_that_has_just_been_written_is_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Also on a machine that is busy.
    monkeypatch.setattr("pipeline.files.digests.SETTLED_NS", 10**15)
    made = publish(store, {"a.bin": b"abc"})
    path = made.path / "a.bin"
    check_digests(made)
    state = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"abd")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # as within one tick of the clock
    with pytest.raises(VerificationError, match="damaged"):
        check_digests(made)


def test_a_file_that_is_gone_is_a_plain_error(store: Store) -> None:
    made = publish(store, {"a.bin": b"abc"})
    (made.path / "a.bin").unlink()
    with pytest.raises(MachineError, match="cannot be read: No such file"):
        check_digests(made)


def test_a_file_that_gets_shorter_while_it_is_read_does_not_end_the_process(tmp_path: Path) -> None:
    """Nor does a disk that fails: a process that has a file mapped gets a signal in both cases."""
    path = tmp_path / "a.bin"
    path.touch()
    os.truncate(path, 1 << 29)
    code = (
        "import sys; from pathlib import Path; from pipeline.files.digests import digest_file\n"
        "print('reading', flush=True); digest_file(Path(sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"reading\n"
        time.sleep(0.1)
        os.truncate(path, 0)
    assert child.returncode == 0


def test_a_file_is_read_whole_whatever_its_size(tmp_path: Path) -> None:
    from blake3 import blake3

    path = tmp_path / "a.bin"
    for size in (0, 1, READ_BYTES, READ_BYTES + 1, 2 * READ_BYTES + 7):
        data = os.urandom(size)
        path.write_bytes(data)
        assert digest_file(path) == blake3(data).hexdigest()


def test_a_damaged_manifest_comes_with_a_hint(store: Store) -> None:
    made = publish(store, {"a.bin": b"abc"})
    (made.path / MANIFEST_NAME).chmod(0o644)
    (made.path / MANIFEST_NAME).write_text("{")
    with pytest.raises(VerificationError, match="not a valid manifest") as caught:
        store.find("convert", KEY)
    assert caught.value.hint
