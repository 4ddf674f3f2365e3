"""Absurd values in config.json: no plan ends in anything but a clear error, in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import child_environment
from tests.faults.hostile_configs import CASE_SECONDS, MEMORY_BYTES, cases

SEED = 20261126
COUNT = 120
"""Of the cases; `python -m tests.faults.hostile_configs FOLDER 0 0` carries out all of them."""


def test_absurd_values_in_configs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = [sys.executable, "-m", "tests.faults.hostile_configs"]
    done = subprocess.run(
        [*program, str(tmp_path), str(SEED), str(COUNT)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    with capsys.disabled():
        counts = ", ".join(f"{n} ended with {code}" for code, n in sorted(told["counts"].items()))
        line = f"\nhostile configs: {counts}; slowest {told['slowest'][0]:.1f} s (seed {SEED})\n"
        sys.stdout.write(line)
    assert not told["bad"], "\n".join(told["bad"])
    assert sum(told["counts"].values()) == COUNT
    assert told["slowest"][0] < CASE_SECONDS, told["slowest"]
    assert told["peak"] < MEMORY_BYTES


def test_every_key_of_every_stored_checkpoint_is_tried() -> None:
    tried = {(case.fixture, case.path) for case in cases()}
    assert ("llama", ("num_hidden_layers",)) in tried
    assert ("phi3-longrope", ("rope_parameters", "long_factor", 0)) in tried
    assert len(tried) > 2000
