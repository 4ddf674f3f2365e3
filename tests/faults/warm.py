"""Runs of the command that start at once: forks of a process that has imported what they need.

What a run writes to a disk is what a fresh interpreter would write; only the imports are saved. The
process must have one thread, since a fork takes no other along.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

from pipeline.tokenizer import load_tokenizer
from tests.faults import ptrace, seccomp
from tests.faults.calls import Call, Judge, Trace
from tests.faults.tracer import Tracer

IMPORTED = (
    *("pipeline.cli", "pipeline.console", "pipeline.answers.run_report", "pipeline.run"),
    *("pipeline.plan", "pipeline.recipe.load", "pipeline.run_record", "pipeline.pytorch_plan"),
    *("numpy", "blake3", "ml_dtypes", "onnx", "onnxruntime", "transformers", "sqlite3", "tempfile"),
    *("pipeline.engines.onnxruntime.engine", "pipeline.engines.onnxruntime.inference"),
    *("pipeline.graph.decoder", "pipeline.lock.frozen", "pipeline.weights.comparison"),
    *("pipeline.weights.decoder_rules", "pipeline.weights.blocks", "onnx.inliner", "psutil"),
)
"""What the command imports sooner or later; the rest it imports in each run."""

ROOT = Path(__file__).parent.parent.parent
CHECKPOINT = ROOT / "recipes" / "demo" / "checkpoint"
DEADLINE_S = 600.0
OUTPUTS = ("stdout", "stderr")
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask to end. They wait until a fork has become a run."""


@dataclass(frozen=True, slots=True)
class Orders:
    """How a run is to be traced: who decides about its calls, and inside which folder they count.

    `inside` None counts all calls that change files.
    """

    judge: Judge
    inside: Path | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One run of the command: arguments, environment, and limits as of `resource.setrlimit`.

    Its outputs go to `folder`, which is made.
    """

    arguments: Sequence[str]
    folder: Path
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[int, int] = field(default_factory=dict)
    is_fresh: bool = False
    """An interpreter of its own, that imports everything, instead of a fork."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: its exit code (negative: the signal that killed it) and what it said."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    trace: Trace | None = None

    def told(self) -> str:
        """For people: the exit code and the end of what it said."""
        return f"exit code {self.code}: {self.stderr.strip()[-1500:]}"


def warm_up() -> None:
    """Import what runs need; call it once, before the first run."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # else importing numpy starts threads
    sys.dont_write_bytecode = True
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as the command does, before it imports it
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    for name in IMPORTED:
        importlib.import_module(name)
    load_tokenizer(CHECKPOINT)  # half of the time of a run: transformers looks through its models
    del os.environ["OPENBLAS_NUM_THREADS"], os.environ["ORT_DISABLE_TELEMETRY"]
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads after importing: a fork would lose all but one"


class Running:
    """A run that was started and is not waited for yet."""

    def __init__(self, job: Job, orders: Orders | None = None) -> None:
        job.folder.mkdir(parents=True, exist_ok=True)
        self._job = job
        self._traced = orders is not None
        self._started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        for name in OUTPUTS:  # also for one that is ended before it opens them
            (job.folder / name).write_bytes(b"")
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
        self.pid = os.fork()
        if self.pid == 0:
            _never_return(lambda: _be_run(job) if orders is None else _be_tracer(job, orders))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def kill(self) -> None:
        """SIGKILL to its process group (not where it is traced: the tracer kills)."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """A signal to the first process alone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def said(self) -> str:
        """What it has written to standard error so far."""
        path = self._job.folder / "stderr"
        return path.read_text(errors="replace") if path.exists() else ""

    def is_alive(self) -> bool:
        """Whether it still runs; its status stays to be waited for."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, options) is None

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends in that time."""
        end = time.monotonic() + seconds
        while self.is_alive() and time.monotonic() < end:
            time.sleep(0.002)
        return not self.is_alive()

    def wait(self) -> Ended:
        """Wait for its end, for ever: a traced run has a deadline, others are waited for."""
        _pid, status = os.waitpid(self.pid, 0)
        seconds = time.monotonic() - self._started
        trace = _read_trace(self._job.folder / "trace.json") if self._traced else None
        code = os.waitstatus_to_exitcode(trace.status if trace else status)
        stdout, stderr = (self._job.folder.joinpath(n).read_text(errors="replace") for n in OUTPUTS)
        return Ended(code, stdout, stderr, seconds, trace)


def _never_return(work: Callable[[], int]) -> NoReturn:
    """Run in a fork: nothing of the frames above may be unwound there, whatever happens."""
    code = 70
    try:
        code = work()
    except BaseException as error:  # noqa: BLE001 - the frames above belong to the parent
        os.write(2, f"the fork failed: {error!r}\n".encode())
    finally:
        os._exit(code)


def _be_run(job: Job) -> int:
    """Become the command; the exit code."""
    _settle(job)
    return _command(job)


def _settle(job: Job) -> None:
    """A session of its own, the job's folder, environment, outputs and limits."""
    os.setsid()
    os.chdir(job.cwd)
    os.environ.update(job.environment)
    for number, name in enumerate(OUTPUTS, start=1):
        target = os.open(job.folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(target, number)
        os.close(target)
    for what, limit in job.limits.items():
        resource.setrlimit(what, (limit, resource.getrlimit(what)[1]))
    for number in ASKING:  # as a shell's foreground job has them
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)


def _command(job: Job) -> int:
    """The command as its entry point runs it, then what Python does at its end; the exit code."""
    if job.is_fresh:
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "pipeline", *job.arguments])
    sys.argv = ["trtllm-pack", *job.arguments]
    if "HF_HOME" in job.environment:
        constants = importlib.import_module("huggingface_hub.constants")
        constants.HF_HUB_CACHE = f"{job.environment['HF_HOME']}/hub"  # it read that as it came in
    code = 0
    try:
        from pipeline.__main__ import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _be_tracer(job: Job, orders: Orders) -> int:
    """Fork the command, trace it to its end, write down what it did."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        _never_return(lambda: _be_traced(job, readable))
    ptrace.seize(child)
    os.write(writable, b"!")
    trace = Tracer(orders.judge, orders.inside).follow(child, DEADLINE_S)
    (job.folder / "trace.json").write_text(json.dumps(asdict(trace)))
    return 0


def _be_traced(job: Job, readable: int) -> int:
    """Become the command once the tracer has hold of this process."""
    _settle(job)
    os.read(readable, 1)
    os.close(readable)
    seccomp.install()
    return _command(job)


def _read_trace(path: Path) -> Trace:
    document = json.loads(path.read_text())
    calls = [Call(**{**each, "paths": tuple(each["paths"])}) for each in document.pop("calls")]
    return Trace(calls=calls, **document)
