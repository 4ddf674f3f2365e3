"""From a Hugging Face checkpoint to a runnable decoder, against onnxruntime-genai's builder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.children import Run, against, run, why_absent
from tests.bench.makers import THREADS
from tests.bench.models import B1, cut, title, write_llama

SOURCE_DTYPE = "float16"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))


@dataclass(frozen=True)
class Case:
    """A way to make it: how far, and in which dtype the weights are written."""

    title: str
    dtype: str
    is_opened: bool


CASES = (
    Case("fp16 files written", "float16", False),
    Case("fp32 files written", "float32", False),
    Case("fp16 files written, opened, one token", "float16", True),
    Case("fp32 files written, opened, one token", "float32", True),
)


def measure(folder: Path) -> Iterator[str]:
    """One line per case: ratios of wall times, and peaks."""
    config = cut(B1)
    yield (
        f"from a checkpoint in {SOURCE_DTYPE} to a decoder, {title(config)}, {THREADS} threads, "
        f"{ROUNDS} rounds; peaks are VmHWM, mapped weights included"
    )
    absent = why_absent(("onnxruntime_genai", "onnx_ir", "torch"))
    if absent is not None:
        yield f"  onnxruntime-genai: skipped, because {absent}"
        return
    source = folder / "source"
    write_llama(source, config, SOURCE_DTYPE)
    for case in CASES:
        yield f"  {case.title}: {_compared(case, source, folder / 'made')}"
    shutil.rmtree(source)


def _compared(case: Case, source: Path, out: Path) -> str:
    found: dict[str, list[Run]] = {"genai": [], "ours": []}
    for _ in range(ROUNDS):
        for name, runs in found.items():
            out.mkdir()
            given = (str(source), str(out), case.dtype, str(int(case.is_opened)))
            runs.append(run("tests.bench.makers", name, *given))
            shutil.rmtree(out)
    return against(found["ours"], found["genai"], "onnxruntime-genai")
