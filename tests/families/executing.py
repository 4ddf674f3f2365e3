"""Converts fixtures and executes them as decoder graphs on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from pipeline.checkpoint.trtllm import TrtllmCheckpoint, open_trtllm_checkpoint
from pipeline.engines.onnxruntime.cpu_session import (
    CpuSession,
    Limits,
    open_session,
    session_options,
)
from pipeline.families import Family
from pipeline.graph.decoder import GraphOptions, decoder_model
from pipeline.graph.parts import Dialect
from pipeline.graph.positions import Form
from tests.families.fixtures import FIXTURES
from tests.weights.converting import convert, plan

MAX_BATCH = 8


def converted(
    name: str, folder: Path, tp_size: int = 1, pp_size: int = 1, family: Family | None = None
) -> TrtllmCheckpoint:
    """A fixture, converted in float32."""
    made = plan(FIXTURES / name, tp_size, pp_size, "float32", family)
    return open_trtllm_checkpoint(convert(made, FIXTURES / name, folder / f"{tp_size}x{pp_size}"))


def session(
    checkpoint: TrtllmCheckpoint,
    positions: int,
    form: Form = "mask",
    dialect: Dialect = "onnxruntime",
) -> CpuSession:
    """The decoder graph of a checkpoint, loaded, on one thread: the fixtures are tiny."""
    graph, _ = decoder_model(
        checkpoint,
        GraphOptions(
            positions,
            "float32",
            form=form,
            fixed_cache=False,
            dialect=dialect,
            flat_linear=form == "mask" and dialect == "onnxruntime",
        ),
    )
    options = session_options()
    options.intra_op_num_threads = 1
    limits = Limits(MAX_BATCH, positions)
    return open_session(graph.SerializeToString(), checkpoint.path, limits, options)
