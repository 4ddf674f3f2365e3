"""The builder's child process: what it refuses, what it hears, and that it never outlives us."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines import child_process
from pipeline.engines.child_process import run_child
from pipeline.errors import PipelineError, ResourceError, ToolFailed
from tests.engines.tensorrt_backend.tensorrt_parts import CHILD, checkpoint, job, limits

Job = tuple[dict[str, Any], Path]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TrtllmCheckpoint:
    return checkpoint(tmp_path_factory.mktemp("source"))


@pytest.fixture
def made(source: TrtllmCheckpoint, tmp_path: Path) -> Job:
    """A good job in a folder of its own, to be spoilt."""
    folder = tmp_path / "work"
    return job(source, folder, limits("sm80"))[0], folder


def quiet(event: dict[str, Any]) -> None:
    """Hear nothing."""


def test_a_good_job_says_what_it_built(made: Job) -> None:
    finished = run_child(CHILD, *made, quiet)
    assert finished.why_random is None
    assert finished.result["attention_layers"] == len(made[0]["network"]["attention"])
    assert finished.result["warnings"] == []
    assert (made[1] / "decoder.engine").stat().st_size > 10_000


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"", b"{}"], ids=["bytes", "empty", "json"])
def test_a_graph_that_is_none_is_one_clear_error(made: Job, garbage: bytes) -> None:
    (made[1] / "decoder.onnx").write_bytes(garbage)
    with pytest.raises(ToolFailed) as caught:
        run_child(CHILD, *made, quiet)
    assert "Traceback" not in "".join([str(caught.value), *caught.value.facts])
    assert not (made[1] / "decoder.engine").exists()


def test_a_shortened_rank_file_is_an_error(made: Job) -> None:
    rank = made[1] / "rank0.safetensors"
    data = rank.read_bytes()
    rank.unlink()
    rank.write_bytes(data[: len(data) // 2])
    with pytest.raises(ToolFailed):
        run_child(CHILD, *made, quiet)


def test_no_space_for_the_engine_is_said_so(made: Job) -> None:
    (made[1] / "decoder.engine").symlink_to("/dev/full")
    with pytest.raises(ResourceError, match=os.strerror(errno.ENOSPC)):
        run_child(CHILD, *made, quiet)


def test_where_addresses_cannot_be_fixed_the_build_says_so(
    made: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As Docker's default seccomp profile does: `personality` is refused.
    refuse = (
        "import runpy, sys\n"
        "from pipeline.engines import child_setup\n"
        "class Refusing:\n"
        "    prctl = staticmethod(lambda *_: 0)\n"
        "    personality = staticmethod(lambda flags: 0 if flags == 0xFFFFFFFF else -1)\n"
        "child_setup._libc = Refusing\n"
        "sys.argv = ['child', 'job.json']\n"
        f"runpy.run_module({CHILD!r}, run_name='__main__')\n"
    )
    (made[1] / "refused.py").write_text(refuse)
    monkeypatch.setattr(
        child_process,
        "child_environment",
        lambda environment=child_process.child_environment: {
            **environment(),
            "PYTHONPATH": f"{made[1]}{os.pathsep}{environment()['PYTHONPATH']}",
        },
    )
    finished = run_child("refused", *made, quiet)
    assert "personality" in str(finished.why_random)
    assert finished.result["attention_layers"] == len(made[0]["network"]["attention"])


def test_the_builder_has_fixed_addresses_and_one_processor(made: Job) -> None:
    seen: list[tuple[int, set[int]]] = []

    def look(pid: int) -> None:
        personality = int(Path(f"/proc/{pid}/personality").read_text(), 16)
        seen.append((personality, os.sched_getaffinity(pid)))

    run_child(CHILD, *made, _at_first(look))
    assert seen
    assert all(personality & 0x0040000 for personality, _ in seen)
    assert {len(processors) for _, processors in seen} == {1}


def test_the_builder_hears_only_what_it_must(made: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 30)
    seen: list[str] = []

    def look(child: int) -> None:
        seen.append(Path(f"/proc/{child}/environ").read_text())

    run_child(CHILD, *made, _at_first(look))
    assert seen
    assert all(seen)
    assert not any("HF_TOKEN" in text for text in seen)


def _at_first(act: Callable[[int], None]) -> Callable[[Any], None]:
    """At the child's first word act on its pid; the later ones may be read when it is over."""
    told: list[Any] = []

    def on_event(event: Any) -> None:
        told.append(event)
        if len(told) == 1:
            act(_only_child())

    return on_event


def _only_child() -> int:
    children = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children")
    (pid,) = (
        pid
        for pid in children.read_text().split()  # multiprocessing may have one of its own
        if CHILD in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    )
    return int(pid)


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + 60
    while not _has_ended(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return _has_ended(pid)


def _has_ended(pid: int) -> bool:
    """Also where nobody has waited for it yet: that is somebody else's to do."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in {"Z", "X"}


@pytest.mark.parametrize(
    ("sent", "kind", "words"),
    [(signal.SIGKILL, ResourceError, "memory"), (signal.SIGSEGV, ToolFailed, "SIGSEGV")],
)
def test_a_builder_that_dies_is_an_error(
    made: Job, sent: signal.Signals, kind: type[PipelineError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        run_child(CHILD, *made, _at_first(lambda child: os.kill(child, sent)))


def test_an_exception_of_ours_ends_the_builder(made: Job) -> None:
    pids: list[int] = []

    def interrupt(event: dict[str, Any]) -> None:
        pids.append(_only_child())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_child(CHILD, *made, interrupt)
    assert _gone(pids[0])


@pytest.mark.parametrize("delay_s", [0.0, 0.15, 0.4])
def test_the_builder_dies_with_its_parent_at_any_time(made: Job, delay_s: float) -> None:
    code = (
        "import json, sys\nfrom pathlib import Path\n"
        "from pipeline.engines import child_process\n"
        "start = child_process.subprocess.Popen\n"
        "def told(*arguments, **options):\n"
        "    process = start(*arguments, **options)\n"
        "    print(process.pid, flush=True)\n"
        "    return process\n"
        "child_process.subprocess.Popen = told\n"
        f"child_process.run_child({CHILD!r}, json.loads(sys.argv[1]), Path(sys.argv[2]), print)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(made[0]), str(made[1])],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(delay_s)
        parent.kill()
        parent.wait()
    assert _gone(pid)
