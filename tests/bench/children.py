"""The programs that are measured, each a process of its own that prints its peak memory in KiB."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_PEAK = """
status = Path("/proc/self/status").read_text()
print(status.partition("VmHWM:")[2].split()[0])
"""

PLAN = """\
import sys
from pathlib import Path
from pipeline.checkpoint.huggingface import open_source_checkpoint
from pipeline.families import find_family
from pipeline.weights.layout import plan_conversion
from pipeline.weights.parallel import Parallelism
source, out, tp_size, dtype = sys.argv[1:]
checkpoint = open_source_checkpoint(Path(source))
family = find_family(checkpoint.architecture)
plan = plan_conversion(checkpoint, family, Parallelism(int(tp_size), 1), dtype)
"""

CONVERT = f"""\
{PLAN}
from pipeline.progress import Silent
from pipeline.weights.stream import write_checkpoint
write_checkpoint(plan, Path(source), Path(out), Silent())
{_PEAK}
"""

PLAN_ONLY = PLAN + _PEAK

# What TensorRT-LLM's own converter does at the least: the whole model in memory, cast, cut, saved.
LOAD_ALL = f"""\
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging
logging.disable_progress_bar()
source, out, tp_size, dtype = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype))
weights = model.state_dict()

def share(name, weight, rank):
    if weight.ndim < 2 or "embed_tokens" in name or int(tp_size) == 1:
        return weight.contiguous()
    dim = 1 if "o_proj" in name or "down_proj" in name else 0
    return weight.chunk(int(tp_size), dim)[rank].contiguous()

for rank in range(int(tp_size)):
    shares = {{name: share(name, weight, rank) for name, weight in weights.items()}}
    save_file(shares, Path(out) / f"rank{{rank}}.safetensors")
{_PEAK}
"""


def timed(command: Sequence[str]) -> tuple[float, str]:
    """Wall seconds of a child from start to end, and what it printed."""
    began = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return time.monotonic() - began, done.stdout


def measured(program: str, *arguments: str, python: str = sys.executable) -> tuple[float, float]:
    """Wall seconds and peak MB of a Python program."""
    # The kernel's count for a child begins with its parent's: each tells its own peak.
    seconds, printed = timed([python, "-c", program, *arguments])
    return seconds, int(printed.split()[-1]) / 1024


@dataclass(frozen=True, slots=True)
class Run:
    """What a program took: wall seconds, seconds of processors, peak MB (its own last word)."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    printed: list[str]


def run(module: str, *arguments: str) -> Run:
    """Run one of our modules that prints its peak memory in KiB last.

    Processor seconds are those of it and of all that it started and waited for.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, printed = timed([sys.executable, "-m", module, *arguments])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    words = printed.split()
    return Run(seconds, cpu, int(words[-1]) / 1024, words)


def own_peak() -> int:
    """The most that this process held, in KiB, as the kernel counts: mapped files included."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def against(ours: Sequence[Run], theirs: Sequence[Run], name: str) -> str:
    """Ratios of wall time, of processor time and of peaks, medians over rounds in turn."""
    pairs = list(zip(ours, theirs, strict=True))
    wall = [mine.seconds / other.seconds for mine, other in pairs]
    cpu = statistics.median(mine.cpu_seconds / other.cpu_seconds for mine, other in pairs)
    peak, their_peak = (max(run.peak_mb for run in runs) for runs in (ours, theirs))
    seconds, their_seconds = (
        statistics.median(run.seconds for run in runs) for runs in (ours, theirs)
    )
    return (
        f"{statistics.median(wall):.2f} x the time of {name} ({min(wall):.2f} to {max(wall):.2f}; "
        f"{seconds:.1f} s, {their_seconds:.1f} s), {cpu:.2f} x its processor time, "
        f"{peak / their_peak:.3f} x its peak ({peak:,.0f} MB, {their_peak:,.0f} MB)"
    )


def why_absent(modules: Sequence[str]) -> str | None:
    """Which of the modules this Python lacks, or None."""
    absent = [f"`{name}`" for name in modules if find_spec(name) is None]
    return f"this Python has no {' and no '.join(absent)}" if absent else None


def torch_python() -> str | None:
    """A Python that has torch and transformers: BENCH_PYTHON, else the one of the parity tests."""
    for name in (os.environ.get("BENCH_PYTHON"), ".venv-parity/bin/python", sys.executable):
        if name and (Path(name).is_file()):
            probe = [name, "-c", "import torch, transformers, safetensors"]
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return name
    return None
