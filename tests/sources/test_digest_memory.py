"""The memory of digests: right, shared, and never the reason of a failure."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.errors import MachineError
from pipeline.sources.digest_memory import FILE_NAME, DigestMemory

A = hashlib.sha256(b"aaaa").hexdigest()
B = hashlib.sha256(b"bbbb").hexdigest()


def age(path: Path, seconds: float = 60) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"aaaa")
    age(path)
    return path


@pytest.fixture
def memory(tmp_path: Path) -> DigestMemory:
    return DigestMemory(tmp_path / "store")


def test_remembers_across_instances(path: Path, memory: DigestMemory) -> None:
    assert memory.recall(path) is None
    assert memory.digest(path) == A
    assert DigestMemory(memory.root).recall(path) == A


def test_a_link_is_its_file(path: Path, memory: DigestMemory, tmp_path: Path) -> None:
    memory.digest(path)
    (tmp_path / "link").symlink_to(path)
    assert memory.recall(tmp_path / "link") == A


@pytest.mark.parametrize("change", ["content", "time", "inode"])
def test_a_changed_file_is_hashed_again(change: str, path: Path, memory: DigestMemory) -> None:
    memory.digest(path)
    if change == "inode":
        other = path.with_name("other")
        other.write_bytes(b"bbbb")
        os.utime(other, ns=(0, path.stat().st_mtime_ns))
        other.rename(path)
    else:
        path.write_bytes(b"bbbb")
        age(path, 30)
    assert memory.recall(path) is None
    assert memory.digest(path) == B


def test_a_file_that_may_still_change_is_not_remembered(
    path: Path, memory: DigestMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Also on a machine that is busy.
    monkeypatch.setattr("pipeline.sources.digest_memory.SETTLED_NS", 10**15)
    path.write_bytes(b"aaaa")
    assert memory.digest(path) == A
    assert memory.recall(path) is None


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b""])
def test_a_damaged_database_is_replaced(damage: bytes, path: Path, memory: DigestMemory) -> None:
    memory.root.mkdir()
    (memory.root / FILE_NAME).write_bytes(damage)
    assert memory.digest(path) == A
    assert memory.digest(path) == A
    assert memory.recall(path) == A


def test_a_damaged_row_is_forgotten(path: Path, memory: DigestMemory) -> None:
    memory.digest(path)
    with sqlite3.connect(memory.root / FILE_NAME) as connection:
        connection.execute("UPDATE digests SET sha256 = ?", (B,))
    connection.close()
    assert memory.recall(path) is None
    assert memory.digest(path) == A


def test_an_unwritable_store_forgets(path: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the store should be")
    memory = DigestMemory(tmp_path / "store")
    assert memory.digest(path) == A
    assert memory.recall(path) is None
    memory.forget(path)


def test_forget(path: Path, memory: DigestMemory) -> None:
    memory.digest(path)
    memory.forget(path)
    assert memory.recall(path) is None


def test_missing_file(memory: DigestMemory, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be read"):
        memory.digest(tmp_path / "missing")


def test_names_that_are_not_utf8(memory: DigestMemory, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    path.write_bytes(b"aaaa")
    age(path)
    assert memory.digest(path) == A


def test_many_processes_share_it(tmp_path: Path, memory: DigestMemory) -> None:
    paths = [tmp_path / f"file{number}" for number in range(40)]
    for number, path in enumerate(paths):
        path.write_bytes(b"%d" % number)
        age(path)
    code = (
        "import sys; from pathlib import Path;"
        "from pipeline.sources.digest_memory import DigestMemory;"
        "memory = DigestMemory(Path(sys.argv[1]));"
        "[memory.digest(Path(p)) for p in sys.argv[2:]]"
    )
    command = [sys.executable, "-c", code, str(memory.root), *map(str, paths)]
    children = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    assert [(child.communicate()[1], child.returncode) for child in children] == [(b"", 0)] * 4
    for number, path in enumerate(paths):
        assert memory.recall(path) == hashlib.sha256(b"%d" % number).hexdigest()


def test_a_database_that_is_locked_for_ever_is_waited_for_once(
    path: Path, memory: DigestMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without locks looks like that, too."""
    monkeypatch.setattr("pipeline.sources.digest_memory.BUSY_S", 0.01)
    monkeypatch.setattr("pipeline.sources.digest_memory._GIVEN_UP", set())
    memory.digest(path)
    with closing(sqlite3.connect(memory.root / FILE_NAME)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert memory.recall(path) is None
        assert memory.digest(path) == A
    monkeypatch.setattr(sqlite3, "connect", lambda *_, **__: pytest.fail("waited again"))
    assert memory.digest(path) == A
