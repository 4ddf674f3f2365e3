"""Conversion against `cp` of the same bytes: whole processes in turn, wall time and peak memory."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.checkpoint.safetensors_file import encode_header
from tests.tiny import shapes

ROUNDS = 3
CASES = (("tp 1", 1, "bfloat16"), ("tp 8", 8, "bfloat16"), ("tp 1, cast", 1, "float16"))
CHILD = """\
import sys
from pathlib import Path
from pipeline.checkpoint.huggingface import open_source_checkpoint
from pipeline.families import find_family
from pipeline.progress import Silent
from pipeline.weights.layout import plan_conversion
from pipeline.weights.parallel import Parallelism
from pipeline.weights.stream import write_checkpoint
source, out, tp_size, dtype = sys.argv[1:]
checkpoint = open_source_checkpoint(Path(source))
family = find_family(checkpoint.architecture)
plan = plan_conversion(checkpoint, family, Parallelism(int(tp_size), 1), dtype)
write_checkpoint(plan, Path(source), Path(out), Silent())
status = Path("/proc/self/status").read_text()
print(status.partition("VmHWM:")[2].split()[0])
"""


def write_source(folder: Path, size_bytes: int) -> None:
    """A Llama of about this size, 2048 wide, random bf16 weights, one file."""
    layer_bytes = 2 * (2048 * (2048 * 2 + 512 * 2) + 3 * 2048 * 5632)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 32000,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": max(1, (size_bytes - 4 * 32000 * 2048) // layer_bytes),
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": False,
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    named = shapes(config)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(encode_header([(n, "bfloat16", s) for n, s in named.items()], {}))
        for shape in named.values():
            count = 2
            for dim in shape:
                count *= dim
            # Small finite values: the high byte of a bf16 stays below infinity's exponent.
            block = bytes(b if i % 2 == 0 else b % 0x40 for i, b in enumerate(os.urandom(4096)))
            stream.write((block * (count // 4096 + 1))[:count])


def timed(command: list[str]) -> tuple[float, str]:
    """Wall seconds of a child, and what it printed."""
    began = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return time.monotonic() - began, done.stdout


def measure(folder: Path, size_bytes: int) -> Iterator[str]:
    """One line per case: median ratio of wall times, A B A B, and our peak memory."""
    source = folder / "source"
    write_source(source, size_bytes)
    weights = source / "model.safetensors"
    yield f"conversion of {weights.stat().st_size / 1e9:.2f} GB, {ROUNDS} rounds, against cp"
    for title, tp_size, dtype in CASES:
        ratios, peaks = [], []
        for number in range(ROUNDS + 1):  # the first round warms the page cache
            out, copy = folder / "out", folder / "copy.safetensors"
            out.mkdir()
            arguments = [str(source), str(out), str(tp_size), dtype]
            # The kernel's count for a child begins with its parent's: it tells its own peak.
            ours, peak_kib = timed([sys.executable, "-c", CHILD, *arguments])
            shutil.rmtree(out)
            theirs, _ = timed(["cp", str(weights), str(copy)])
            copy.unlink()
            if number:
                ratios.append(ours / theirs)
                peaks.append(int(peak_kib) / 1024)
        yield (
            f"  {title:<11} {statistics.median(ratios):.2f} x cp "
            f"({min(ratios):.2f} to {max(ratios):.2f}), peak {max(peaks):.0f} MB"
        )
    shutil.rmtree(source)
