"""The facts in words are the parser's and the builder's own: asked again, here and now."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.engines.child_process import run_child
from pipeline.engines.tensorrt.api import create_network, find_flavour, load_api, set_targets
from pipeline.engines.tensorrt.facts import FACTS
from pipeline.errors import ToolFailed
from pipeline.graph.builder import GraphBuilder
from tests.engines.tensorrt_backend.tensorrt_parts import CHILD, checkpoint, job, limits
from tests.graph.part_runs import TARGETS, compile_part
from tests.graph.tensorrt_compiling import Refused

STEPS = [(1, 1), (2, 16), (4, 32)]
"""Least, best and largest batch and number of tokens."""


def attention(
    dtype: str, value_size: int = 64, mask: tuple[str, Any] = ("bool", 1), **attributes: Any
) -> tuple[GraphBuilder, dict[str, Any]]:
    """8 query heads of size 64 over 2 K/V heads and 96 slots, with the shapes of its inputs."""
    g = GraphBuilder(dtype)
    mask_dtype, heads = mask
    dims: dict[str, tuple[str, list[Any]]] = {
        "q": (dtype, ["b", 8, "s", 64]),
        "k": (dtype, ["b", 2, 96, 64]),
        "v": (dtype, ["b", 2, 96, value_size]),
        "mask": (mask_dtype, ["b", heads, "s", 96]),
    }
    for name, (kind, dim) in dims.items():
        g.input(name, kind, dim)
    g.node("Attention", list(dims), "y", scale=0.125, **attributes)
    g.output("y", dtype, ["b", 8, "s", value_size])
    shapes = {
        name: [[{"b": b, "s": s}.get(each, each) for each in dim] for b, s in STEPS]
        for name, (_, dim) in dims.items()
    }
    return g, shapes


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_float_mask_for_every_head_is_fused_in_the_dtype_of_the_queries(dtype: str) -> None:
    assert FACTS["alibi"].fused is True
    assert compile_part(*attention(dtype, mask=(dtype, 8))) == 1
    with pytest.raises(Refused):
        compile_part(*attention(dtype, mask=("float32", 8)), targets=TARGETS[:1])


def test_values_of_another_size_than_keys_are_refused() -> None:
    with pytest.raises(Refused, match=FACTS["value_size"].words):
        compile_part(*attention("float16", value_size=32))


def test_a_soft_cap_is_refused_and_the_network_api_has_none() -> None:
    with pytest.raises(Refused, match=FACTS["softcap"].words):
        compile_part(*attention("float16", softcap=30.0))
    flavour = find_flavour()
    assert flavour is not None
    api = load_api(flavour).IAttention
    assert not [name for name in dir(api) if "cap" in name.lower() or "tanh" in name.lower()]


def test_the_layer_for_experts_builds_for_no_target() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
        for words in child.map(_build_experts, TARGETS):
            assert FACTS["experts"].words in words


def _build_experts(target: str) -> str:
    """What the builder says to an `IMoELayer`: 8 experts `[64, 128]`, 2 of them a token."""
    flavour = find_flavour()
    assert flavour is not None
    trt = load_api(flavour)

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.lines.append(message)

    log = Log()
    builder = trt.Builder(log)
    network, config = create_network(trt, builder), builder.create_builder_config()
    x = network.add_input("x", trt.float16, (2, 16, 64))
    experts = network.add_input("experts", trt.int32, (2, 16, 2))
    scores = network.add_input("scores", trt.float16, (2, 16, 2))
    kept = [np.ones(shape, np.float16) for shape in ((8, 64, 128), (8, 64, 128), (8, 128, 64))]
    weights = [
        network.add_constant(w.shape, trt.Weights(trt.float16, w.ctypes.data, w.size)) for w in kept
    ]
    layer = network.add_moe(x, experts, scores)
    layer.set_gated_weights(*(w.get_output(0) for w in weights), trt.MoEActType.SILU)
    network.mark_output(layer.get_output(0))
    set_targets(trt, flavour, config, [target])
    assert builder.build_serialized_network(network, config) is None
    return " ".join(log.lines)


def test_an_engine_without_weights_is_compiled_only_where_a_driver_is(tmp_path: Path) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs the extra `run`")
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        pytest.skip("a CUDA device is here")
    source = checkpoint(tmp_path / "source", num_layers=1)
    made, _ = job(source, tmp_path / "work", limits("sm80"))
    made["flags"] = ["STRIP_PLAN", "REFIT_IDENTICAL"]
    with pytest.raises(ToolFailed, match="needs a driver") as caught:
        run_child(CHILD, made, tmp_path / "work", lambda _: None)
    assert any("graph_jit.cpp" in fact for fact in caught.value.facts)
    assert "strip_weights" in str(caught.value.hint)
