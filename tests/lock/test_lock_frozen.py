"""`--frozen` on a local source: whatever differs from the lock is refused and named."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from pipeline.lock.document import lock_path
from tests.lock.conftest import LOCAL, Command

COMMANDS = ("run", "download", "convert", "build", "smoke", "package", "plan")


def changed(path: Path, data: bytes) -> None:
    """Write a file; its old time must not hide the change, nor its new one delay the memory."""
    path.write_bytes(data)
    old = time.time() - 60
    os.utime(path, (old, old))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_plans_needs_the_lock(name: str, recipe: Path, command: Command) -> None:
    refused = command(name, recipe, "--frozen")
    assert refused.code == 3
    assert f"`{recipe}` has no lock" in refused.err
    assert f"hint: run `trtllm-pack lock {recipe}`" in refused.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_plans_refuses_another_source(
    name: str, recipe: Path, command: Command
) -> None:
    assert command("lock", recipe).code == 0
    licence = recipe.parent / "checkpoint" / "LICENSE"
    changed(licence, licence.read_bytes().replace(b"e", b"E", 1))
    refused = command(name, recipe, "--frozen")
    assert refused.code == 6
    assert "`LICENSE`: locked SHA-256 `fda846a78aed" in refused.err


def test_every_difference_is_named(recipe: Path, command: Command) -> None:
    assert command("lock", recipe).code == 0
    folder = recipe.parent / "checkpoint"
    (folder / "chat_template.jinja").write_bytes(b"{{ messages }}")
    (folder / "generation_config.json").unlink()
    licence = (folder / "LICENSE").read_bytes()
    changed(folder / "LICENSE", licence[:-1] + b"!")
    changed(folder / "config.json", (folder / "config.json").read_bytes() + b" ")
    refused = command("plan", recipe, "--frozen", "--json")
    assert refused.code == 6
    error = json.loads(refused.out)["error"]
    assert (error["kind"], error["exit_code"]) == ("VerificationError", 6)
    licence_line, *others = error["facts"]
    assert licence_line.startswith("`LICENSE`: locked SHA-256 `fda846a78aed")
    assert others == [
        "`chat_template.jinja`: not locked, found 14 bytes",
        "`config.json`: locked 688 bytes, found 689 bytes",
        "`generation_config.json`: locked 124 bytes, not found",
    ]
    assert "trtllm-pack lock" in error["hint"]


def test_without_frozen_what_differs_is_told_in_a_line(recipe: Path, command: Command) -> None:
    assert command("lock", recipe).code == 0
    for _ in range(2):
        same = command("download", recipe)
        assert (same.code, "note: " in same.err) == (0, False)
    (recipe.parent / "checkpoint" / "chat_template.jinja").write_bytes(b"{{ messages }}")
    (recipe.parent / "checkpoint" / "LICENSE").write_bytes(b"mine")
    told = command("download", recipe)
    assert told.code == 0
    assert told.err.splitlines()[0] == (
        "note: the source differs from `tiny.lock.json`: `LICENSE`: locked 436 bytes, found 4 "
        "bytes, and 1 more"
    )
    assert "note: " not in command("download", recipe, "--quiet").err


def test_a_source_that_is_no_checkpoint_any_more_is_named_by_file(
    recipe: Path, command: Command
) -> None:
    assert command("lock", recipe).code == 0
    (recipe.parent / "checkpoint" / "model-00002-of-00002.safetensors").unlink()
    refused = command("download", recipe, "--frozen")
    assert refused.code == 6
    assert "`model-00002-of-00002.safetensors`: locked 888,848 bytes, not found" in refused.err
    assert "names 1 weight files that are not there" in refused.err


def test_a_change_after_the_plan_is_found_by_the_download(
    recipe: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("lock", recipe).code == 0
    from pipeline.sources.local import LocalSource

    fetch = LocalSource.fetch

    def corrupting(self: LocalSource, *arguments: object) -> object:
        records = fetch(self, *arguments)  # type: ignore[arg-type]
        return [{**record, "sha256": "0" * 64} for record in records]

    monkeypatch.setattr(LocalSource, "fetch", corrupting)
    refused = command("download", recipe, "--frozen")
    assert refused.code == 6
    assert refused.err.count("`: locked SHA-256 `") == 8


def test_another_source_than_the_locked_one_is_the_users(recipe: Path, command: Command) -> None:
    assert command("lock", recipe).code == 0
    (recipe.parent / "checkpoint").rename(recipe.parent / "elsewhere")
    recipe.write_text(LOCAL.replace("checkpoint", "elsewhere"))
    refused = command("plan", recipe, "--frozen")
    assert refused.code == 3
    assert "asked: `elsewhere`" in refused.err
    assert "locked: `checkpoint`" in refused.err
    told = command("plan", recipe)
    assert told.code == 0
    assert "note: `tiny.lock.json` does not lock the source that is asked for" in told.err
    assert command("recipes", "check", recipe).code == 3
    moved = command("lock", recipe)
    assert "  - checkpoint: 8 files, 1.9 MB" in moved.out
    assert "  + elsewhere: 8 files, 1.9 MB" in moved.out
    assert command("recipes", "check", recipe).code == 0


def test_set_is_in_no_lock_but_the_same_source_is_the_same(
    recipe: Path, command: Command, tmp_path: Path
) -> None:
    assert command("lock", recipe).code == 0
    same = Path(os.path.relpath(recipe.parent / "checkpoint"))
    assert command("plan", recipe, "--frozen", "--set", f"source.path={same}").code == 0
    assert command("plan", recipe, "--frozen", "--set", "checkpoint.dtype=float16").code == 0
    refused = command("plan", recipe, "--frozen", "--set", "source.repo=acme/tiny")
    assert refused.code == 3
    assert "`--set`" in refused.err


def test_a_path_of_a_parent_recipe_counts_from_the_lock(
    recipe: Path, command: Command, tmp_path: Path
) -> None:
    child = tmp_path / "child" / "mine.yaml"
    child.parent.mkdir()
    child.write_text("extends: ../recipes/tiny.yaml\nname: mine\n")
    assert command("lock", child).code == 0
    text = lock_path(child).read_text()
    assert '"asked": {"path": "../recipes/checkpoint"}' in text
    assert str(tmp_path) not in text
    assert command("plan", child, "--frozen").code == 0
