"""From checkpoint to a release that Triton serves: the real command on the stand-in machine."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command import RECIPES, run_command
from tests.release.triton_parts import read_by_schema
from tests.standins import Standin
from tests.standins.llm import install_llm, set_llm

FLAGS = (
    *("--set", "engine.backend=trtllm"),
    *("--set", "engine.targets=[sm90]"),
    *("--set", "engine.max_beam_width=2"),
    *("--set", "checkpoint.tp_size=2"),
    *("--set", "package.formats=[tar, triton]"),
)


def test_an_engine_that_was_built_is_served_and_checked(tmp_path: Path) -> None:
    machine = Standin(tmp_path / "standin")
    install_llm(machine)
    set_llm(machine)
    environment, out = machine.environment(), tmp_path / "out"
    options = ("--store", tmp_path / "store", "--out", out)
    done = run_command("run", RECIPES / "demo.yaml", *FLAGS, *options, env=environment)
    assert done.returncode == 0, done.stderr
    release = out / "demo"
    built = json.loads((release / "engine/config.json").read_bytes())["build_config"]
    llm = read_by_schema((release / "triton/tensorrt_llm/config.pbtxt").read_bytes())
    assert llm.max_batch_size == built["max_batch_size"] == 4
    assert llm.parameters["max_beam_width"].string_value == "2"
    assert llm.parameters["enable_kv_cache_reuse"].string_value == "true"
    assert sorted(path.name for path in release.glob("engine/*.engine")) == [
        "rank0.engine",
        "rank1.engine",
    ]
    assert "mpirun --allow-run-as-root" in (release / "README.md").read_text()
    verified = run_command("verify", out / "demo.tar", env=environment)
    assert verified.returncode == 0, verified.stderr
