"""Timing caches that cannot be kept: a build is whole without them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.engines.trtllm import timing_caches
from pipeline.hardware import detect
from tests.engines.trtllm.building import build, checkpoint
from tests.standins import VERSIONS, Standin


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standin:
    made = Standin(tmp_path / "machine")
    made.use(monkeypatch)
    return made


@pytest.mark.parametrize("kind", ["folder", "fifo", "file in the way"])
def test_timings_that_cannot_be_kept_fail_no_build(
    standin: Standin, tmp_path: Path, kind: str
) -> None:
    """A FIFO would be waited for; a folder is replaced; a file in the folder's place stays."""
    source, cache = checkpoint(tmp_path / "checkpoint"), tmp_path / "cache"
    stored = timing_caches.cache_path(cache, detect().gpus[0], VERSIONS)
    if kind == "file in the way":
        cache.touch()
    else:
        stored.parent.mkdir(parents=True)
        os.mkfifo(stored) if kind == "fifo" else stored.mkdir()
    build(source, tmp_path / "out", cache_dir=cache)
    assert (tmp_path / "out" / "timing.cache").is_file()
    assert stored.is_file() == (kind != "file in the way")
