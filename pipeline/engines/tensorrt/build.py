"""Building a TensorRT engine: graph, child process, records. Imports onnx with the graph."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.artifact import Json, write_json
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.attention_proof import not_observed, proof, write_proof
from pipeline.engines.child_process import Finished, run_child
from pipeline.engines.engine import CONFIG_NAME
from pipeline.engines.tensorrt.api import Flavour
from pipeline.engines.tensorrt.graph import expected_network
from pipeline.engines.tensorrt.job import GRAPH_NAME, build_job
from pipeline.engines.tensorrt.listing import attention_kernels, check_kernels
from pipeline.engines.tensorrt.record import (
    ENGINE_NAME,
    built_answer,
    engine_config,
    reproducibility,
    write_log,
)
from pipeline.errors import ToolFailed
from pipeline.graph.decoder import write_decoder
from pipeline.graph.facts import GraphFacts
from pipeline.placement.placing import place
from pipeline.progress import Progress
from pipeline.recipe.schema import EngineSettings

CHILD = "pipeline.engines.tensorrt.child"

_NOT_OBSERVED = "the engine was not executed while it was built"


def build_engine(
    flavour: Flavour,
    tools: Mapping[str, str],
    checkpoint: TrtllmCheckpoint,
    settings: EngineSettings,
    out_dir: Path,
    progress: Progress,
) -> dict[str, Json]:
    """Write the graph, compile it in a child process, and record the proof; see `Engine.build`."""
    facts, finished = _compile(flavour, checkpoint, settings, out_dir, progress)
    kernels = attention_kernels(out_dir / ENGINE_NAME)
    if settings.attention.context_fmha:
        check_kernels(kernels, finished.result["attention_layers"])
    write_json(out_dir / CONFIG_NAME, engine_config(checkpoint, settings, facts, finished, tools))
    built = built_answer(settings, facts, finished.result, kernels, flavour)
    write_proof(out_dir, proof(settings.attention, built, not_observed(_NOT_OBSERVED)))
    for line in write_log(out_dir, finished.result["warnings"]):
        progress.note(line)
    return {
        "backend": "tensorrt",
        "tensorrt": flavour.title,
        "targets": list(settings.targets),
        "attention": built["status"],
        "attention_sites": facts.attention_sites,
        "attention_layers": built["attention_layers"],
        "layers_by_kind": finished.result["layers_by_kind"],
        "dtypes": finished.result["dtypes"],
        "engine_bytes": (out_dir / ENGINE_NAME).stat().st_size,
        **reproducibility(flavour, finished),
    }


def _compile(
    flavour: Flavour,
    checkpoint: TrtllmCheckpoint,
    settings: EngineSettings,
    out_dir: Path,
    progress: Progress,
) -> tuple[GraphFacts, Finished]:
    """Graph and engine, written to `out_dir`."""
    with _work_folder(out_dir) as work:
        facts = write_decoder(
            checkpoint,
            work / GRAPH_NAME,
            max_seq_len=settings.max_seq_len,
            compute_dtype=checkpoint.config["dtype"],
            dialect="tensorrt",
        )
        for file in facts.weight_files:
            place(checkpoint.path / file, work / file)
        network = expected_network(work / GRAPH_NAME)
        _check_sites(settings, facts, network)
        job = build_job(flavour, checkpoint.config, settings, facts, network)
        finished = run_child(CHILD, job, work, _Following(progress).event)
        for file in (GRAPH_NAME, ENGINE_NAME):
            (work / file).rename(out_dir / file)
    return facts, finished


def _check_sites(settings: EngineSettings, facts: GraphFacts, network: Mapping[str, Json]) -> None:
    """Every layer with attention is one `Attention` of the graph, where that must be fused."""
    written = len(network["attention"])
    if settings.attention.context_fmha and written != facts.attention_sites:
        raise ToolFailed(
            f"{facts.attention_sites} layers have attention, but the graph has {written} "
            "`Attention` operators: the others are not fused",
            hint="ask for unfused attention: "
            "`engine.attention: {context_fmha: false, require_fused: false}`",
        )


@contextmanager
def _work_folder(out_dir: Path) -> Iterator[Path]:
    """Where graph and rank files lie side by side while they are parsed; gone afterwards."""
    work = out_dir / ".build"
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work)


class _Following:
    """Turns the child's events into progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def event(self, event: dict[str, Any]) -> None:
        """One event of the builder's monitor."""
        if event["event"] == "phase":
            self._progress.start(event["name"], event["total"], "steps")
        elif event["event"] == "step":
            self._progress.advance(1)
