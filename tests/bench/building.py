"""Building a TensorRT engine, against the bare ONNX parser and builder on the same network.

Seconds are those of the stage's call and of the whole bare program; the processor time and the
peaks are those of whole programs, ours of two processes together.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.tensorrt.api import find_flavour, why_no_flavour
from pipeline.placement.placing import place
from tests.bench.children import Run, against, run
from tests.bench.makers import converted
from tests.bench.models import B1, M100, cut, title, write_llama
from tests.bench.our_builder import SETTINGS, TARGETS

DTYPE = "float16"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
JOB, GRAPH = "job.json", "decoder.onnx"


def measure(folder: Path) -> Iterator[str]:
    """One line per model: ratios of wall times and of peaks."""
    flavour = find_flavour()
    if flavour is None or not flavour.is_rtx:
        yield f"building an engine: skipped, because {why_no_flavour() or 'it needs a GPU here'}"
        return
    yield (
        f"building an engine by {flavour.title} for {', '.join(TARGETS)}, {DTYPE}, "
        f"{ROUNDS} rounds; peaks are VmHWM, mapped weights included, ours of two processes added"
    )
    for config in (cut(M100), cut(B1)):
        source, given = folder / "source", folder / "checkpoint"
        write_llama(source, config, DTYPE)
        given.mkdir()
        checkpoint = converted(source, given, DTYPE)
        shutil.rmtree(source)
        _prepare(folder / "network", checkpoint)
        yield f"  {title(config)}: {_compared(folder)}"
        for name in ("checkpoint", "network"):
            shutil.rmtree(folder / name)


def _prepare(network: Path, checkpoint: TrtllmCheckpoint) -> None:
    """The graph, its weights and its job, as the build has them."""
    from pipeline.engines.tensorrt.graph import expected_network
    from pipeline.engines.tensorrt.job import build_job
    from pipeline.graph.decoder import write_decoder

    network.mkdir()
    facts = write_decoder(
        checkpoint,
        network / GRAPH,
        max_seq_len=SETTINGS.max_seq_len,
        compute_dtype=DTYPE,
        dialect="tensorrt",
    )
    for name in facts.weight_files:
        place(checkpoint.path / name, network / name)
    flavour = find_flavour()
    assert flavour is not None
    expected = expected_network(network / GRAPH)
    job = build_job(flavour, checkpoint.config, SETTINGS, facts, expected)
    (network / JOB).write_text(json.dumps(job))


def _compared(folder: Path) -> str:
    ours: list[Run] = []
    bare: list[Run] = []
    network, engine, out = folder / "network", folder / "bare.engine", folder / "engine"
    for _ in range(ROUNDS):
        given = (str(network / GRAPH), str(network / JOB), str(engine))
        bare.append(run("tests.bench.bare_builder", *given))
        engine.unlink()
        out.mkdir()
        ours.append(run("tests.bench.our_builder", str(folder / "checkpoint"), str(out)))
        shutil.rmtree(out)
    calls = [replace(one, seconds=float(one.printed[-2])) for one in ours]
    return against(calls, bare, "the bare builder")
