"""Real limits of a real system: each a clear error with its exit code, and nothing lost by it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.command import RECIPES, ROOT, child_environment
from tests.faults.limited import NOBODY
from tests.public_folder import public_folder

pytestmark = pytest.mark.xdist_group("limits")

RECIPE = RECIPES / "demo.yaml"
LIMITED = ROOT / "tests" / "faults" / "limited.py"


def command(
    limits: Mapping[str, Any], *arguments: str | Path, stdout: str | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run the command under limits; `stdout` names a file to send it to."""
    argv = [sys.executable, str(LIMITED), json.dumps(limits), *map(str, arguments)]
    with Path(stdout or os.devnull).open("w") as target:
        return subprocess.run(
            argv,
            cwd=cwd,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=target if stdout else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=580,
            check=False,
        )


def run_in(store: Path, limits: Mapping[str, Any], *more: str | Path) -> Any:
    """`run` of the demo for the CPU."""
    return command(limits, "run", RECIPE, "--variant", "cpu", "--store", store, "--quiet", *more)


def check_told(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """A clear error: its code, no traceback, a hint."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert "hint: " in done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may look into, unlike pytest's."""
    with public_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a finished run."""
    folder = tmp_path_factory.mktemp("limits")
    done = run_in(folder / "store", {})
    assert done.returncode == 0, done.stderr
    return folder / "store"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["recipes", "schema"]],
    ids=" ".join,
)
def test_a_full_stdout(arguments: Sequence[str]) -> None:
    check_told(command({}, *arguments, stdout="/dev/full"), 7, "No space left on device")


def test_a_full_stdout_of_a_command_that_worked_or_failed(store: Path) -> None:
    done = command({}, "plan", RECIPE, "--store", store, "--json", stdout="/dev/full")
    check_told(done, 7, "the answer cannot be written to stdout: No space left on device")
    done = command({}, "plan", "none.yaml", "--json", stdout="/dev/full")
    check_told(done, 3, "cannot be written to stdout", "`none.yaml` cannot be read")


def test_closed_streams(store: Path, tmp_path: Path) -> None:
    plan = ("plan", RECIPE, "--store", store)
    check_told(command({"closed": [1]}, *plan), 4, "stdout: it is closed")
    done = command({"closed": [2]}, *plan, "--json")
    assert json.loads(done.stdout)["problems"] == []
    check_told(command({"closed": [0]}, "migrate", "-"), 4, "`-` cannot be read: it is closed")
    done = run_in(tmp_path / "store", {"closed": [0, 1, 2]})
    assert done.returncode == 4, "all is done, but the answer went nowhere"
    assert (done.stdout, done.stderr) == ("", "")
    assert run_in(tmp_path / "store", {}, "--json").returncode == 0


def test_few_open_files_and_little_memory(tmp_path: Path) -> None:
    done = run_in(tmp_path / "store", {"RLIMIT_NOFILE": 20})
    assert done.returncode in {0, 7}, done.stderr
    assert "Traceback" not in done.stderr
    for megabytes in (40, 130):
        done = run_in(tmp_path / "other", {"RLIMIT_AS": megabytes * 1_000_000})
        check_told(done, 7, "ran out of memory")


def test_a_limit_on_the_size_of_files_and_the_next_run(tmp_path: Path) -> None:
    done = run_in(tmp_path / "store", {"RLIMIT_FSIZE": 500_000})
    check_told(done, 7, "needs a larger file", "500,000 bytes a file (RLIMIT_FSIZE)", "is intact")
    assert not list((tmp_path / "store").glob("artifacts/*/*"))
    assert run_in(tmp_path / "store", {}).returncode == 0


needs_root = pytest.mark.skipif(
    os.getuid() != 0, reason="takes root to become somebody whom the limit concerns"
)


@needs_root
def test_no_more_processes_or_threads(public: Path) -> None:
    os.chown(public, NOBODY, NOBODY)
    limits = {"nobody": True, "RLIMIT_NPROC": 1}
    check_told(run_in(public / "store", limits), 7, "another process or thread", "RLIMIT_NPROC")


@needs_root
def test_what_may_not_be_written(public: Path) -> None:
    nobody = {"nobody": True}
    check_told(run_in(public / "store", nobody), 4, "Permission denied")
    done = command(nobody, "plan", RECIPE, "--store", public / "store", "--json")
    assert json.loads(done.stdout)["problems"] == []
    out = public / "new.yaml"
    line = "trtllm-build --checkpoint_dir c --output_dir e"
    done = command(nobody, "migrate", "--command", line, "--out", out, "--partial")
    check_told(done, 4, f"`{out}` cannot be written: Permission denied")
    done = command(nobody, "recipes", "init", "new", "--repo", "acme/tiny", cwd=public)
    check_told(done, 4, "`new.yaml` cannot be written: Permission denied")
    shutil.copytree(RECIPES / "demo", public / "demo")
    shutil.copy(RECIPE, public)
    before = sorted(public.iterdir())
    check_told(command(nobody, "lock", public / "demo.yaml", cwd=public), 4, "Permission denied")
    assert sorted(public.iterdir()) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    place = tmp_path / "small"
    place.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `mount`")
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_and_what_was_finished_before(store: Path, small_disk: Path) -> None:
    done = run_in(store, {}, "--out", small_disk / "out")
    check_told(done, 7, "No space left on device")
    assert list(small_disk.iterdir()) == []
    done = run_in(store, {}, "--out", store.parent / "out", "--json")
    assert [stage["reused"] for stage in json.loads(done.stdout)["stages"]] == [True] * 6
    line = "trtllm-build --checkpoint_dir c --output_dir e"
    (small_disk / "filler").write_bytes(b"x" * 1_020_000)
    out = small_disk / "new.yaml"
    with (small_disk / "rest").open("wb", buffering=0) as rest:
        try:
            while rest.write(b"x" * 4096):
                pass
        except OSError:
            pass
    done = command({}, "migrate", "--command", line, "--out", out, "--partial")
    check_told(done, 7, f"`{out}` cannot be written: No space left on device", "free there: 0 of")
    assert not out.exists()
