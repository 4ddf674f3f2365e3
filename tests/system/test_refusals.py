"""What the system refuses, as errors with facts: one table, whatever way the refusal came."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from pipeline.errors import (
    LockedError,
    MachineError,
    PipelineError,
    ResourceError,
    ToolFailed,
    UsageError,
    VerificationError,
)
from pipeline.system.meanings import MEANINGS
from pipeline.system.refusals import explain, file_error

KINDS = {
    ResourceError: "ENOSPC EDQUOT EFBIG EMFILE ENFILE ENOMEM EAGAIN",
    MachineError: "EACCES EPERM EROFS EIO ESTALE ENXIO EREMOTEIO EUCLEAN ENOENT ENOTCONN ENOLCK",
    UsageError: "ENAMETOOLONG ELOOP ENOTDIR EISDIR",
    LockedError: "ETXTBSY EBUSY",
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in KINDS.items() for name in names.split()]
)
def test_every_number_has_its_kind(kind: type[PipelineError], name: str, tmp_path: Path) -> None:
    path = tmp_path / "no such folder" / "x"
    number = getattr(errno, name)
    error = explain(OSError(number, os.strerror(number), str(path)), "stage `build`")
    assert type(error) is kind
    assert error.message.startswith("stage `build` ")
    assert f"`{path}`: {os.strerror(number)}" in error.message
    assert error.hint


def test_every_row_is_a_sentence() -> None:
    assert len(MEANINGS) > 40
    for meaning in MEANINGS.values():
        assert meaning.said[0].islower()
        assert meaning.hint[0].islower()
        assert not (meaning.said + meaning.hint).endswith(".")


def test_a_full_disk_is_told_with_its_free_bytes(tmp_path: Path) -> None:
    error = explain(OSError(errno.ENOSPC, "No space left on device"), "stage `x`", tmp_path)
    assert error is not None
    assert error.exit_code == 7
    assert "free there: " in error.facts[0]
    assert any(fact.startswith("file system: `") for fact in error.facts)
    assert error.facts[-1] == "what was finished before is intact"


def test_only_what_lies_at_a_place_names_it(tmp_path: Path) -> None:
    full = explain(OSError(errno.ENOSPC, "No space left on device"), "stage `x`", tmp_path)
    short = explain(MemoryError(), "stage `x`", tmp_path)
    assert full is not None
    assert short is not None
    assert full.message.endswith(f": `{tmp_path}`: No space left on device")
    assert short.message == "stage `x` ran out of memory"


def test_a_failing_disk_is_named(tmp_path: Path) -> None:
    error = explain(OSError(errno.EIO, "Input/output error", str(tmp_path)), "`inspect`")
    assert isinstance(error, MachineError)
    assert "mounted on" in error.facts[0]
    assert "what was finished before is intact" not in error.facts


def test_the_target_of_a_rename_is_the_file_that_is_named() -> None:
    error = explain(OSError(errno.EACCES, "Permission denied", "/a", None, "/b"), "stage `x`")
    assert error is not None
    assert "`/b`" in error.message


@pytest.mark.parametrize(
    ("raised", "kind", "part"),
    [
        (MemoryError(), ResourceError, "ran out of memory"),
        (RecursionError("maximum recursion depth exceeded"), ResourceError, "nested too deeply"),
        (RuntimeError("can't start new thread"), ResourceError, "another process or thread"),
        (BlockingIOError(errno.EAGAIN, "fork"), ResourceError, "another process or thread"),
        (ImportError("libx.so: failed to map segment from shared object"), ResourceError, "memory"),
        (ImportError("libx.so: cannot open: Too many open files"), ResourceError, "open files"),
        (ValueError("I/O error: No space left on device (os error 28)"), ResourceError, "disk"),
        (ValueError("Input/output error (os error 5)"), MachineError, "failing disk"),
        (RuntimeError("std::bad_alloc"), ResourceError, "ran out of memory"),
        (OSError("Consistency check failed"), None, ""),
        (ValueError("no such thing"), None, ""),
        (ToolFailed("No space left on device"), None, ""),
        (KeyboardInterrupt(), None, ""),
    ],
)
def test_what_comes_in_other_ways(
    raised: BaseException, kind: type[PipelineError] | None, part: str
) -> None:
    error = explain(raised, "stage `x`")
    assert (type(error) if error is not None else None) is kind
    assert error is None or part in error.message


def test_sqlite_is_led_back_to_the_same_kinds(tmp_path: Path) -> None:
    path = tmp_path / "digests.sqlite"
    path.write_bytes(b"this is no database, but long enough to be looked at" * 40)
    with pytest.raises(sqlite3.DatabaseError) as damaged, sqlite3.connect(path) as connection:
        connection.execute("create table t (x)")
    assert isinstance(explain(damaged.value, "stage `x`", path), VerificationError)
    connection.close()
    with pytest.raises(sqlite3.OperationalError) as absent:
        sqlite3.connect(tmp_path / "no" / "such.sqlite")
    assert isinstance(explain(absent.value, "stage `x`", path), MachineError)
    codes = {13: ResourceError, 3082: ResourceError, 5: LockedError, 8: MachineError}
    for code, kind in codes.items():
        error = sqlite3.OperationalError("it failed")
        error.sqlite_errorcode = code
        assert isinstance(explain(error, "stage `x`", path), kind)


def test_a_current_folder_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    with pytest.raises(FileNotFoundError) as raised:
        Path.cwd()
    error = explain(raised.value, "this command")
    assert isinstance(error, MachineError)
    assert "in a folder that has been removed" in error.message
    assert error.hint is not None
    assert "`cd`" in error.hint


def test_one_file_is_the_machines_fault_unless_something_ran_out() -> None:
    denied = file_error(OSError(errno.EACCES, "Permission denied"), "a", "cannot be read", "ask")
    assert type(denied) is MachineError
    assert (denied.message, denied.hint) == ("`a` cannot be read: Permission denied", "ask")
    for number in (errno.EIO, errno.ESTALE, errno.EOWNERDEAD):
        assert file_error(OSError(number, "it failed"), "a", "cannot be read").hint
    short = file_error(OSError(errno.EMFILE, "Too many open files"), "a", "cannot be read")
    assert type(short) is ResourceError
    assert "RLIMIT_NOFILE" in short.facts[0]
