"""The real command with the stand-in machine: a build from a recipe, and the command's death."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.files.digests import digest_file
from tests.command import RECIPES, child_environment, command_line, run_command
from tests.engines.trtllm.processes import belonging, wait_until_gone
from tests.standins import Standin

CHOSEN = ("--set", "engine.backend=trtllm", "--set", "engine.targets=[sm90]")

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)


class Machine:
    """A stand-in machine and a store in which the demo is converted already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.standin = Standin(folder / "machine")
        self.scratch = folder / "tmp"
        self.scratch.mkdir()
        assert self.run("convert").returncode == 0

    def arguments(self, command: str) -> list[Any]:
        return [command, RECIPES / "demo.yaml", "--store", self.store, "--json", *CHOSEN]

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return run_command(*self.arguments(command), env=self.standin.environment())

    def start(self, command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command_line(*self.arguments(command)),
            env=child_environment(**self.standin.environment(), TMPDIR=str(self.scratch)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Tests may run as a shell's background job, whose children ignore the interrupt.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def built(self) -> list[Path]:
        folder = self.store / "artifacts" / "build"
        return list(folder.iterdir()) if folder.exists() else []


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("command"))


def test_killed_at_any_moment_it_leaves_no_process_and_no_engine(machine: Machine) -> None:
    """Each signal at a random instant of a build, whose builder would take longer."""
    chance = random.Random(7)
    last = {"step": "save", "rank": 0}  # there it stays, however late the signal is
    machine.standin.control(seconds=4, grandchild=True, hang=last)
    for number in SIGNALS:
        calls = len(machine.standin.calls())
        process = machine.start("build")
        try:
            while len(machine.standin.calls()) == calls and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.7))
            process.send_signal(number)
            process.wait(timeout=580)
        finally:
            process.kill()  # if the test fails, the next one must not wait for it
        assert wait_until_gone(machine.folder) == {}, number
        assert machine.built() == []
        assert list(machine.scratch.iterdir()) == []


def test_the_next_run_starts_clean_and_succeeds(machine: Machine) -> None:
    machine.standin.control()
    done = machine.run("build")
    assert done.returncode == 0, done.stderr
    (folder,) = machine.built()
    facts = json.loads((folder / "artifact.json").read_bytes())["facts"]
    assert (facts["attention"], facts["attention_layers"]) == ("fused", 4)
    names = {path.name for path in folder.iterdir()}
    assert names >= {"artifact.json", "config.json", "engine.json", "rank0.engine", "timing.cache"}
    assert ".build" not in names
    assert list((machine.store / "work").iterdir()) == []
    assert belonging(machine.folder) == {}
    calls = len(machine.standin.calls())
    changes = ("engine.workers=2", "engine.build_timeout_s=77", "engine.use_timing_cache=false")
    overrides = [item for change in changes for item in ("--set", change)]
    done = run_command(*machine.arguments("build"), *overrides, env=machine.standin.environment())
    assert done.returncode == 0, done.stderr
    assert len(machine.standin.calls()) == calls  # what decides no engine builds no other


def test_a_fallback_fails_with_the_line_and_its_exit_code(machine: Machine) -> None:
    line = "Fall back to unfused MHA because of unsupported data type."
    machine.standin.control(fallback=line)
    arguments = [*machine.arguments("build"), "--set", "engine.max_batch_size=3"]
    done = run_command(*arguments, env=machine.standin.environment())
    assert done.returncode == 6
    assert line in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_an_exported_engine_lists_every_file_and_is_explained(
    machine: Machine, tmp_path: Path
) -> None:
    machine.standin.control()
    out = tmp_path / "engine"
    done = run_command(*machine.arguments("build"), "--out", out, env=machine.standin.environment())
    assert done.returncode == 0, done.stderr
    manifest = json.loads((out / "artifact.json").read_bytes())
    listed = {entry["path"]: entry["blake3"] for entry in manifest["files"]}
    assert listed.keys() >= {"rank0.engine", "config.json", "engine.json", "attention.json"}
    assert listed == {name: digest_file(out / name) for name in listed}
    shown = run_command("inspect", out, env=machine.standin.environment())
    assert shown.returncode == 0, shown.stderr
    assert "trtllm" in shown.stdout
    assert "config and log" in shown.stdout
