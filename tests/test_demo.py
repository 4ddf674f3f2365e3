"""The main job on the shipped model, as a user runs it: release, reuse, equal bytes, interrupts."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.files.digests import digest_file
from tests.command import RECIPES, child_environment, run_command

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(1200)]

STAGES = ["download", "convert", "verify", "build", "smoke", "package"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `store/` and `out/` after a run of the shipped recipe."""
    folder = tmp_path_factory.mktemp("demo")
    done = run_command(
        "run", RECIPES / "demo.yaml", "--store", "store", "--out", "out", "--json", cwd=folder
    )
    assert done.returncode == 0, done.stderr + done.stdout
    (folder / "run.json").write_text(done.stdout)
    (folder / "events.txt").write_text(done.stderr)
    return folder


def run_document(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text())


def test_the_release_is_complete(finished: Path) -> None:
    release = finished / "out" / "demo"
    manifest = json.loads((release / "manifest.json").read_text())
    assert (release / "engine" / "decoder.engine").stat().st_size > 1_000_000
    assert (release / "tokenizer" / "tokenizer.json").is_file()
    assert (release / "LICENSE").is_file()
    assert set(manifest["stage_keys"]) == set(STAGES) - {"package"}
    with tarfile.open(finished / "out" / "demo.tar") as tar:
        names = set(tar.getnames())
    assert {"demo/manifest.json", "demo/SHA256SUMS", "demo/engine/decoder.engine"} <= names


def test_attention_is_proved_fused_and_not_claimed_observed(finished: Path) -> None:
    proof = json.loads((finished / "out/demo/engine/attention.json").read_text())
    layers = json.loads((finished / "out/demo/engine/engine.json").read_text())
    assert proof["requested"]["require_fused"] is True
    assert proof["built"]["status"] == "fused"
    assert proof["built"]["attention_sites"] == proof["built"]["attention_layers"] > 0
    assert proof["observed"]["status"] == "not observed"
    assert layers["targets"] == ["sm80", "sm86", "sm89", "sm120"]


def test_the_model_recites(finished: Path) -> None:
    record = json.loads((finished / "out/demo/smoke.json").read_text())
    assert len(record["prompts"]) >= 3
    assert all(prompt["text"] for prompt in record["prompts"])
    assert record["executed_by"]["backend"] == "onnxruntime"


def test_events_for_machines(finished: Path) -> None:
    events = [json.loads(line) for line in (finished / "events.txt").read_text().splitlines()]
    ended = [event["stage"] for event in events if event["event"] == "stage_finished"]
    assert ended == STAGES
    assert any(event["event"] == "progress" and event["stage"] == "build" for event in events)


def test_a_second_run_reuses_every_stage_and_loads_nothing_heavy(finished: Path) -> None:
    code = (
        "import sys\n"
        "from pipeline.cli import main\n"
        f"sys.argv = ['trtllm-pack', 'run', {str(RECIPES / 'demo.yaml')!r}, '--json',"
        f" '--store', {str(finished / 'store')!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "sys.stderr.write('LOADED ' + ' '.join({m.split('.')[0] for m in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=child_environment(),
    )
    document = json.loads(done.stdout)
    assert [(s["stage"], s["reused"]) for s in document["stages"]] == [(s, True) for s in STAGES]
    loaded = set(done.stderr.rpartition("LOADED ")[2].split())
    heavy = {"numpy", "onnx", "onnxruntime", "transformers", "torch", "huggingface_hub"}
    assert not loaded & (heavy | {"tensorrt_rtx_bindings", "tensorrt"})


def test_the_plan_shows_what_is_cached(finished: Path) -> None:
    done = run_command("plan", RECIPES / "demo.yaml", "--store", "store", "--json", cwd=finished)
    document = json.loads(done.stdout)
    assert [stage["cached"] for stage in document["stages"]] == [True] * 6
    keys = {stage["stage"]: stage["key"] for stage in run_document(finished)["stages"]}
    assert {stage["stage"]: stage["key"] for stage in document["stages"]} == keys
    assert document["problems"] == []


def test_another_folder_time_umask_and_locale_give_equal_bytes(
    finished: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "a longer name, with spaces" / "recipes"
    shutil.copytree(RECIPES / "demo", elsewhere / "demo")
    shutil.copy(RECIPES / "demo.yaml", elsewhere)
    done = run_command(
        *("run", "recipes/demo.yaml", "--store", "x", "--out", "y"),
        cwd=elsewhere.parent,
        env={
            "LC_ALL": "C.UTF-8",
            "TZ": "Asia/Kathmandu",
            "HOME": str(tmp_path),
            "LONGER": "x" * 999,
        },
        umask=0o077,
    )
    assert done.returncode == 0, done.stderr
    mine, other = finished / "out/demo.tar", elsewhere.parent / "y/demo.tar"
    assert digest_file(mine) == digest_file(other)


def test_verify_finds_a_flipped_byte_in_every_file(finished: Path, tmp_path: Path) -> None:
    done = run_command("verify", finished / "out/demo.tar")
    assert done.returncode == 0, done.stderr
    release = tmp_path / "demo"
    shutil.copytree(finished / "out/demo", release)
    for path in sorted(p for p in release.rglob("*") if p.is_file()):
        data = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
        done = run_command("verify", release)
        assert done.returncode == 6, path
        assert path.name in done.stderr
        path.write_bytes(data)
    assert run_command("verify", release).returncode == 0


@pytest.mark.parametrize("what", ["download", "convert", "build", "smoke", "package"])
def test_inspect_explains_every_artifact(finished: Path, what: str) -> None:
    path = next(s["path"] for s in run_document(finished)["stages"] if s["stage"] == what)
    done = run_command("inspect", path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 5


def test_a_wrong_expectation_fails_with_a_diff(finished: Path) -> None:
    done = run_command(
        *("run", RECIPES / "demo.yaml", "--store", "store"),
        *("--set", "smoke.prompts=[{text: O, expect: {text: not what it says}}]"),
        cwd=finished,
    )
    assert done.returncode == 6
    assert "not what it says" in done.stderr
    assert "hint: " in done.stderr


def interrupt_at(stage: str, number: signal.Signals, folder: Path) -> int:
    """A run that gets a signal in the middle of a stage; the exit code.

    It sends it to itself when it tells the first progress: a stage ends while others are slow.
    """
    code = (
        "import os, sys\n"
        "from pipeline.cli import main\n"
        "from pipeline.progress_display import EventLines\n"
        "tell = EventLines.task\n"
        "def told(self, stage, *told):\n"
        "    tell(self, stage, *told)\n"
        f"    if stage == {stage!r}:\n"
        f"        os.kill(os.getpid(), {number.value})\n"
        "EventLines.task = told\n"
        f"sys.argv = ['trtllm-pack', 'run', {str(RECIPES / 'demo.yaml')!r}, '--json',"
        " '--store', 'store']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=child_environment(),
        capture_output=True,
        check=False,
        # Tests may run as a shell's background job, whose children ignore the interrupt.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    return done.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_leaves_nothing_half_written(tmp_path: Path, number: signal.Signals) -> None:
    for stage in ("build", "smoke"):
        assert interrupt_at(stage, number, tmp_path) == 128 + number
        assert not list((tmp_path / "store" / "work").iterdir())
        assert not (tmp_path / "store" / "artifacts" / stage).exists()
    done = run_command("run", RECIPES / "demo.yaml", "--store", "store", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    reused = {s["stage"]: s["reused"] for s in json.loads(done.stdout)["stages"]}
    assert reused["build"] is True
    assert reused["smoke"] is False
