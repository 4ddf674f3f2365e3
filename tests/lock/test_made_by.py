"""By which tools an artifact was made: recorded, held to a frozen lock, named by the release."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifact import read_artifact
from pipeline.inspection import inspect_path, inspection_text
from pipeline.lock.document import lock_path
from tests.lock.conftest import Answer, Command


def refusal(answer: Answer) -> list[str]:
    """The problems of a refused run, less the folders of the store."""
    assert answer.code == 6
    return [line.strip() for line in answer.err.splitlines() if "`: locked " in line]


def test_an_artifact_says_by_what_it_was_made(
    recipe: Path, command: Command, versions: dict[str, str | None], tmp_path: Path
) -> None:
    versions["numpy"] = "99.1"
    assert command("convert", recipe).code == 0
    del versions["numpy"]
    built = command("build", recipe, "--json")
    made = {
        stage: read_artifact(next((tmp_path / "store" / "artifacts" / stage).iterdir())).manifest
        for stage in ("download", "convert", "verify", "build")
    }
    assert built.code == 0
    assert made["download"].made_by == {}
    assert made["convert"].made_by["convert"]["numpy"] == "99.1"
    assert made["verify"].made_by["verify"]["numpy"] == "99.1"
    tools = made["build"].made_by
    assert tools.keys() == {"convert", "build"}
    assert tools["convert"] == made["convert"].made_by["convert"]
    assert tools["build"].keys() == {
        *("ml_dtypes", "numpy", "onnx", "onnxruntime", "protobuf", "trtllm-pack")
    }
    assert tools["build"]["numpy"] == metadata.version("numpy")


def test_a_frozen_run_reuses_nothing_that_other_tools_have_made(
    recipe: Path, command: Command, versions: dict[str, str | None], tmp_path: Path
) -> None:
    assert command("lock", recipe).code == 0
    right = metadata.version("numpy")
    versions["numpy"] = "99.1"
    assert command("convert", recipe).code == 0
    del versions["numpy"]
    for name in ("convert", "plan", "run"):
        refused = command(name, recipe, "--frozen")
        told = f"`numpy`: locked {right}, made by 99.1"
        assert refusal(refused) == [told, f"{told} (in `convert`, `verify`)"]
        assert "convert: the artifact in the store is not made by the tools of" in refused.err
        assert f"hint: delete `{tmp_path / 'store' / 'artifacts' / 'convert'}" in refused.err
    # Not even where it is hidden by what was made of it.
    assert command("build", recipe).code == 0
    convert = next((tmp_path / "store" / "artifacts" / "convert").iterdir())
    shutil.rmtree(convert)
    assert command("convert", recipe).code == 0
    assert f"{told} (in `convert`)" in refusal(command("build", recipe, "--frozen"))
    assert (
        f"hint: delete `{tmp_path / 'store' / 'artifacts'}"
        in command("build", recipe, "--frozen").err
    )
    shutil.rmtree(tmp_path / "store" / "artifacts" / "verify")
    shutil.rmtree(tmp_path / "store" / "artifacts" / "build")
    assert command("build", recipe, "--frozen").code == 0


def test_an_artifact_that_does_not_say_by_what_is_not_reused_by_a_frozen_run(
    recipe: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("lock", recipe).code == 0
    with monkeypatch.context() as older:
        older.setattr("pipeline.run.tools_of", lambda *_: {})
        assert command("convert", recipe).code == 0
    refused = command("convert", recipe, "--frozen")
    assert refused.code == 6
    assert "an older version of trtllm-pack has made it" in refused.err
    assert command("convert", recipe).code == 0


def test_what_another_process_made_meanwhile_is_held_to_the_lock_too(
    recipe: Path,
    command: Command,
    versions: dict[str, str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pipeline.run

    assert command("lock", recipe).code == 0
    refuse = pipeline.run._refuse_problems
    calls = []

    def another_process_is_faster(*arguments: Any) -> None:
        refuse(*arguments)
        calls.append(arguments)
        if len(calls) == 1:
            versions["numpy"] = "99.1"
            monkeypatch.setattr(pipeline.run, "_refuse_problems", refuse)
            assert command("convert", recipe).code == 0
            del versions["numpy"]

    monkeypatch.setattr(pipeline.run, "_refuse_problems", another_process_is_faster)
    refused = command("convert", recipe, "--frozen")
    assert calls
    assert refusal(refused) == [f"`numpy`: locked {metadata.version('numpy')}, made by 99.1"]


def test_a_release_names_all_tools_whose_work_is_in_it(
    recipe: Path, command: Command, versions: dict[str, str | None], tmp_path: Path
) -> None:
    assert command("lock", recipe).code == 0
    lock = json.loads(lock_path(recipe).read_text())
    assert command("run", recipe, "--frozen", "--out", tmp_path / "out").code == 0
    manifest = json.loads((tmp_path / "out" / "tiny" / "manifest.json").read_bytes())
    assert manifest["lock"]["tools"] == {**lock["tools"], **lock["build_tools"]["onnxruntime"]}
    assert manifest["lock"]["source"]["files"] == lock["sources"][0]["files"]
    shown = inspect_path(tmp_path / "out" / "tiny")
    assert shown["tools"] == manifest["lock"]["tools"]
    assert f"  ml_dtypes     {lock['tools']['ml_dtypes']}\n" in inspection_text(shown)
    # One that was put together from the work of two versions has both.
    versions["numpy"] = "99.1"
    shutil.rmtree(tmp_path / "store" / "artifacts" / "verify")
    shutil.rmtree(tmp_path / "store" / "artifacts" / "package")
    assert command("run", recipe, "--out", tmp_path / "out").code == 0
    manifest = json.loads((tmp_path / "out" / "tiny" / "manifest.json").read_bytes())
    assert manifest["lock"]["tools"]["numpy"] == f"{lock['tools']['numpy']}, 99.1"


def test_what_an_artifact_of_others_says_does_no_harm(
    recipe: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("lock", recipe).code == 0
    with monkeypatch.context() as hostile:
        many = {f"a{number}\x1b[2J": "\x1b]0;\x07" for number in range(1000)}
        hostile.setattr("pipeline.run.tools_of", lambda *_: many)
        assert command("convert", recipe).code == 0
    refused = command("convert", recipe, "--frozen")
    assert (refused.code, "\x1b" in refused.err) == (6, False)
    assert "`a0\\x1b[2J`: locked nothing, made by \\x1b]0;\\x07" in refused.err
    assert len(refused.err.splitlines()) < 200
