"""Temporary folders: none of a dead process stays, none of a living one goes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.files.scratch import SOCKET_FOLDER_BYTES, scratch_folder, scratch_path, sweep
from tests.command import child_environment

MAKE_AND_DIE = (
    "import os\n"
    "from pipeline.files.scratch import scratch_folder\n"
    "with scratch_folder() as folder:\n"
    "    (folder / 'x').write_text('x')\n"
    "    print(folder, flush=True)\n"
    "    input()\n"
    "    os.kill(os.getpid(), 9)\n"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_gone_at_the_end_and_private(tmp_path: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "x").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept_by_the_next_and_no_sooner(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", MAKE_AND_DIE],
        env=child_environment(TMPDIR=str(tmp_path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        folder = Path(child.stdout.readline().strip())
        assert folder.parent == tmp_path
        sweep(tmp_path)
        assert (folder / "x").exists(), "it is alive"
        child.communicate("\n")
    assert folder.exists()
    (tmp_path / "trtllm-pack-something").mkdir()
    with scratch_folder():
        assert not folder.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["trtllm-pack-something"]


def test_another_number_space_is_not_judged(tmp_path: Path) -> None:
    other = tmp_path / "trtllm-pack-00000000-1-1-abcd"
    other.mkdir()
    sweep(tmp_path)
    assert other.exists()


def test_sockets_get_a_short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    assert scratch_path().parent == deep
    path = scratch_path(SOCKET_FOLDER_BYTES)
    assert path.parent == Path("/tmp")
    assert len(os.fsencode(path)) <= SOCKET_FOLDER_BYTES
