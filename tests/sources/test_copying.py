"""Copies and their digests, with and without the kernel's help."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from pipeline.sources import copying
from pipeline.sources.copying import copy_hashed, hash_file

CONTENT = bytes(range(256)) * 9000 + b"end"


def refuse(*_: object) -> int:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def part_then_refuse() -> object:
    calls = []

    def copy(reader: int, writer: int, _: int) -> int:
        if calls:
            raise OSError(errno.EINVAL, "Invalid argument")
        calls.append(1)
        return os.write(writer, os.read(reader, 1000))

    return copy


@pytest.mark.parametrize("kernel", [None, refuse, part_then_refuse(), lambda *_: 0])
def test_copy_is_whole_and_hashed(
    kernel: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel is not None:
        monkeypatch.setattr(os, "copy_file_range", kernel)
    monkeypatch.setattr(copying, "COPY_BYTES", 1_000_000)
    (tmp_path / "source").write_bytes(CONTENT)
    steps: list[int] = []
    digests = copy_hashed(tmp_path / "source", tmp_path / "copy", steps.append)
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert digests.size_bytes == sum(steps) == len(CONTENT)
    assert digests.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert not (tmp_path / "copy").samefile(tmp_path / "source")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    digests = copy_hashed(tmp_path / "source", tmp_path / "copy", lambda _: None)
    assert digests.size_bytes == 0
    assert digests.sha256 == hashlib.sha256().hexdigest()


def test_an_existing_target_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "copy").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        copy_hashed(tmp_path / "source", tmp_path / "copy", lambda _: None)
    assert (tmp_path / "copy").read_bytes() == b"old"


def test_full_disk_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 10)
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with (
        full.open("wb", buffering=0) as writer,
        (tmp_path / "source").open("rb") as reader,
        pytest.raises(OSError, match="No space left"),
    ):
        list(copying._copy_blocks(reader.fileno(), writer.fileno()))


def test_git_blob_is_what_git_says(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    # `git hash-object` of these six bytes, known everywhere
    assert hash_file(path, git_blob=True).git_blob == "ce013625030ba8dba906f756967f9e9ca394464a"
    path.write_bytes(CONTENT)
    try:
        found = subprocess.run(["git", "hash-object", path], capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    assert hash_file(path, git_blob=True).git_blob == found.stdout.decode().strip()
    assert hash_file(path, git_blob=False).git_blob == ""
    assert hash_file(path, git_blob=False).sha256 == hashlib.sha256(CONTENT).hexdigest()
