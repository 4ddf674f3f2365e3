"""Checkpoints, settings and jobs for the tests of the backend `tensorrt`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.checkpoint.trtllm import TrtllmCheckpoint, open_trtllm_checkpoint
from pipeline.engines.tensorrt import ENGINE
from pipeline.engines.tensorrt.api import find_flavour
from pipeline.engines.tensorrt.graph import expected_network
from pipeline.engines.tensorrt.job import build_job
from pipeline.graph.decoder import write_decoder
from pipeline.graph.facts import GraphFacts
from pipeline.progress import Silent
from pipeline.recipe.schema import Attention, EngineSettings
from tests.tiny_decoder import Shape, random_weights, write_checkpoint

CHILD = "pipeline.engines.tensorrt.child"
ALL_TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")


def limits(
    *targets: str, fused: bool = True, require: bool | None = None, max_seq_len: int = 48
) -> EngineSettings:
    """Small limits; sm80 and sm89 unless targets are given."""
    attention = Attention(context_fmha=fused, require_fused=fused if require is None else require)
    return EngineSettings(
        backend="tensorrt",
        max_batch_size=2,
        max_input_len=24,
        max_seq_len=max_seq_len,
        targets=targets or ("sm80", "sm89"),
        attention=attention,
    )


def checkpoint(folder: Path, dtype: str = "bfloat16", **changes: Any) -> TrtllmCheckpoint:
    """A tiny random checkpoint, written into a folder."""
    shape = replace(Shape(), dtype=dtype, **changes)
    write_checkpoint(folder, shape, random_weights(shape))
    return open_trtllm_checkpoint(folder)


def build(source: TrtllmCheckpoint, out_dir: Path, settings: EngineSettings) -> dict[str, Any]:
    """A real build; the facts."""
    out_dir.mkdir()
    return ENGINE.build(source, settings, out_dir, Silent())


def job(
    source: TrtllmCheckpoint, folder: Path, settings: EngineSettings, form: Any = "mask"
) -> tuple[dict[str, Any], GraphFacts]:
    """A job for the builder's child process, its graph and rank files written into a folder."""
    folder.mkdir()
    facts = write_decoder(
        source,
        folder / "decoder.onnx",
        max_seq_len=settings.max_seq_len,
        compute_dtype=source.config["dtype"],
        form=form,
        dialect="tensorrt",
    )
    for name in facts.weight_files:
        (folder / name).hardlink_to(source.path / name)
    flavour = find_flavour()
    assert flavour is not None
    network = expected_network(folder / "decoder.onnx")
    return build_job(flavour, source.config, settings, facts, network), facts
