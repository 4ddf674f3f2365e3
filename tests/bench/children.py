"""The programs that are measured, each a process of its own that prints its peak memory in KiB."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
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


def torch_python() -> str | None:
    """A Python that has torch and transformers: BENCH_PYTHON, else the one of the parity tests."""
    for name in (os.environ.get("BENCH_PYTHON"), ".venv-parity/bin/python", sys.executable):
        if name and (Path(name).is_file()):
            probe = [name, "-c", "import torch, transformers, safetensors"]
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return name
    return None
