"""Two builds, equal bytes: also of graphs with experts, float masks and padded values."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.artifact import list_files
from tests.engines.tensorrt_backend.tensorrt_parts import build, limits
from tests.wide_checkpoints import write_wide


@pytest.mark.parametrize("name", ["deepseek-v2-lite", "bloom-bare"])
def test_two_builds_of_a_family_give_equal_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_wide(tmp_path / "source", name)
    first = build(source, tmp_path / "one", limits("sm80", "sm120"))
    monkeypatch.setenv("HOME", str(tmp_path / "another home"))
    monkeypatch.setenv("SOMETHING", "x" * 3000)
    folder = tmp_path / "elsewhere, with a longer name" / "two"
    folder.parent.mkdir()
    second = build(source, folder, limits("sm80", "sm120"))
    assert first == second
    assert (first["attention"], first["bytes_pinned"]) == ("fused", True)
    for file in list_files(folder):
        assert (tmp_path / "one" / file).read_bytes() == (folder / file).read_bytes(), file
