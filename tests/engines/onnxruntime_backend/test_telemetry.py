"""ONNX Runtime reports to nobody, and writes nothing into the user's home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.command import child_environment


def test_importing_the_backend_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    environment = child_environment(HOME=str(tmp_path), XDG_CACHE_HOME="")
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    code = (
        "import pipeline.engines.onnxruntime.cpu_session, os; print(*os.listdir('/proc/self/task'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "OPENBLAS_NUM_THREADS": "1"},  # else importing numpy starts threads
        capture_output=True,
        text=True,
        check=True,
    )
    assert list(tmp_path.rglob("*")) == []
    assert len(done.stdout.split()) == 1  # no thread that would send anything


def test_the_variable_is_set_for_children_of_this_process_too() -> None:
    import pipeline.engines.onnxruntime

    assert pipeline.engines.onnxruntime.ENGINE.name == "onnxruntime"
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
