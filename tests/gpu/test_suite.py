"""The suite for real hardware, as far as it can be tried here: whole, and never green by itself."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from tests.command import ROOT, child_environment
from tests.gpu.checkpoints import LARGER
from tests.gpu.conftest import NO_GPU, NO_TRTLLM
from tests.standins import Standin
from tests.standins.described_package import add_descriptions
from tests.standins.llm import install_llm

FOLDER = Path(__file__).parent


def suite(*options: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run pytest on this folder in a child."""
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return subprocess.run(
        [*line, *options, str(FOLDER)],
        cwd=ROOT,
        env=child_environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )


def test_every_test_is_collected_and_none_by_default() -> None:
    done = suite("--collect-only", "-m", "trtllm or gpu")
    assert done.returncode == 0, done.stdout + done.stderr
    collected = set(re.findall(r"(test_\w+\.py)::(test_[^\s]+)", done.stdout))
    assert {("test_first_run.py", f"test_a_family[{name}]") for name in LARGER} <= collected
    assert {file for file, _ in collected} == {
        "test_first_run.py",
        "test_any_gpu.py",
        "test_onnxruntime_cuda.py",
        "test_architectures_cuda.py",
    }
    assert len(collected) >= 15
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    by_default = settings["tool"]["pytest"]["ini_options"]["addopts"]
    assert "not gpu and not trtllm" in by_default


def test_without_the_hardware_every_test_fails_with_the_reason() -> None:
    done = suite("-m", "trtllm or gpu")
    assert done.returncode == 1
    summary = done.stdout.strip().splitlines()[-1]
    assert "passed" not in summary
    assert "skipped" not in summary
    (count,) = re.findall(r"(\d+) errors?", summary)
    told = [done.stdout.count(f"\n{each}") for each in (NO_TRTLLM, NO_GPU)]
    assert sum(told) == int(count)
    assert min(told) >= 3
    assert NO_TRTLLM + "`tensorrt_llm` is not installed" in done.stdout
    assert "Traceback" not in done.stdout


def test_on_a_stand_in_machine_it_passes(tmp_path: Path) -> None:
    """What the suite asks of a build is what a build gives; the hardware is all that is missing."""
    machine = Standin(tmp_path / "machine")
    install_llm(machine)
    add_descriptions(machine.folder)
    chosen = "installed_release or (family and llama)"
    done = suite("-m", "trtllm", "-k", chosen, "-s", env=machine.environment())
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"\b2 passed", done.stdout)
    assert "llama: equal tokens ['all', 'all', 'all']" in done.stdout
