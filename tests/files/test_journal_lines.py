"""Journals on a disk: torn, damaged, of another boot, half written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.files import journal
from pipeline.files.journal import Journal, clear, read_journal

VALUES = [{"plan": "p"}, [1, "a"], [2, "ü"], [30, ""]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of four lines; the third is not synced."""
    path = tmp_path / ".journal"
    written = Journal.create(path)
    for number, value in enumerate(VALUES):
        written.append(value, synced=number != 2)
    written.close()
    return path


def values(path: Path) -> list[Any]:
    return [line.value for line in read_journal(path)]


def test_lines_are_read_as_they_were_written(path: Path) -> None:
    lines = read_journal(path)
    assert [line.value for line in lines] == VALUES
    assert [line.is_synced for line in lines] == [True, True, False, True]
    assert all(line.is_trusted for line in lines)
    assert lines[-1].end == path.stat().st_size
    assert read_journal(path.with_name("none")) == []


def test_a_torn_journal_ends_with_its_last_whole_line(path: Path) -> None:
    data = path.read_bytes()
    ends = [line.end for line in read_journal(path)]
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        assert values(path) == VALUES[: sum(end <= length for end in ends)]
        path.write_bytes(data[:length] + bytes(200))  # as a power cut can leave a file
        assert values(path) == VALUES[: sum(end <= length for end in ends)]


def test_a_damaged_journal_ends_before_the_damage(path: Path) -> None:
    data = path.read_bytes()
    ends = [line.end for line in read_journal(path)]
    for place in range(len(data)):
        for bit in (1, 0x80):
            path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
            assert values(path) == VALUES[: sum(end <= place for end in ends)]


def test_lines_of_one_journal_do_not_count_in_another(path: Path, tmp_path: Path) -> None:
    other = Journal.create(tmp_path / "other")
    other.append({"plan": "q"}, synced=True)
    other.close()
    first, *rest = path.read_bytes().splitlines(keepends=True)
    mixed = tmp_path / "mixed"
    mixed.write_bytes((tmp_path / "other").read_bytes() + b"".join(rest))
    assert values(mixed) == [{"plan": "q"}]
    mixed.write_bytes(first + rest[1] + rest[0])
    assert values(mixed) == VALUES[:1]


@pytest.mark.parametrize("boot", ["another", ""])
def test_after_a_restart_only_synced_lines_count(
    boot: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "boot_id", lambda: boot)
    assert [line.is_trusted for line in read_journal(path)] == [True, True, False, True]


def test_this_system_names_its_boot() -> None:
    if not Path("/proc/sys/kernel/random/boot_id").exists():
        pytest.skip("this system has none")
    assert len(journal.boot_id()) == 36


def test_continuing_drops_what_stands_after(path: Path) -> None:
    second = read_journal(path)[1]
    again = Journal.continued(path, second)
    again.append([7], synced=True)
    assert values(path) == [*VALUES[:2], [7]]
    again.go_back_to(second)
    again.append([8, "a longer one"], synced=False)
    again.sync()
    again.close()
    assert values(path) == [*VALUES[:2], [8, "a longer one"]]


def test_a_line_that_cannot_be_written_is_as_if_it_was_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Journal.continued(path, read_journal(path)[-1])
    write = os.pwrite

    def half(descriptor: int, data: bytes, place: int) -> int:
        monkeypatch.setattr(os, "pwrite", full)
        return write(descriptor, data[:20], place)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(OSError, match="No space left"):
        again.append(["a line that is longer than the next"], synced=True)
    assert values(path) == VALUES
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[:7], at))
    again.append([9], synced=True)
    again.append([10], synced=True)
    again.close()
    assert values(path) == [*VALUES, [9], [10]]


def test_what_is_no_file_of_ours_is_not_read(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        read_journal(tmp_path / "link")
    with pytest.raises(FileExistsError):
        Journal.create(path)
    for data in (b"", b"\n", b"\xff" * 100 + b"\n", b"0" * 32 + b" synced 1\n", b"{}\n" * 9):
        path.write_bytes(data)
        assert values(path) == []


def test_clearing_leaves_what_is_named(tmp_path: Path) -> None:
    folder, outside = tmp_path / "work", tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    outside.mkdir()
    for file in (folder / ".journal", folder / "sub" / "file", outside / "file"):
        file.touch()
    (folder / "link").symlink_to(outside)
    (folder / "kept").touch()
    clear(folder, but=["kept"])
    assert [path.name for path in folder.iterdir()] == ["kept"]
    assert (outside / "file").exists()
