"""Graph parts on their own: executed by ONNX Runtime, compiled by TensorRT for RTX."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pipeline.graph.builder import GraphBuilder
from tests.graph.tensorrt_compiling import compile_model

Array = NDArray[Any]
TARGETS = ("sm80", "sm86", "sm89", "sm120")


def execute(g: GraphBuilder, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of a graph, on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    model = g.model("part").SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, dict(feeds))]


def compile_part(
    g: GraphBuilder,
    shapes: Mapping[str, Sequence[Sequence[int]]],
    targets: Sequence[str] = TARGETS,
) -> int:
    """Compile with no attention decomposed; how many fused attention layers there are.

    `shapes`: least, best and largest shape of every input, all of which must be read. Raises
    Refused where the parser or the builder refuses, as it does for want of a fused kernel.
    """
    model = g.model("part").SerializeToString()
    # A child of its own: TensorRT has died of networks that it did not like.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
        return child.submit(compile_model, model, dict(shapes), tuple(targets)).result()


def largest_error(found: Array, expected: Array) -> float:
    """The largest difference over the largest value."""
    assert found.shape == expected.shape
    assert np.isfinite(found).all()
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))


def unstacked(g: GraphBuilder, stacked: str, count: int, name: str) -> list[str]:
    """`[count, rows, columns]` as `count` matrices."""
    outputs = [f"{name}.cut{i}" for i in range(count)]
    cut = g.several("Split", [stacked], outputs, axis=0, num_outputs=count)
    first = g.constant(f"{name}.first", [0])
    return [g.node("Squeeze", [part, first], f"{name}.{i}") for i, part in enumerate(cut)]
