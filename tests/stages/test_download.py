"""The download stage."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.files.journal import JOURNAL_NAME
from pipeline.progress import Silent
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.local import open_local
from pipeline.stages.download import STAGE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "one"
    root.mkdir()
    (root / "config.json").write_bytes(b"{}")
    (root / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
    (root / "pytorch_model.bin").write_bytes(b"\x80")
    return root


def plan_of(folder: Path, *, hash_local: bool = True) -> Any:
    memory = DigestMemory(folder.parent / "store")
    source = open_local(folder.name, folder.parent, memory)
    return SimpleNamespace(source=source.hashed() if hash_local else source, pin=None)


def test_the_key_is_about_content(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "two")
    key = STAGE.key(plan_of(folder), {})
    assert key is not None
    assert STAGE.key(plan_of(tmp_path / "two"), {}) == key
    assert STAGE.key(plan_of(tmp_path / "two", hash_local=False), {}) is None
    (tmp_path / "two" / "config.json").write_bytes(b'{"a": 1}')
    assert STAGE.key(plan_of(tmp_path / "two"), {}) != key


def test_facts_say_what_was_read(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    facts = STAGE.run(plan_of(folder), {}, out, Silent())
    assert sorted(path.name for path in out.iterdir()) == [
        *(JOURNAL_NAME, "config.json", "model.safetensors")
    ]
    assert (facts["kind"], facts["repo"], facts["commit"]) == ("local", None, None)
    assert [file["name"] for file in facts["files"]] == ["config.json", "model.safetensors"]
    assert str(tmp_path) not in repr(facts)
    assert STAGE.summary(facts) == "local folder, 2 files, 0.0 MB"


def test_summary_of_a_repo() -> None:
    files = [{"name": "model.safetensors", "size_bytes": 1_519_400_000, "sha256": "0" * 64}]
    facts = {"kind": "hub", "repo": "acme/tiny", "commit": "0123456789abcdef", "files": files}
    assert STAGE.summary(facts) == "acme/tiny at 0123456789ab, 1 file, 1,519.4 MB"
