"""Every process that the package starts: what it is told of our environment, and when it ends."""

from __future__ import annotations

import ast
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pipeline.engines.child_process import _failure, run_child
from pipeline.engines.child_setup import as_told, tell_error
from pipeline.engines.trtllm.environment import builder_environment
from pipeline.engines.trtllm.launch import worker_environment
from pipeline.engines.trtllm.program import run_supervised
from pipeline.errors import (
    MachineError,
    PipelineError,
    ResourceError,
    ToolFailed,
    VerificationError,
)
from pipeline.hardware import output_of
from pipeline.system.tied import NOT_STARTED, tied
from tests.command import child_environment as ours
from tests.engines.trtllm.processes import wait_until_gone
from tests.test_architecture import PACKAGE

STARTING = {"Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}
MODULES = {"subprocess", "multiprocessing", "pty"}

SITES = {
    "doctor/machine.py": ["child_environment()"],
    "engines/child_process.py": ["{**child_environment(), **own}"],
    # What `run_supervised` was given: an environment of `trtllm/environment.py` or `launch.py`.
    "engines/trtllm/supervisor.py": ["{**job['environment'], 'HOME': scratch, 'TMPDIR': scratch}"],
    "engines/trtllm/program.py": ["tool_environment()"],
    "hardware.py": ["tool_environment()"],
}
"""File -> the `env=` of each call that starts a process; none inherits ours as it is."""

BECOMING = {"engines/child_setup.py": 1, "system/tied.py": 1}
"""File -> calls by which a process with such an environment becomes another program."""

CANARY = "canary-of-the-children"


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a dotted name in a file: `subprocess.Popen`, its node."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func), node


def test_every_call_that_starts_a_process_names_its_environment() -> None:
    found: dict[str, list[str]] = {}
    becoming: dict[str, int] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        for called, node in calls(path):
            module, _, function = called.rpartition(".")
            if module in MODULES and function in STARTING:
                env = {word.arg: ast.unparse(word.value) for word in node.keywords}.get("env")
                found.setdefault(name, []).append(str(env))
            elif module == "os" and function.startswith(("exec", "spawn", "posix_spawn", "fork")):
                becoming[name] = becoming.get(name, 0) + 1
            elif module == "os" and function in {"system", "popen"}:
                found.setdefault(name, []).append(called)
    assert found == SITES
    assert becoming == BECOMING


def test_nothing_else_can_start_one() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module not in MODULES, path
                assert node.module != "concurrent.futures" or all(
                    alias.name != "ProcessPoolExecutor" for alias in node.names
                ), path
            elif isinstance(node, ast.Import):
                named = {alias.name for alias in node.names}
                assert not named & {"multiprocessing", "pty"}, path


@pytest.fixture
def canaries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN", "AWS_SECRET_ACCESS_KEY"]
    names += ["HTTPS_PROXY", "HF_ENDPOINT", "HF_HOME", "SOME_PASSWORD", "OMPI_COMM_WORLD_RANK"]
    for name in names:
        monkeypatch.setenv(name, CANARY)
    return names


def check_clean(environment: Mapping[str, str], names: list[str]) -> None:
    assert not set(names) & set(environment)
    assert CANARY not in "".join(environment.values())


def read(lines: list[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_a_python_child_sees_no_secret_and_its_own_folder(
    tmp_path: Path, canaries: list[str]
) -> None:
    done = run_child("tests.engines.environment_child", {}, tmp_path, lambda _event: None)
    environment = done.result["environment"]
    check_clean(environment, canaries)
    assert environment["HOME"] == environment["TMPDIR"] == str(tmp_path)
    assert environment["HF_HUB_OFFLINE"] == environment["TRANSFORMERS_OFFLINE"] == "1"


@pytest.mark.parametrize(
    "made",
    [
        lambda: builder_environment([]),
        lambda: worker_environment(1, []),
        lambda: worker_environment(2, []),
    ],
    ids=["builder", "worker", "ranks"],
)
def test_a_supervised_program_sees_no_secret(
    tmp_path: Path, canaries: list[str], made: Callable[[], dict[str, str]]
) -> None:
    lines: list[str] = []
    run_supervised(
        ["/usr/bin/env"],
        made(),
        tmp_path,
        timeout_s=60,
        on_line=lambda _stream, line: lines.append(line),
    )
    environment = read(lines)
    check_clean(environment, canaries)
    assert "trtllm-pack-" in environment["HOME"]


def test_a_small_program_sees_no_secret(canaries: list[str]) -> None:
    told = output_of(["/usr/bin/env"])
    assert told is not None
    environment = read(told.splitlines())
    check_clean(environment, canaries)
    assert environment["PATH"] == os.environ["PATH"]


def test_a_tied_program_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = (
        "import subprocess\nfrom pipeline.system.tied import tied\n"
        "subprocess.Popen(tied(['/bin/sh', '-c', 'exec sleep 1000']))\n"
        "print('started', flush=True)\ninput()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=ours(MARK=str(mark)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        time.sleep(0.3)
        parent.kill()
    assert wait_until_gone(mark) == {}


def test_a_program_that_is_not_there_has_the_shells_exit_code(tmp_path: Path) -> None:
    done = subprocess.run(
        tied([str(tmp_path / "none")]), capture_output=True, text=True, check=False
    )
    assert done.returncode == NOT_STARTED
    assert done.stderr.endswith("No such file or directory\n")
    assert output_of([str(tmp_path / "none")]) is None


@pytest.mark.parametrize(
    ("raised", "kind", "part"),
    [
        (ToolFailed("no", facts=["a"], hint="b"), ToolFailed, "no"),
        (VerificationError("no"), VerificationError, "no"),
        (MemoryError(), ResourceError, "the builder ran out of memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), ResourceError, "`/x`"),
        (OSError(errno.EIO, "Input/output error", "/x"), MachineError, "a failing disk"),
        (ImportError("libx.so: failed to map segment from shared object"), ResourceError, "libx"),
        (KeyError("gone"), ToolFailed, "the builder failed: KeyError: 'gone'"),
    ],
)
def test_an_error_of_a_child_keeps_its_kind(
    raised: Exception, kind: type[PipelineError], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = as_told(raised, "the builder")
    tell_error(told, ["logged"])
    error = _failure(json.loads(capsys.readouterr().out), 1, "", "the builder")
    assert type(error) is kind
    assert part in error.message
    assert (error.message, error.hint) == (told.message, told.hint)
    assert error.facts == (*told.facts, "logged")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGXFSZ, "needs a larger file than is allowed"),
        (signal.SIGXCPU, "needs more processor time than is allowed"),
        (signal.SIGKILL, "was killed, most likely for want of memory"),
    ],
)
def test_signals_of_limits_are_a_lack_of_resources(number: signal.Signals, said: str) -> None:
    error = _failure({}, -number, "", "the builder")
    assert isinstance(error, ResourceError)
    assert error.message == f"the builder {said}"
