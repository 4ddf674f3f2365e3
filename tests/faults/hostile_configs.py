"""A child that plans stored checkpoints, each with one value of its config.json made absurd.

`python -m tests.faults.hostile_configs FOLDER SEED COUNT [SHARD OF]` prints one JSON document:
how the plans ended, by exit code, and every case that ended otherwise. It limits its own memory;
COUNT 0 takes all cases.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from pipeline.errors import PipelineError
from pipeline.hardware import Hardware
from pipeline.plan import Plan, resolve
from pipeline.recipe.load import load_recipe
from pipeline.sources.digest_memory import DigestMemory

FIXTURES = Path(__file__).parent.parent / "fixtures"
BACKENDS = ("onnxruntime", "tensorrt", "trtllm")
ALLOWED_CODES = frozenset({3, 6})
CASE_SECONDS = 5.0
MEMORY_BYTES = 600 << 20
"""What planning may take beyond what the interpreter had before the first case."""

VALUES: dict[str, str] = {
    "zero": "0",
    "minus one": "-1",
    "two": "2",
    "2^31": str(2**31),
    "2^63": str(2**63),
    "10^18": str(10**18),
    "10^39": str(10**39),
    "4000 digits": "9" * 4000,
    "million digits": "9" * 1_000_000,
    "0.1": "0.1",
    "-0.0": "-0.0",
    "1e-308": "1e-308",
    "1e308": "1e308",
    "empty text": '""',
    "empty list": "[]",
    "empty object": "{}",
    "null": "null",
    "true": "true",
    "false": "false",
    "long text": json.dumps("x" * 1_000_000),
    "control text": json.dumps("\x1b[2J\x00\u202e"),
    "number text": '"12"',
    "list of lists": "[[], {}, null]",
    "list of one": "[1]",
    "object of objects": '{"a": {"b": [1]}, "rope_type": {}, "factor": []}',
    "long list": json.dumps([1] * 1_000_000),
    "long list of texts": json.dumps(["full_attention"] * 100_000),
    "deep": "[" * 900 + "]" * 900,
}
"""What is put in place of a value, as JSON text."""


class Case(NamedTuple):
    """One value of one stored checkpoint's config that becomes another."""

    fixture: str
    path: tuple[str | int, ...]
    value: str


class TooSlow(BaseException):
    """Not an Exception: nothing that is tested may catch it."""


def cases() -> list[Case]:
    """Every key of every fixture, also inside objects and lists, with every value."""
    found = []
    for folder in sorted(FIXTURES.iterdir()):
        config = json.loads((folder / "config.json").read_text())
        paths = [path for path in _paths(config) if path]
        found += [Case(folder.name, path, value) for path in paths for value in VALUES]
    return found


def _paths(value: Any) -> Iterator[tuple[str | int, ...]]:
    """All places in a document; of a list the first and the last item."""
    yield ()
    if isinstance(value, dict):
        for key, item in value.items():
            yield from ((key, *path) for path in _paths(item))
    elif isinstance(value, list) and value:
        for place in sorted({0, len(value) - 1}):
            yield from ((place, *path) for path in _paths(value[place]))


def text_of(case: Case) -> str:
    """The whole config.json of a case."""
    config = json.loads((FIXTURES / case.fixture / "config.json").read_text())
    inner = config
    for key in case.path[:-1]:
        inner = inner[key]
    inner[case.path[-1]] = "@here@"
    return json.dumps(config).replace('"@here@"', VALUES[case.value])


def plan_all(folder: Path, text: str) -> list[int]:
    """Exit codes of the plans of a source for every backend; 0 for a sound one."""
    (folder / "source" / "config.json").write_text(text)
    return [_code_of(folder, backend) for backend in BACKENDS]


def _code_of(folder: Path, backend: str) -> int:
    recipe = folder / f"{backend}.yaml"
    recipe.write_text(f"name: x\nsource: {{path: source}}\nengine: {{backend: {backend}}}\n")
    hardware = Hardware(num_cpus=2, available_memory_bytes=1 << 33, gpus=())
    try:
        plan = resolve(
            load_recipe(recipe),
            memory=DigestMemory(folder / "digests"),
            hardware=hardware,
            cache_dir=folder,
        )
    except PipelineError as error:
        return _told(error)
    return _sound(plan)


def _told(error: PipelineError) -> int:
    """The code of an error, whose message must be one that people can read."""
    problems = getattr(error, "problems", ())
    lines = [error.message, *error.facts]
    lines += [line for problem in problems for line in (problem.message, *problem.facts)]
    # That a backend is not installed here says nothing about the source.
    codes = {problem.kind.exit_code for problem in problems} - {4} or {error.exit_code}
    assert sum(map(len, lines)) < 50_000, "an endless message"
    assert all(line.isprintable() for line in "\n".join(lines).split("\n")), "unprintable message"
    return min(codes)


def _sound(plan: Plan) -> int:
    """A plan that was made: its problems are of the recipe, or of this machine."""
    codes = {problem.kind.exit_code for problem in plan.problems} - {4}
    lines = [line for problem in plan.problems for line in (problem.message, *problem.facts)]
    assert sum(map(len, lines)) < 50_000, "an endless message"
    return min(codes, default=0)


def main(folder: Path, seed: int, count: int, shard: int = 0, of: int = 1) -> None:
    """Carry out the cases of this shard and print what came of them."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = cases()
    if count:
        chosen = random.Random(seed).sample(chosen, count)
    chosen = sorted(chosen[shard::of])
    signal.signal(signal.SIGPROF, _too_slow)
    counts: Counter[str] = Counter()
    bad: list[str] = []
    slowest: tuple[float, str] = (0.0, "")
    last = ""
    for number, case in enumerate(chosen):
        if case.fixture != last:
            last = case.fixture
            shutil.rmtree(folder / "source", ignore_errors=True)
            shutil.copytree(FIXTURES / last, folder / "source")
            if number == 0:
                text = (FIXTURES / last / "config.json").read_text()
                plan_all(folder, text)  # loads what planning needs, before memory is limited
                _limit_memory()
        began = time.thread_time()
        end = _outcome(folder, case)
        slowest = max(slowest, (time.thread_time() - began, str(case)))
        counts[end if end.isdigit() else "bad"] += 1
        if not end.isdigit():
            bad.append(f"{case}: {end}")
            if count == 0:
                sys.stderr.write(f"{bad[-1]}\n")
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    told = {"counts": counts, "bad": bad, "slowest": slowest, "peak": peak_bytes}
    sys.stdout.write(json.dumps(told))
    sys.exit(1 if bad else 0)


def _limit_memory() -> None:
    status = Path("/proc/self/status").read_text()
    now = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmSize"))
    limit = (now << 10) + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _too_slow(signum: int, frame: FrameType | None) -> None:
    raise TooSlow


def _outcome(folder: Path, case: Case) -> str:
    """The exit codes as text, or what went wrong."""
    signal.setitimer(signal.ITIMER_PROF, 6 * CASE_SECONDS)  # of its own work, as all times here
    try:
        codes = plan_all(folder, text_of(case))
    except (TooSlow, Exception) as error:  # noqa: BLE001 - whatever it is, it is the finding
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} {str(error)[:200]} at {place.filename}:{place.lineno}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if set(codes) - ALLOWED_CODES - {0}:
        return f"exit codes {codes}"
    return str(max(codes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
