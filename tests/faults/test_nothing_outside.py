"""By what a run did, not by what it left: nothing outside the store and `--out` is changed.

A whole run in a fresh interpreter, followed call by call, children and threads included. Python's
own compiled modules are left out: where they go is Python's to say.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import RECIPES, child_environment, command_line
from tests.faults.calls import NOT_FILES, Call, Trace

CANNOT = 77


@pytest.mark.parametrize("variant", [["--variant", "cpu"], []], ids=["onnxruntime", "tensorrt"])
def test_a_run_changes_its_store_and_its_output_alone(tmp_path: Path, variant: list[str]) -> None:
    folder = tmp_path.resolve()
    for name in ("home", "tmp", "out"):
        (folder / name).mkdir()
    places = ("--store", folder / "store", "--out", folder / "out" / "demo")
    command = command_line("run", RECIPES / "demo.yaml", *variant, *places)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.traced_command", "{}", *command],
        env=child_environment(
            HOME=str(folder / "home"), TMPDIR=str(folder / "tmp"), PYTHONDONTWRITEBYTECODE="1"
        ),
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    if done.returncode == CANNOT:
        pytest.skip(done.stderr)
    document = json.loads(done.stdout)
    calls = [Call(**{**call, "paths": tuple(call["paths"])}) for call in document.pop("calls")]
    trace = Trace(calls, **document)
    assert trace.status == 0, done.stderr
    assert len(calls) > 300
    ours = (f"{folder}/store", f"{folder}/out/demo", f"{folder}/out/.demo.")
    changed = [path for path in trace.changed_paths() if not path.startswith(ours)]
    assert [path for path in changed if not NOT_FILES.match(path)] == [f"{folder}/out"]
