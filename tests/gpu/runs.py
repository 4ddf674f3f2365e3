"""Runs of the real command, and what must hold of their results on any machine that builds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.command import ROOT, child_environment, command_line

TIMEOUT_S = 1800
"""A first build times kernels, and loads TensorRT-LLM several times."""


@dataclass(frozen=True)
class Run:
    """A finished `trtllm-pack run`: its document, and what the stages left."""

    document: Mapping[str, Any]

    def stage(self, name: str) -> Mapping[str, Any]:
        """Facts, path, seconds of a stage."""
        (found,) = [stage for stage in self.document["stages"] if stage["stage"] == name]
        return dict(found)

    def read(self, stage: str, name: str) -> Any:
        """A JSON file of a stage's artifact."""
        return json.loads((Path(self.stage(stage)["path"]) / name).read_bytes())


def tell(text: str) -> None:
    """A line for who reads the output of the suite."""
    sys.stdout.write(f"\n  {text}\n")


def execute(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command to its end, with the patience that real engines need."""
    # What this machine's own PYTHONPATH finds is found by the command too.
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        command_line(*arguments),
        env=child_environment(PYTHONPATH=paths),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def run_recipe(recipe: Path, store: Path, *overrides: str, out: Path | None = None) -> Run:
    """All stages of a recipe; a failure shows what the user would see."""
    options = [word for override in overrides for word in ("--set", override)]
    place = [] if out is None else ["--out", out]
    done = execute("run", recipe, "--json", "--store", store, *options, *place)
    assert done.returncode == 0, (
        f"exit code {done.returncode}\n{done.stdout}\n{done.stderr[-8000:]}"
    )
    return Run(json.loads(done.stdout))


def check_engine(run: Run) -> None:
    """Built fused, executed by the engine itself, and observed fused in both phases."""
    proof = run.read("smoke", "attention.json")
    assert proof["built"]["status"] == "fused", proof["built"]
    assert proof["built"]["fallbacks"] == []
    record = run.read("smoke", "smoke.json")
    assert record["executed_by"]["backend"] == "trtllm", record["executed_by"]
    assert all(prompt["token_ids"] for prompt in record["prompts"])
    observed = proof["observed"]
    assert observed["status"] == "fused", observed
    for phase in ("context", "generation"):
        assert observed[phase]["kernels"], f"no kernel of the {phase} phase was named"


def check_comparison(run: Run) -> str:
    """The greedy tokens are those of the float32 graph; what was measured, in a line."""
    comparison = run.read("smoke", "smoke.json")["comparison"]
    assert comparison["compared"] is True
    assert comparison["logits"] == "of all prompt tokens"
    rows = comparison["prompts"]
    assert rows
    errors = [row["max_logit_error"] for row in rows]
    equal = ["all" if row["first_difference"] is None else row["first_difference"] for row in rows]
    return f"equal tokens {equal}, largest logit errors {errors}"


def check_release(run: Run, out: Path, name: str) -> None:
    """Every byte of the tar, its Triton repository against its engine, and the proof in it."""
    done = execute("verify", out / f"{name}.tar", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["sound"] is True
    manifest = json.loads((out / name / "manifest.json").read_bytes())
    assert manifest["attention"] == run.read("smoke", "attention.json")
    models = {path.parent.name for path in (out / name / "triton").glob("*/config.pbtxt")}
    assert {"preprocessing", "tensorrt_llm", "postprocessing", "ensemble"} <= models
