"""Tools in a lock: which count for which stage, what stays locked, what a frozen run refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.lock import tools
from pipeline.lock.document import lock_path
from tests.lock.conftest import LOCAL, Command


def test_tools_count_for_the_stages_that_would_work(
    recipe: Path, command: Command, versions: dict[str, str | None]
) -> None:
    assert command("lock", recipe).code == 0
    versions["ml_dtypes"] = "9.9"
    assert command("download", recipe, "--frozen").code == 0
    refused = command("convert", recipe, "--frozen")
    assert refused.code == 6
    assert "convert: the tools are not those of `tiny.lock.json`" in refused.err
    assert "`ml_dtypes`: locked 0." in refused.err
    assert "found 9.9" in refused.err
    del versions["ml_dtypes"]
    assert command("convert", recipe, "--frozen").code == 0
    # What is converted needs none of them any more.
    versions["ml_dtypes"] = "9.9"
    assert command("convert", recipe, "--frozen").code == 0

    shown = command("plan", recipe, "--frozen", "--json")
    assert shown.code == 6
    stages = [problem["stage"] for problem in json.loads(shown.out)["problems"]]
    assert stages == ["build"]
    told = command("plan", recipe)
    assert told.code == 0
    assert "note: tools differ from `tiny.lock.json`: `ml_dtypes`: locked 0." in told.err


def test_tools_of_the_engine_backend_are_exactly_the_locked_ones(
    recipe: Path, command: Command, versions: dict[str, str | None]
) -> None:
    versions["onnx"] = "1.99"
    assert command("lock", recipe).code == 0
    del versions["onnx"]
    shown = command("plan", recipe, "--frozen", "--json")
    problems = json.loads(shown.out)["problems"]
    assert [problem["stage"] for problem in problems] == ["build", "smoke", "package"]
    assert all("`onnx`: locked 1.99, found 1." in problem["facts"][0] for problem in problems)
    assert command("convert", recipe, "--frozen").code == 0


def test_an_artifact_of_other_tools_is_not_reused(
    recipe: Path, command: Command, versions: dict[str, str | None]
) -> None:
    assert command("lock", recipe).code == 0
    text = lock_path(recipe).read_text()
    assert command("build", recipe, "--frozen").code == 0
    lock_path(recipe).write_text(text.replace('"onnx": "', '"onnx": "0.'))
    refused = command("build", recipe, "--frozen")
    assert refused.code == 6
    assert "build: the tools are not those of `tiny.lock.json`" in refused.err
    assert command("convert", recipe, "--frozen").code == 0


def test_a_package_without_an_engine_is_held_to_its_lock(
    recipe: Path, command: Command, versions: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = "engine: {attention: {require_fused: false}}\n"
    recipe.write_text(LOCAL.partition("engine")[0] + engine + "package: {kind: pytorch}\n")
    assert command("lock", recipe).code == 0
    document = json.loads(lock_path(recipe).read_text())
    assert (list(document["tools"]), document["build_tools"]) == (["trtllm-pack"], {})
    assert command("plan", recipe, "--frozen").code == 0
    monkeypatch.setattr("pipeline.installed.__version__", "9.9")
    refused = command("run", recipe, "--frozen")
    assert refused.code == 6
    assert "package: the tools are not those" in refused.err
    assert command("download", recipe, "--frozen").code == 0


def test_plain_lock_keeps_tools_and_update_takes_those_that_are_there(
    recipe: Path, command: Command, versions: dict[str, str | None]
) -> None:
    assert command("lock", recipe).code == 0
    versions |= {"numpy": "99.1", "onnx": "1.99", "transformers": None}
    for options in ((), ("--check",)):
        kept = command("lock", recipe, *options)
        assert (kept.code, "is up to date" in kept.out) == (0, True)
    shown = command("lock", recipe, "--check", "--update")
    assert shown.code == 6
    taken = command("lock", recipe, "--update")
    assert taken.code == 0
    for out in (shown.out, taken.out):
        lines = [line.strip() for line in out.splitlines() if line.startswith("    ")]
        assert [line.split()[:2] for line in lines] == [["~", "numpy"], ["~", "onnx"]]
        assert lines[0].endswith("-> 99.1")
        assert lines[1].startswith("~ onnx (onnxruntime)  1.")
    # What is not installed here stays as it was locked where it is.
    assert '"transformers": ' in lock_path(recipe).read_text()


def test_stages_and_lock_name_the_same_tools(
    recipe: Path, command: Command, tmp_path: Path
) -> None:
    from pipeline.hardware import detect
    from pipeline.plan import resolve, with_digests
    from pipeline.recipe.load import load_recipe
    from pipeline.sources.digest_memory import DigestMemory
    from pipeline.stages import STAGES
    from pipeline.stages.verify import LOGITS_TOOLS

    loaded = load_recipe(recipe, overrides=("verify.logits=true",))
    memory = DigestMemory(tmp_path / "store")
    plan = with_digests(
        resolve(loaded, memory=memory, hardware=detect(), cache_dir=tmp_path / "caches")
    )
    locked = tools.stage_tools(plan.recipe)
    assert set(LOGITS_TOOLS) <= set(locked["verify"])
    named = {}
    for stage in STAGES:
        named[stage.name] = set((stage.settings(plan) or {}).get("tools", {}))
    assert named["smoke"] <= set(locked["smoke"])
    for stage in tools.BUILT_STAGES:
        assert named[stage] <= {*locked[stage], *plan.build_tools}
    assert not named["download"]
    assert not named["convert"]


def test_a_backend_that_is_not_here_is_absent_and_told(recipe: Path, command: Command) -> None:
    recipe.write_text(LOCAL + "variants:\n  gpu: {engine: {backend: trtllm, targets: [sm90]}}\n")
    made = command("lock", recipe)
    assert made.code == 0
    assert "not locked: the tools of `trtllm`, of which none is installed here" in made.out
    assert list(json.loads(lock_path(recipe).read_text())["build_tools"]) == ["onnxruntime"]
    refused = command("build", recipe, "--frozen", "--variant", "gpu")
    assert refused.code == 4
    assert command("convert", recipe, "--frozen", "--variant", "gpu").code == 0


def test_merging_takes_one_side_of_what_belongs_together() -> None:
    cpu, gpu = {"onnxruntime": "1.30"}, {"onnxruntime-gpu": "1.31"}
    wanted = {*tools.RUNTIMES, "numpy"}
    assert tools.merged(wanted, cpu, gpu, update=False) == cpu
    assert tools.merged(wanted, cpu, gpu, update=True) == gpu
    assert tools.merged(wanted, {"torch": "2"}, {"numpy": "2.4"}, update=False) == {"numpy": "2.4"}
    assert tools.not_locked(wanted, cpu) == ["numpy"]
    whole, part = {"t": {"onnx": "1", "tensorrt": "10"}}, {"t": {"onnx": "2"}}
    for update in (False, True):
        assert tools.merged_build_tools(["t"], whole, part, update=update) == whole
        assert tools.merged_build_tools(["t"], part, whole, update=update) == whole
    other = {"t": {"onnx": "3", "rtx": "1"}}
    assert tools.merged_build_tools(["t"], whole, other, update=False) == whole
    assert tools.merged_build_tools(["t"], whole, other, update=True) == other
    assert tools.merged_build_tools(["t"], {}, {}, update=True) == {}


@pytest.mark.parametrize("found", [None, "", "1.0 beta", "1\n2"])
def test_a_package_that_does_not_say_its_version(
    found: str | None, recipe: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipeline.installed.version", lambda name: found if name == "numpy" else "1.0"
    )
    refused = command("lock", recipe)
    assert refused.code == 4
    assert "the installed package `numpy` does not say its version" in refused.err
    assert not lock_path(recipe).exists()
