"""Conversions that are killed, and full disks: the next process goes on to equal bytes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import ResourceError
from pipeline.files.journal import JOURNAL_NAME
from tests import tiny
from tests.command import child_environment
from tests.weights.converting import convert, plan
from tests.weights.killing import digest
from tests.weights.resuming import contents, convert_on, tiny_steps

CONFIG = {
    **tiny.CONFIG,
    "vocab_size": 2003,
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
}
SEED = 20261125


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 MB of bfloat16."""
    return tiny.write_checkpoint(tmp_path_factory.mktemp("source") / "c", CONFIG)


def test_killed_at_any_time_it_ends_with_equal_bytes(source: Path, tmp_path: Path) -> None:
    whole = convert(plan(source, 2, 1, "float16"), source, tmp_path / "whole")
    command = [sys.executable, "-m", "tests.weights.killing", str(source), str(tmp_path)]
    done = subprocess.run(
        [*command, str(SEED), "10"],
        capture_output=True,
        text=True,
        check=False,
        env=child_environment(OPENBLAS_NUM_THREADS="1"),
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert set(facts["digests"]) == {digest(whole)}
    assert facts["grew"]  # nothing that was counted is ever done again
    assert facts["went_on"] >= 10


def test_dead_at_any_system_call_it_ends_with_equal_bytes(tmp_path: Path) -> None:
    config = {**tiny.CONFIG, "num_hidden_layers": 1, "vocab_size": 40}
    source = tiny.write_checkpoint(tmp_path / "source", config)
    whole = convert(plan(source, 2, 1, "float16"), source, tmp_path / "whole")
    done = subprocess.run(
        [sys.executable, "-m", "tests.weights.dying", str(source), str(tmp_path), "2"],
        capture_output=True,
        text=True,
        check=False,
        env=child_environment(OPENBLAS_NUM_THREADS="1"),
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["digests"] == [digest(whole)]
    assert facts["deaths"] > 80


LIMITED = """\
import resource, sys
from pathlib import Path
import pytest
from pipeline.errors import ResourceError
from tests.weights.converting import plan
from tests.weights.resuming import Told, convert_on, tiny_steps

BLOCK = 1 << 15
class Limiting(Told):
    def advance(self, amount):
        super().advance(amount)
        if self.written > 200_000:  # all files have their size by now
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

source, out, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
tiny_steps(pytest.MonkeyPatch())
try:
    convert_on(plan(source, 2, 1, "float16"), source, out, told=Limiting(), max_block_bytes=BLOCK)
except ResourceError as error:
    print(error.message, error.hint)
"""


@pytest.mark.parametrize("limit", [0, 300_000, 1_000_000])
def test_a_limit_of_file_sizes(limit: int, source: Path, tmp_path: Path) -> None:
    """Also one that leaves no room for the journal."""
    made, out = plan(source, 2, 1, "float16"), tmp_path / "out"
    whole = contents(convert(made, source, tmp_path / "whole"))
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(source), str(out), str(limit)],
        capture_output=True,
        text=True,
        check=True,
        env=child_environment(),
    )
    assert "File too large" in done.stdout
    assert "ulimit -f" in done.stdout
    assert not (out / "config.json").exists()
    told = convert_on(made, source, out, num_threads=2)
    assert 100_000 < told.skipped < made.target_bytes
    assert contents(out) == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)],
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def refuse(*_: int) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


@pytest.mark.parametrize("allocates", [True, False])
def test_a_full_disk(
    allocates: bool,
    source: Path,
    tmp_path: Path,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Told before any work where the file system can; else when it is full, and nothing is lost."""
    tiny_steps(monkeypatch)
    made, out = plan(source, 2, 1, "float16"), small_disk / "out"
    whole = contents(convert(made, source, tmp_path / "whole"))
    if not allocates:
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    out.mkdir()
    for _ in range(2):
        with pytest.raises(ResourceError, match="no space left to write `rank"):
            convert_on(made, source, out, max_block_bytes=1 << 15)
        assert not (out / "config.json").exists()
        assert (out / JOURNAL_NAME).exists() != allocates
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    told = convert_on(made, source, out, max_block_bytes=1 << 15)
    assert (told.skipped > 500_000) != allocates
    assert contents(out) == whole
